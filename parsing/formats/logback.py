"""Logback and Log4j 2 with a time of day: their default layouts, and JBoss's."""

from parsing.formats._base import CLOCK, CLOCK_TIME, LEVEL, WORD, Example, Format

FORMATS = (
    Format(
        "jboss",
        rank=28,
        header=rf"(?P<time>{CLOCK}) (?P<level>{LEVEL}) +\[(?P<component>[^\]\n]+)\] \([^)\n]*\) ",
        times=CLOCK_TIME,
        examples=(
            Example(
                "13:07:49,123 INFO  [org.jboss.as] (MSC service thread 1-1) WFLYSRV0049: starting",
                "WFLYSRV0049: starting",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="org.jboss.as",
            ),
        ),
    ),
    Format(
        "logback_time",
        rank=30,
        header=rf"(?P<time>{CLOCK}) (?:\[[^\]\n]*\] )?(?P<level>{LEVEL}) +(?:(?P<component>{WORD}) --? )?",
        times=CLOCK_TIME,
        examples=(
            Example(
                "13:07:49.123 [main] INFO  c.e.Shop -- started",
                "started",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="c.e.Shop",
            ),
            Example(
                "13:07:49.123 [http-nio-8080-exec-1] WARN  com.example.Shop - slow",
                "slow",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="com.example.Shop",
            ),
            Example("13:07:49,123 DEBUG waiting", "waiting", time="2026-11-22T13:07:49.123", level="DEBUG"),
        ),
    ),
)
