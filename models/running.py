"""Learning while running: an ensemble that goes on learning what was normal, late, and never what it raised.

    running = Running(ensemble)
    judged = running.judge(items)       # in the order in which they were over; teaches what was due before them

An item is learnt ``delay_ms`` of event time after it was over, if neither it nor another state of the same session was
raised, and nothing was raised within ``near_ms`` of it. What is due is learnt at the beginnings of ticks, which the
items and their times alone make, so that batches do not matter. What waits is not part of the saved state: after a
restart it is not learnt.

The calibration stays as it is. It must not follow what was not raised: each time that cuts off the strangest of what is
normal, and the bar would sink until it raises everything (measured on HDFS: 101 false alarms of 4,025 instead of 14).

A fault that comes again is raised again, since what was raised is not learnt. A release makes sessions of a new kind
that stay: where a raised kind has been a fair share of all items in each of some slices of time without a pause, and no
detector of trouble speaks (an early end, an error), it is taken to be the new normal and is learnt from then on.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from models.detector import Columns
from models.ensemble import Ensemble, Judged
from models.sessions import Flags, Ids, Ints

TICK_MS = 60_000
TICK_ITEMS = 500
LONGEST_TICK_MS = 7_200_000
"""A tick begins with a new minute of event time, after so many items or so long a time: learning what is due costs the
same for one item as for a hundred."""
DELAY_MS = 300_000
"""A fault that goes unseen at first is seen within minutes, and what came before it must not be learnt by then."""
NEAR_MS = 60_000
"""Before and after what was raised."""
SLICE_MS = 300_000
SLICE_ITEMS = 100
"""A slice of time is over after that long, and not before so many items: a share of a few says nothing."""
SLICES = 3
"""In a row: a quarter of an hour at least, longer than the faults of a few minutes that come again."""
ADOPTED_SHARE = 0.1
"""Of the items of a slice: a release is what a good part of all traffic does."""
MAX_WAITING = 5_000
"""Items that wait to be learnt; of more the oldest are let go: a tenth of them teach as much."""
MAX_GROUPS = 100_000
"""Raised sessions remembered, whose later states are not learnt."""


class Joinable(Columns, Protocol):
    """Items of several batches that can be learnt at once."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put batches one after another; at least one."""


J = TypeVar("J", bound=Joinable)


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting(Generic[J]):
    """Items judged in one tick that are to be learnt."""

    items: J
    groups: Ids
    closed: Ints

    def take(self, rows: Ints) -> "_Waiting[J]":
        """Those of these rows."""
        return _Waiting(self.items.take(rows), self.groups[rows], self.closed[rows])


