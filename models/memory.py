"""Answers of a model, remembered by window: logs repeat themselves, so few windows need the model at all."""

import numpy as np
from numpy.typing import NDArray

from models.sessions import Flags, Ids, Ints

_SEED = np.uint64(0x243F6A8885A308D3)
_PRIME = np.uint64(0x9FB21C651E98DF25)  # rrmxmx's multiplier (Pelle Evensen): odd, and spreads every bit
_FOLD = np.uint64(29)


def window_hashes(contexts: Ids, targets: Ids) -> Ids:
    """Hash each window to 64 bits: [n]. Two of a million windows share one with a chance of one in 10 million."""
    hashes = np.full(len(targets), _SEED, dtype=np.uint64)
    for column in (*contexts.T, targets):
        hashes ^= column
        hashes *= _PRIME
        hashes ^= hashes >> _FOLD
    return hashes


class Memory:
    """A table of fixed size: a window has one place, where the last window that came there stays.

    Looking up and storing cost the same however full it is, nothing needs to be evicted, and its size in memory is
    known beforehand: 16 bytes a place.

    Args:
        bits: It has 2 to this power places.
    """

    def __init__(self, bits: int = 17) -> None:
        self._shift = np.uint64(64 - bits)
        self._hashes: Ids = np.zeros(2**bits, dtype=np.uint64)
        self._surprises: NDArray[np.float32] = np.zeros(2**bits, dtype=np.float32)
        self._ranks: NDArray[np.int32] = np.zeros(2**bits, dtype=np.int32)

    def find(self, hashes: Ids) -> tuple[Flags, NDArray[np.float32], Ints]:
        """Return which windows are remembered, with surprise (nats) and rank: [n] each, arbitrary where not."""
        places = (hashes >> self._shift).astype(np.int64)
        return self._hashes[places] == hashes, self._surprises[places], self._ranks[places].astype(np.int64)

    def store(self, hashes: Ids, surprises: NDArray[np.float32], ranks: Ints) -> None:
        """Remember answers: [n] each."""
        places = (hashes >> self._shift).astype(np.int64)
        # Where two windows want one place, one of them must get it with all its columns.
        _, chosen = np.unique(places, return_index=True)
        self._hashes[places[chosen]] = hashes[chosen]
        self._surprises[places[chosen]] = surprises[chosen]
        self._ranks[places[chosen]] = ranks[chosen]

    def clear(self) -> None:
        """Forget all."""
        self._hashes[:] = 0
