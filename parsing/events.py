"""What goes into the parser and what comes out: lines of one micro-batch, and events as columns.

Usage::

    lines = Lines.from_list("pay", "logs.pay", 0, offsets=[7, 8], arrivals=[1000, 1001], values=[b"started", None])
    events = Parser(settings).parse(lines).events
    for bucket, part in events.by_bucket(4):
        send(bucket, part.to_bytes())
"""

import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

EVENT_SCHEMA: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "partition": pl.Int32(),
    "arrival": pl.Int64(),
    "time": pl.Int64(),
    "level": pl.String(),
    "session": pl.String(),
    "template": pl.UInt64(),
    "line": pl.String(),
}
"""Columns of ``Events.frame``. ``arrival`` and ``time`` are milliseconds since 1970 UTC; ``session`` is empty where a
line has no identifier; ``level`` is empty where a line has none."""

SPREAD_SCHEMA = EVENT_SCHEMA | {"copy": pl.Boolean()}
"""... where a line is an event of several sessions (``parsing.sessions.spread``): ``copy`` marks all but its first."""

_MAGIC = b"LCEV"
_FORMAT = 1
_HEADER = struct.Struct("<4sHI")  # magic, format, length of the metadata that follows

_SEED = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0xFF51AFD7ED558CCD)  # the finaliser of MurmurHash3: spreads every bit over the whole word
_HALF = np.uint64(32)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class EventsError(ValueError):
    """Bytes that are not events, or events of a newer format than this code reads."""


def template_hex(template: int) -> str:
    """Write a template id as the records on topics carry it: 16 hex digits.

    >>> template_hex(1)
    '0000000000000001'
    """
    return f"{template:016x}"


