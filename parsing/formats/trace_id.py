"""Java services whose logback layout carries the trace: time, level, class, TraceID, SpanID."""

from parsing.formats._base import CLOCK, CLOCK_TIME, LEVEL, WORD, Example, Format

FORMATS = (
    Format(
        "trace_id",
        rank=20,
        header=rf"(?P<time>{CLOCK}) (?P<level>{LEVEL}) +(?P<component>[!-\"$-~]+)(?:#{WORD})?"
        r" TraceID: (?P<trace>[0-9a-f]*) SpanID: (?P<span>[0-9a-f]*) ",
        times=CLOCK_TIME,
        examples=(
            Example(
                "13:07:17.537 ERROR o.a.c.C#175 TraceID: 044750d07be33da7 SpanID: 063f8dc065d4aa61 failed",
                "failed",
                time="2026-11-22T13:07:17.537",
                level="ERROR",
                session="044750d07be33da7",
                component="o.a.c.C",
                trace="044750d07be33da7",
                span="063f8dc065d4aa61",
            ),
        ),
    ),
)
