"""Frames: lines of one partition, packed by the JVM (``deploy/java/FrameOperator.java``): Python is entered once each.

Usage::

    lines = unpack(frame, service="pay")       # byte for byte what came
    for key, value in unpack_control(pack):    # records of the control topic, packed likewise (ControlOperator.java)
        view.apply(key, value)

A frame is ``LCFR``, format (u16), bytes of topic (u16), partition (i32), lines (u32), whether lines were cut (u8), the
topic (UTF-8), then columns: offsets (i64), arrivals (i64, ms), lengths (i32, -1 = null), original lengths (i32, only
where lines were cut), and the lines' bytes one after another. All numbers are little-endian.

A pack of control records is, for each record, bytes of the key (i32, -1 = null), the key (UTF-8), bytes of the value
(i32, -1 = null: the key is taken back), the value.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parsing.events import Lines
from streaming.placing import placed

_MAGIC = b"LCFR"
_FORMAT = 1
_HEADER = struct.Struct("<4sHHiIB")
_LENGTH = struct.Struct("<i")

Ints = NDArray[np.int64]


class FrameError(ValueError):
    """Bytes that are not a frame, or a frame of a newer format than this code reads."""


def shard_key(topic: str, partition: int) -> str:
    """The key under which the lines of a partition are parsed: topic, partition, and maybe a salt.

    >>> shard_key("logs.pay", 3)
    'logs.pay/3~11'
    """
    return placed(f"{topic}/", partition)


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


def unpack_control(pack: bytes) -> Iterator[tuple[str, bytes | None]]:
    """The control records of a pack, in order: key (empty where there is none) and value (None: taken back)."""
    at = 0
    while at < len(pack):
        key, at = _bytes_at(pack, at)
        value, at = _bytes_at(pack, at)
        yield (key or b"").decode("utf-8", "replace"), value


def _bytes_at(pack: bytes, at: int) -> tuple[bytes | None, int]:
    """Bytes that follow their length, and where the next begin."""
    (length,) = _LENGTH.unpack_from(pack, at)
    start = at + _LENGTH.size
    return (None, start) if length < 0 else (pack[start : start + length], start + length)
