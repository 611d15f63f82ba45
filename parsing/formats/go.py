"""Go: klog and glog, zap's console, and the standard library's log and slog."""

from parsing.formats._base import ISO, ISO_TIME, LEVEL, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "zap",
        rank=56,
        header=rf"(?P<time>{ISO})\t(?P<level>{LEVEL}|DPANIC|dpanic)\t(?:(?:(?P<component>[A-Za-z][A-Za-z0-9_./-]*)\t)?"
        r"[A-Za-z0-9_./@-]+\.go:[0-9]+\t)?",
        times=ISO_TIME,
        examples=(
            Example(
                '2026-11-22T13:07:49.123Z\tINFO\tserver\thttp/server.go:12\tlistening\t{"port": 80}',
                'listening\t{"port": 80}',
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="server",
            ),
            Example(
                "2026-11-22T14:07:49.123+0100\terror\thttp/server.go:12\tlost",
                "lost",
                time="2026-11-22T13:07:49.123",
                level="ERROR",
            ),
        ),
    ),
    Format(
        "klog",
        rank=100,
        header=r"(?P<level>[IWEF])(?P<time>[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+) +[0-9]+ "
        r"(?P<component>[!-~]+):[0-9]+\] ",
        times=layout("MMdd HH:mm:ss.f"),
        examples=(
            Example(
                "I1122 13:07:49.123456       1 controller.go:123] Starting workers",
                "Starting workers",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="controller.go",
            ),
        ),
    ),
    Format(
        "go_log",
        rank=136,
        header=r"(?P<time>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?) "
        rf"(?:(?P<component>[A-Za-z0-9_./-]+\.go):[0-9]+: )?(?:\[?(?P<level>{LEVEL})\]?:? )?",
        times=layout("yyyy/MM/dd HH:mm:ss.f"),
        examples=(
            Example("2026/11/22 13:07:49 listening on :80", "listening on :80", time="2026-11-22T13:07:49"),
            Example(
                "2026/11/22 13:07:49.123456 main.go:23: lost",
                "lost",
                time="2026-11-22T13:07:49.123",
                component="main.go",
            ),
            Example("2026/11/22 13:07:49 ERROR lost n=1", "lost n=1", time="2026-11-22T13:07:49", level="ERROR"),
        ),
    ),
)
