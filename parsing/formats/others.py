"""Ruby's logger, Rust's env_logger and tracing, Serilog."""

from parsing.formats._base import ISO, ISO_TIME, LEVEL, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "serilog",
        rank=45,
        header=rf"(?P<time>{ISO}) \[(?P<level>VRB|DBG|INF|WRN|ERR|FTL)\] ",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 14:07:49.123 +01:00 [WRN] slow answer",
                "slow answer",
                time="2026-11-22T13:07:49.123",
                level="WARN",
            ),
        ),
    ),
    Format(
        "serilog_console",
        rank=46,
        header=r"\[(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) (?P<level>VRB|DBG|INF|WRN|ERR|FTL)\] ",
        times=layout("HH:mm:ss"),
        examples=(Example("[13:07:49 INF] listening", "listening", time="2026-11-22T13:07:49", level="INFO"),),
    ),
    Format(
        "ruby",
        rank=47,
        header=rf"[DIWEFA], \[(?P<time>{ISO}) #[0-9]+\] +(?P<level>DEBUG|INFO|WARN|ERROR|FATAL|ANY) -- "
        r"(?P<component>[^:\n]*): ",
        times=ISO_TIME,
        examples=(
            Example(
                "E, [2026-11-22T13:07:49.123456 #1234] ERROR -- shop: cannot read",
                "cannot read",
                time="2026-11-22T13:07:49.123",
                level="ERROR",
                component="shop",
            ),
        ),
    ),
    Format(
        "rust",
        rank=49,
        header=rf"\[?(?P<time>{ISO}) +(?P<level>{LEVEL}) +(?P<component>[a-z_][a-z0-9_]*(?:::[A-Za-z0-9_]+)+)(?:\]|:) ",
        times=ISO_TIME,
        examples=(
            Example(
                "[2026-11-22T13:07:49Z WARN  shop::cart] slow answer",
                "slow answer",
                time="2026-11-22T13:07:49",
                level="WARN",
                component="shop::cart",
            ),
            Example(
                "2026-11-22T13:07:49.123456Z  INFO shop::cart: sold",
                "sold",
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="shop::cart",
            ),
        ),
    ),
)
