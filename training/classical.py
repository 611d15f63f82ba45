"""Classical models on count vectors of normal sessions: Isolation Forest, Log Clustering, Invariant Mining.

The first is scikit-learn's, and so is the clustering of the second. Settings are those of the papers; what is ours is
said beside it. Nothing is chosen here: the benchmark takes the threshold from held-back normal sessions.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.learner import TrainingError
from training.simple import CHUNK, Counts, Numbers, Reason

if TYPE_CHECKING:
    from training.datasets import Side

Ints = NDArray[np.int64]

NEAR = 0.5
"""Cosine distance below which two clusters are one: Lin et al. 2016, whose threshold of similarity is 0.5."""
MOST_DISTINCT = 5_000
"""Count vectors that are clustered: their distances are 200 MB."""
SUPPORT = 0.98
"""Of sessions in which an invariant must hold: Lou et al. 2010."""
LARGEST = 3
"""Templates of an invariant, at most: Lou et al. find that more are rare; the search grows with their power."""
FACTORS = (1, 2, 3, 4, 5)
"""By which a direction's smallest part is multiplied, until all parts are whole numbers."""
WHOLE = 0.05
"""How far from a whole number a part may be."""
LEAST_PART = 1e-3
"""Part of a direction that counts as one."""


class IsolationForest(Counts):
    """How few random cuts set a session's count vector apart, as a share: (0, 1].

    Liu, Ting, Zhou: "Isolation Forest", ICDM 2008: 100 trees of 256 sessions each. scikit-learn's.
    """

    name = "isolation_forest"
    draws = True

    def _learn(self, counts: Numbers) -> None:
        self._forest = forest(counts, self.seed)

    def _strangeness(self, counts: Numbers) -> Numbers:
        return -np.asarray(self._forest.score_samples(counts), dtype=np.float64)


class LogClustering(Counts):
    """Cosine distance to the nearest representative of the clusters of learnt sessions.

    Lin, Zhang, Lou, Zhang, Chen: "Log Clustering Based Problem Identification for Online Service Systems", ICSE SEIP
    2016: templates are weighed by half of their normalised inverse document frequency (a sigmoid of it), and
    half by whether they are new; clusters are agglomerated (complete linkage) while they are nearer than 0.5; the
    member nearest to the centre stands for a cluster. scikit-learn's clustering, of distinct weighed vectors.

    Raises:
        TrainingError: more than ``MOST_DISTINCT`` distinct count vectors are to be learnt.
    """

    name = "log_clustering"

    def _learn(self, counts: Numbers) -> None:
        holds = (counts > 0).sum(axis=0)
        rarity = np.log(len(counts) / np.maximum(holds, 1))
        self._weights = np.where(holds > 0, 0.5 / (1 + np.exp(-rarity)), 1.0)
        directions = self._directions(np.unique(counts, axis=0))
        if len(directions) > MOST_DISTINCT:
            raise TrainingError(
                f"{self.name} compares all distinct count vectors with one another, and {len(directions)} are more "
                f"than {MOST_DISTINCT}: learn from fewer sessions (--share)"
            )
        self._known = np.stack([_middle(directions[rows]) for rows in _clusters(directions)])

    def _strangeness(self, counts: Numbers) -> Numbers:
        directions = self._directions(counts)
        nearest: Numbers = np.maximum(0, 1 - (directions @ self._known.T).max(axis=1))
        return nearest

    def _directions(self, counts: Numbers) -> Numbers:
        """Weighed count vectors of length 1; an empty session's is 0."""
        weighed = counts * self._weights
        directions: Numbers = weighed / np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-12)
        return directions


