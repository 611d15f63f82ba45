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
detector of trouble speaks (an early end, an error), it is taken to be the new normal and is learnt from then on. So are
lines that were new to whoever trained the ensemble: once they are normal, a session that holds some is looked at
without them, too, and raised only if it is rare in both views.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.encoding import pack, unpack
from models.ensemble import Ensemble, Judged
from models.finished import Sessions
from models.sessions import Flags, Ids, Ints
from models.wording import is_calm

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


_STATE, _FORMAT = "running", 1


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    """Sessions judged in one tick that are to be learnt."""

    items: Sessions
    groups: Ids
    closed: Ints

    def take(self, rows: Ints) -> "_Waiting":
        """Those of these rows."""
        return _Waiting(self.items.take(rows), self.groups[rows], self.closed[rows])


class Running:
    """An ensemble of session detectors that learns while it runs.

    Args:
        ensemble: What judges, and is taught.
        known: Templates that it was trained on; None: no template is new.
        delay_ms: From the end of an item to when it is learnt, event time.
        near_ms: What was over so close to something raised is not learnt.
    """

    def __init__(
        self,
        ensemble: Ensemble[Sessions],
        known: Ids | None = None,
        delay_ms: int = DELAY_MS,
        near_ms: int = NEAR_MS,
    ) -> None:
        self.ensemble = ensemble
        self._known = known
        self._delay, self._near = max(delay_ms, near_ms + TICK_MS), near_ms
        self._waiting: list[_Waiting] = []
        self._raised_at: list[Ints] = []
        self._raised_groups: OrderedDict[int, None] = OrderedDict()
        self._kinds, self._news = Releases(), Releases()
        self._minute = self._tick = -1
        self._judged = 0  # items since the tick began
        self.learnt = 0
        """Items learnt while running."""

    @property
    def news(self) -> frozenset[int]:
        """Templates that were new to the ensemble, and that a release has made normal."""
        return self._news.adopted

    def dump(self) -> bytes:
        """Encode what is known: the ensemble, and what releases have made normal."""
        parts: dict[str, NDArray[np.generic]] = {"ensemble": np.frombuffer(self.ensemble.dump(), dtype=np.uint8)}
        for name, one in self._adopting().items():
            parts[name] = np.array(sorted(one.adopted), dtype=np.uint64)
        return pack(_STATE, _FORMAT, parts)

    def load(self, data: bytes) -> None:
        """Go on from what ``dump`` wrote.

        Raises:
            StateError: The bytes are damaged, or of another format.
        """
        parts = unpack(data, _STATE, _FORMAT)
        self.ensemble.load(parts["ensemble"].tobytes())
        for name, one in self._adopting().items():
            one.adopt(parts[name].astype(np.uint64).tolist())

    def _adopting(self) -> dict[str, "Releases"]:
        return {"kinds": self._kinds, "news": self._news}

    def judge(self, items: Sessions) -> Judged:
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

    def _judge(self, items: Sessions) -> list[Judged]:
        if not len(items):
            return []
        self._judged += len(items)
        judged = self._judge_news(items, self.ensemble.judge(items))
        groups, closed = items.groups(), items.closed
        kept_back = judged.raised & ~self._spared(items, judged)
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

    def _spared(self, items: Sessions, judged: Judged) -> Flags:
        """Which of the raised are of a kind that a release has made normal: [n]."""
        told = judged.raised & ~judged.trouble
        kinds = items.kinds().tolist()
        spared = np.zeros(len(items), dtype=np.bool_)
        for row, at in enumerate(items.closed.tolist()):
            self._kinds.count(at, kinds[row : row + 1] if told[row] else ())
            spared[row] = told[row] and kinds[row] in self._kinds.adopted
        return spared

    def _judge_news(self, items: Sessions, judged: Judged) -> Judged:
        """Look for templates that have come to stay, and spare what is rare for those that have."""
        if self._known is None:
            return judged
        new = ~np.isin(items.templates, self._known)
        odd = np.zeros(len(items), dtype=np.bool_)
        odd[items.owners[new]] = True
        alone: Flags = np.ones(len(items), dtype=np.bool_)  # rare, and
        trouble = judged.trouble.copy()  # in trouble, without what is new
        asked = np.flatnonzero(odd & (judged.raised | judged.trouble))
        if len(asked):
            rest, rows = items.take(asked).without(items.templates[new])
            again = self.ensemble.judge(rest)
            alone[asked] = trouble[asked] = False
            alone[asked[rows]], trouble[asked[rows]] = again.raised, again.trouble
        held = self._held(items, new)
        usual = np.ones(len(items), dtype=np.bool_)
        for row, at in enumerate(items.closed.tolist()):
            self._news.count(at, [one for one, calm in held.get(row, ()) if calm and not trouble[row]])
            usual[row] = all(one in self._news.adopted for one, _ in held.get(row, ()))
        return replace(judged, raised=judged.raised & (alone | ~usual))

    @staticmethod
    def _held(items: Sessions, new: Flags) -> dict[int, set[tuple[int, bool]]]:
        """The new templates of each session that has some, and whether the lines are free of trouble."""
        held: dict[int, set[tuple[int, bool]]] = {}
        rows = np.flatnonzero(new)
        columns = items.owners[rows].tolist(), items.templates[rows].tolist(), items.levels[rows].tolist()
        for row, template, level in zip(*columns, strict=True):
            calm = is_calm(level, items.texts.get(template, ""))
            held.setdefault(row, set()).add((template, calm))
        return held

    def _learn_due(self, minute: int) -> None:
        """Begin a tick: learn what was over long enough before it."""
        self._tick, self._judged = minute, 0
        due = minute * TICK_MS - self._delay
        raised_at = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *self._raised_at]))
        waiting, self._waiting = self._waiting, []
        learnt: list[Sessions] = []
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
    """What has come to stay: what a fair share of all items had in some slices of time in a row."""

    def __init__(self) -> None:
        self._since = 0  # ms, when the slice began
        self._items = 0
        self._having: Counter[int] = Counter()
        self._stayed: Counter[int] = Counter()  # slices in a row
        self.adopted: frozenset[int] = frozenset()

    def count(self, at_ms: int, having: Iterable[int]) -> None:
        """Count an item and what it has, in the order in which items were over."""
        if at_ms >= self._since + SLICE_MS and self._items >= SLICE_ITEMS:
            self._close_slice()
        if not self._items:
            self._since = at_ms
        self._items += 1
        self._having.update(having)

    def adopt(self, some: Iterable[int]) -> None:
        """Take these to have come to stay; where there are too many, no more."""
        if len(self.adopted) < MAX_GROUPS:
            self.adopted |= frozenset(some)

    def _close_slice(self) -> None:
        """A slice is over: what was no good part of it has to begin anew."""
        there = {one for one, count in self._having.items() if count >= ADOPTED_SHARE * self._items}
        self._stayed = Counter({one: self._stayed[one] + 1 for one in there})
        self.adopt(one for one, slices in self._stayed.items() if slices >= SLICES)
        self._items, self._having = 0, Counter()
