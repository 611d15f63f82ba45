"""Databases: PostgreSQL, MySQL, Redis."""

from parsing.formats._base import CLOCK, ISO, ISO_TIME, MONTH, Example, Format
from parsing.times import layout

FORMATS = (
    Format(
        "postgres",
        rank=52,
        header=rf"(?P<time>{ISO}) \[[0-9]+(?:-[0-9]+)?\] (?:[^ @\n]*@[^ @\n]* )?"
        r"(?P<level>DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|STATEMENT|CONTEXT|QUERY): +",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22 13:07:49.123 UTC [1234] LOG:  database system is ready to accept connections",
                "database system is ready to accept connections",
                time="2026-11-22T13:07:49.123",
                level="INFO",
            ),
            Example(
                "2026-11-22 14:07:49.123 CET [1234] pay@shop FATAL:  password authentication failed",
                "password authentication failed",
                time="2026-11-22T13:07:49.123",
                level="FATAL",
            ),
        ),
    ),
    Format(
        "mysql",
        rank=54,
        header=rf"(?P<time>{ISO}) [0-9]+ \[(?P<level>Note|Warning|ERROR|System)\] (?:\[MY-[0-9]+\] )?"
        r"(?:\[(?P<component>[A-Za-z0-9_-]+)\] )?",
        times=ISO_TIME,
        examples=(
            Example(
                "2026-11-22T13:07:49.123456Z 0 [Warning] [MY-010068] [Server] CA certificate is self signed.",
                "CA certificate is self signed.",
                time="2026-11-22T13:07:49.123",
                level="WARN",
                component="Server",
            ),
        ),
    ),
    Format(
        "redis",
        rank=96,
        header=rf"[0-9]+:[XCSM] (?P<time>[0-9]{{2}} {MONTH} [0-9]{{4}} {CLOCK}) (?P<level>[.*#-]) ",
        times=layout("dd MMM yyyy HH:mm:ss.f"),
        examples=(
            Example(
                "1:M 22 Nov 2026 13:07:49.123 # Server initialized",
                "Server initialized",
                time="2026-11-22T13:07:49.123",
                level="WARN",
            ),
        ),
    ),
)
