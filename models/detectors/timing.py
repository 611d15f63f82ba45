"""How long one event of a session comes after the one before it, against what is usual for the two.

Du, Li, Zheng, Srikumar: DeepLog, CCS 2017, section 3.3 watches the values of a template, the time since the event
before among them, with an LSTM a template; here a histogram a pair of templates does, in steps of half a power of two.
A rest longer than the gap that ends a session is not judged here: ``models.detectors.missing`` judges where it rested.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import ENOUGH, Counts, backed
from models.detector import Detector, Evidence, Numbers, Part
from models.finished import Sessions, mix
from models.sessions import Flags, Ids, Ints

STEPS = 64
"""Of a histogram: half powers of two of milliseconds, up to 49 days."""
PRIOR = 4.0
"""Gaps that what is usual between any two events weighs against what is known of the two."""
_ANY = np.uint64(0xC0AC29B7C97C50DD)


class Timing(Detector[Sessions]):
    """Strangeness: minus the logarithm of the chance of a gap at least as long, nats; of the session's oddest gap."""

    name = "timing"
    aspect = "time"
    is_share = True

    def __init__(self) -> None:
        super().__init__()
        self._gaps = Counts(bits=18)

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        judged, pairs, steps = _gaps(items)
        fresh = judged >= (items.starts[:-1] + items.seen)[items.owners[judged]]
        for keys in (pairs[fresh], np.full(int(fresh.sum()), _ANY)):
            self._gaps.add(_cells(keys, steps[fresh]))

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        strange = np.zeros(len(items))
        judged, pairs, steps = _gaps(items)
        if len(judged):
            np.maximum.at(strange, items.owners[judged], self._surprises(pairs, steps))
        return strange

    def explain(self, items: Sessions, row: int) -> Evidence:
        """Which gap was longer than usual, and what the longer ones of the usual ones are."""
        one = items.take(np.array([row]))
        judged, pairs, steps = _gaps(one)
        if not len(judged):
            return Evidence(self.name, "slow", "ms", ())
        worst = int(self._surprises(pairs, steps).argmax())
        event = int(judged[worst])
        counts = self._gaps.of(_cells(np.full(STEPS, pairs[worst]), np.arange(STEPS)))
        known = "slow" if counts.any() else "slow_unseen"
        if not counts.any():  # the two never came so: what is usual anywhere has judged them
            counts = self._gaps.of(_cells(np.full(STEPS, _ANY), np.arange(STEPS)))
        high = int(np.searchsorted(np.cumsum(counts), 0.99 * counts.sum())) if counts.any() else 0
        gap = float(one.times[event] - one.times[event - 1])
        part = Part(int(one.templates[event]), gap, float(2 ** (min(high, STEPS - 1) / 2) - 1))
        return Evidence(self.name, known, "ms", (part,), event=event, related=(int(one.templates[event - 1]),))

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        self._gaps.merge(other._gaps)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return self._gaps.columns("gaps")

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._gaps.restore("gaps", columns)

    def _surprises(self, pairs: Ids, steps: Ints) -> Numbers:
        """[g] Minus the logarithm of the chance of a gap of that many steps or more between the two."""
        keys, where = np.unique(_cells(pairs, steps), return_inverse=True)
        first = np.zeros(len(keys), dtype=np.int64)
        first[where.reshape(-1)] = np.arange(len(steps))
        histograms = self._gaps.of(_cells(pairs[first][:, None], np.arange(STEPS)[None]))
        anywhere = self._gaps.of(_cells(np.full(STEPS, _ANY), np.arange(STEPS)))
        at_least = np.cumsum(histograms[:, ::-1], axis=1)[:, ::-1]
        usual = np.cumsum(anywhere[::-1])[::-1] / max(1, int(anywhere.sum())) + 1 / ENOUGH
        asked = steps[first]
        chance = backed(at_least[np.arange(len(keys)), asked], at_least[:, 0], usual[asked], PRIOR)
        surprises: Numbers = -np.log(np.minimum(chance, 1.0))[where.reshape(-1)]
        return surprises


def _gaps(items: Sessions) -> tuple[Ints, Ids, Ints]:
    """Events that follow another of their session without a rest: which, the pair as a hash, the gap in steps: [g]."""
    e = len(items.templates)
    inner: Flags = np.ones(e, dtype=np.bool_)
    inner[items.starts[:-1]] = False
    rested = items.starts[:-1] + items.seen
    inner[rested[rested < e]] = False
    judged = np.flatnonzero(inner)
    pairs = mix(items.templates[judged], items.templates[judged - 1] + np.uint64(1))
    gaps = np.maximum(0, items.times[judged] - items.times[judged - 1])
    steps = np.minimum(STEPS - 1, np.rint(2 * np.log2(gaps + 1))).astype(np.int64)
    return judged, pairs, steps


def _cells(pairs: Ids, steps: Ints) -> Ids:
    return mix(pairs, steps.astype(np.uint64))
