"""JSON around a line: container runtimes, collectors and structured loggers put the message into a record.

A line that is a JSON object gives up its message (first key of ``MESSAGE_KEYS`` that it has), time, level and trace
id; if the message is again such a record, that one is opened too. What is not JSON stays as it is.
What a line gives depends on that line alone, never on its neighbours in the batch.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

MESSAGE_KEYS = ("log", "message", "msg", "@message", "MESSAGE", "text", "body", "event")
TIME_KEYS = ("time", "timestamp", "@timestamp", "ts", "date", "datetime", "asctime", "eventTime", "time_unix_nano")
LEVEL_KEYS = ("level", "severity", "levelname", "lvl", "loglevel", "log.level", "severity_text", "severityText")
SESSION_KEYS = ("trace_id", "traceId", "traceID", "trace.id", "traceid", "request_id", "requestId", "correlation_id")

_KEYS = MESSAGE_KEYS + TIME_KEYS + LEVEL_KEYS + SESSION_KEYS
_SCHEMA = pl.Struct({"#": pl.Int64} | dict.fromkeys(_KEYS, pl.String))
# A key we read whose value is an object or a list: polars refuses the whole column, so such lines go another way. And
# half of a surrogate pair: polars takes what a strict reader refuses, so what a line gives would depend on its batch.
_NESTED = r'"(?:' + "|".join(key.replace(".", r"\.") for key in _KEYS) + r')"[ \t]*:[ \t]*[\[{]|\\u[dD][89a-fA-F]'
_PREPARED = (
    pl.concat_str(
        pl.lit('{"#":'), pl.int_range(pl.len()).cast(pl.String), pl.lit(","), pl.col("line").str.slice(1)
    ).alias("numbered"),
    pl.col("line").str.contains(_NESTED).alias("nested"),
)
_DECODED = pl.col("numbered").str.json_decode(_SCHEMA)  # taken apart outside: polars would do so key by key
_LAYERS = 3  # a collector's record, a container's record, a structured line: more has not been seen


@dataclass(frozen=True, eq=False, slots=True)
class Unwrapped:
    """What the JSON around the lines said. Every column is [n]; null where a line has no such field."""

    text: pl.Series
    """The innermost message, without blanks and line ends behind it; the line itself where it is not JSON."""
    time: pl.Series | None = None
    level: pl.Series | None = None
    session: pl.Series | None = None


def broken(text: pl.Series, braces: NDArray[np.bool_], record: Unwrapped) -> int:
    """Count the lines that begin with a brace and are no JSON; ``record`` is what ``unwrap`` found in them.

    JSON nested deeper than 127 levels counts too: no reader here opens it.
    """
    barren = braces
    for column in (record.time, record.level, record.session):
        if column is not None and barren.any():
            barren = barren & column.is_null().to_numpy()
    if record.text is not text and barren.any():
        barren = barren & (record.text == text).to_numpy()
    rows = np.flatnonzero(barren)
    if not len(rows):
        return 0
    # Only what gave up nothing is looked at again: it is no JSON, or an object without any key of ours.
    return int(text[pl.Series(rows)].str.json_path_match("$").null_count())


def unwrap(text: pl.Series, braces: NDArray[np.bool_]) -> Unwrapped:
    """Open the JSON records of a column of lines, up to three deep; the inner record's fields win.

    ``braces`` says which lines begin with a brace: [n].
    """
    found = Unwrapped(text)
    for _ in range(_LAYERS):
        rows = np.flatnonzero(braces)
        if not len(rows):
            break
        everything = len(rows) == len(text)
        fields = _fields(_decode(found.text if everything else found.text[pl.Series(rows)]))
        if not fields.columns:
            break
        if not everything:  # a last row of nulls stands for the lines that are not JSON
            scattered = np.full(len(text), len(rows))
            scattered[rows] = np.arange(len(rows))
            fields = fields.clear(1) if not fields.height else fields.vstack(fields.clear(1))
            fields = fields[pl.Series(scattered)]
        text_now = _over(fields, "text", found.text)
        found = Unwrapped(
            text=found.text if text_now is None else text_now,
            time=_over(fields, "time", found.time),
            level=_over(fields, "level", found.level),
            session=_over(fields, "session", found.session),
        )
        if "text" not in fields.columns:
            break
        braces = fields["brace"].to_numpy()
    return found


def _fields(records: pl.DataFrame) -> pl.DataFrame:
    """Pick the fields out of decoded records; a field that no record has is no column. ``brace`` goes with ``text``."""
    n = records.height
    live = tuple(key for key in _KEYS if records[key].null_count() < n)
    return records.select_seq(_picks(live))


@cache
def _picks(live: tuple[str, ...]) -> list[pl.Expr]:
    """Say how each field is taken: the first key that a record has with anything in it."""
    picks = []
    for name, keys in (("text", MESSAGE_KEYS), ("time", TIME_KEYS), ("level", LEVEL_KEYS), ("session", SESSION_KEYS)):
        there = [pl.when(pl.col(key) != "").then(pl.col(key)) for key in keys if key in live]
        if not there:
            continue
        first = pl.coalesce(there) if len(there) > 1 else there[0]
        if name == "text":
            first = first.str.strip_chars_end(" \t\r\n")
            picks.append(first.str.starts_with("{").fill_null(False).alias("brace"))
        picks.append(first.alias(name))
    return picks


def _over(fields: pl.DataFrame, name: str, outer: pl.Series | None) -> pl.Series | None:
    """Prefer the inner record's value."""
    if name not in fields.columns:
        return outer
    inner = fields[name]
    return inner if outer is None or not inner.null_count() else inner.fill_null(outer)


