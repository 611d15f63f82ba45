"""A session that stopped where sessions go on: what should have come, and where it stopped.

After each event a session either goes on soon or rests for longer than the gap (``models.finished``). How often it did
which is counted by what it held so far, by the set of templates in that, and by its last template; each is backed by
the next (as in Witten and Bell 1991, with a fixed weight). A session that ends, or rests, where others rest too is not
missing anything yet: what comes hours later in any normal session may still come.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts, backed
from models.detector import Detector, Evidence, Numbers, Part
from models.finished import Sessions, mix
from models.sessions import Ids
from models.templates import MAX_TEMPLATES, Templates

PRIOR = 2.0
"""Events that the coarser state weighs against what is known of the finer one."""
STATES = ("last", "set", "bag")
"""What a session is in, from coarse to fine."""
_FIRST = np.array([0x13198A2E03707344], dtype=np.uint64)


class MissingEvent(Detector[Sessions]):
    """Strangeness: minus the logarithm of the chance that a session rests where this one does, nats."""

    name = "missing"
    aspect = "end"
    is_share = True
    is_trouble = True

    def __init__(self) -> None:
        super().__init__()
        self._passed = {state: Counts() for state in STATES}
        self._rested = {state: Counts() for state in STATES}
        self._follows = Counts(bits=17)  # (state, next template)
        self._templates = Templates()

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        self._templates.learn(items.templates)
        last = items.starts[1:] - 1
        inner = np.arange(len(items.templates)) >= (items.starts[:-1] + items.seen)[items.owners]
        inner[last] = False
        for state, keys in _states(items).items():
            self._passed[state].add(keys[inner])
            self._rested[state].add(keys[last])
            passed = np.flatnonzero(inner)
            self._follows.add(mix(items.templates[passed + 1], keys[passed]))

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items):
            return np.zeros(0)
        last = items.starts[1:] - 1
        chance = np.full(len(items), 0.5)
        for state, keys in _states(items).items():
            rested, passed = self._rested[state].of(keys[last]), self._passed[state].of(keys[last])
            chance = backed(rested, rested + passed, chance, PRIOR)
        surprises: Numbers = -np.log(chance)
        return surprises

    def explain(self, items: Sessions, row: int) -> Evidence:
        """Where it stopped, and what came next where others were in its state."""
        one = items.take(np.array([row]))
        followed = np.zeros(len(self._templates), dtype=np.int64)
        for keys in reversed(_states(one).values()):  # the finest state that others were in too
            followed = self._follows.of(mix(self._templates.ids, keys[-1:]))
            if followed.any():
                break
        total = max(1, int(followed.sum()))
        most = np.argsort(-followed, kind="stable")[:3].tolist()
        ids = self._templates.ids
        parts = tuple(Part(int(ids[i]), 0.0, int(followed[i]) / total) for i in most if followed[i])
        stopped = int(one.templates[-1]) if len(one.templates) else 0
        return Evidence(self.name, "stopped_early", "chance", parts, event=len(one.templates) - 1, related=(stopped,))

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        for state in STATES:
            self._passed[state].merge(other._passed[state])
            self._rested[state].merge(other._rested[state])
        self._follows.merge(other._follows)
        self._templates.learn(other._templates.ids)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        columns: dict[str, NDArray[np.generic]] = {"templates": self._templates.ids} | self._follows.columns("follows")
        for state in STATES:
            columns |= self._passed[state].columns(f"passed.{state}") | self._rested[state].columns(f"rested.{state}")
        return columns

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._templates = Templates(columns["templates"].astype(np.uint64)[:MAX_TEMPLATES])
        self._follows.restore("follows", columns)
        for state in STATES:
            self._passed[state].restore(f"passed.{state}", columns)
            self._rested[state].restore(f"rested.{state}", columns)


def _states(items: Sessions) -> dict[str, Ids]:
    """The state of each event's session after it, from coarse to fine: [e] hashes."""
    last = mix(items.templates, _FIRST)
    return {"last": last, "set": mix(items.sets(), last), "bag": mix(items.running_bags(), last)}
