"""Events to the lines that name a trace: ``trace_id=4bf9...``, ``"traceId":"..."``, ``TraceID: ...``.

Usage::

    data = packed(events)          # to whoever watches the traces of all services; None: no line names one
    batch = unpacked(data)
"""

import json
from dataclasses import dataclass

import numpy as np
import polars as pl

from models.encoding import StateError, pack, unpack
from models.finished import level_numbers
from models.tracing.traces import TraceLines
from parsing.events import Events, string_hashes

_IS = r'[_.-]?[Ii][Dd]["\']?[ ]?[:=][ ]?["\']?([0-9a-fA-F-]{8,64})'
TRACE, SPAN = "[Tt][Rr][Aa][Cc][Ee]" + _IS, "[Ss][Pp][Aa][Nn]" + _IS
_HINTS = ["trace", "Trace", "TRACE"]
"""A line without one of these has no trace: looking for a word is ten times as cheap as the expression."""


def trace_lines(events: Events, service: int = 0) -> tuple[TraceLines, dict[int, str]]:
    """The lines of events that name a trace, be it their session or not, and the names of the traces by their hash."""
    lines = events.frame["line"]
    hinted = events.frame.filter(lines.str.contains_any(_HINTS))
    frame = hinted.with_columns(trace=hinted["line"].str.extract(TRACE)).filter(pl.col("trace").is_not_null())
    spans = frame["line"].str.extract(SPAN).fill_null("")
    hashes = np.where((spans == "").to_numpy(), np.uint64(0), string_hashes(spans))
    traces = string_hashes(frame["trace"])
    distinct, first = np.unique(traces, return_index=True)
    names = dict(zip(distinct.tolist(), frame["trace"].gather(first).to_list(), strict=True))
    return (
        TraceLines(
            traces,
            hashes,
            np.full(frame.height, service, dtype=np.int64),
            frame["template"].to_numpy().astype(np.uint64),
            level_numbers(frame["level"]),
            frame["time"].to_numpy().astype(np.int64),
        ),
        names,
    )


@dataclass(frozen=True, eq=False, slots=True)
class TraceBatch:
    """Lines of one partition that name a trace."""

    service: str
    topic: str
    partition: int
    offset: int
    """Of the newest of the events they were taken from,"""
    arrival_ms: int
    """and its arrival."""
    lines: TraceLines
    names: dict[int, str]


_BATCH, _FORMAT = "trace_lines", 1


def packed(events: Events) -> bytes | None:
    """Encode the lines of one partition that name a trace; None where no line does."""
    lines, names = trace_lines(events)
    if not len(lines):
        return None
    told = {
        "service": events.service,
        "topic": events.topic,
        "partition": int(events.column("partition")[0]),
        "offset": int(events.column("offset").max()),
        "arrival_ms": int(events.column("arrival").max()),
        "names": {str(trace): name for trace, name in names.items()},
    }
    text = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
    return pack(_BATCH, _FORMAT, {"told": text} | lines.columns())


def unpacked(data: bytes) -> TraceBatch:
    """Decode what ``packed`` made.

    Raises:
        StateError: The bytes are something else.
    """
    columns = unpack(data, _BATCH, _FORMAT)
    try:
        told = json.loads(columns.pop("told").tobytes())
        names = {int(trace): str(name) for trace, name in told.pop("names").items()}
        return TraceBatch(**told, lines=TraceLines.from_columns(columns), names=names)
    except (KeyError, ValueError, TypeError) as error:
        raise StateError(f"these are no lines of traces: {error}") from error
