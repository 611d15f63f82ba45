"""Sends many lines to Kafka at once: whole record batches are built here, kafka-python does the rest.

``KafkaProducer.send`` costs 55-110 microseconds a record, most of it for a future, a lock and a checksum in Python.
Here a batch of lines becomes one Kafka record batch with one future, and the checksum is computed on columns. What the
library does for a batch (idempotence, acknowledgement by all replicas, retries, metadata) stays as it is.

The record batch (version 2) is described in Kafka's protocol guide, "Record Batch"; CRC-32C is RFC 3720, B.4.
"""

import collections
import functools
import struct
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from kafka import TopicPartition
from kafka.producer.producer_batch import ProducerBatch
from numpy.typing import NDArray

BATCH_BYTES = 768 * 1024
"""Brokers take 1 MiB by default; more in one batch gains nothing."""
BUFFER_BYTES = 32 * 1024 * 1024
"""Sent and not yet acknowledged; beyond this `BulkSender.send` waits."""
MAX_LINE_BYTES = 1_000_000
"""A line this long still fits a broker's default limit of 1,048,588 bytes with its header."""
DELIVERY_SECONDS = 130.0
"""A little over kafka-python's ``delivery_timeout_ms``, after which it gives a batch up itself."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_HEADER_AFTER_LENGTH = struct.calcsize(">ibIhiqqqhii")
_CRC_OFFSET = struct.calcsize(">qiib")
_ATTRIBUTES_OFFSET = struct.calcsize(">qiibI")
_MAGIC = 2


class Producer(Protocol):
    """What is used of ``kafka.KafkaProducer`` 3.0, some of it private: the test of this module notices a change."""

    _accumulator: Any
    _sender: Any

    def partitions_for(self, topic: str) -> set[int]:
        """Ask for a topic's partitions; waits for metadata."""
        ...


