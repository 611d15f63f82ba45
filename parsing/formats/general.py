"""A time, and perhaps a level, whatever follows: what is tried last."""

from parsing.formats._base import ISO, ISO_TIME, LEVEL, MONTH, Example, Format
from parsing.times import layout

_HMS = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_BEHIND = rf"\]?(?:[ ,:|\t-]+\[?(?P<level>{LEVEL})\]?)?[ ,:|\t-]+"  # a level, blanks and punctuation

FORMATS = (
    Format(
        "iso",
        rank=140,
        header=rf"\[?(?P<time>{ISO})\]?[ ,:|-]+",
        times=ISO_TIME,
        examples=(Example("2026-11-22 13:07:49 all quiet", "all quiet", time="2026-11-22T13:07:49"),),
    ),
    Format(
        "ctime",
        rank=142,
        header=rf"\[?[A-Z][a-z]{{2}},? (?P<time>{MONTH} [ 0-9][0-9] {_HMS} [0-9]{{4}}){_BEHIND}",
        times=layout("MMM dd HH:mm:ss yyyy"),
        examples=(
            Example("Sun Nov 22 13:07:49 2026 : reload", "reload", time="2026-11-22T13:07:49"),
            Example("[Sun Nov  1 13:07:49 2026] ERROR lost", "lost", time="2026-11-01T13:07:49", level="ERROR"),
        ),
    ),
    Format(
        "day_dots",
        rank=144,
        header=rf"\[?(?P<time>[0-9]{{2}}\.[0-9]{{2}}\.[0-9]{{4}} {_HMS}(?:[.,][0-9]+)?){_BEHIND}",
        times=layout("dd.MM.yyyy HH:mm:ss.f"),
        examples=(
            Example("22.11.2026 13:07:49.123 INFO bereit", "bereit", time="2026-11-22T13:07:49.123", level="INFO"),
        ),
    ),
    Format(
        "month_first",
        rank=146,
        header=rf"\[?(?P<time>(?:0[1-9]|1[0-2])/[0-3][0-9]/[0-9]{{4}} {_HMS}(?:[.,][0-9]+)?){_BEHIND}",
        times=layout("MM/dd/yyyy HH:mm:ss.f"),
        examples=(Example("11/22/2026 13:07:49 WARN slow", "slow", time="2026-11-22T13:07:49", level="WARN"),),
    ),
    Format(
        "day_first",
        rank=148,
        header=rf"\[?(?P<time>[0-3][0-9]/(?:0[1-9]|1[0-2])/[0-9]{{4}} {_HMS}(?:[.,][0-9]+)?){_BEHIND}",
        times=layout("dd/MM/yyyy HH:mm:ss.f"),
        examples=(Example("22/11/2026 13:07:49 WARN slow", "slow", time="2026-11-22T13:07:49", level="WARN"),),
    ),
    Format(
        "compact",
        rank=150,
        header=rf"\[?(?P<time>[12][0-9]{{7}}[ T]{_HMS}(?:[.,][0-9]+)?){_BEHIND}",
        times=layout("yyyyMMdd HH:mm:ss.f"),
        examples=(
            Example("20261122 13:07:49.123 INFO sold", "sold", time="2026-11-22T13:07:49.123", level="INFO"),
            Example("20261122T13:07:49|sold", "sold", time="2026-11-22T13:07:49"),
        ),
    ),
    Format(
        "epoch",
        rank=152,
        header=rf"\[?(?P<time>1[0-9]{{9}}(?:\.[0-9]+|[0-9]{{3}}|[0-9]{{6}}|[0-9]{{9}})?){_BEHIND}",
        examples=(
            Example(
                "1795352869.123     12 10.0.0.1 TCP_MISS/200 512 GET http://x.org/",
                "12 10.0.0.1 TCP_MISS/200 512 GET http://x.org/",
                time="2026-11-22T13:07:49.123",
            ),
            Example("1795352869123456789 ERROR lost", "lost", time="2026-11-22T13:07:49.123", level="ERROR"),
        ),
    ),
    Format(
        "level",
        rank=310,
        header=rf"\[?(?P<level>{LEVEL})(?:\]:?|:) +",
        examples=(
            Example("[WARNING] unused import", "unused import", level="WARN"),
            Example("INFO:     Application startup complete.", "Application startup complete.", level="INFO"),
        ),
    ),
)