@dataclass(frozen=True, eq=False, slots=True)
class Lines:
    """The lines of one micro-batch of one partition, in offset order.

    ``blob`` is the lines' bytes one after another, ``lengths`` says where to cut; -1 is a record without a value.

    Raises:
        ValueError: The columns' lengths differ, or ``lengths`` do not add up to the blob.
    """

    service: str
    topic: str
    partition: int
    offsets: NDArray[np.int64]  # [n]
    arrivals: NDArray[np.int64]  # [n] ms since 1970 UTC, Kafka's timestamp
    blob: bytes
    lengths: NDArray[np.int64]  # [n] bytes
    original_lengths: NDArray[np.int64] | None = None  # [n] bytes before the source cut the line; None: nothing was cut

    def __post_init__(self) -> None:
        n = len(self.lengths)
        if len(self.offsets) != n or len(self.arrivals) != n:
            raise ValueError(f"lines: {len(self.offsets)} offsets and {len(self.arrivals)} arrivals for {n} lines")
        if self.original_lengths is not None and len(self.original_lengths) != n:
            raise ValueError(f"lines: {len(self.original_lengths)} original lengths for {n} lines")
        total = int(np.maximum(self.lengths, 0).sum())
        if total != len(self.blob):
            raise ValueError(f"lines: lengths add up to {total} bytes, the blob has {len(self.blob)}")

    @classmethod
    def from_list(
        cls,
        service: str,
        topic: str,
        partition: int,
        offsets: ArrayLike,
        arrivals: ArrayLike,
        values: Sequence[bytes | None],
    ) -> "Lines":
        """Build from Python values; ``None`` is a record without a value."""
        return cls(
            service=service,
            topic=topic,
            partition=partition,
            offsets=np.asarray(offsets, dtype=np.int64),
            arrivals=np.asarray(arrivals, dtype=np.int64),
            blob=b"".join(value for value in values if value is not None),
            lengths=np.array([-1 if value is None else len(value) for value in values], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def starts(self) -> NDArray[np.int64]:
        """Return where each line begins in the blob, and the blob's end: [n + 1]."""
        starts = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        np.cumsum(np.maximum(self.lengths, 0), out=starts[1:])
        return starts

    def line(self, row: int) -> bytes | None:
        """Return one line's bytes. For the few lines that need it, not for a loop over all."""
        if self.lengths[row] < 0:
            return None
        start = int(np.maximum(self.lengths[:row], 0).sum())
        return self.blob[start : start + int(self.lengths[row])]

    def slice(self, start: int, stop: int) -> "Lines":
        """Return the lines ``start`` to ``stop`` (rows, stop excluded), as a large batch is parsed in pieces."""
        starts = self.starts()
        stop = min(stop, len(self))
        start = min(start, stop)
        return Lines(
            service=self.service,
            topic=self.topic,
            partition=self.partition,
            offsets=self.offsets[start:stop],
            arrivals=self.arrivals[start:stop],
            blob=self.blob[int(starts[start]) : int(starts[stop])],
            lengths=self.lengths[start:stop],
            original_lengths=None if self.original_lengths is None else self.original_lengths[start:stop],
        )


@dataclass(frozen=True, eq=False, slots=True)
class Events:
    """Parsed lines of one service as columns (``frame``, see ``EVENT_SCHEMA``), with the texts of their templates.

    ``templates`` maps each template id in the frame to its newest text, and holds no other.
    """

    service: str
    topic: str
    frame: pl.DataFrame
    templates: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, service: str, topic: str) -> "Events":
        """Return no events."""
        return cls(service, topic, pl.DataFrame(schema=EVENT_SCHEMA))

    @classmethod
    def concat(cls, parts: Sequence["Events"]) -> "Events":
        """Put events of one topic one after another; where texts of a template differ, the last one's holds.

        Raises:
            ValueError: There are no parts, or they are of several topics.
        """
        if len({(part.service, part.topic) for part in parts}) != 1:
            raise ValueError("events: only events of one topic can be put together, and at least one")
        templates: dict[int, str] = {}
        for part in parts:
            templates |= part.templates
        return cls(parts[0].service, parts[0].topic, pl.concat([part.frame for part in parts]), templates)

    def __len__(self) -> int:
        return self.frame.height

    def slice(self, start: int, stop: int) -> "Events":
        """Return the events ``start`` to ``stop`` (rows, stop excluded)."""
        return self._part(self.frame.slice(start, max(0, stop - start)))

    def take(self, rows: ArrayLike) -> "Events":
        """Return the events of these rows, in their order."""
        index = pl.Series("rows", np.asarray(rows, dtype=np.int64))
        return self._part(self.frame[index])

    def _part(self, frame: pl.DataFrame) -> "Events":
        known = self.templates
        held = np.unique(frame["template"].to_numpy()).tolist()
        return Events(self.service, self.topic, frame, {template: known[template] for template in held})

    def column(self, name: str) -> NDArray[np.int64]:
        """Return ``offset``, ``partition``, ``arrival`` or ``time`` as numbers: [n]."""
        return self.frame[name].to_numpy().astype(np.int64, copy=False)

    def template_ids(self) -> NDArray[np.uint64]:
        """Return the template id of each event: [n]."""
        return self.frame["template"].to_numpy().astype(np.uint64, copy=False)

    def session_hashes(self) -> NDArray[np.uint64]:
        """Return a stable 64-bit hash of each event's session: [n].

        Events without an identifier get the hash of their partition, so that a partition is one endless session. The
        hash depends on the identifier's bytes alone, and is the same in every process and version.
        """
        sessions = self.frame["session"]
        hashes = string_hashes(sessions)
        nameless = (sessions == "").to_numpy()
        if nameless.any():
            partitions = self.frame["partition"].to_numpy().astype(np.uint64)
            hashes = np.where(nameless, _mix(partitions ^ _SEED, np.uint64(0)), hashes)
        return hashes

    def by_bucket(self, buckets: int) -> Iterator[tuple[int, "Events"]]:
        """Split by session into buckets 0 to ``buckets`` - 1, in rising order; only buckets with events come.

        The bucket is a stable hash of the session, or of the partition where there is none. Within a bucket the events
        keep their order.

        Raises:
            ValueError: ``buckets`` is less than 1.
        """
        if buckets < 1:
            raise ValueError(f"buckets must be at least 1, not {buckets}")
        if not len(self):
            return
        if buckets == 1:
            yield 0, self
            return
        bucket_of = (self.session_hashes() % np.uint64(buckets)).astype(np.int64)
        counts = np.bincount(bucket_of, minlength=buckets)
        if int(counts.max()) == len(self):
            yield int(bucket_of[0]), self
            return
        frame = self.frame[pl.Series("rows", np.argsort(bucket_of, kind="stable"))]
        start = 0
        for bucket, count in enumerate(counts.tolist()):
            if count:
                yield bucket, self._part(frame.slice(start, count))
            start += count

    def to_bytes(self) -> bytes:
        """Encode: 4 bytes ``LCEV``, format (u16), length of metadata (u32), metadata (JSON), Arrow's IPC stream (LZ4).

        All numbers are little-endian; the metadata holds service, topic and the templates by their hex ids.
        """
        templates = {template_hex(template): text for template, text in self.templates.items()}
        metadata = json.dumps({"service": self.service, "topic": self.topic, "templates": templates}).encode()
        out = io.BytesIO()
        out.write(_HEADER.pack(_MAGIC, _FORMAT, len(metadata)))
        out.write(metadata)
        # The oldest level writes plain string columns: a view column would carry the whole batch's text in each part.
        # Compressed, since every byte is copied a dozen times between the workers: 246 bytes an HDFS line become 48
        # (with zstd 22, for 0.4 us a line more).
        self.frame.write_ipc_stream(out, compression="lz4", compat_level=pl.CompatLevel.oldest())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Events":
        """Decode what ``to_bytes`` wrote.

        Raises:
            EventsError: The bytes are not events, or of a newer format.
        """
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise EventsError("these bytes are not events: they do not begin with LCEV")
        _, version, length = _HEADER.unpack_from(data)
        if version != _FORMAT:
            raise EventsError(f"events of format {version}, this code reads {_FORMAT}: update the job that reads them")
        start = _HEADER.size + length
        try:
            metadata = json.loads(data[_HEADER.size : start])
            frame = pl.read_ipc_stream(io.BytesIO(memoryview(data)[start:]))
            templates = {int(template, 16): text for template, text in metadata["templates"].items()}
            events = cls(metadata["service"], metadata["topic"], frame, templates)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, pl.exceptions.PolarsError) as error:
            raise EventsError(f"events cannot be read: {error}") from error
        if frame.schema not in (EVENT_SCHEMA, SPREAD_SCHEMA):
            raise EventsError(f"events have the columns {frame.schema}, not {EVENT_SCHEMA}")
        return events