class BulkSender:
    """Sends lists of lines, each as one record batch of one partition, in order.

    Usage::

        sender = BulkSender(producer)
        sender.send("logs.web", 0, lines)
        sender.flush()

    ``sent`` counts the records that the brokers acknowledged.
    """

    def __init__(self, producer: Producer, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._producer = producer
        self._buffer_bytes = buffer_bytes
        self._waiting: collections.deque[tuple[Any, int, int]] = collections.deque()
        self._waiting_bytes = 0
        self._known: set[str] = set()
        self.sent = 0

    def send(
        self, topic: str, partition: int, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None
    ) -> None:
        """Send lines to one partition; blocks while too much is unacknowledged.

        Args:
            topic: must exist.
            partition: of the topic.
            values: [n] lines.
            keys: [n] keys, or None for no keys.

        Raises:
            kafka.errors.KafkaError: a batch sent before was refused.
            ValueError: a line is longer than a broker takes.
        """
        if topic not in self._known:
            self._producer.partitions_for(topic)
            self._known.add(topic)
        start = size = 0
        for row, value in enumerate(values):
            length = len(value) + 32
            if length > MAX_LINE_BYTES:
                raise ValueError(f"a line of {len(value):,} bytes is longer than a broker takes ({MAX_LINE_BYTES:,})")
            if size + length > BATCH_BYTES and row > start:
                self._enqueue(topic, partition, values[start:row], keys and keys[start:row])
                start, size = row, 0
            size += length
        if len(values) > start:
            self._enqueue(topic, partition, values[start:], keys and keys[start:])

    def flush(self) -> None:
        """Wait until everything sent is acknowledged.

        Raises:
            kafka.errors.KafkaError: a batch was refused.
        """
        while self._waiting:
            self._settle()

    def _enqueue(
        self, topic: str, partition: int, values: Sequence[bytes], keys: Sequence[bytes | None] | None
    ) -> None:
        records = encode_records(values, keys)
        batch = ProducerBatch(TopicPartition(topic, partition), _Prepared(records, len(values)))
        accumulator = self._producer._accumulator
        with accumulator._tp_lock(batch.topic_partition):
            accumulator._batches[batch.topic_partition].append(batch)
            accumulator._incomplete.add(batch)
        self._producer._sender.wakeup()
        self._waiting.append((batch.produce_future, len(values), len(records)))
        self._waiting_bytes += len(records)
        while self._waiting and (self._waiting_bytes > self._buffer_bytes or self._waiting[0][0].is_done):
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest batch."""
        future, count, size = self._waiting.popleft()
        self._waiting_bytes -= size
        if not future.wait(DELIVERY_SECONDS):
            raise TimeoutError("Kafka did not acknowledge a batch in time")
        if future.failed():
            raise future.exception
        _, _, error_of = future.value
        if error_of is not None:
            raise error_of(0)
        self.sent += count


class _Prepared:
    """A finished record batch in the shape of kafka-python's ``MemoryRecordsBuilder``."""

    def __init__(self, records: bytes, count: int) -> None:
        self._records, self._count = records, count
        self._now = int(time.time() * 1000)
        self._buffer: bytearray | None = None
        self.producer_id, self.producer_epoch, self.base_sequence = -1, -1, -1

    def append(self, *_: object) -> None:
        """Take nothing more: ``None`` tells the accumulator to open another batch."""

    def set_producer_state(self, producer_id: int, epoch: int, base_sequence: int, _transactional: bool) -> None:
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, epoch, base_sequence

    def close(self) -> None:
        if self._buffer is not None:  # a retry: the same bytes again, so that the broker knows them
            return
        last, size = self._count - 1, _HEADER_AFTER_LENGTH + len(self._records)
        identity = (self.producer_id, self.producer_epoch, self.base_sequence)
        head = _HEADER.pack(0, size, 0, _MAGIC, 0, 0, last, self._now, self._now, *identity, self._count)
        self._buffer = bytearray(head + self._records)
        struct.pack_into(">I", self._buffer, _CRC_OFFSET, crc32c(memoryview(self._buffer)[_ATTRIBUTES_OFFSET:]))
        self._records = b""

    def is_full(self) -> bool:
        return True

    def next_offset(self) -> int:
        return self._count

    def size_in_bytes(self) -> int:
        return len(self._buffer) if self._buffer is not None else _HEADER.size + len(self._records)

    def compression_rate(self) -> float:
        return 1.0

    def buffer(self) -> bytearray:
        assert self._buffer is not None
        return self._buffer


def encode_records(values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> bytes:
    """Encode the records of one batch: no headers, all with the batch's own time.

    Args:
        values: [n] record values.
        keys: [n] keys; None, or a None among them, is a record without a key.
    """
    parts: list[bytes] = []
    add = parts.append
    if keys is None:
        for row, value in enumerate(values):
            offset, length = varint(row), varint(len(value))
            # attributes, time delta | offset delta | no key | value | no headers
            add(varint(len(offset) + len(length) + len(value) + 4))
            add(b"\x00\x00" + offset + b"\x01" + length)
            add(value)
            add(b"\x00")
        return b"".join(parts)
    for row, (value, key) in enumerate(zip(values, keys, strict=True)):
        head = b"\x01" if key is None else varint(len(key)) + key
        body = b"\x00\x00" + varint(row) + head + varint(len(value))
        add(varint(len(body) + len(value) + 1))
        add(body)
        add(value)
        add(b"\x00")
    return b"".join(parts)


@functools.lru_cache(maxsize=100_000)
def varint(number: int) -> bytes:
    r"""Encode a whole number as a zigzag varint.

    >>> varint(0), varint(-1), varint(300)
    (b'\x00', b'\x01', b'\xd8\x04')
    """
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(0x80 | (left & 0x7F))
        left >>= 7
    out.append(left)
    return bytes(out)


_POLYNOMIAL = 0x82F63B78
"""CRC-32C, bits reversed."""
_LANE = 256
"""Bytes of a lane; all lanes advance together, two bytes a step."""
_U32 = np.uint32


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC-32C of at least four bytes.

    The bytes are cut into lanes of `_LANE` bytes whose sums are computed side by side and then joined in pairs. Zeros
    before the first byte change nothing when the sum starts from zero, so the first lane is filled up with them; the
    start value of all ones is folded into the first four bytes instead.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    lanes = -(-len(data) // _LANE)
    padded = np.zeros(lanes * _LANE, dtype=np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, dtype=np.uint8)
    padded[start : start + 4] ^= 0xFF
    words = np.ascontiguousarray(padded.view("<u2").reshape(lanes, _LANE // 2).T).astype(_U32)
    table = _table()
    sums = np.zeros(lanes, dtype=_U32)
    for word in words:
        sums = table[(sums ^ word) & _U32(0xFFFF)] ^ (sums >> _U32(16))
    length = _LANE
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, dtype=_U32), sums])
        sums = _shift(sums[0::2], length) ^ sums[1::2]
        length *= 2
    return int(sums[0]) ^ 0xFFFFFFFF


@functools.cache
def _table() -> NDArray[np.uint32]:
    """Return what two bytes do to the sum: [65536]."""
    table: NDArray[np.uint32] = np.arange(65536, dtype=_U32)
    for _ in range(16):
        table = np.where(table & _U32(1), (table >> _U32(1)) ^ _U32(_POLYNOMIAL), table >> _U32(1))
    return table


def _shift(sums: NDArray[np.uint32], length: int) -> NDArray[np.uint32]:
    """Return the sums after ``length`` more zero bytes (a power of two of lanes)."""
    low, high = _zeros(length)
    shifted: NDArray[np.uint32] = low[sums & _U32(0xFFFF)] ^ high[sums >> _U32(16)]
    return shifted


@functools.cache
def _zeros(length: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return what ``length`` zero bytes do to the low and to the high half of a sum: [65536] each."""
    low = np.arange(65536, dtype=_U32)
    high = low << _U32(16)
    if length == _LANE:
        table = _table()
        for _ in range(_LANE // 2):
            low = table[low & _U32(0xFFFF)] ^ (low >> _U32(16))
            high = table[high & _U32(0xFFFF)] ^ (high >> _U32(16))
        return low, high
    return _shift(_shift(low, length // 2), length // 2), _shift(_shift(high, length // 2), length // 2)
