"""Traces as columns: the lines of many services in, whole traces with their tree of spans out.

Usage::

    table = TraceTable()
    table.add(lines)                       # as they come, from any service
    traces = table.finished(now_ms)        # those that have rested

A span is what one service writes under one span id of a trace (under the trace id where lines name no span). Its
parent is the span, begun last, whose lines enclose all of its lines: the caller writes before it calls and after it was
answered. A span that nothing encloses hangs on nothing.
"""

from dataclasses import dataclass

import numpy as np

from models.finished import mix
from models.sessions import Ids, Ints
from models.tracing.columns import Columnar

QUIET_MS = 10_000
"""A trace without a line for this long, event time, is over: ten times the longest pause seen within a request."""
MAX_LINES = 1_000_000
"""Lines of open traces that are kept; the traces idle longest are ended first."""
NO_PARENT = -1


@dataclass(frozen=True, eq=False, slots=True)
class TraceLines(Columnar):
    """Lines that name a trace, of any number of services, as columns: [n]. ``services`` are the caller's numbers."""

    ids = frozenset({"traces", "spans", "templates"})

    traces: Ids  # hash of the trace id
    spans: Ids  # hash of the span id; 0 = none
    services: Ints
    templates: Ids
    levels: Ints  # models.finished.LEVELS
    times: Ints  # ms since 1970 UTC

    def __len__(self) -> int:
        return len(self.traces)


@dataclass(frozen=True, eq=False, slots=True)
class Traces:
    """Finished traces, the one that ended first in front; the lines of each in the order of time.

    ``order`` lists the lines span by span, the spans in the order of their first lines; a span's own lines are
    ``order[starts[s]:starts[s + 1]]``.
    """

    lines: TraceLines  # [e]
    names: Ids  # [t] hash of the trace id
    closed: Ints  # [t] event time at which it was known to be over, ms
    trace: Ints  # [e] number of each line's trace
    span: Ints  # [e] number of each line's span
    order: Ints  # [e]
    starts: Ints  # [s + 1]
    parents: Ints  # [s] number of the calling span; NO_PARENT

    def __len__(self) -> int:
        return len(self.names)

    @property
    def firsts(self) -> Ints:
        """[s] row of each span's first line."""
        firsts: Ints = self.order[self.starts[:-1]]
        return firsts

    @property
    def lasts(self) -> Ints:
        """[s] row of each span's last line."""
        lasts: Ints = self.order[self.starts[1:] - 1]
        return lasts

    @property
    def span_services(self) -> Ints:
        """[s] service that wrote each span."""
        return self.lines.services[self.firsts]

    @property
    def span_traces(self) -> Ints:
        """[s] number of each span's trace."""
        return self.trace[self.firsts]

    def steps(self) -> tuple[Ints, Ints, Ints]:
        """Consecutive lines of a span: row of the first, row of the second, number of the span: [p] each."""
        inner = np.ones(len(self.order), dtype=np.bool_)
        inner[self.starts[1:] - 1] = False
        places = np.flatnonzero(inner)
        return self.order[places], self.order[places + 1], self.span[self.order[places]]

    def calls(self) -> tuple[Ints, Ints]:
        """Calls that were answered: number of the called span, number of the step it was made in ([c] each).

        A step is a row of what ``steps`` gives.
        """
        called = np.flatnonzero(self.parents != NO_PARENT)
        first, _, span = self.steps()
        height = len(self.trace) + 1
        key = span * height + first  # rises: steps come span by span, in the order of time
        place = np.searchsorted(key, self.parents[called] * height + self.firsts[called], side="right") - 1
        return called, place


class TraceTable:
    """The lines of open traces.

    Args:
        quiet_ms: A trace with no line for longer than this is over.
        max_lines: Lines kept.
    """

    def __init__(self, quiet_ms: int = QUIET_MS, max_lines: int = MAX_LINES) -> None:
        self._quiet, self._max = quiet_ms, max_lines
        self.open = TraceLines.joined(())
        """Lines of open traces."""

    def __len__(self) -> int:
        """Lines of open traces."""
        return len(self.open)

    def add(self, lines: TraceLines) -> None:
        """Take in lines, in the order in which they came."""
        self.open = TraceLines.joined([self.open, lines])

    def finished(self, now_ms: int) -> Traces:
        """End the traces that have rested at this event time; returns them, in the order of their last lines."""
        distinct, number = np.unique(self.open.traces, return_inverse=True)
        number = number.reshape(-1)
        last = np.full(len(distinct), np.iinfo(np.int64).min)
        np.maximum.at(last, number, self.open.times)
        over = last < now_ms - self._quiet
        kept = np.count_nonzero(~over[number])
        if kept > self._max:
            lengths = np.bincount(number, minlength=len(distinct))
            by_age = np.argsort(last, kind="stable")
            left = len(number) - np.cumsum(lengths[by_age])
            over[by_age[: int(np.argmax(left <= self._max)) + 1]] = True
        rows = np.flatnonzero(over[number])
        done, closed = self.open.take(rows), np.minimum(last + self._quiet, now_ms)
        self.open = self.open.take(np.flatnonzero(~over[number]))
        return build(done, closed[number[rows]])


def build(lines: TraceLines, closed: Ints) -> Traces:
    """Put the lines of whole traces in order and find their spans; ``closed`` says when each line's trace was over."""
    rows = np.lexsort((lines.times, lines.traces, closed))
    lines, closed = lines.take(rows), closed[rows]
    trace = _numbered(lines.traces)
    first_of_trace = np.flatnonzero(np.diff(trace, prepend=-1))
    identity = mix(mix(lines.traces, lines.spans), lines.services.astype(np.uint64))
    _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    span = rank[inverse.reshape(-1)]
    order = np.argsort(span, kind="stable")
    starts = np.searchsorted(span[order], np.arange(len(first) + 1))
    whole = Traces(
        lines=lines,
        names=lines.traces[first_of_trace],
        closed=closed[first_of_trace],
        trace=trace,
        span=span,
        order=order,
        starts=starts,
        parents=np.full(len(first), NO_PARENT),
    )
    whole.parents[:] = _parents(whole)
    return whole


def _parents(traces: Traces) -> Ints:
    """The span begun last that encloses each span: [s]. All spans look one span further back at a time."""
    firsts, lasts, trace = traces.firsts, traces.lasts, traces.span_traces
    parents = np.full(len(firsts), NO_PARENT)
    open_ = np.arange(len(firsts))
    back = 1
    while len(open_):
        candidate = open_ - back
        open_, candidate = open_[candidate >= 0], candidate[candidate >= 0]
        same = trace[candidate] == trace[open_]
        open_, candidate = open_[same], candidate[same]
        encloses = lasts[candidate] > lasts[open_]
        parents[open_[encloses]] = candidate[encloses]
        open_ = open_[~encloses]
        back += 1
    return parents


def _numbered(values: Ids) -> Ints:
    """Number runs of equal values: 0, 0, 1, ..."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    numbers: Ints = np.cumsum(np.concatenate([[0], values[1:] != values[:-1]])).astype(np.int64)
    return numbers
