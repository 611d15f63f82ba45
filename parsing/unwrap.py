"""What is around a line: a container runtime's stamp (CRI), JSON of collectors and structured loggers, OTLP.

A line that is a JSON object gives up its message (first key of ``MESSAGE_KEYS`` that it has), time, level and trace
id; if the message is again such a record, that one is opened too. What is not JSON stays as it is.
What a line gives depends on that line alone, never on its neighbours in the batch.

Of a collector's OTLP (``resourceLogs``), the first log record is read; ``Unwrapped.many`` counts lines that hold more.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.decode import plain

MESSAGE_KEYS = ("log", "message", "msg", "@message", "MESSAGE", "text", "body", "event", "short_message", "@m")
TIME_KEYS = (
    *("time", "timestamp", "@timestamp", "ts", "date", "datetime", "asctime", "eventTime", "time_unix_nano"),
    *("timeUnixNano", "observedTimeUnixNano", "@t", "__REALTIME_TIMESTAMP"),
)
LEVEL_KEYS = (
    *("level", "severity", "levelname", "lvl", "loglevel", "log.level", "severity_text", "severityText"),
    *("severityNumber", "PRIORITY", "@l"),
)
TRACE_KEYS = ("trace_id", "traceId", "traceID", "trace.id", "traceid")
REQUEST_KEYS = ("request_id", "requestId", "correlation_id")
SESSION_KEYS = TRACE_KEYS + REQUEST_KEYS
_RARE = frozenset(
    (
        *("short_message", "@m", "timeUnixNano", "observedTimeUnixNano", "@t", "__REALTIME_TIMESTAMP"),
        *("severityNumber", "PRIORITY", "@l"),
    )
)
"""Keys of few producers. Every key costs each record time: only records that have one of these are asked for them."""
HOST_KEYS = ("host", "hostname", "host.name", "_HOSTNAME", "node", "pod", "pod_name")
COMPONENT_KEYS = (
    "logger",
    "logger_name",
    "loggerName",
    "log.logger",
    "name",
    "component",
    "SYSLOG_IDENTIFIER",
    "caller",
)
SPAN_KEYS = ("span_id", "spanId", "spanID", "span.id", "spanid")

_LEAN = {"text": MESSAGE_KEYS, "time": TIME_KEYS, "level": LEVEL_KEYS, "session": SESSION_KEYS}
_FULL = _LEAN | {
    "host": HOST_KEYS, "component": COMPONENT_KEYS, "trace": TRACE_KEYS, "span": SPAN_KEYS, "request": REQUEST_KEYS
}  # fmt: skip
FIELDS = ("host", "component", "trace", "span", "request")
_OTLP = "resourceLogs"
_NUMBERED_LEVEL = "severityNumber"
_SEVERITIES = {
    str(number): level
    for first, level in zip(range(1, 25, 4), ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"), strict=True)
    for number in range(first, first + 4)
}
"""OpenTelemetry's numbers (log data model, "Field: SeverityNumber"); others mean other things by the same numbers."""


@dataclass(frozen=True)
class _Keys:
    """Which keys are read of a record, and what follows from them."""

    kinds: dict[str, tuple[str, ...]]
    names: tuple[str, ...]
    usual: tuple[str, ...]
    """Those that every record is asked for."""
    nested: str
    """Fits records that polars cannot read as a column: a key we read whose value is an object or a list. And half of a
    surrogate pair: polars takes what a strict reader refuses, so what a line gives would depend on its batch."""
    special: str
    """Fits those, and records with other than usual keys."""

    @classmethod
    def of(cls, kinds: dict[str, tuple[str, ...]], rare: frozenset[str]) -> "_Keys":
        names = tuple(dict.fromkeys(key for keys in kinds.values() for key in keys))
        roots = dict.fromkeys(key.split(".")[0] for key in (*names, _OTLP))
        nested = rf'"(?:{"|".join(roots)})"[ \t]*:[ \t]*[\[{{]|\\u[dD][89a-fA-F]'
        special = rf'{nested}|"(?:{"|".join(sorted(rare))})"' if rare else nested
        return cls(kinds, names, tuple(name for name in names if name not in rare), nested, special)


