"""Counts by hash in a table of fixed size: bounded without evicting, the same however they came, merged by adding.

Two keys that share a cell share its count (as in a count-min sketch of one row: Cormode and Muthukrishnan 2005): with
1,000 keys in 65,536 cells 1.5 % of them do, and are taken to be more usual than they are.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.sessions import Ids, Ints

Numbers = NDArray[np.float64]

ENOUGH = 1_000
"""Times a context was met from which on more of them say no more: otherwise what was never seen would look ever
stranger the more is learnt, and pass a bar that was set when less was known."""


class Counts:
    """How often each key came, or anything else that is added up.

    Args:
        bits: The table has 2 to this power cells, 8 bytes each.
    """

    def __init__(self, bits: int = 16) -> None:
        self._shift = np.uint64(64 - bits)
        self._cells: Ints = np.zeros(2**bits, dtype=np.int64)

    def add(self, keys: Ids, amounts: Ints | None = None) -> None:
        """Count keys once each, or by amounts."""
        cells, which = np.unique(self._places(keys), return_inverse=True)
        sums = np.bincount(which.reshape(-1), weights=amounts, minlength=len(cells)).astype(np.int64)
        self._cells[cells] += sums

    def of(self, keys: Ids) -> Ints:
        """How often each key came, in the shape they come in."""
        counts: Ints = self._cells[self._places(keys)]
        return counts

    def merge(self, other: "Counts") -> None:
        """Add another table's counts."""
        self._cells += other._cells

    def columns(self, name: str) -> dict[str, NDArray[np.generic]]:
        """The cells that hold something, as two columns under a name."""
        held = np.flatnonzero(self._cells)
        return {f"{name}.cells": held, f"{name}.counts": self._cells[held]}

    def restore(self, name: str, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace all counts by what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """
        held = columns[f"{name}.cells"].astype(np.int64)
        if len(held) and (int(held.min()) < 0 or int(held.max()) >= len(self._cells)):
            raise ValueError(f"{name} counts in cells that a table of {len(self._cells)} does not have")
        self._cells[:] = 0
        self._cells[held] = columns[f"{name}.counts"].astype(np.int64)

    def _places(self, keys: Ids) -> Ints:
        return (keys >> self._shift).astype(np.int64)


def backed(count: Ints, total: Ints, coarser: Numbers, prior: float) -> Numbers:
    """Chances of what came ``count`` of ``total`` times, backed by those that a coarser context gives.

    The coarser one weighs as much as ``prior`` times, the finer one at most as much as ``ENOUGH``.
    """
    weight = np.minimum(total, ENOUGH)
    chances: Numbers = (weight * count / np.maximum(total, 1) + prior * coarser) / (weight + prior)
    return chances