class Running(Generic[J]):
    """An ensemble that learns while it runs.

    Args:
        ensemble: What judges, and is taught.
        delay_ms: From the end of an item to when it is learnt, event time.
        near_ms: What was over so close to something raised is not learnt.
    """

    def __init__(self, ensemble: Ensemble[J], delay_ms: int = DELAY_MS, near_ms: int = NEAR_MS) -> None:
        self.ensemble = ensemble
        self._delay, self._near = max(delay_ms, near_ms + TICK_MS), near_ms
        self._waiting: list[_Waiting[J]] = []
        self._raised_at: list[Ints] = []
        self._raised_groups: OrderedDict[int, None] = OrderedDict()
        self._releases = Releases()
        self._minute = self._tick = -1
        self._judged = 0  # items since the tick began
        self.learnt = 0
        """Items learnt while running."""

    def judge(self, items: J) -> Judged:
        """Say how rare items are and which are raised; learn at the beginning of each tick what is due by then."""
        minutes = np.maximum.accumulate(np.maximum(items.closed // TICK_MS, self._minute))
        found: list[Judged] = []
        start = 0
        for row in np.flatnonzero(np.diff(minutes, prepend=self._minute)).tolist():
            minute = int(minutes[row])
            if self._judged + row - start >= TICK_ITEMS or minute - self._tick >= LONGEST_TICK_MS // TICK_MS:
                found += self._judge(items.take(np.arange(start, row)))
                self._learn_due(minute)
                start = row
        found += self._judge(items.take(np.arange(start, len(items))))
        self._minute = int(minutes[-1]) if len(minutes) else self._minute
        return Judged.joined(found) if found else self.ensemble.judge(items)

    def adopted(self, items: J) -> Flags:
        """Which items are of a kind that a release made normal: [n]."""
        return self._releases.adopted(items.kinds())

    def _judge(self, items: J) -> list[Judged]:
        if not len(items):
            return []
        self._judged += len(items)
        judged = self.ensemble.judge(items)
        groups, closed = items.groups(), items.closed
        spared = self._releases.meet(items.kinds(), closed, judged.raised, judged.trouble)
        kept_back = judged.raised & ~spared
        for group in groups[kept_back].tolist():
            self._raised_groups[group] = None
            self._raised_groups.move_to_end(group)
        while len(self._raised_groups) > MAX_GROUPS:
            self._raised_groups.popitem(last=False)
        if kept_back.any():
            self._raised_at.append(closed[kept_back])
        rows = np.flatnonzero(~kept_back)
        if len(rows):
            self._waiting.append(_Waiting(items.take(rows), groups[rows], closed[rows]))
            while sum(len(one.closed) for one in self._waiting[1:]) >= MAX_WAITING:
                del self._waiting[0]
        return [judged]

    def _learn_due(self, minute: int) -> None:
        """Begin a tick: learn what was over long enough before it."""
        self._tick, self._judged = minute, 0
        due = minute * TICK_MS - self._delay
        raised_at = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *self._raised_at]))
        waiting, self._waiting = self._waiting, []
        learnt: list[J] = []
        for one in waiting:
            late = one.closed >= due
            if late.any():
                self._waiting.append(one.take(np.flatnonzero(late)))
            keep = ~late & ~self._near_raised(one.closed, raised_at)
            keep &= np.array([group not in self._raised_groups for group in one.groups.tolist()], dtype=np.bool_)
            rows = np.flatnonzero(keep)
            if len(rows):
                learnt.append(one.items.take(rows))
        self._raised_at = [raised_at[raised_at >= due - self._near]]
        if learnt:  # at once: learning costs the same for one item as for a hundred
            items = learnt[0].joined(learnt)
            self.ensemble.learn(items)
            self.learnt += len(items)

    def _near_raised(self, closed: Ints, raised_at: Ints) -> Flags:
        near: Flags = np.searchsorted(raised_at, closed - self._near) < np.searchsorted(
            raised_at, closed + self._near, side="right"
        )
        return near


class Releases:
    """Which kinds of raised items have come to stay."""

    def __init__(self) -> None:
        self._since = 0  # ms, when the slice began
        self._items = 0
        self._raised: Counter[int] = Counter()
        self._stayed: Counter[int] = Counter()  # slices in a row
        self._adopted: OrderedDict[int, None] = OrderedDict()

    def meet(self, kinds: Ids, closed: Ints, raised: Flags, trouble: Flags) -> Flags:
        """Count items in the order in which they were over; says which raised ones are of an adopted kind: [n]."""
        spared = np.zeros(len(kinds), dtype=np.bool_)
        for row, (kind, at) in enumerate(zip(kinds.tolist(), closed.tolist(), strict=True)):
            if at >= self._since + SLICE_MS and self._items >= SLICE_ITEMS:
                self._close_slice()
            if not self._items:
                self._since = at
            self._items += 1
            if raised[row] and not trouble[row]:
                self._raised[kind] += 1
                spared[row] = kind in self._adopted
        return spared

    def adopted(self, kinds: Ids) -> Flags:
        """Which kinds have come to stay: [n]."""
        return np.array([kind in self._adopted for kind in kinds.tolist()], dtype=np.bool_)

    def _close_slice(self) -> None:
        """A slice is over: a kind that was no good part of it has to begin anew."""
        there = {kind for kind, count in self._raised.items() if count >= ADOPTED_SHARE * self._items}
        self._stayed = Counter({kind: self._stayed[kind] + 1 for kind in there})
        for kind, slices in self._stayed.items():
            if slices >= SLICES:
                self._adopted[kind] = None
        while len(self._adopted) > MAX_GROUPS:
            self._adopted.popitem(last=False)
        self._items, self._raised = 0, Counter()
