"""What a header format is, what an example of it must come to, and the expressions that several formats share."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.times import ZONE_NAMES, Layout, layout

ZONE = rf"(?: ?(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?|{'|'.join(ZONE_NAMES)}))?"
ISO = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:[.,][0-9]+)?{ZONE}"
ISO_TIME = layout("yyyy-MM-dd HH:mm:ss.f")
CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}[.,][0-9]{3}"
CLOCK_TIME = layout("HH:mm:ss.f")
MONTH = r"[A-Z][a-z]{2}"
_NAMES = (
    *("TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "CRITICAL", "CRIT", "FATAL"),
    *("SEVERE", "ALERT", "EMERG", "PANIC", "FINE", "FINER", "FINEST", "CONFIG"),
)
LEVEL = "(?:" + "|".join(form for name in _NAMES for form in (name, name.lower(), name.capitalize())) + ")"
WORD = r"[!-~]+"
CLASS = r"[A-Za-z_$][A-Za-z0-9_$]*(?:\.[A-Za-z0-9_$]+)+"  # a dotted name, as logging frameworks call components

NAMES = ("host", "component", "trace", "span", "request")
"""Fields of a header besides its time, level and session."""
GROUPS = ("time", "level", "priority", "session", *NAMES)
"""Names of a header expression's groups. ``priority`` is syslog's number, which says the level."""
IDENTIFIERS = ("session", "trace", "request")
"""Groups that may say a line's session; the first of them that an expression has does."""
_NAMED = re.compile(r"(?<!\\)\(\?P?<([a-z]+)>")


@dataclass(frozen=True)
class Example:
    """A line, and what it must come to. ``time`` is ISO 8601 in UTC; empty where the line says none."""

    line: str
    message: str
    time: str = ""
    level: str = ""
    session: str = ""
    host: str = ""
    component: str = ""
    trace: str = ""
    span: str = ""
    request: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Headers:
    """What the headers of some lines said: columns of strings [n], null where a line has no such part."""

    header: pl.Series | None
    """The header's own text; the message is what follows it."""
    time: pl.Series | None = None
    level: pl.Series | None = None
    session: pl.Series | None = None
    message: pl.Series | None = None
    """The message, where it is not simply what follows the header."""
    fields: dict[str, pl.Series] = field(default_factory=dict)
    """The columns of ``NAMES`` there are, where they were asked for."""
    of_format: dict[str, NDArray[np.int64]] | None = None
    """Rows by the name of the format that fitted them; None where all were read by one."""


@dataclass(frozen=True)
class Format:
    """A header: an expression with named groups of ``GROUPS`` (each may be missing).

    What follows the match is the message. The expression is tried at the start of a line, has no look-around, and uses
    ASCII classes only: such expressions run several times faster in polars' engine, most without any backtracking.
    """

    name: str
    rank: int
    """Formats are tried in rising order: special ones before general ones that fit their lines too."""
    header: str
    times: Layout | None = None
    """How the time is written; None: any common form (``parsing.times.parse_any``), which takes longer."""
    examples: tuple[Example, ...] = ()
    read: Callable[[pl.Series, bool], Headers] | None = None
    """Reads lines (and all their fields?) where an expression at their start does not do."""

    @cached_property
    def pattern(self) -> str:
        """The expression with the whole header as group ``header`` and all its fields."""
        return f"^(?P<header>{self.header})"

    @cached_property
    def bare(self) -> str:
        """The expression of the header without any group."""
        return _NAMED.sub("(?:", self.header)

    @cached_property
    def lean(self) -> str:
        """``pattern`` with only the groups that the online path reads: a group costs time."""
        names = _NAMED.findall(self.header)
        session = next((name for name in IDENTIFIERS if name in names), "")
        kept = {name: name for name in ("time", "level", "priority") if name in names} | {session: "session"}

        def group(found: re.Match[str]) -> str:
            return f"(?P<{kept[found[1]]}>" if found[1] in kept else "(?:"

        return f"^(?P<header>{_NAMED.sub(group, self.header)})"
