"""How often a session holds each template, against the nearest session that was normal.

Lin et al.: Log clustering based problem identification for online service systems, ICSE 2016, section 3: log sequences
as vectors of event counts with idf weights. Here nothing is clustered: sessions repeat themselves, so the distinct
vectors are few, and the nearest of them is looked up.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.detector import MAX_PARTS, Detector, Evidence, Numbers, Part
from models.finished import Sessions
from models.sessions import Ids, Ints
from models.templates import Templates, distinct, widened

MAX_VECTORS = 4096
"""Distinct vectors kept: those that came last."""
MAX_CELLS = 1 << 20
"""Numbers in all kept vectors together (4 MB): with more than 256 templates fewer vectors are kept."""


class CountVector(Detector[Sessions]):
    """Strangeness: distance to the nearest learnt vector of log counts (1 + count), weighted by smoothed idf.

    The weight of a template is ``1 + ln((1 + n) / (1 + sessions that hold it))``: what every session holds weighs 1,
    not 0, so that its absence is felt. What was never seen is one more column, the heaviest.
    """

    name = "count_vector"
    aspect = "content"

    def __init__(self) -> None:
        super().__init__()
        self._templates = Templates()
        self._bags: Ids = np.zeros(0, dtype=np.uint64)  # [u] of the distinct vectors, those that came last at the end
        self._vectors: NDArray[np.int32] = np.zeros((0, 0), dtype=np.int32)  # [u, k]
        self._holding: Ints = np.zeros(0, dtype=np.int64)  # [k] sessions that held each template
        self._sessions = 0

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        width = self._templates.learn(items.templates)
        bags = items.bags()
        rows, _, times = distinct(bags)
        counts = self._templates.counts(items.take(rows))[:, :width]
        self._holding = widened(self._holding, width) + times @ (counts > 0)
        self._sessions += len(items)
        old = np.pad(self._vectors, ((0, 0), (0, width - self._vectors.shape[1])))
        self._keep(np.concatenate([self._bags, bags[rows]]), np.concatenate([old, counts.astype(np.int32)]), bags)

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items) or not self._sessions:
            return np.zeros(len(items))
        rows, where, _ = distinct(items.bags())
        return self._nearest(self._templates.counts(items.take(rows)))[0][where]

    def explain(self, items: Sessions, row: int) -> Evidence:
        """What there was more or less of than in the nearest normal session."""
        counts = self._templates.counts(items.take(np.array([row])))
        usual = np.zeros(counts.shape[1], dtype=np.int64)
        if self._sessions:
            usual[:-1] = self._vectors[self._nearest(counts)[1][0]]
        apart = np.abs(np.log1p(counts[0]) - np.log1p(usual)) * self._weights()
        most = np.argsort(-apart, kind="stable")[:MAX_PARTS]
        parts = tuple(
            Part(self._named(column, items, row), float(counts[0, column]), float(usual[column]))
            for column in most.tolist()
            if apart[column] > 0
        )
        return Evidence(self.name, "unusual_counts", "events", parts)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        width = self._templates.learn(other._templates.ids)
        columns = self._templates.columns(other._templates.ids)
        kept = columns < width
        theirs = np.zeros((len(other._bags), width), dtype=np.int32)
        theirs[:, columns[kept]] = other._vectors[:, kept]
        self._holding = widened(self._holding, width)
        self._holding[columns[kept]] += other._holding[kept]
        self._sessions += other._sessions
        mine = np.pad(self._vectors, ((0, 0), (0, width - self._vectors.shape[1])))
        self._keep(np.concatenate([self._bags, other._bags]), np.concatenate([mine, theirs]), other._bags)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return {
            "templates": self._templates.ids,
            "bags": self._bags,
            "vectors": self._vectors,
            "holding": self._holding,
            "sessions": np.array([self._sessions]),
        }

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._templates = Templates(columns["templates"].astype(np.uint64))
        self._bags = columns["bags"].astype(np.uint64)
        self._vectors = columns["vectors"].astype(np.int32)
        self._holding = columns["holding"].astype(np.int64)
        self._sessions = int(columns["sessions"][0])
        if self._vectors.shape != (len(self._bags), len(self._templates)) or len(self._holding) != len(self._templates):
            raise ValueError(f"vectors of shape {self._vectors.shape} for {len(self._templates)} templates")

    def _keep(self, bags: Ids, vectors: NDArray[np.int32], came: Ids) -> None:
        """Keep each distinct vector once, in the order in which it came last, and only as many as there is room for."""
        _, first = np.unique(bags, return_index=True)
        last = np.full(len(first), -1, dtype=np.int64)
        held, at = np.unique(came[::-1], return_index=True)
        last[np.searchsorted(bags[first], held)] = len(came) - at
        order = np.lexsort((first, last))
        room = min(MAX_VECTORS, MAX_CELLS // max(1, vectors.shape[1]))
        chosen = first[order][-room:]
        self._bags, self._vectors = bags[chosen], vectors[chosen]

    def _weights(self) -> Numbers:
        holding = np.append(self._holding, 0)
        weights: Numbers = 1 + np.log((1 + self._sessions) / (1 + holding))
        return weights

    def _nearest(self, counts: Ints) -> tuple[Numbers, Ints]:
        """Distance to the nearest vector and its row: counts [m, k + 1] in, [m] each out."""
        weights = self._weights()
        asked = np.log1p(counts) * weights
        known = np.log1p(self._vectors) * weights[:-1]
        squares = (asked**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * asked[:, :-1] @ known.T
        nearest = squares.argmin(axis=1)
        # The difference of squares is good for the order; near 0 only the difference itself is exact.
        apart = asked.copy()
        apart[:, :-1] -= known[nearest]
        return np.sqrt((apart**2).sum(axis=1)), nearest

    def _named(self, column: int, items: Sessions, row: int) -> int:
        if column < len(self._templates):
            return int(self._templates.ids[column])
        held = items.templates[items.rows(row)]
        return int(held[self._templates.columns(held) == len(self._templates)][0])