def string_hashes(values: pl.Series) -> NDArray[np.uint64]:
    """Hash strings to 64 bits, eight bytes a step over the whole column: [n].

    Depends on each string's UTF-8 bytes alone: the same in every process and version of every library. Not meant to
    withstand someone who looks for collisions.
    """
    n = len(values)
    if not n:
        return np.zeros(0, dtype=np.uint64)
    arrow = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not pa.types.is_large_string(arrow.type):
        arrow = arrow.cast(pa.large_utf8())
    _, offset_buffer, data = arrow.buffers()
    ends = np.frombuffer(offset_buffer, dtype=np.int64)[arrow.offset : arrow.offset + n + 1]
    first, last = int(ends[0]), int(ends[-1])
    text = np.zeros(last - first + 8, dtype=np.uint8)  # eight more, so that a word may be read at any byte
    if last > first:
        text[:-8] = np.frombuffer(data, dtype=np.uint8)[first:last]
    words: NDArray[np.uint64] = np.ndarray((last - first + 1,), dtype="<u8", buffer=text, strides=(1,))
    starts = ends[:-1] - first
    left = ends[1:] - ends[:-1]
    hashes = left.astype(np.uint64) ^ _SEED
    longest, shortest = int(left.max()), int(left.min())
    for at in range(0, longest, 8):
        if at + 8 <= shortest:
            hashes = _mix(hashes, words[starts + at])
            continue
        rows = np.flatnonzero(left > at)
        unused = np.maximum(at + 8 - left[rows], 0).astype(np.uint64) << np.uint64(3)
        word = words[starts[rows] + at] & (_ALL >> unused)  # what follows the string in memory is not part of it
        hashes[rows] = _mix(hashes[rows], word)
    return hashes


def _mix(hashes: NDArray[np.uint64], words: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Stir a word into each hash: multiply and fold, as MurmurHash3 finishes; uint64 wraps around."""
    mixed = (hashes ^ words) * _PRIME
    mixed ^= mixed >> _HALF
    mixed *= _PRIME
    mixed ^= mixed >> _HALF
    return mixed
