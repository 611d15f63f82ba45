"""The contract of sequence models: from what came before to the chances of what comes next.

Models speak of positions in a vocabulary (``models.vocabulary``): contexts are [m, window] positions, oldest first, and
column ``i`` of an answer is the entry at position ``i + 2``. A *surprise* is minus the natural logarithm of the chance
that a model gave to what came, in nats.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.sessions import Ints
from models.vocabulary import FIRST_INDEX, UNKNOWN_INDEX

Floats = NDArray[np.float32]

CELLS = 1 << 21
"""Probabilities computed at once (8 MB): a large vocabulary must not take a large memory."""


KNOWN_ODDS = math.log(2)
"""A known event is at least that much (nats) likelier than one never seen."""


class ModelError(ValueError):
    """A model's file that cannot be read."""


class SequenceModel(Protocol):
    """A model of the next event. The chances of a context depend on it alone, not on others asked with it."""

    name: str
    """Name of its detections, its kind: ``deeplog``, ``loganomaly``, ``ngram``."""
    entries: int
    """Size of the vocabulary."""

    def log_probabilities(self, contexts: Ints) -> Floats:
        """Natural logarithms of the chances of each entry of the vocabulary: [m, entries]; a row's chances add to 1."""

    def files(self) -> dict[str, bytes]:
        """The files a bundle keeps of it, by name."""


@dataclass(frozen=True, eq=False, slots=True)
class Judgement:
    """What a model says of windows: [n] each."""

    surprises: Floats  # nats
    ranks: Ints  # of what came, 1 = likeliest; after all known ones where the model does not know it


def judge(model: SequenceModel, contexts: Ints, targets: Ints, unseen: float) -> Judgement:
    """Say how surprising each target is: contexts [n, window], targets [n] positions.

    ``unseen`` is the logarithm of the chance of an event that was never seen (Good-Turing). Any known event is given
    twice that much (``KNOWN_ODDS``), beside its share of the rest: what a model has never seen here is less surprising
    than what nobody has ever seen anywhere, however sure the model is of itself. Without the factor a single odd order
    in held-back time would lift the threshold past everything there is.
    """
    n = len(targets)
    surprises = np.full(n, -unseen, dtype=np.float32)
    distinct, where = unique_rows(contexts)
    order = np.argsort(where, kind="stable")
    known_share = np.log1p(-np.exp(unseen))
    ranks = np.full(n, model.entries + 1, dtype=np.int64)
    step = max(1, CELLS // model.entries)
    for start in range(0, len(distinct), step):
        log_p = model.log_probabilities(distinct[start : start + step])
        first, last = np.searchsorted(where[order], [start, start + len(log_p)])
        rows = order[first:last]
        known = rows[targets[rows] > UNKNOWN_INDEX]
        mine = log_p[where[known] - start, targets[known] - FIRST_INDEX]
        surprises[known] = -np.logaddexp(mine + known_share, unseen + KNOWN_ODDS)
        for part in np.array_split(np.arange(len(known)), 1 + len(known) * model.entries // CELLS):
            ranks[known[part]] = 1 + np.count_nonzero(log_p[where[known[part]] - start] > mine[part, None], axis=1)
    return Judgement(surprises, ranks)


def expected(model: SequenceModel, contexts: Ints, k: int = 5) -> list[list[tuple[int, float]]]:
    """For each context [m, window] the ``k`` likeliest next events: (position, chance), likeliest first."""
    found: list[list[tuple[int, float]]] = []
    step = max(1, CELLS // model.entries)
    for start in range(0, len(contexts), step):
        chances = np.exp(model.log_probabilities(contexts[start : start + step]))
        # Equal chances are named in the order of the vocabulary, so that evidence is the same in every run.
        best = np.argsort(-chances, axis=1, kind="stable")[:, :k]
        for row, columns in enumerate(best.tolist()):
            found.append([(FIRST_INDEX + column, float(chances[row, column])) for column in columns])
    return found


def unique_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Return the distinct rows in lexicographic order, and for each row the one it equals."""
    if not len(rows):
        return rows, np.zeros(0, dtype=np.int64)
    order = np.lexsort(rows.T[::-1])
    in_order = rows[order]
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    where = np.empty(len(rows), dtype=np.int64)
    where[order] = np.cumsum(new) - 1
    return in_order[new], where
