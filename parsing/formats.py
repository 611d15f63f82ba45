"""Header formats as data: how the text in front of a message says time, level and trace; found from the first lines.

To add a format, add a ``Format`` to ``FORMATS`` with its examples; a test parses every example. A header expression is
tried at the start of a line, has no look-around, and uses ASCII classes only: such expressions run several times faster
in polars' engine, most of them without any backtracking.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.times import Layout, layout

LEARN_LINES = 1_000
"""Lines after which format and session identifier of a service are fixed. Until then every line is read by the first
format that fits it, so that the result does not depend on how lines were cut into batches."""
_LEAST_SHARE = 0.05
"""Share of the first lines a format must fit. It may be low: lines of stack traces and banners carry no header, and
what does not fit is read as raw."""

_ISO = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?: ?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
_NAMES = (
    *("TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "CRITICAL", "CRIT", "FATAL"),
    *("SEVERE", "ALERT", "EMERG", "PANIC", "FINE", "FINER", "FINEST", "CONFIG"),
)
_LEVEL = "(?:" + "|".join(form for name in _NAMES for form in (name, name.lower(), name.capitalize())) + ")"
_WORD = r"[!-~]+"
_CLASS = r"[A-Za-z_$][A-Za-z0-9_$]*(?:\.[A-Za-z0-9_$]+)+"  # a dotted name, as logging frameworks call components

_CANONICAL = {
    "WARNING": "WARN", "ERR": "ERROR", "SEVERE": "ERROR", "CRIT": "CRITICAL", "EMERG": "FATAL", "PANIC": "FATAL",
    "FINE": "DEBUG", "FINER": "TRACE", "FINEST": "TRACE", "INFORMATION": "INFO", "INFORMATIONAL": "INFO",
    "V": "TRACE", "T": "TRACE", "D": "DEBUG", "I": "INFO", "N": "NOTICE", "W": "WARN", "E": "ERROR", "C": "CRITICAL",
    "F": "FATAL", "A": "ALERT",
    # pino and bunyan write numbers
    "10": "TRACE", "20": "DEBUG", "30": "INFO", "40": "WARN", "50": "ERROR", "60": "FATAL",
}  # fmt: skip
_LONGEST_LEVEL = 16  # characters; a field called "level" may hold anything


@dataclass(frozen=True)
class Format:
    """A header: an expression with the named groups ``time``, ``level`` and ``session`` (each may be missing).

    What follows the match is the message.
    """

    name: str
    header: str
    times: Layout | None = None
    examples: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """The expression with the whole header as group ``header``."""
        return f"^(?P<header>{self.header})"


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            "hdfs_v1",
            rf"(?P<time>[0-9]{{6}} [0-9]{{6}}) [0-9]+ (?P<level>{_LEVEL}) [!-9;-~]+: ",
            layout("yyMMdd HHmmss"),
            ("081109 203530 147 INFO dfs.DataNode$DataXceiver: Receiving block blk_1 src: /10.0.0.1:1",),
        ),
        Format(
            "trace_id",
            rf"(?P<time>[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}[.,][0-9]{{3}}) (?P<level>{_LEVEL}) +{_WORD}"
            r" TraceID: (?P<session>[0-9a-f]*) SpanID: [0-9a-f]* ",
            layout("HH:mm:ss.f"),
            ("17:33:17.537 ERROR o.a.c.C#175 TraceID: 044750d07be33da7 SpanID: 063f8dc065d4aa61 failed",),
        ),
        Format(
            "logback_time",
            rf"(?P<time>[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}[.,][0-9]{{3}}) (?:\[[^\]\n]*\] )?(?P<level>{_LEVEL}) +"
            rf"(?:{_WORD} --? )?",
            layout("HH:mm:ss.f"),
            ("13:07:49.123 [main] INFO  c.e.Shop -- started",),
        ),
        Format(
            "log4j_brackets",
            rf"\[(?P<time>{_ISO})\] (?P<level>{_LEVEL}) +",
            layout("yyyy-MM-dd HH:mm:ss.f"),
            ("[2026-11-22 13:07:49,123] INFO [BrokerServer id=1] Ready (kafka.server.BrokerServer)",),
        ),
        Format(
            "python",
            rf"(?P<time>{_ISO}) - {_WORD} - (?P<level>{_LEVEL}) - ",
            layout("yyyy-MM-dd HH:mm:ss.f"),
            ("2026-11-22 13:07:49,123 - app.web - WARNING - slow answer",),
        ),
        Format(
            "log4j",
            rf"(?P<time>{_ISO}),? +(?:[|-] +)?(?:\[[^\]\n]*\] +)?(?:[0-9]+ +)?\[?(?P<level>{_LEVEL})\]?(?: *[:|])?"
            rf"(?: +[0-9]+)?(?: +---)?(?: +\[[^\]\n]*\](?: -)?)*"
            rf"(?: +{_CLASS}(?: \([^()\n]*(?:\([0-9]+\))?\))?(?: *:| +--?))? +",
            layout("yyyy-MM-dd HH:mm:ss.f"),
            (
                "2026-11-22 13:07:49,123 INFO  datanode.DataNode (DataXceiver.java:writeBlock(740)) - Receiving",
                "2026-11-22 13:07:49,123 INFO [main] org.apache.hadoop.MRAppMaster: Created",
                "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:2181:FastLeaderElection@774] - Notification",
                "2026-11-22T13:07:49.123Z  INFO 1 --- [main] com.example.Shop : Started",
                "2026-11-22 13:07:49.123 [main] INFO  com.example.Shop - Started",
                "2026-11-22T13:07:49+01:00 error cannot reach the database",
                "2016-09-28 04:30:30, Info                  CBS    Loaded Servicing Stack",
            ),
        ),
        Format(
            "spark",
            rf"(?P<time>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}) (?P<level>{_LEVEL}) "
            r"[!-9;-~]+: ",
            layout("yy/MM/dd HH:mm:ss"),
            ("17/06/09 20:10:40 INFO spark.SecurityManager: Changing view acls to: yarn",),
        ),
        Format(
            "apache_error",
            r"\[[A-Z][a-z]{2} (?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}"
            rf" [0-9]{{4}})\] \[(?:[a-z_0-9]+:)?(?P<level>{_LEVEL})\] ",
            layout("MMM dd HH:mm:ss yyyy"),
            ("[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6",),
        ),
        Format(
            "android",
            r"(?P<time>[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}) +[0-9]+ +[0-9]+ (?P<level>[VDIWEFA])"
            r" [!-9;-~]+ *: ",
            layout("MM-dd HH:mm:ss.f"),
            ("03-17 16:13:38.811  1702  2395 D WindowManager: opening app",),
        ),
        Format(
            "klog",
            r"(?P<level>[IWEF])(?P<time>[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+) +[0-9]+ [!-~]+:[0-9]+\] ",
            layout("MMdd HH:mm:ss.f"),
            ("I1122 13:07:49.123456       1 controller.go:123] Starting workers",),
        ),
        Format(
            "syslog_5424",
            rf"<[0-9]{{1,3}}>1 (?P<time>{_ISO}) {_WORD} {_WORD} {_WORD} {_WORD} (?:-|(?:\[[^\]\n]*\])+) ?",
            layout("yyyy-MM-dd HH:mm:ss.f"),
            ("<34>1 2026-11-22T13:07:49.003Z host su 123 ID47 - 'su root' failed",),
        ),
        Format(
            "syslog",
            r"(?:<[0-9]{1,3}>)?(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}) [!-~]+ "
            r"(?:[!-9;-Z\\^-~]+(?:\[[0-9]+\])?: +)?",
            layout("MMM dd HH:mm:ss"),
            ("Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186",),
        ),
        Format(
            "access",
            r"[!-~]+ [!-~]+ [!-~]+ \[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2}"
            r" [+-][0-9]{4})\] ",
            layout("dd/MMM/yyyy:HH:mm:ss"),
            ('10.0.0.1 - - [22/Nov/2026:13:07:49 +0000] "GET / HTTP/1.1" 200 12',),
        ),
        Format(
            "iso",
            rf"\[?(?P<time>{_ISO})\]?[ ,:|-]+",
            layout("yyyy-MM-dd HH:mm:ss.f"),
            ("2026-11-22 13:07:49 all quiet",),
        ),
        Format("raw", "", None, ("anything at all",)),
    )
}
"""Every header format by name, in the order in which they are tried."""

_TRIED = tuple(form for form in FORMATS.values() if form.name != "raw")


class UnknownFormatError(ValueError):
    """A service's ``format`` names no format."""


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UnknownFormatError: There is none; the message names the setting and those there are.
    """
    if name not in FORMATS:
        raise UnknownFormatError(f"format: there is no {name!r}; use auto, {', '.join(FORMATS)}")
    return FORMATS[name]


@dataclass(frozen=True, eq=False, slots=True)
class Headers:
    """What the headers of some lines said: columns of strings [n], null where a line has no such part."""

    header: pl.Series | None
    """The header's own text; the message is what follows it."""
    time: pl.Series | None = None
    level: pl.Series | None = None
    session: pl.Series | None = None
    of_format: dict[str, NDArray[np.int64]] | None = None
    """Rows by the name of the format that fitted them; None where all were read by one."""


