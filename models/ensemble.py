"""Detectors of one kind of items as one: their scores put together under one budget of false alarms.

ensemble = Ensemble(session_detectors(), budget=0.005)
ensemble.learn(older)                     # normal items
ensemble.calibrate_and_learn(newer)       # normal items of the newest time
judged = ensemble.judge(items)
judged.raised                             # [n]
ensemble.explain(items, row)              # what each detector that fired has to say, the rarest first
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from models.calibration import Tail
from models.detector import C, Detector, Evidence, Numbers, held_back_figures, worst_of_groups
from models.encoding import StateError, pack, unpack
from models.sessions import Flags, Ids, Ints

DOUBT = 0.01
"""Of the sessions of a past that nobody vouches for. The price: rarer kinds that are normal are raised too (HDFS, 80 %
of the blocks learnt: 14 normal ones of 1,559 instead of 6)."""


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """What detectors and ensemble say of items."""

    strangeness: Numbers  # [n, detectors] in the unit of each
    rarity: Numbers  # [n, detectors] nats
    ensemble: Numbers  # [n] nats
    raised: Flags  # [n]
    trouble: Flags  # [n] a detector of trouble, not of news, finds it rare by itself

    @property
    def scores(self) -> Numbers:
        """[n] The ensemble's scores, in [0, 1], high = anomalous."""
        return -np.expm1(-self.ensemble)

    def take(self, rows: Ints) -> "Judged":
        """What was said of the items of these rows."""
        return Judged(
            self.strangeness[rows], self.rarity[rows], self.ensemble[rows], self.raised[rows], self.trouble[rows]
        )

    @classmethod
    def joined(cls, parts: Sequence["Judged"]) -> "Judged":
        """Put batches one after another; at least one."""
        return cls(
            np.concatenate([part.strangeness for part in parts]),
            np.concatenate([part.rarity for part in parts]),
            np.concatenate([part.ensemble for part in parts]),
            np.concatenate([part.raised for part in parts]),
            np.concatenate([part.trouble for part in parts]),
        )


class Ensemble(Generic[C]):
    """Detectors that share a budget.

    Detectors that look at one aspect of an item (its content, its order, its end, its times) are one voice, that of the
    one that finds it rarest. An item is as rare as the two aspects together say that find it rarest: two that agree are
    more than one. With several detectors normal items look rare to one or another of them more often than any of them
    says: so these sums are calibrated once more on held-back items, and the budget is that of all detectors together,
    however many there are and however much they agree.

    Args:
        detectors: Of one kind of items, each with a name of its own.
        budget: Share of normal items that may be raised.
    """

    format = 1

    def __init__(self, detectors: Sequence[Detector[C]], budget: float) -> None:
        self.detectors = tuple(detectors)
        self.budget = budget
        self.tail = Tail()

    @property
    def bar(self) -> float:
        """Rarities above are raised, nats."""
        return -math.log(self.budget) if self.budget else math.inf

    def learn(self, items: C) -> None:
        """Let every detector learn normal items."""
        for detector in self.detectors:
            detector.learn(items)

    def calibrate_and_learn(self, items: C) -> None:
        """Calibrate each detector, then all together, on normal items of the newest time; then learn them.

        See ``held_back_figures`` for what counts of how strange they were before and are after.
        """
        for detector in self.detectors:
            detector.settle()
        before = self._strangeness(items)
        self.learn(items)
        figures = held_back_figures(before, self._strangeness(items), items.kinds())
        groups = items.groups()
        for i, detector in enumerate(self.detectors):
            detector.tail.add(worst_of_groups(figures[:, i], groups))
        self.tail.add(worst_of_groups(self._together(self._rarities(figures)), groups))

    def judge(self, items: C) -> Judged:
        """Say how rare items are, and which are raised."""
        strangeness = self._strangeness(items)
        rarity = self._rarities(strangeness)
        ensemble = self.tail.rarity(self._together(rarity))
        troubled = [i for i, detector in enumerate(self.detectors) if detector.is_trouble]
        trouble: Flags = (rarity[:, troubled] > self.bar).any(axis=1)
        return Judged(strangeness, rarity, ensemble, ensemble > self.bar, trouble)

    def explain(self, items: C, row: int, judged: Judged | None = None) -> list[Evidence]:
        """What each detector has to say that finds the item rare by itself, the rarest first; at least one.

        ``judged`` is what was said of these items, where that is known.
        """
        judged = judged or self.judge(items)
        rarity = judged.rarity[row]
        order = np.argsort(-rarity, kind="stable")
        fired = [i for i in order.tolist() if rarity[i] > self.bar] or order[:1].tolist()
        return [self.detectors[i].explain(items, row) for i in fired]

    def dump(self) -> bytes:
        """Encode all detectors, and the calibration of all together."""
        parts = {detector.name: np.frombuffer(detector.dump(), dtype=np.uint8) for detector in self.detectors}
        return pack("ensemble", self.format, {"tail": self.tail.columns()["figures"], **parts})

    def load(self, data: bytes) -> None:
        """Replace all that was learnt by what ``dump`` wrote.

        Raises:
            StateError: The bytes are damaged, of another format or of other detectors.
        """
        parts = unpack(data, "ensemble", self.format)
        saved, mine = sorted(parts.keys() - {"tail"}), sorted(detector.name for detector in self.detectors)
        # All are calibrated together: one more or less, and the bar means something else.
        if saved != mine or "tail" not in parts:
            raise StateError(f"state of detectors {', '.join(saved)}; these are {', '.join(mine)}")
        self.tail = Tail.of({"figures": parts["tail"]})
        for detector in self.detectors:
            detector.load(parts[detector.name].tobytes())

    def _strangeness(self, items: C) -> Numbers:
        found = [detector.strangeness(items) for detector in self.detectors]
        return np.stack(found, axis=1) if found else np.zeros((len(items), 0))

    def _rarities(self, strangeness: Numbers) -> Numbers:
        found = [detector.rarity_of(strangeness[:, i]) for i, detector in enumerate(self.detectors)]
        return np.stack(found, axis=1) if found else strangeness

    def _together(self, rarity: Numbers) -> Numbers:
        """[n, detectors] to [n]: the sum of the two rarest aspects."""
        aspects = [detector.aspect for detector in self.detectors]
        members = [[i for i, one in enumerate(aspects) if one == aspect] for aspect in dict.fromkeys(aspects)]
        voices = [rarity[:, rows].max(axis=1) for rows in members]
        together: NDArray[np.float64] = np.sort(np.stack(voices, axis=1), axis=1)[:, -2:].sum(axis=1)
        return together


def doubtful(groups: Ids, kinds: Ids, share: float = DOUBT) -> Flags:
    """Which items nobody should learn from unseen: [n] those of groups that were ever of a kind few groups were of.

    Nobody vouches for the past as it comes. What fewer than ``share`` of its sessions do may be a fault that came again
    and again; left out, it is raised until someone says that it is normal.
    """
    pairs = np.unique(np.stack([kinds, groups], axis=1), axis=0)
    distinct, counts = np.unique(pairs[:, 0], return_counts=True)
    rare = counts[np.searchsorted(distinct, kinds)] < share * len(np.unique(groups))
    doubted: Flags = np.isin(groups, groups[rare])
    return doubted
