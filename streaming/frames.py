"""Frames: the lines that a source has read since the last bundle, packed per partition, so that Python is entered once.

Usage::

    for row, key, frame in pack(topics, partitions, offsets, arrivals, values, max_line_bytes=65_536):
        ...                                    # one frame for each partition among the rows
    lines = unpack(frame, service="pay")       # and back, byte for byte

A frame is ``LCFR``, format (u16), bytes of topic (u16), partition (i32), lines (u32), whether lines were cut (u8), the
topic (UTF-8), then columns: offsets (i64), arrivals (i64, ms), lengths (i32, -1 = null), original lengths (i32, only
where lines were cut), and the lines' bytes one after another. All numbers are little-endian.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from parsing.events import Lines

_MAGIC = b"LCFR"
_FORMAT = 1
_HEADER = struct.Struct("<4sHHiIB")

FRAME_BYTES = 4 * 1024 * 1024
"""Flink writes a record of more than 5 MiB to a temporary file on its way between tasks."""

Ints = NDArray[np.int64]


class FrameError(ValueError):
    """Bytes that are not a frame, or a frame of a newer format than this code reads."""


def shard_key(topic: str, partition: int) -> str:
    """The key under which the lines of a partition are parsed.

    >>> shard_key("logs.pay", 3)
    'logs.pay/3'
    """
    return f"{topic}/{partition}"


def pack(
    topics: Sequence[str],
    partitions: Ints,
    offsets: Ints,
    arrivals: Ints,
    values: Sequence[bytes | None],
    max_line_bytes: int,
) -> Iterator[tuple[int, str, bytes]]:
    """Pack rows (each column: [n]) into frames of one partition; yields a frame's first row, its key, the frame.

    Lines keep their order. A partition has one frame, or several of about ``FRAME_BYTES``. Lines over
    ``max_line_bytes`` are cut to it; their original length is what came here, which may itself be cut (the source hands
    on at most one byte more).
    """
    lengths = np.fromiter((-1 if value is None else len(value) for value in values), np.int64, len(values))
    for topic, partition, all_rows in _groups(topics, partitions):
        for rows in _portions(all_rows, np.clip(lengths[all_rows], 0, max_line_bytes)):
            whole = len(rows) == len(values)
            chosen = values if whole else [values[row] for row in rows.tolist()]
            at = slice(None) if whole else rows
            frame = _encode(topic, partition, offsets[at], arrivals[at], lengths[at], chosen, max_line_bytes)
            yield int(rows[0]), shard_key(topic, partition), frame


def unpack(frame: bytes, service: str) -> Lines:
    """The lines of a frame.

    Raises:
        FrameError: the bytes are not a frame, or of a newer format.
    """
    if len(frame) < _HEADER.size or frame[:4] != _MAGIC:
        raise FrameError("these bytes are no frame of lines: they do not begin with LCFR")
    _, version, topic_bytes, partition, n, cut = _HEADER.unpack_from(frame)
    if version != _FORMAT:
        raise FrameError(f"a frame of format {version}, this code reads {_FORMAT}: update the job that reads it")
    at = _HEADER.size + topic_bytes
    columns: list[Ints] = []
    for kind, width in (("<i8", 8), ("<i8", 8), ("<i4", 4), *([("<i4", 4)] if cut else [])):
        if len(frame) < at + n * width:
            raise FrameError(f"a frame of {n} lines ends after {len(frame)} bytes")
        columns.append(np.frombuffer(frame, kind, n, at).astype(np.int64))
        at += n * width
    return Lines(
        service=service,
        topic=frame[_HEADER.size : _HEADER.size + topic_bytes].decode(),
        partition=partition,
        offsets=columns[0],
        arrivals=columns[1],
        blob=frame[at:],
        lengths=columns[2],
        original_lengths=columns[3] if cut else None,
    )


def pieces(lines: Lines, size: int) -> Iterator[Lines]:
    """Cut a batch into pieces of at most ``size`` lines, in order."""
    if len(lines) <= size:
        yield lines
        return
    for start in range(0, len(lines), size):
        yield lines.slice(start, start + size)


def _groups(topics: Sequence[str], partitions: Ints) -> Iterator[tuple[str, int, Ints]]:
    """The rows of each (topic, partition), in order of appearance."""
    names = list(dict.fromkeys(topics))
    if len(names) == 1 and len(partitions) and bool((partitions == partitions[0]).all()):
        yield names[0], int(partitions[0]), np.arange(len(partitions))
        return
    number = {name: i for i, name in enumerate(names)}
    codes = np.fromiter((number[name] for name in topics), np.int64, len(topics)) << 32 | partitions
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(first) + 1))
    for group in np.argsort(first).tolist():
        rows = order[bounds[group] : bounds[group + 1]]
        yield topics[int(rows[0])], int(partitions[rows[0]]), rows


def _portions(rows: Ints, sizes: Ints) -> Iterator[Ints]:
    """Cut rows into parts of about ``FRAME_BYTES``: a part ends with the line that fills it."""
    ends = np.cumsum(sizes)
    if ends[-1] <= FRAME_BYTES:
        yield rows
        return
    parts = (ends - sizes) // FRAME_BYTES
    bounds = np.flatnonzero(np.diff(parts)) + 1
    yield from np.split(rows, bounds)


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