_KEYS = {False: _Keys.of(_LEAN, _RARE), True: _Keys.of(_FULL, frozenset())}
"""By whether all fields are read, or only what the online path needs."""
_NUMBERED = pl.concat_str(
    pl.lit('{"#":'), pl.int_range(pl.len()).cast(pl.String), pl.lit(","), pl.col("line").str.slice(1)
).alias("numbered")
_INSIDE = {"host": "$.host.name", "body": "$.body.stringValue"}
_OTHERS = (f"$.{_OTLP}[1]", f"$.{_OTLP}[0].scopeLogs[1]", f"$.{_OTLP}[0].scopeLogs[0].logRecords[1]")
_RESOURCE = f"$.{_OTLP}[0].resource.attributes[?(@.key=='{{}}')].value.stringValue"
_OF_RESOURCE = {
    "host": tuple(_RESOURCE.format(name) for name in ("host.name", "k8s.pod.name", "service.instance.id")),
    "component": (f"$.{_OTLP}[0].scopeLogs[0].scope.name", _RESOURCE.format("service.name")),
}
_STAMPED = pl.col("text").str.extract_groups(
    r"(?s)^(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2}))"
    r" (?P<stream>stdout|stderr) (?P<tag>[FP])(?::[A-Z])*(?: (?P<text>.*))?$"
)
_LAYERS = 3  # a collector's record, a container's record, a structured line: more has not been seen


@dataclass(frozen=True, eq=False, slots=True)
class Unwrapped:
    """What was around the lines. Every column is [n]; null where a line has no such field."""

    text: pl.Series
    """The innermost message, without blanks and line ends behind it; the line itself where nothing is around it."""
    time: pl.Series | None = None
    level: pl.Series | None = None
    session: pl.Series | None = None
    fields: dict[str, pl.Series] = field(default_factory=dict)
    """The columns of ``FIELDS`` there are, where they were asked for."""
    pieces: "Pieces | None" = None
    many: int = 0
    """Lines that hold more log records than the first, which is read."""


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """Which lines a container runtime has stamped, and which of them it has cut: [n] each."""

    streams: NDArray[np.int64]  # 0 stdout, 1 stderr, -1 where it is no such line
    unfinished: NDArray[np.bool_]  # another piece of the line follows (``P``)


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


def unwrap(text: pl.Series, braces: NDArray[np.bool_], dated: NDArray[np.bool_], full: bool = False) -> Unwrapped:
    """Open the records of a column of lines, up to three deep; the inner record's fields win.

    ``braces`` says which lines begin with a brace, ``dated`` which begin as CRI lines do ([n] each); ``full`` asks for
    all ``FIELDS``.
    """
    found = Unwrapped(text)
    if dated.any():
        found = _unstamped(text, dated)
        if found.text is not text:
            braces = found.text.str.starts_with("{").to_numpy()
    keys = _KEYS[full]
    many = 0
    for _ in range(_LAYERS):
        rows = np.flatnonzero(braces)
        if not len(rows):
            break
        everything = len(rows) == len(text)
        records, more = _decode(found.text if everything else found.text[pl.Series(rows)], keys)
        many += more
        fields = _fields(records, keys)
        if not fields.columns:
            break
        if not everything:  # a last row of nulls stands for the lines that are not JSON
            scattered = np.full(len(text), len(rows))
            scattered[rows] = np.arange(len(rows))
            fields = fields.clear(1) if not fields.height else fields.vstack(fields.clear(1))
            fields = fields[pl.Series(scattered)]
        text_now = _over(fields, "text", found.text)
        found = Unwrapped(
            found.text if text_now is None else text_now,
            _over(fields, "time", found.time),
            _over(fields, "level", found.level),
            _over(fields, "session", found.session),
            _over_all(fields, found.fields) if full else {},
            found.pieces,
        )
        if "text" not in fields.columns:
            break
        braces = fields["brace"].to_numpy()
    if found.text is text:
        return found
    return replace(found, text=plain(found.text), many=many)


