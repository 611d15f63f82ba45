"""Headers off whole columns, by a known format or the first that fits; which format a service has; levels one way."""

from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.formats._base import IDENTIFIERS, NAMES, Format, Headers
from parsing.formats._registry import FORMATS

LEARN_LINES = 1_000
"""Lines after which format and session identifier of a service are fixed. Until then every line is read by the first
format that fits it, so that the result does not depend on how lines were cut into batches."""
_LEAST_SHARE = 0.05
"""Share of the first lines that a format must be the first to fit. It may be low: lines of banners carry no header, and
what does not fit is read as raw."""

_TRIED = tuple(name for name, form in FORMATS.items() if form.header)

_CANONICAL = {
    "WARNING": "WARN", "ERR": "ERROR", "SEVERE": "ERROR", "CRIT": "CRITICAL", "EMERG": "FATAL", "PANIC": "FATAL",
    "FINE": "DEBUG", "FINER": "TRACE", "FINEST": "TRACE", "INFORMATION": "INFO", "INFORMATIONAL": "INFO",
    "V": "TRACE", "T": "TRACE", "D": "DEBUG", "I": "INFO", "N": "NOTICE", "W": "WARN", "E": "ERROR", "C": "CRITICAL",
    "F": "FATAL", "A": "ALERT",
    "LOG": "INFO", "NOTE": "NOTICE", "SYSTEM": "INFO", "DETAIL": "INFO", "HINT": "INFO", "STATEMENT": "INFO",
    "CONTEXT": "INFO", "QUERY": "INFO", "DEBUG1": "DEBUG", "DEBUG2": "DEBUG", "DEBUG3": "DEBUG", "DEBUG4": "DEBUG",
    "DEBUG5": "DEBUG", "TRACE1": "TRACE", "TRACE2": "TRACE", "TRACE3": "TRACE", "TRACE4": "TRACE", "TRACE5": "TRACE",
    "TRACE6": "TRACE", "TRACE7": "TRACE", "TRACE8": "TRACE", "DPANIC": "FATAL", "ANY": "INFO", "VERBOSE": "TRACE",
    "VRB": "TRACE", "DBG": "DEBUG", "INF": "INFO", "WRN": "WARN", "FTL": "FATAL", ".": "DEBUG", "-": "DEBUG",
    "*": "NOTICE", "#": "WARN", "EMERGENCY": "FATAL",
    # syslog's severities (RFC 5424, section 6.2.1)
    "0": "FATAL", "1": "ALERT", "2": "CRITICAL", "3": "ERROR", "4": "WARN", "5": "NOTICE", "6": "INFO", "7": "DEBUG",
    # pino and bunyan write numbers
    "10": "TRACE", "20": "DEBUG", "30": "INFO", "40": "WARN", "50": "ERROR", "60": "FATAL",
}  # fmt: skip
_LONGEST_LEVEL = 16  # characters; a field called "level" may hold anything


def read_headers(text: pl.Series, form: Format, full: bool = False) -> Headers:
    """Take the header off each line in one pass; lines that the format does not fit have none.

    ``full`` gives all fields of ``NAMES`` the format has, and not only what the online path needs.
    """
    if form.read is not None:
        return form.read(text, full)
    if not form.header:
        return Headers(None)
    pattern = form.pattern if full else form.lean
    groups = text.alias("text").to_frame().select_seq(_taking(pattern)).to_series().struct.unnest()
    columns = dict(zip(groups.columns, groups, strict=True))
    session = next((columns[name] for name in IDENTIFIERS if name in columns), None)
    return Headers(
        columns["header"],
        columns.get("time"),
        _level(columns.get("level"), columns.get("priority")),
        session,
        fields={name: columns[name] for name in NAMES if name in columns} if full else {},
    )


def read_any_headers(text: pl.Series, fitting: dict[str, NDArray[np.int64]], full: bool = False) -> Headers:
    """Take the header off each line by the first format that fits it; ``fitting`` is what ``first_fits`` found."""
    parts: dict[str, pl.Series] = {}
    for name, rows in fitting.items():
        part = read_headers(text[rows], FORMATS[name], full)
        own = {"header": part.header, "time": part.time, "level": part.level, "session": part.session}
        for column, values in {**own, "message": part.message, **part.fields}.items():
            if values is not None:
                if column not in parts:
                    parts[column] = pl.Series(column, [None], dtype=pl.String).new_from_index(0, len(text))
                parts[column].scatter(rows, values)
    header = parts.get("header")
    return Headers(
        pl.Series("header", [None], dtype=pl.String).new_from_index(0, len(text)) if header is None else header,
        parts.get("time"),
        parts.get("level"),
        parts.get("session"),
        parts.get("message"),
        {name: parts[name] for name in NAMES if name in parts},
        fitting,
    )


@cache
def _taking(pattern: str) -> pl.Expr:
    return pl.col("text").str.extract_groups(pattern)


def _level(level: pl.Series | None, priority: pl.Series | None) -> pl.Series | None:
    """The level, or the severity that syslog's priority holds: its last three bits (RFC 5424, section 6.2.1)."""
    if priority is None or priority.null_count() == len(priority):
        return level
    return (priority.cast(pl.Int64) % 8).cast(pl.String)


_FIRST = "^(?:" + "|".join(f"({FORMATS[name].bare})" for name in _TRIED) + ")"
"""All formats as one expression, of whose groups the first that fits matches. Polars keeps 32 expressions compiled: one
by one they would be compiled with every batch, for 0.5 ms each."""


def first_fits(text: pl.Series) -> dict[str, NDArray[np.int64]]:
    """Say of each format which lines it is the first to fit: rows [k] by name, without ``raw``."""
    groups = text.alias("text").to_frame().select_seq(_taking(_FIRST)).to_series().struct.unnest()
    found = {}
    for name, group in zip(_TRIED, groups, strict=True):
        if group.null_count() < len(text):
            found[name] = np.flatnonzero(group.is_not_null().to_numpy())
    return found


class FormatFinder:
    """Finds a service's format from its first lines: counts how many each is the first to fit."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def observe(self, fitting: dict[str, NDArray[np.int64]]) -> None:
        """Count what ``first_fits`` found."""
        for name, rows in fitting.items():
            self.counts[name] = self.counts.get(name, 0) + len(rows)

    def decide(self, lines: int) -> str:
        """Return the name of the format that was the first to fit most of ``lines``; of equals, the first."""
        best = max(_TRIED, key=lambda name: self.counts.get(name, 0))
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
