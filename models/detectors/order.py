"""What follows what in a session: the chances of each event, learnt as sessions come.

Two views, of which the kinder one counts: after the two events before it (a trigram), and after the set of templates
that the session held before it. Where several hands write one session at once, as three replicas do, their lines mix in
ever new ways that the set does not mind; where a session goes round in circles, the set says nothing, the trigram does.

The n-gram of ``models.ngram`` is made once and then kept; this one goes on learning, in tables of fixed size. Each
context is backed by a shorter one with a fixed weight (Dirichlet smoothing: MacKay and Peto 1995), so that shards merge
by adding. How sessions end is the matter of ``models.detectors.missing``.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts, backed
from models.detector import MAX_PARTS, Detector, Evidence, Numbers, Part
from models.finished import Sessions, mix
from models.sessions import Ids
from models.templates import Templates

VIEWS = (("none", "one", "two"), ("none", "set"))
"""Contexts of each view, each backed by the one before it."""
CONTEXTS = ("none", "one", "two", "set")
ORDER = 2
"""Events looked back at."""
PRIOR = 1.0
"""Events that the shorter context weighs against what is known of the longer one."""
FEW = 20
"""Sessions with the same counts below which it is not known in which orders they come: those few are not judged."""
_SEEDS = np.array([0xA4093822299F31D0, 0x082EFA98EC4E6C89, 0x13198A2E03707344, 0x452821E638D01377], dtype=np.uint64)


class Order(Detector[Sessions]):
    """Strangeness: surprise of the session's most surprising event, nats."""

    name = "order"
    aspect = "order"
    is_share = True

    def __init__(self) -> None:
        super().__init__()
        self._contexts = {context: Counts() for context in CONTEXTS}
        self._follows = {context: Counts(bits=17) for context in CONTEXTS}
        self._bags = Counts()  # of the sessions learnt
        self._templates = Templates()

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        self._templates.learn(items.templates)
        self._bags.add(items.bags())
        fresh = np.arange(len(items.templates)) >= (items.starts[:-1] + items.seen)[items.owners]
        for context, keys in _contexts(items).items():
            self._contexts[context].add(keys[fresh])
            self._follows[context].add(mix(items.templates, keys)[fresh])

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items):
            return np.zeros(0)
        worst: Numbers = np.maximum.reduceat(self.surprises(items), items.starts[:-1])
        known = self._bags.of(items.bags())
        worst[(known > 0) & (known < FEW)] = 0.0
        return worst

    def surprises(self, items: Sessions) -> Numbers:
        """[e] Surprise of each event, nats."""
        surprises: Numbers = -np.log(self._chances(_contexts(items), items.templates))
        return surprises

    def _chances(self, keys: dict[str, Ids], targets: Ids) -> Numbers:
        """Chances of targets [m] in contexts [m] or [1] by the kinder view: [m]."""
        best = np.zeros(len(targets))
        for view in VIEWS:
            chance = np.full(len(targets), 1.0 / (len(self._templates) + 2))
            for context in view:
                followed = self._follows[context].of(mix(targets, keys[context]))
                chance = backed(followed, self._contexts[context].of(keys[context]), chance, PRIOR)
            best = np.maximum(best, chance)
        return best

    def explain(self, items: Sessions, row: int) -> Evidence:
        """What was expected at the most surprising event, and what came."""
        one = items.take(np.array([row]))
        contexts = _contexts(one)
        chances = self._chances(contexts, one.templates)
        event = int(chances.argmin())
        ids = self._templates.ids
        usual = self._chances({context: keys[event : event + 1] for context, keys in contexts.items()}, ids)
        most = np.argsort(-usual, kind="stable")[: MAX_PARTS - 1].tolist()
        came = int(one.templates[event])
        saw = Part(came, 1.0, float(chances[event]))
        parts = (saw, *(Part(int(ids[i]), 0.0, float(usual[i])) for i in most if ids[i] != came))
        before = tuple(one.templates[max(0, event - ORDER) : event].tolist())
        return Evidence(self.name, "unusual_order", "chance", parts, event=event, related=before)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        for context in CONTEXTS:
            self._contexts[context].merge(other._contexts[context])
            self._follows[context].merge(other._follows[context])
        self._bags.merge(other._bags)
        self._templates.learn(other._templates.ids)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        columns: dict[str, NDArray[np.generic]] = {"templates": self._templates.ids} | self._bags.columns("bags")
        for context in CONTEXTS:
            columns |= self._contexts[context].columns(f"contexts.{context}")
            columns |= self._follows[context].columns(f"follows.{context}")
        return columns

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._templates = Templates(columns["templates"].astype(np.uint64))
        self._bags.restore("bags", columns)
        for context in CONTEXTS:
            self._contexts[context].restore(f"contexts.{context}", columns)
            self._follows[context].restore(f"follows.{context}", columns)


def _contexts(items: Sessions) -> dict[str, Ids]:
    """The hash of what came before each event, for each kind of context: [e]."""
    e = len(items.templates)
    nth = np.arange(e) - items.starts[:-1][items.owners]
    keys = [np.full(e, _SEEDS[0], dtype=np.uint64)]
    for k in range(1, ORDER + 1):
        before = np.zeros(e, dtype=np.uint64)  # before the session began nothing came
        before[k:] = items.templates[:-k]
        before[nth < k] = 0
        keys.append(mix(keys[-1] + _SEEDS[k], before))
    held = np.zeros(e, dtype=np.uint64)
    held[1:] = items.sets()[:-1]
    held[nth == 0] = 0
    return dict(zip(CONTEXTS, [*keys, held ^ _SEEDS[3]], strict=True))
