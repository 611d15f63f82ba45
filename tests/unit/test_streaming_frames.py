"""Frames: any bytes go in and come out, per partition, in order."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from py4j.java_gateway import JavaGateway

from deploy.classes import our_classes
from deploy.cluster import flink_python
from deploy.java import find_java
from parsing.events import Lines
from streaming.frames import FrameError, pieces, shard_key, unpack, unpack_control
from tests.packing import pack

LINES = st.lists(
    st.tuples(
        st.sampled_from(["logs.a", "logs.ü", "logs.c"]),
        st.integers(0, 3),
        st.integers(-(2**62), 2**62),  # offset gaps of any size
        st.integers(-1, 2**60),
        st.one_of(st.none(), st.binary(max_size=40)),
    ),
    min_size=1,
    max_size=60,
)


CONTROL = st.lists(st.tuples(*[st.one_of(st.none(), st.binary(max_size=40))] * 2), max_size=20)
"""Key and value; neither need be there."""


def packed(rows, limit=1000):
    topics, partitions, offsets, arrivals, values = zip(*rows, strict=True)
    columns = (np.array(column, dtype=np.int64) for column in (partitions, offsets, arrivals))
    return list(pack(topics, *columns, values, limit))


def values_of(lines: Lines):
    return [lines.line(row) for row in range(len(lines))]


@given(LINES)
def test_every_line_comes_back_byte_for_byte_in_its_partition(rows):
    frames = packed(rows)
    assert [key for _, key, _ in frames] == list(dict.fromkeys(shard_key(row[0], row[1]) for row in rows))
    for first, key, frame in frames:
        mine = [row for row in rows if shard_key(row[0], row[1]) == key]
        lines = unpack(frame, "service")
        assert rows[first] == mine[0]
        assert (lines.service, shard_key(lines.topic, lines.partition)) == ("service", key)
        assert values_of(lines) == [row[4] for row in mine]
        assert lines.offsets.tolist() == [row[2] for row in mine]
        assert lines.arrivals.tolist() == [row[3] for row in mine]
        assert lines.original_lengths is None


@given(LINES, st.integers(1, 20))
def test_long_lines_are_cut_and_their_length_is_kept(rows, limit):
    for _, key, frame in packed(rows, limit):
        mine = [row[4] for row in rows if shard_key(row[0], row[1]) == key]
        lines = unpack(frame, "service")
        assert values_of(lines) == [value if value is None else value[:limit] for value in mine]
        whole = lines.lengths if lines.original_lengths is None else lines.original_lengths
        assert whole.tolist() == [-1 if value is None else len(value) for value in mine]


@pytest.fixture(scope="module")
def jvm():
    """A JVM with the classes of ``deploy/java`` that pack frames."""
    java = find_java()
    classes = our_classes(java, flink_python())
    gateway = JavaGateway.launch_gateway(classpath=str(classes), java_path=str(java.binary), die_on_exit=True)
    yield gateway.jvm
    gateway.shutdown()


@settings(deadline=None)
@given(LINES, LINES, st.integers(1, 20))
def test_the_jvm_packs_the_same_frames_one_after_another(jvm, first, second, limit):
    buffer = jvm.logcanary.FrameBuffer(shard_key("logs.größe", 7), "logs.größe", 7, limit)
    for rows in (first, second):
        mine = [("logs.größe", 7, *row[2:]) for row in rows]
        for _, _, offset, arrival, value in mine:
            buffer.add(offset, arrival, value)
        expected = packed(mine, limit)
        assert buffer.lines() == len(mine)
        assert [bytes(buffer.take())] == [frame for _, _, frame in expected]
        assert {key for _, key, _ in expected} == {buffer.key()}
    assert (buffer.lines(), buffer.bytes()) == (0, 0)


@settings(deadline=None)
@given(CONTROL, CONTROL)
@example([(b"template/\xff", b"x" * 70_000), (b"bundle/a", None), (b"k" * 200_000, b"")], [(None, b"{}")])
def test_control_records_that_the_jvm_packs_come_back(jvm, first, second):
    pack = jvm.logcanary.ControlPack()
    for records in (first, second):
        for key, value in records:
            pack.add(key, value)
        size = pack.bytes()
        assert pack.records() == len(records)
        taken = bytes(pack.take())
        assert len(taken) == size
        assert list(unpack_control(taken)) == [((key or b"").decode("utf-8", "replace"), v) for key, v in records]
    assert (pack.records(), pack.bytes()) == (0, 0)


@given(LINES, st.integers(1, 9))
def test_pieces_put_together_are_the_batch(rows, size):
    for _, _, frame in packed(rows):
        lines = unpack(frame, "service")
        parts = list(pieces(lines, size))
        assert all(len(part) <= size for part in parts)
        assert [value for part in parts for value in values_of(part)] == values_of(lines)


@pytest.mark.parametrize("damage", [lambda f: f[:10], lambda f: b"XXXX" + f[4:], lambda f: f[:4] + b"\x09" + f[5:]])
def test_what_is_no_frame_is_refused(damage):
    (_, _, frame) = packed([("logs.a", 0, 1, 2, b"abc")])[0]
    with pytest.raises(FrameError):
        unpack(damage(frame), "a")
    with pytest.raises(FrameError):
        unpack(frame[:30], "a")


def test_frames_get_smaller_where_their_lines_are_costly_and_large_again(jvm):
    pace = jvm.logcanary.FramePace(20_000, 200)
    costly = [
        (20_000, 1_001),
        (10_000, 600),
        (7_000, 1_500),
        (900, 9_000),
        (3_500, 9_000),
        (1_750, 9_000),
        (1_000, 9_000),
    ]
    sizes = []
    for size, took in [*costly, (20, 0), (1_000, 250), (1_000, 249), (2_000, 0), (4_000, 0), (8_000, 0), (16_000, 0)]:
        pace.frameTook(size, took)
        sizes.append(pace.lines())
    down = [10_000, 10_000, 3_500, 3_500, 1_750, 1_000, 1_000]
    assert sizes == [*down, 1_000, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000]


@pytest.mark.parametrize(("took", "wait"), [(0, 200), (199, 200), (700, 700), (60_000, 2_000)])
def test_a_batch_waits_as_long_as_the_last_took_within_bounds(jvm, took, wait):
    pace = jvm.logcanary.FramePace(20_000, 200)
    assert pace.milliseconds() == 200
    pace.batchTook(took)
    assert pace.milliseconds() == wait


def test_a_frame_that_is_small_by_settings_stays_so(jvm):
    pace = jvm.logcanary.FramePace(300, 50)
    for took in (5_000, 0, 5_000):
        pace.frameTook(300, took)
        assert pace.lines() == 300
