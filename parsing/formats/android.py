"""Android's logcat: a date without year, process, thread, one letter for the level, tag."""

from parsing.formats._base import Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "android",
        rank=90,
        header=r"(?P<time>[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}) +[0-9]+ +[0-9]+ (?P<level>[VDIWEFA])"
        r" (?P<component>[!-9;-~]+) *: ",
        times=layout("MM-dd HH:mm:ss.f"),
        examples=(
            Example(
                "11-17 16:13:38.811  1702  2395 D WindowManager: opening app",
                "opening app",
                time="2026-11-17T16:13:38.811",
                level="DEBUG",
                component="WindowManager",
            ),
        ),
    ),
)