def _decode(lines: pl.Series) -> pl.DataFrame:
    """Read lines that begin with a brace: one column of strings a key, all null where a line is not JSON: [n]."""
    prepared = lines.alias("line").to_frame().select_seq(_PREPARED)
    nested = prepared["nested"]
    if not nested.any():
        return _decode_flat(lines, prepared["numbered"])
    order = nested.arg_true().append((~nested).arg_true())
    parts = [_decode_nested(lines.filter(nested)), _decode_flat(lines.filter(~nested))]
    return pl.concat(parts)[order.arg_sort()]


def _decode_flat(lines: pl.Series, numbered: pl.Series | None = None) -> pl.DataFrame:
    """Decode the column in one go; if that fails, without the lines that are not JSON; if still, half by half.

    ``numbered`` are the same lines with their rows, if they are there already.
    """
    if not len(lines):
        return pl.DataFrame(schema=dict.fromkeys(_KEYS, pl.String()))
    if numbered is None:
        numbered = lines.alias("line").to_frame().select_seq(_PREPARED)["numbered"]
    records = _decode_numbered(numbered)
    if records is not None:
        return records
    nothing = pl.DataFrame({key: pl.Series([None], dtype=pl.String) for key in _KEYS})
    if len(lines) == 1:
        return nothing
    valid = lines.str.json_path_match("$").is_not_null()
    if valid.all():
        half = len(lines) // 2
        return pl.concat([_decode_flat(lines[:half]), _decode_flat(lines[half:])])
    sound = _decode_flat(lines.filter(valid)).vstack(nothing)
    index = valid.cast(pl.Int64).cum_sum() - 1
    return sound[index.set(~valid, sound.height - 1)]


def _decode_numbered(numbered: pl.Series) -> pl.DataFrame | None:
    """Decode a column whose every line is a JSON object with its row as first key; None if one is not.

    Polars joins the lines with commas before it reads them: two broken lines could make one record, and one line
    could be two. So every record must come back with its row.
    """
    try:
        records = numbered.to_frame().select_seq(_DECODED).to_series().struct.unnest()
    except pl.exceptions.PolarsError:
        return None
    rows = records.drop_in_place("#")
    if len(rows) != len(numbered) or rows.null_count() or not np.array_equal(rows.to_numpy(), np.arange(len(rows))):
        return None
    return records


def _decode_nested(lines: pl.Series) -> pl.DataFrame:
    """Read lines that polars cannot read as a column, key by key (as in ECS): objects and lists count as absent."""
    columns = {}
    for key in _KEYS:
        if lines.str.contains(f'"{key}"', literal=True).any():
            values = lines.str.json_path_match(f"$['{key}']")
            columns[key] = values.set(values.str.contains(r"^[\[{]"), None)
        else:
            columns[key] = pl.Series([None], dtype=pl.String).new_from_index(0, len(lines))
    return pl.DataFrame(columns)
