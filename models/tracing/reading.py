"""Events to the lines that name a trace: ``trace_id=4bf9...``, ``"traceId":"..."``, ``TraceID: ...``."""

import numpy as np
import polars as pl

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
