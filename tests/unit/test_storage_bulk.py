"""Record batches built by hand are what kafka-python itself reads back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record._crc32c import crc as reference_crc32c
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from storage.bulk import BATCH_BYTES, MAX_LINE_BYTES, BulkSender, _Prepared, crc32c, encode_records, varint


@pytest.mark.parametrize("size", [4, 9, 255, 256, 257, 511, 512, 513, 768, 5000, 70_001])
def test_checksum_is_the_reference(size):
    data = os.urandom(size)
    assert crc32c(data) == reference_crc32c(data)


def test_checksum_of_zeros_and_of_ones():
    for data in (bytes(4096), b"\xff" * 4096):
        assert crc32c(memoryview(data)) == reference_crc32c(data)


def test_known_checksum():
    assert crc32c(b"123456789") == 0xE3069283


@given(st.integers(min_value=-(2**31), max_value=2**31 - 1))
def test_varints_read_back(number):
    assert decode_varint(bytearray(varint(number)))[0] == number


def batch_of(values, keys=None):
    prepared = _Prepared(encode_records(values, keys), len(values))
    prepared.set_producer_state(7, 1, 100, False)
    prepared.close()
    return MemoryRecords(bytes(prepared.buffer())).next_batch()


@given(st.lists(st.tuples(st.none() | st.binary(max_size=200), st.binary(max_size=300)), min_size=1, max_size=50))
def test_records_read_back_as_they_were(pairs):
    batch = batch_of([value for _, value in pairs], [key for key, _ in pairs])
    assert batch.validate_crc()
    read = [(record.key, record.value, record.offset, record.headers) for record in batch]
    assert read == [(key, value, row, []) for row, (key, value) in enumerate(pairs)]


def test_without_keys_and_with_producer_state():
    batch = batch_of([b"a" * 200, b"", b"\x00\xff"])
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 100)
    assert [record.value for record in batch] == [b"a" * 200, b"", b"\x00\xff"]
    assert {record.key for record in batch_of([b"x"])} == {None}


def test_a_retry_sends_the_same_bytes():
    prepared = _Prepared(encode_records([b"x"]), 1)
    prepared.close()
    first = bytes(prepared.buffer())
    prepared.close()
    assert bytes(prepared.buffer()) == first


class Collecting(BulkSender):
    """Keeps what would go out instead of sending it; cutting into batches is what is looked at."""

    def __init__(self):
        super().__init__(producer=None)
        self.batches = []

    def _enqueue(self, topic, partition, values, keys):
        self.batches.append((topic, partition, list(values), keys and list(keys)))


def sender():
    made = Collecting()
    made._known.add("t")
    return made


def test_lists_are_cut_to_what_a_broker_takes():
    out = sender()
    lines = [bytes([65 + number % 26]) * 1000 for number in range(2000)]
    out.send("t", 0, lines)
    assert len(out.batches) == 3
    assert [line for _, _, values, _ in out.batches for line in values] == lines
    assert all(sum(len(line) + 32 for line in values) <= BATCH_BYTES for _, _, values, _ in out.batches)


def test_a_large_line_goes_alone_and_keys_stay_beside_their_values():
    out = sender()
    out.send("t", 3, [b"a", b"b" * 900_000, b"c"], [b"1", b"2", None])
    assert [(values[0][:1], keys) for _, _, values, keys in out.batches] == [
        (b"a", [b"1"]),
        (b"b", [b"2"]),
        (b"c", [None]),
    ]


def test_a_line_no_broker_takes_is_refused():
    with pytest.raises(ValueError, match="longer than a broker takes"):
        sender().send("t", 0, [b"x" * (MAX_LINE_BYTES + 1)])


def test_nothing_to_send_sends_nothing():
    out = sender()
    out.send("t", 0, [])
    assert out.batches == []
