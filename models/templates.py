"""The templates a detector has met, each with a column of its own, and what sessions hold of them."""

import numpy as np
from numpy.typing import NDArray

from models.finished import Sessions
from models.sessions import Ids, Ints

MAX_TEMPLATES = 4096
"""Templates a detector tells apart; what comes later is unknown to it. HDFS has 40, a large service some thousands."""


class Templates:
    """Template ids by column, in the order in which they were first met."""

    def __init__(self, ids: Ids | None = None) -> None:
        self.ids: Ids = np.zeros(0, dtype=np.uint64) if ids is None else ids
        self._sort()

    def __len__(self) -> int:
        return len(self.ids)

    def learn(self, templates: Ids) -> int:
        """Give new templates their columns, as long as there are some; returns how many there are now."""
        distinct, first = np.unique(templates, return_index=True)
        fresh = self.columns(distinct) == len(self)
        if fresh.any():
            new = distinct[fresh][np.argsort(first[fresh])]
            self.ids = np.concatenate([self.ids, new])[:MAX_TEMPLATES]
            self._sort()
        return len(self)

    def columns(self, templates: Ids) -> Ints:
        """The column of each template, in the shape they come in; ``len(self)`` where it is unknown."""
        if not len(self):
            return np.zeros(templates.shape, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._sorted, templates), len(self) - 1)
        columns: Ints = np.where(self._sorted[places] == templates, self._order[places], len(self))
        return columns

    def counts(self, sessions: Sessions) -> Ints:
        """How often each session holds each template: [n, len(self) + 1], the last column counts unknown ones."""
        width = len(self) + 1
        cells = sessions.owners * width + self.columns(sessions.templates)
        counts: Ints = np.bincount(cells, minlength=len(sessions) * width).reshape(len(sessions), width)
        return counts

    def _sort(self) -> None:
        self._order: Ints = np.argsort(self.ids, kind="stable")
        self._sorted: Ids = self.ids[self._order]


def distinct(hashes: Ids) -> tuple[Ints, Ints, Ints]:
    """Of items by their hash: the first row of each distinct one as they came, where each row's is, and counts."""
    _, first, where, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return first[order], place[where.reshape(-1)], counts[order]


def widened(column: NDArray[np.int64], size: int) -> Ints:
    """A column of counts with zeros behind, so that it has this length."""
    return np.concatenate([column, np.zeros(size - len(column), dtype=np.int64)])
