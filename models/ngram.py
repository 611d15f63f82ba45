"""A next-event model of counts: what followed the last events before, backing off to fewer of them.

Each order ``k`` counts what followed the last ``k`` events; chances are interpolated with those of order ``k - 1`` by
Witten and Bell (1991, method C): a context with ``c`` events and ``t`` kinds of them leaves ``t / (c + t)`` to the
shorter context; below order 0 all entries are equally likely. Learns in a pass, needs no torch.

    model = NGram.learn(contexts, targets, counts, entries=20, order=4)
    model.log_probabilities(contexts)
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.base import CELLS, Floats, ModelError
from models.sessions import Ids, Ints
from models.vocabulary import FIRST_INDEX

FILE = "ngram.arrow"
_FORMAT = b"1"
_SCHEMA = {"order": pa.uint8(), "context": pa.uint64(), "next": pa.uint32(), "count": pa.uint64()}
_SEED = np.uint64(0x13198A2E03707344)
_PRIME = np.uint64(0x9FB21C651E98DF25)
_FOLD = np.uint64(29)


@dataclass(frozen=True, eq=False, slots=True)
class _Order:
    """Counts of one order: contexts by their hash, and what followed each."""

    hashes: Ids  # [c] rising
    starts: Ints  # [c + 1] where each context's followers begin
    followers: Ints  # [f] columns of the answer
    counts: NDArray[np.float64]  # [f]
    totals: NDArray[np.float64]  # [c]


class NGram:
    """The counts of orders 0 to ``order``."""

    name = "ngram"

    def __init__(self, orders: list[_Order], entries: int) -> None:
        self._orders = orders
        self.entries = entries

    @property
    def order(self) -> int:
        """Events looked back at most."""
        return len(self._orders) - 1

    @classmethod
    def learn(cls, contexts: Ints, targets: Ints, counts: Ints, *, entries: int, order: int) -> "NGram":
        """Count windows ([n, window] and [n] positions in a vocabulary of ``entries``), each seen ``counts`` times."""
        order = min(order, contexts.shape[1])
        return cls([_count(_suffix_hashes(contexts, k), targets, counts) for k in range(order + 1)], entries)

    def log_probabilities(self, contexts: Ints) -> Floats:
        """See ``SequenceModel.log_probabilities``."""
        *_, chances = self._by_order(contexts)
        return np.log(chances).astype(np.float32)

    def _by_order(self, contexts: Ints) -> Iterator[NDArray[np.float64]]:
        """Chances with at most 0, 1, ... events looked back at: the same [m, entries] each time, made better."""
        chances = np.full((len(contexts), self.entries), 1.0 / self.entries)
        for k, counted in enumerate(self._orders):
            hashes = _suffix_hashes(contexts, k)
            places = np.minimum(np.searchsorted(counted.hashes, hashes), len(counted.hashes) - 1)
            rows = np.flatnonzero(counted.hashes[places] == hashes)
            places = places[rows]
            kinds = counted.starts[places + 1] - counted.starts[places]
            mass = counted.totals[places] + kinds
            chances[rows] *= (kinds / mass)[:, None]
            # All followers of all rows, one after another.
            of_row = np.repeat(np.arange(len(rows)), kinds)
            nth = np.arange(len(of_row)) - np.repeat(np.cumsum(kinds) - kinds, kinds)
            follower = counted.starts[places][of_row] + nth
            chances[rows[of_row], counted.followers[follower]] += counted.counts[follower] / mass[of_row]
            yield chances

    def losses(self, contexts: Ints, targets: Ints, counts: Ints) -> NDArray[np.float64]:
        """Mean surprise (nats) when at most 0, 1, ... ``order`` events are looked back at: [order + 1].

        Windows as in ``learn``.
        """
        losses = np.zeros(self.order + 1)
        step = max(1, CELLS // self.entries)
        for start in range(0, len(targets), step):
            part = slice(start, start + step)
            columns = targets[part] - FIRST_INDEX
            for k, chances in enumerate(self._by_order(contexts[part])):
                losses[k] -= counts[part] @ np.log(chances[np.arange(len(columns)), columns])
        losses /= counts.sum()
        return losses

    def shortened(self, order: int) -> "NGram":
        """The same counts, with at most ``order`` events looked back at."""
        return NGram(self._orders[: order + 1], self.entries)

    def files(self) -> dict[str, bytes]:
        """See ``SequenceModel.files``: an Arrow IPC file of (order, hash of the context, next, count)."""
        columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in _SCHEMA}
        for k, counted in enumerate(self._orders):
            kinds = np.diff(counted.starts)
            columns["order"].append(np.full(len(counted.followers), k, dtype=np.uint8))
            columns["context"].append(np.repeat(counted.hashes, kinds))
            columns["next"].append(counted.followers.astype(np.uint32))
            columns["count"].append(counted.counts.astype(np.uint64))
        metadata = {b"logcanary.ngram": _FORMAT, b"entries": str(self.entries).encode()}
        schema = pa.schema(list(_SCHEMA.items()), metadata=metadata)
        table = pa.table([np.concatenate(columns[name]) for name in _SCHEMA], schema=schema)
        out = io.BytesIO()
        with pa.ipc.new_file(out, schema) as writer:
            writer.write_table(table)
        return {FILE: out.getvalue()}

    @classmethod
    def read(cls, data: bytes) -> "NGram":
        """Read what ``files`` gave.

        Raises:
            ModelError: The bytes are no such file, or of a newer format.
        """
        try:
            table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
            metadata = table.schema.metadata or {}
            if metadata.get(b"logcanary.ngram") != _FORMAT:
                raise ModelError(
                    f"{FILE} is of format {metadata.get(b'logcanary.ngram')!r}, this code reads {_FORMAT!r}"
                )
            order, context, following, count = (table[name].to_numpy() for name in _SCHEMA)
            entries = int(metadata[b"entries"])
            if not len(order) or int(following.max()) >= entries:
                raise ModelError(f"{FILE} has no counts, or counts of events outside of its {entries} entries")
            rows = [np.flatnonzero(order == k) for k in range(int(order.max()) + 1)]
            return cls([_order(context[r], following[r].astype(np.int64), count[r]) for r in rows], entries)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise ModelError(f"{FILE} cannot be read: {error}") from error


def _suffix_hashes(contexts: Ints, k: int) -> Ids:
    """Hash of the last ``k`` events of each context: [m]."""
    hashes = np.full(len(contexts), _SEED, dtype=np.uint64)
    for column in contexts[:, contexts.shape[1] - k :].T.astype(np.uint64):
        hashes ^= column
        hashes *= _PRIME
        hashes ^= hashes >> _FOLD
    return hashes


def _count(hashes: Ids, targets: Ints, counts: Ints) -> _Order:
    """Add up the counts of equal (context, next)."""
    order = np.lexsort((targets, hashes))
    hashes, following = hashes[order], targets[order] - FIRST_INDEX
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (following[1:] != following[:-1])
    heads = np.flatnonzero(new)
    return _order(hashes[heads], following[heads], np.add.reduceat(counts[order], heads))


def _order(hashes: Ids, followers: Ints, counts: NDArray[np.generic]) -> _Order:
    """Index counts that are sorted by context."""
    distinct, starts = np.unique(hashes, return_index=True)
    weights = counts.astype(np.float64)
    return _Order(distinct, np.append(starts, len(hashes)), followers, weights, np.add.reduceat(weights, starts))