def wrapping(text: pl.Series, record: Unwrapped) -> pl.Series:
    """Name what was outermost around each line: ``json``, ``otlp``, ``cri`` or "" ([n])."""
    opened = (record.text != text).fill_null(True)
    for column in (record.time, record.level, record.session):
        if column is not None:
            opened |= column.is_not_null()
    named = pl.Series("wrapping", [""], dtype=pl.String).new_from_index(0, len(text))
    named = named.set(opened & text.str.starts_with("{"), "json")
    named = named.set(text.str.contains(rf'^\{{\s*"{_OTLP}"'), "otlp")
    if record.pieces is not None:
        named = named.set(pl.Series(record.pieces.streams >= 0), "cri")
    return named


def _unstamped(text: pl.Series, dated: NDArray[np.bool_]) -> Unwrapped:
    """Take the stamp of a container runtime off the lines that have one."""
    rows = np.flatnonzero(dated)
    groups = text[pl.Series(rows)].alias("text").to_frame().select_seq(_STAMPED).to_series().struct.unnest()
    stamped = groups["stream"].is_not_null().to_numpy()
    if not stamped.any():
        return Unwrapped(text)
    rows, groups = rows[stamped], groups.filter(pl.Series(stamped))
    streams, unfinished = np.full(len(text), -1), np.zeros(len(text), dtype=np.bool_)
    streams[rows] = (groups["stream"] == "stderr").to_numpy()
    unfinished[rows] = (groups["tag"] == "P").to_numpy()
    if len(rows) == len(text):
        return Unwrapped(groups["text"].fill_null(""), groups["time"], pieces=Pieces(streams, unfinished))
    time = pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    return Unwrapped(
        text.clone().scatter(rows, groups["text"].fill_null("")),
        time.scatter(rows, groups["time"]),
        pieces=Pieces(streams, unfinished),
    )


def _fields(records: pl.DataFrame, keys: _Keys) -> pl.DataFrame:
    """Pick the fields out of decoded records; a field that no record has is no column. ``brace`` goes with ``text``."""
    n = records.height
    live = tuple(key for key in keys.names if key in records.columns and records[key].null_count() < n)
    return records.select_seq(_picks(live, keys is _KEYS[True]))


@cache
def _picks(live: tuple[str, ...], full: bool) -> list[pl.Expr]:
    """Say how each field is taken: the first key that a record has with anything in it."""
    picks = []
    for name, keys in _KEYS[full].kinds.items():
        there = [_value(key) for key in keys if key in live]
        if not there:
            continue
        first = pl.coalesce(there) if len(there) > 1 else there[0]
        if name == "text":
            first = first.str.strip_chars_end(" \t\r\n")
            picks.append(first.str.starts_with("{").fill_null(False).alias("brace"))
        picks.append(first.alias(name))
    return picks


def _value(key: str) -> pl.Expr:
    if key == _NUMBERED_LEVEL:
        return pl.col(key).replace_strict(_SEVERITIES, default=None)
    return pl.when(pl.col(key) != "").then(pl.col(key))


def _over(fields: pl.DataFrame, name: str, outer: pl.Series | None) -> pl.Series | None:
    """Prefer the inner record's value."""
    if name not in fields.columns:
        return outer
    inner = fields[name]
    return inner if outer is None or not inner.null_count() else inner.fill_null(outer)


def _over_all(fields: pl.DataFrame, outer: dict[str, pl.Series]) -> dict[str, pl.Series]:
    found = {name: _over(fields, name, outer.get(name)) for name in FIELDS}
    return {name: values for name, values in found.items() if values is not None}


def _decode(lines: pl.Series, keys: _Keys) -> tuple[pl.DataFrame, int]:
    """Read lines that begin with a brace: one column of strings a key, all null where a line is not JSON: [n].

    And count the lines that hold more than one log record.
    """
    prepared = lines.alias("line").to_frame().select_seq((_NUMBERED, _special(keys.special)))
    special = prepared["special"]
    if not special.any():
        return _decode_flat(lines, keys.usual, prepared["numbered"]), 0
    rows = special.arg_true()
    nested = lines[rows].str.contains(keys.nested)
    deep, many = _decode_nested(lines[rows.filter(nested)], keys)
    rare, usual = rows.filter(~nested), (~special).arg_true()
    parts = [deep, _decode_flat(lines[rare], keys.names), _decode_flat(lines[usual], keys.usual)]
    order = pl.concat([rows.filter(nested), rare, usual])
    return pl.concat(parts, how="diagonal")[order.arg_sort()], many


