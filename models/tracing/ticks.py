"""Lines to ticks of event time: what a tick brings is whole once its time is over, in whatever batches it came."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.sessions import Ints
from models.tracing.traces import TraceLines, Traces, TraceTable
from models.tracing.watch import TICK_MS

MAX_PENDING = 500_000
"""Lines that wait for their tick; of more the older half is looked at, whatever is still to come from who is behind."""
_NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False, slots=True)
class Tick:
    """What one tick of event time brings: the traces that finished, and the services and times of its lines."""

    now_ms: int
    traces: Traces
    services: Ints
    times: Ints


class Ticks:
    """Lines that wait for their tick, and those of open traces."""

    def __init__(self) -> None:
        self._table, self._now = TraceTable(), 0
        self._parts: list[TraceLines] = []  # lines that wait for their tick, as they came
        self._waiting, self._earliest = 0, _NEVER  # how many these are, and the time of the first

    def __len__(self) -> int:
        """Lines that are kept."""
        return len(self._table) + self._waiting

    @property
    def now_ms(self) -> int:
        """End of the newest tick that is over."""
        return self._now

    def add(self, lines: TraceLines) -> None:
        """Take in lines as they come; those of a tick that is over count to the next one."""
        if len(lines):
            self._parts.append(lines)
            self._waiting += len(lines)
            self._earliest = min(self._earliest, int(lines.times.min()))

    def until(self, now_ms: int) -> Iterator[Tick]:
        """The ticks that are over at an event time; stretches without any line are passed over."""
        if self._waiting > MAX_PENDING:
            times = np.concatenate([part.times for part in self._parts])
            now_ms = max(now_ms, int(np.median(times)) // TICK_MS * TICK_MS + TICK_MS)
        while len(self):
            if not len(self._table):
                self._now = max(self._now, self._earliest // TICK_MS * TICK_MS)
            if self._now + TICK_MS > now_ms:
                return
            self._now += TICK_MS
            part = self._due()
            self._table.add(part)
            yield Tick(self._now, self._table.finished(self._now), part.services, part.times)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All that is kept, as named columns of numbers."""
        kept = {"open": self._table.open, "pending": TraceLines.joined(self._parts)}
        columns = {f"{name}.{key}": column for name, lines in kept.items() for key, column in lines.columns().items()}
        return columns | {"now": np.array([self._now])}

    def restore(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace what is kept by what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """
        self._forget()
        self._now = int(columns["now"].astype(np.int64)[0])
        self._table.open = TraceLines.from_columns(columns, "open.")
        self.add(TraceLines.from_columns(columns, "pending."))

    def _forget(self) -> None:
        self._parts, self._waiting, self._earliest = [], 0, _NEVER

    def _due(self) -> TraceLines:
        """Take out the lines that lie before the end of the tick, in the order of their times, then as they came."""
        if self._earliest >= self._now:
            return TraceLines.joined(())
        pending = TraceLines.joined(self._parts)
        is_due = pending.times < self._now
        self._forget()
        self.add(pending.take(np.flatnonzero(~is_due)))
        due = pending.take(np.flatnonzero(is_due))
        return due.take(np.argsort(due.times, kind="stable"))
