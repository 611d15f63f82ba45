"""What an autoencoder of the counts of normal sessions does not give back of one.

Farzad, Gulliver: Unsupervised log message anomaly detection, ICT Express 6(3), 2020; Chen et al.: Experience report:
deep learning-based system log analysis for anomaly detection, 2021, section 3. Counts enter as ``count_vector`` and
``pca`` have them, as logarithms weighted by smoothed idf; thresholds are held-back quantiles. Neither paper names the
layers: here they are 32, 8 and 32 units of tanh.

The network is learnt from the sessions that come before anything is calibrated, and stays from then on: what is learnt
later teaches it nothing, but that a session with these very counts is normal.
"""

from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts
from models.dense import CODE, Dense, autoencoder
from models.detector import MAX_PARTS, Detector, Evidence, Numbers, Part
from models.finished import Sessions
from models.sessions import Ids, Ints
from models.templates import Templates, distinct, widened

MAX_VECTORS = 4096
"""Distinct vectors of counts learnt: those that came first."""
MAX_CELLS = 1 << 20
"""Numbers in all of them together (4 MB): with more than 256 templates fewer vectors are learnt."""
MAX_COLUMNS = 512
"""Templates whose counts enter, the first so many (as ``pca``); others count as never seen."""
LATER = 5
"""One in so many of the distinct vectors says when to stop, by its hash: in whatever order they came."""
FEWEST = 10
"""Distinct vectors of which some say when to stop; of fewer all are learnt."""
MOST_USUAL = 1e6
"""Events: a network that is far from all it knows may expect anything."""