def read_headers(text: pl.Series, form: Format) -> Headers:
    """Take the header off each line in one pass; lines that the format does not fit have none."""
    if form.name == "raw":
        return Headers(None)
    groups = text.alias("text").to_frame().select_seq(_taking(form.name)).to_series().struct.unnest()
    names = groups.columns
    return Headers(
        groups["header"],
        groups["time"] if "time" in names else None,
        groups["level"] if "level" in names else None,
        groups["session"] if "session" in names else None,
    )


def read_any_headers(text: pl.Series, fitting: dict[str, pl.Series]) -> Headers:
    """Take the header off each line by the first format that fits it; ``fitting`` is what ``fits`` found."""
    columns = {
        name: pl.Series(name, [None], dtype=pl.String).new_from_index(0, len(text))
        for name in ("header", "time", "level", "session")
    }
    unread = np.ones(len(text), dtype=np.bool_)
    of_format = {}
    for name, which in fitting.items():
        rows = np.flatnonzero(which.to_numpy() & unread)
        if not len(rows):
            continue
        unread[rows] = False
        of_format[name] = rows
        part = read_headers(text[rows], FORMATS[name])
        for column, values in (
            ("header", part.header),
            ("time", part.time),
            ("level", part.level),
            ("session", part.session),
        ):
            if values is not None:
                columns[column].scatter(rows, values)
    return Headers(columns["header"], columns["time"], columns["level"], columns["session"], of_format)


