"""What the usual ways in which sessions differ leave unexplained of one: principal components of its counts.

Xu, Huang, Fox, Patterson, Jordan: Detecting large-scale system problems by mining console logs, SOSP 2009, section 4:
message count vectors with idf weights, the squared prediction error outside of the subspace that holds 95 % of the
variance. Thresholds are held-back quantiles here, not the Q-statistic, which expects a normal distribution.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts
from models.detector import MAX_PARTS, Detector, Evidence, Numbers, Part
from models.finished import Sessions
from models.sessions import Ints
from models.templates import Templates, distinct, widened

VARIANCE = 0.95
"""Held by the normal subspace (Xu et al., section 4.2)."""
MAX_COLUMNS = 512
"""Templates that vary together are looked for among the first so many (2 MB); others count as never seen."""
UNIT = 1024
"""Logarithms are summed as whole numbers of this fraction: sums do not depend on how sessions came in batches."""


class PrincipalComponents(Detector[Sessions]):
    """Strangeness: squared prediction error of the log counts (1 + count), weighted by smoothed idf."""

    name = "pca"
    aspect = "content"

    def __init__(self) -> None:
        super().__init__()
        self._bags = Counts()  # of the sessions learnt
        self._templates = Templates()
        self._sums: Ints = np.zeros(0, dtype=np.int64)  # [k] of log counts, in units
        self._products: Ints = np.zeros((0, 0), dtype=np.int64)  # [k, k]
        self._holding: Ints = np.zeros(0, dtype=np.int64)  # [k] sessions that held each template
        self._sessions = 0
        self._solved: tuple[Numbers, Numbers, Numbers] | None = None

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        bags = items.bags()
        self._bags.add(bags)
        rows, _, times = distinct(bags)
        width = min(self._templates.learn(items.templates), MAX_COLUMNS)
        counts = self._templates.counts(items.take(rows))[:, :width]
        logs = np.rint(np.log1p(counts) * UNIT)  # whole numbers, whose sums are exact up to 2 to the power of 53
        self._grow(width)
        self._sums += (times @ logs).astype(np.int64)
        self._products += (logs.T @ (logs * times[:, None])).astype(np.int64)
        self._holding += times @ (counts > 0)
        self._sessions += len(items)
        self._solved = None

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items) or not self._sessions:
            return np.zeros(len(items))
        bags = items.bags()
        rows, where, _ = distinct(bags)
        errors: Numbers = (self._residuals(items.take(rows)) ** 2).sum(axis=1)
        errors[self._bags.of(bags[rows]) > 0] = 0.0
        return errors[where]

    def explain(self, items: Sessions, row: int) -> Evidence:
        """Which counts are not what the others make one expect."""
        one = items.take(np.array([row]))
        if not self._sessions:
            return Evidence(self.name, "unusual_mix", "events", ())
        residuals, (_, weights, _) = self._residuals(one)[0], self._solve()
        counts = self._counts(one)[0]
        usual = np.maximum(0.0, np.expm1(np.log1p(counts) - residuals / weights))
        held = one.templates[self._templates.columns(one.templates) >= len(weights) - 1]
        ids = [*self._templates.ids[: len(weights) - 1].tolist(), int(held[0]) if len(held) else 0]
        most = np.argsort(-np.abs(residuals), kind="stable")[:MAX_PARTS].tolist()
        parts = tuple(Part(ids[i], float(counts[i]), float(usual[i])) for i in most if residuals[i])
        return Evidence(self.name, "unusual_mix", "events", parts)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        width = min(self._templates.learn(other._templates.ids), MAX_COLUMNS)
        self._grow(width)
        columns = self._templates.columns(other._templates.ids)[: len(other._sums)]
        kept = np.flatnonzero(columns < width)
        mine = columns[kept]
        self._sums[mine] += other._sums[kept]
        self._holding[mine] += other._holding[kept]
        self._products[np.ix_(mine, mine)] += other._products[np.ix_(kept, kept)]
        self._sessions += other._sessions
        self._bags.merge(other._bags)
        self.tail.merge(other.tail)
        self._solved = None

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return {
            "templates": self._templates.ids,
            **self._bags.columns("bags"),
            "sums": self._sums,
            "products": self._products,
            "holding": self._holding,
            "sessions": np.array([self._sessions]),
        }

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._bags.restore("bags", columns)
        self._templates = Templates(columns["templates"].astype(np.uint64))
        self._sums = columns["sums"].astype(np.int64)
        self._products = columns["products"].astype(np.int64)
        self._holding = columns["holding"].astype(np.int64)
        self._sessions = int(columns["sessions"][0])
        width = min(len(self._templates), MAX_COLUMNS)
        if self._products.shape != (width, width) or len(self._sums) != width or len(self._holding) != width:
            raise ValueError(f"products of shape {self._products.shape} for {width} templates")
        self._solved = None

    def _grow(self, width: int) -> None:
        more = width - len(self._sums)
        self._sums, self._holding = widened(self._sums, width), widened(self._holding, width)
        self._products = np.pad(self._products, (0, more))

    def _counts(self, items: Sessions) -> Ints:
        """[n, k + 1] with all that has no column in the last."""
        width = len(self._sums)
        counts = self._templates.counts(items)
        return np.column_stack([counts[:, :width], counts[:, width:].sum(axis=1)])

    def _residuals(self, items: Sessions) -> Numbers:
        mean, weights, normal = self._solve()
        apart = np.log1p(self._counts(items)) * weights - mean
        residuals: Numbers = apart - (apart @ normal) @ normal.T
        return residuals

    def _solve(self) -> tuple[Numbers, Numbers, Numbers]:
        """Mean [k + 1] and weights [k + 1] of the columns, and the normal subspace [k + 1, components]."""
        if self._solved is None:
            n = self._sessions
            weights = 1 + np.log((1 + n) / (1 + np.append(self._holding, 0)))
            mean = np.append(self._sums / (UNIT * n), 0.0) * weights
            moments = np.pad(self._products / (UNIT * UNIT * n), (0, 1)) * np.outer(weights, weights)
            values, vectors = np.linalg.eigh(moments - np.outer(mean, mean))
            values = np.maximum(values[::-1], 0.0)
            # The component that passes the share counts in part: else a little more of one kind of session could
            # turn a whole direction from normal to strange.
            before = np.cumsum(values) - values
            part = np.clip((VARIANCE * values.sum() - before) / np.maximum(values, 1e-12), 0.0, 1.0)
            components = np.flatnonzero(part)
            normal = vectors[:, ::-1][:, components] * np.sqrt(part[components])
            self._solved = mean, weights, normal
        return self._solved
