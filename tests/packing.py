"""Frames as the JVM packs them (``deploy/java/FrameBuffer.java``), for tests that do without one."""

from collections.abc import Iterator, Sequence

import numpy as np

from streaming.frames import _FORMAT, _HEADER, _MAGIC, Ints, shard_key


def pack(
    topics: Sequence[str],
    partitions: Ints,
    offsets: Ints,
    arrivals: Ints,
    values: Sequence[bytes | None],
    max_line_bytes: int,
) -> Iterator[tuple[int, str, bytes]]:
    """Pack rows (each column: [n]) into frames of one partition; yields a frame's first row, its key, the frame.

    Lines keep their order. Those over ``max_line_bytes`` are cut to it; their original length is what came here, which
    may itself be cut (the source hands on at most one byte more).
    """
    lengths = np.fromiter((-1 if value is None else len(value) for value in values), np.int64, len(values))
    for topic, partition, rows in _groups(topics, partitions):
        chosen = [values[row] for row in rows.tolist()]
        frame = _encode(topic, partition, offsets[rows], arrivals[rows], lengths[rows], chosen, max_line_bytes)
        yield int(rows[0]), shard_key(topic, partition), frame


def _groups(topics: Sequence[str], partitions: Ints) -> Iterator[tuple[str, int, Ints]]:
    """The rows of each (topic, partition), in order of appearance."""
    names = list(dict.fromkeys(topics))
    number = {name: i for i, name in enumerate(names)}
    codes = np.fromiter((number[name] for name in topics), np.int64, len(topics)) << 32 | partitions
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(first) + 1))
    for group in np.argsort(first).tolist():
        rows = order[bounds[group] : bounds[group + 1]]
        yield topics[int(rows[0])], int(partitions[rows[0]]), rows


def _encode(
    topic: str,
    partition: int,
    offsets: Ints,
    arrivals: Ints,
    lengths: Ints,
    values: Sequence[bytes | None],
    limit: int,
) -> bytes:
    n = len(values)
    there = [value for value in values if value is not None]
    originals = []
    if int(lengths.max()) > limit:
        there = [value[:limit] for value in there]
        originals = [lengths.astype("<i4").tobytes()]
        lengths = np.minimum(lengths, limit)
    name = topic.encode()
    return b"".join([
        _HEADER.pack(_MAGIC, _FORMAT, len(name), partition, n, bool(originals)),
        name,
        offsets.astype("<i8", copy=False).tobytes(),
        arrivals.astype("<i8", copy=False).tobytes(),
        lengths.astype("<i4").tobytes(),
        *originals,
        *there,
    ])  # fmt: skip