class InvariantMining(Counts):
    """Linear relations of counts that nearly all learnt sessions keep, and a session breaks.

    Lou, Fu, Yang, Xu, Li: "Mining Invariants from Console Logs for System Problem Detection", USENIX ATC 2010:
    whole-numbered relations of few templates, as *opened = closed*, that hold in 98 % of the sessions, found from
    the direction in which the counts of these templates vary least, small sets first; none is looked for among
    templates that have one already. The number 1 is a column, too, so that *three of these* and *none of these* are
    relations.
    """

    name = "invariant_mining"

    def _learn(self, counts: Numbers) -> None:
        distinct, times = np.unique(_with_one(counts), axis=0, return_counts=True)
        found: list[Numbers] = []
        settled: set[frozenset[int]] = set()
        for size in range(1, LARGEST + 1):
            sets = [one for one in combinations(range(distinct.shape[1]), size) if not _holds(settled, one)]
            for columns in np.array_split(np.array(sets, dtype=np.int64).reshape(-1, size), max(1, len(sets) // CHUNK)):
                kept = _relations(distinct, times, columns)
                found += kept
                settled |= {frozenset(np.flatnonzero(one).tolist()) for one in kept}
        self._relations = np.stack(found) if found else np.zeros((0, distinct.shape[1]))

    def _strangeness(self, counts: Numbers) -> Numbers:
        broken: Numbers = (_with_one(counts) @ self._relations.T != 0).sum(axis=1).astype(np.float64)
        return broken

    def why(self, session: "Side") -> list[Reason]:
        """The relations that it breaks, with its counts."""
        counts = _with_one(self._counts(session.lines))[0]
        names = self._names(session.lines[0])
        return [
            Reason(f"does not hold: {_relation(relation, names)}; here {_counted(relation, names, counts)}", 1)
            for relation in self._relations[self._relations @ counts != 0]
        ]


def forest(rows: Numbers, seed: int) -> Any:  # noqa: ANN401  (scikit-learn ships no types)
    """An isolation forest of rows [n, columns], with the paper's settings, which are scikit-learn's."""
    from sklearn.ensemble import IsolationForest as Forest  # noqa: PLC0415  (a second to import)

    return Forest(n_estimators=100, max_samples=min(256, len(rows)), random_state=seed).fit(rows)


def _clusters(directions: Numbers) -> list[Ints]:
    """Rows of each cluster."""
    from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415

    if len(directions) == 1:
        return [np.zeros(1, dtype=np.int64)]
    clustering = AgglomerativeClustering(
        n_clusters=None, distance_threshold=NEAR, metric="cosine", linkage="complete"
    ).fit(directions)
    return [np.flatnonzero(clustering.labels_ == label) for label in range(clustering.n_clusters_)]


def _middle(directions: Numbers) -> Numbers:
    """The member that is nearest to the mean of all."""
    member: Numbers = directions[int((directions @ directions.mean(axis=0)).argmax())]
    return member


def _relation(relation: Numbers, names: Sequence[str]) -> str:
    """A relation in words: what is added up on both sides, its first template on the left."""
    *parts, one = (relation * np.sign(relation[np.flatnonzero(relation)[0]])).tolist()
    sides = [[f"{abs(one):.0f}"] if sign * one > 0 else [] for sign in (1, -1)]
    for name, part in zip(names, parts, strict=True):
        if part:
            sides[part < 0].append(f"{abs(part):.0f} x [{name}]")
    left, right = (" + ".join(side) or "0" for side in sides)
    return f"{left} = {right}"


def _counted(relation: Numbers, names: Sequence[str], counts: Numbers) -> str:
    """The counts of what a relation is about."""
    shown = [f"{counts[row]:.0f} x [{name}]" for row, name in enumerate(names) if relation[row]]
    return ", ".join(shown)


def _with_one(counts: Numbers) -> Numbers:
    return np.column_stack([counts, np.ones(len(counts))])


def _holds(settled: set[frozenset[int]], columns: tuple[int, ...]) -> bool:
    """Whether some of these columns have a relation of their own."""
    return any(
        frozenset(some) in settled for size in range(1, len(columns) + 1) for some in combinations(columns, size)
    )


def _relations(distinct: Numbers, times: Ints, columns: Ints) -> list[Numbers]:
    """Relations [columns] of sets of columns [n, size] that enough sessions keep."""
    total = (distinct * times[:, None]).T @ distinct  # [columns, columns]
    _, axes = np.linalg.eigh(total[columns[:, :, None], columns[:, None, :]])
    found = []
    for one, direction in zip(columns, axes[:, :, 0], strict=True):  # the direction of the least variation
        parts = _whole(direction)
        if parts is None:
            continue
        kept = (distinct[:, one] @ parts == 0) @ times
        if kept >= SUPPORT * times.sum():
            relation = np.zeros(distinct.shape[1])
            relation[one] = parts
            found.append(relation)
    return found


def _whole(direction: Numbers) -> Numbers | None:
    """The smallest whole-numbered vector of a direction, none of its parts 0; none: there is none that is small."""
    least = np.abs(direction).min()
    if least < LEAST_PART:
        return None
    for factor in FACTORS:
        parts = direction / least * factor
        if np.abs(parts - parts.round()).max() <= WHOLE * factor:
            whole: Numbers = parts.round()
            return whole
    return None