@cache
def _special(pattern: str) -> pl.Expr:
    return pl.col("line").str.contains(pattern).alias("special")


def _decode_flat(lines: pl.Series, names: tuple[str, ...], numbered: pl.Series | None = None) -> pl.DataFrame:
    """Decode the column in one go; if that fails, without the lines that are not JSON; if still, half by half.

    ``names`` are the keys to read; ``numbered`` are the same lines with their rows, if they are there already.
    """
    if not len(lines):
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
    if numbered is None:
        numbered = lines.alias("line").to_frame().select_seq(_NUMBERED).to_series()
    records = _decode_numbered(numbered, names)
    if records is not None:
        return records
    nothing = pl.DataFrame({key: pl.Series([None], dtype=pl.String) for key in names})
    if len(lines) == 1:
        return nothing
    valid = lines.str.json_path_match("$").is_not_null()
    if valid.all():
        half = len(lines) // 2
        return pl.concat([_decode_flat(lines[:half], names), _decode_flat(lines[half:], names)])
    sound = _decode_flat(lines.filter(valid), names).vstack(nothing)
    index = valid.cast(pl.Int64).cum_sum() - 1
    return sound[index.set(~valid, sound.height - 1)]


def _decode_numbered(numbered: pl.Series, names: tuple[str, ...]) -> pl.DataFrame | None:
    """Decode a column whose every line is a JSON object with its row as first key; None if one is not.

    Polars joins the lines with commas before it reads them: two broken lines could make one record, and one line
    could be two. So every record must come back with its row.
    """
    try:  # taken apart outside of the expression: polars would do so key by key
        records = numbered.to_frame().select_seq(_decoded(names)).to_series().struct.unnest()
    except pl.exceptions.PolarsError:
        return None
    rows = records.drop_in_place("#")
    if len(rows) != len(numbered) or rows.null_count() or not np.array_equal(rows.to_numpy(), np.arange(len(rows))):
        return None
    return records


@cache
def _decoded(names: tuple[str, ...]) -> pl.Expr:
    schema = pl.Struct({"#": pl.Int64} | dict.fromkeys(names, pl.String))
    return pl.col("numbered").str.json_decode(schema)


def _decode_nested(lines: pl.Series, keys: _Keys) -> tuple[pl.DataFrame, int]:
    """Read lines that polars cannot read as a column, key by key: objects and lists count as absent.

    Unless they are forms we know: a dotted key as an object (``{"log": {"level": ...}}``, as in ECS), a host with a
    name, an OpenTelemetry body. Of OTLP the first record is the message; its own fields are read one layer deeper.
    """
    columns = {}
    for key in keys.names:
        root, _, leaf = key.partition(".")
        values = pl.Series(key, [None], dtype=pl.String).new_from_index(0, len(lines))
        if lines.str.contains(f'"{key}"', literal=True).any():
            values = lines.str.json_path_match(f"$['{key}']")
            values = values.set(values.str.contains(r"^[\[{]"), None)
        inside = _INSIDE.get(key, f"$['{root}']['{leaf}']" if leaf else "")
        if inside and lines.str.contains(f'"{root}"', literal=True).any():
            values = values.fill_null(_scalar(lines, inside))
        columns[key] = values.alias(key)
    if columns["timeUnixNano"].null_count() < len(lines):  # a body of another kind than text: as it is written
        columns["body"] = columns["body"].fill_null(lines.str.json_path_match("$.body"))
    many = 0
    if lines.str.contains(f'"{_OTLP}"', literal=True).any():
        first = lines.str.json_path_match(f"$.{_OTLP}[0].scopeLogs[0].logRecords[0]")
        columns[MESSAGE_KEYS[0]] = columns[MESSAGE_KEYS[0]].fill_null(first)
        others = [lines.str.json_path_match(path).is_not_null() for path in _OTHERS]
        many = int((others[0] | others[1] | others[2]).sum())
        for key, paths in _OF_RESOURCE.items():
            if key in columns:
                for path in paths:
                    columns[key] = columns[key].fill_null(lines.str.json_path_match(path))
    return pl.DataFrame(columns), many


def _scalar(lines: pl.Series, path: str) -> pl.Series:
    values = lines.str.json_path_match(path)
    return values.set(values.str.contains(r"^[\[{]"), None)