class Autoencoder(Detector[Sessions]):
    """Strangeness: square of what is not given back of the log counts (1 + count), weighted by smoothed idf."""

    name = "autoencoder"
    aspect = "content"

    def __init__(self) -> None:
        super().__init__()
        self._known = Counts()  # bags of the sessions learnt
        self._templates = Templates()
        self._bags: Ids = np.zeros(0, dtype=np.uint64)  # [u] of the distinct vectors, in the order in which they came
        self._vectors: NDArray[np.int32] = np.zeros((0, 0), dtype=np.int32)  # [u, k]
        self._times: Ints = np.zeros(0, dtype=np.int64)  # [u] sessions with each
        self._holding: Ints = np.zeros(0, dtype=np.int64)  # [k] sessions that held each template
        self._sessions = 0  # that the network is learnt from
        self._net: tuple[Numbers, Dense] | None = None  # means [k] of what enters it, and the network
        self._is_settled = False

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        bags = items.bags()
        self._known.add(bags)
        if self._is_settled:
            return
        width = min(self._templates.learn(items.templates), MAX_COLUMNS)
        rows, _, times = distinct(bags)
        counts = self._templates.counts(items.take(rows))[:, :width].astype(np.int32)
        self._holding = widened(self._holding, width) + times @ (counts > 0)
        self._sessions += len(items)
        self._gather(bags[rows], counts, times)

    def settle(self) -> None:
        """See ``Detector.settle``: the network is learnt, and what it was learnt from is let go."""
        if self._sessions and not self._is_settled:
            self._learnt()
            self._is_settled = True
            self._bags, self._vectors, self._times = self._bags[:0], self._vectors[:0], self._times[:0]

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items) or not self._sessions:
            return np.zeros(len(items))
        bags = items.bags()
        rows, where, _ = distinct(bags)
        errors: Numbers = (self._residuals(self._counts(items.take(rows))) ** 2).sum(axis=1)
        errors[self._known.of(bags[rows]) > 0] = 0.0
        return errors[where]

    def explain(self, items: Sessions, row: int) -> Evidence:
        """Which counts are given back worst, and what the network makes of them."""
        if not self._sessions:
            return Evidence(self.name, "not_given_back", "events", ())
        one = items.take(np.array([row]))
        counts = self._counts(one)
        residuals, weights = self._residuals(counts)[0], self._weights()
        usual = np.expm1(np.clip(np.log1p(counts[0]) - residuals / weights, 0.0, np.log1p(MOST_USUAL)))
        held = one.templates[self._templates.columns(one.templates) >= len(weights) - 1]
        ids = [*self._templates.ids[: len(weights) - 1].tolist(), int(held[0]) if len(held) else 0]
        most = np.argsort(-np.abs(residuals), kind="stable")[:MAX_PARTS].tolist()
        parts = tuple(Part(ids[i], float(counts[0, i]), float(usual[i])) for i in most if residuals[i])
        return Evidence(self.name, "not_given_back", "events", parts)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``; where both have a network that stays, this one's does."""
        self.tail.merge(other.tail)
        if other._is_settled and not self._is_settled:
            mine, self._known = self._known, Counts()
            self.restore(other.columns())
            self._known.merge(mine)
            return
        self._known.merge(other._known)
        if not self._is_settled:
            width = min(self._templates.learn(other._templates.ids), MAX_COLUMNS)
            columns = self._templates.columns(other._templates.ids)[: len(other._holding)]
            kept = np.flatnonzero(columns < width)
            theirs = np.zeros((len(other._bags), width), dtype=np.int32)
            theirs[:, columns[kept]] = other._vectors[:, kept]
            self._holding = widened(self._holding, width)
            self._holding[columns[kept]] += other._holding[kept]
            self._sessions += other._sessions
            self._gather(other._bags, theirs, other._times)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        gathered: dict[str, NDArray[np.generic]] = {
            "templates": self._templates.ids,
            **self._known.columns("known"),
            "bags": self._bags,
            "vectors": self._vectors,
            "times": self._times,
            "holding": self._holding,
            "sessions": np.array([self._sessions]),
        }
        if not self._is_settled:
            return gathered
        mean, net = self._learnt()
        gathered |= {"mean": mean, "spread": net.spread}
        gathered |= {f"weights{i}": one for i, one in enumerate(net.weights)}
        return gathered | {f"biases{i}": one for i, one in enumerate(net.biases)}

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._known.restore("known", columns)
        self._templates = Templates(columns["templates"].astype(np.uint64))
        self._bags = columns["bags"].astype(np.uint64)
        self._vectors = columns["vectors"].astype(np.int32)
        self._times = columns["times"].astype(np.int64)
        self._holding = columns["holding"].astype(np.int64)
        self._sessions = int(columns["sessions"][0])
        width = min(len(self._templates), MAX_COLUMNS)
        if len(self._holding) != width or self._vectors.shape != (len(self._times), width):
            raise ValueError(f"vectors of shape {self._vectors.shape} for {width} templates")
        if len(self._bags) != len(self._times):
            raise ValueError(f"{len(self._bags)} vectors that came {len(self._times)} times")
        self._is_settled = "mean" in columns
        self._net = _net_of(columns, width) if self._is_settled else None

    def _gather(self, bags: Ids, vectors: NDArray[np.int32], times: Ints) -> None:
        """Keep each distinct vector once, in the order in which they first came, as far as there is room."""
        width = vectors.shape[1]
        mine = np.pad(self._vectors, ((0, 0), (0, width - self._vectors.shape[1])))
        rows, where, _ = distinct(np.concatenate([self._bags, bags]))
        room = min(MAX_VECTORS, MAX_CELLS // max(1, width))
        added = np.bincount(where, np.concatenate([self._times, times])).astype(np.int64)
        self._bags = np.concatenate([self._bags, bags])[rows][:room]
        self._vectors = np.concatenate([mine, vectors])[rows][:room]
        self._times = added[:room]
        self._net = None

    def _counts(self, items: Sessions) -> Ints:
        """[n, k + 1] with all that has no column in the last."""
        width = len(self._holding)
        counts = self._templates.counts(items)
        return np.column_stack([counts[:, :width], counts[:, width:].sum(axis=1)])

    def _weights(self) -> Numbers:
        """[k + 1] the last of what was never seen, the heaviest."""
        weights: Numbers = 1 + np.log((1 + self._sessions) / (1 + np.append(self._holding, 0)))
        return weights

    def _residuals(self, counts: Ints) -> Numbers:
        """What is not given back of counts: [n, k + 1] each. What was never seen does not enter the network."""
        mean, net = self._learnt()
        entered = np.log1p(counts) * self._weights()
        apart = entered[:, :-1] - mean
        return np.column_stack([apart - net(apart), entered[:, -1]])

    def _learnt(self) -> tuple[Numbers, Dense]:
        """Means [k] of what enters, and the network; made of what was learnt where it is not there yet."""
        if self._net is None:
            order = np.argsort(self._bags, kind="stable")  # in whatever order they came
            entered = np.log1p(self._vectors[order]) * self._weights()[:-1]
            times, later = self._times[order], self._bags[order] % np.uint64(LATER) == 0
            mean = times @ entered / times.sum()
            self._net = mean, autoencoder(entered - mean, times, later & (len(times) >= FEWEST))
        return self._net


def _net_of(columns: dict[str, NDArray[np.generic]], width: int) -> tuple[Numbers, Dense]:
    """The network that columns hold.

    Raises:
        ValueError, KeyError: They do not fit.
    """
    sizes = (width, *CODE, width)
    layers = range(len(sizes) - 1)
    weights = tuple(columns[f"weights{i}"].astype(np.float32) for i in layers)
    biases = tuple(columns[f"biases{i}"].astype(np.float32) for i in layers)
    mean, spread = columns["mean"].astype(np.float64), columns["spread"].astype(np.float32)
    shapes = [*(one.shape for one in weights), *(one.shape for one in biases), mean.shape, spread.shape]
    if shapes != [*pairwise(sizes), *((one,) for one in sizes[1:]), (width,), (width,)]:
        raise ValueError(f"layers of shapes {shapes} for {width} templates")
    return mean, Dense(spread, weights, biases)