@cache
def _taking(name: str) -> pl.Expr:
    return pl.col("text").str.extract_groups(FORMATS[name].pattern)


def fits(text: pl.Series) -> dict[str, pl.Series]:
    """Say of each format which lines it fits: booleans [n] by name, without ``raw``."""
    return {form.name: text.str.contains(form.pattern) for form in _TRIED}


class FormatFinder:
    """Finds a service's format from its first lines: counts which fit, then keeps the one that fitted most."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def observe(self, fitting: dict[str, pl.Series]) -> None:
        """Count what ``fits`` found."""
        for name, which in fitting.items():
            self.counts[name] = self.counts.get(name, 0) + int(which.sum())

    def decide(self, lines: int) -> str:
        """Return the name of the format that fitted most of ``lines``; of equals, the first in ``FORMATS``."""
        best = max(_TRIED, key=lambda form: self.counts.get(form.name, 0)).name
        return best if self.counts.get(best, 0) >= max(1, _LEAST_SHARE * lines) else "raw"


def canonical_levels(levels: pl.Series) -> pl.Series:
    """Write levels one way: upper case, ``WARN`` for ``WARNING``, letters and numbers by name, "" for none."""
    checked = levels.alias("level").to_frame().select_seq(_LEVELS)
    if checked["canonical"].all():
        return checked["level"]
    return checked["level"].str.to_uppercase().replace(_CANONICAL).str.slice(0, _LONGEST_LEVEL)


_LEVELS = (
    pl.col("level").fill_null(""),
    pl.col("level").is_in(sorted({"INFO", *_CANONICAL.values()})).all().alias("canonical"),
)
