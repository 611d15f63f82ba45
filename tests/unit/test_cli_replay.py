"""Replay: which service a line belongs to, when it is due, which partition it goes to."""

import gzip
import json

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cli.files import LogFile, read_text
from cli.replay import (
    AtEventTime,
    AtRate,
    FlatOut,
    Replay,
    by_field,
    by_pod,
    choose_pace,
    choose_router,
    looks_by_pod,
    service_of_pod,
    to_service,
)
from cli.shell import ProblemError


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.time = 100.0
        self.slept = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.time += seconds


# -- files


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("name", ["app.log", "app.bin"], ids=["named", "the name does not matter"])
def test_a_file_reads_the_same_however_it_is_packed(tmp_path, compress, name):
    path = tmp_path / name
    path.write_bytes(compress(b"one\ntwo\r\n\nfour \xff\nlast"))
    with LogFile(path) as log:
        assert list(log.batches(2)) == [[b"one", b"two"], [b"", b"four \xff"], [b"last"]]
        assert log.position == log.size


def is_plain_line(line):
    return b"\n" not in line and not line.endswith(b"\r") and not line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))


@given(st.lists(st.binary(max_size=20).filter(is_plain_line), max_size=30))
def test_lines_come_back_as_they_were_written(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("log") / "x"
    path.write_bytes(b"".join(line + b"\n" for line in lines) or b"\n")
    with LogFile(path) as log:
        assert [line for batch in log.batches(7) for line in batch] == (lines or [b""])


def test_two_compressed_files_one_after_the_other(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n"))
    with LogFile(path) as log:
        assert list(log.batches(10)) == [[b"a", b"b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n\n", "only blank lines"),
        (b"\x7fELF\x00\x00\x01", "binary file"),
        ("text\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"a line\n" * 1000)[:-20], "is damaged"),
        (b"\x1f\x8bnot gzip at all", "is damaged"),
    ],
)
def test_a_file_that_is_no_log_is_named_with_the_reason(tmp_path, content, words):
    path = tmp_path / "bad.log"
    path.write_bytes(content)
    with pytest.raises(ProblemError, match=words) as found:
        read_text(path)
    assert "bad.log" in str(found.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ProblemError, match="does not exist"):
        LogFile(tmp_path / "none.log")
    with pytest.raises(ProblemError, match="is a folder"):
        LogFile(tmp_path)


# -- services


def test_every_line_to_one_service():
    routed = to_service("pay")([b"a", b"\xff"])
    assert (routed.services, routed.values, routed.lost) == (["pay", "pay"], [b"a", b"\xff"], 0)


def test_service_by_a_field_that_may_be_nested_or_have_dots_in_its_name():
    lines = [
        json.dumps({"kubernetes": {"labels": {"app": "pay"}}, "m": 1}).encode(),
        json.dumps({"kubernetes.labels.app": "shop"}).encode(),
        b'{"kubernetes": 3}',
        b"no json",
        b"[1]",
        b'"text"',
    ]
    routed = by_field("kubernetes.labels.app")(lines)
    assert (routed.services, routed.values, routed.lost) == (["pay", "shop"], lines[:2], 4)


def test_a_value_field_sends_its_text_or_its_json():
    lines = [b'{"s": "a", "v": "t\\u00e9xt"}', b'{"s": "a", "v": {"x": 1}}', b'{"s": "a"}']
    routed = by_field("s", "v")(lines)
    assert (routed.values, routed.lost) == (["téxt".encode(), b'{"x": 1}'], 1)


def test_half_a_surrogate_and_bad_bytes_are_sent_not_fatal():
    routed = by_field("s", "v")([b'{"s": "a", "v": "\\ud83d"}', b'{"s": "a", "v": "\xff"}'])
    assert routed.values == [b"\xed\xa0\xbd", b"\xff"]


def test_pods():
    line = json.dumps({"pod": "ts-travel-service-64469b5b48-25zj6", "log": '{"log":"x\\n"}'}).encode()
    routed = by_pod([line, b'{"pod": 3, "log": "x"}', b'{"log": "x"}'])
    assert (routed.services, routed.values, routed.lost) == (["ts-travel-service"], [b'{"log":"x\\n"}'], 2)
    assert service_of_pod("one-two") == "one-two"
    assert looks_by_pod(line)
    assert not looks_by_pod(b"plain text")


def test_what_no_broker_takes_is_left_out_and_counted():
    routed = to_service("pay")([b"a", b"x" * 1_000_000, b"b"])
    assert (routed.values, routed.lost) == ([b"a", b"b"], 1)


@pytest.mark.parametrize(
    "flags", [("a", "f", None, False), ("a", None, None, True), (None, "f", None, True), ("a", "f", None, True)]
)
def test_one_way_to_find_the_service(flags):
    with pytest.raises(ProblemError, match="exclude each other"):
        choose_router(*flags)


def test_no_way_to_find_the_service_is_left_to_the_file():
    assert choose_router(None, None, None, False) is None


# -- pace


def test_flat_out_sends_all():
    assert list(FlatOut().slices(None, 5)) == [(0, 5)]


def test_a_rate_is_kept_over_batches():
    clock = Clock()
    pace = AtRate(1000, clock.sleep, clock.now)
    sent = [part for _ in range(4) for part in pace.slices(None, 500)]
    assert sum(stop - start for start, stop in sent) == 2000
    assert clock.time - 100 == pytest.approx(2.0, abs=0.06)
    assert max(stop - start for start, stop in sent) == 50


def test_event_time_at_a_multiple():
    clock = Clock()
    pace = AtEventTime(10.0, clock.sleep, clock.now)
    due = []
    for times in ([0, 1000, 2000], [12_000]):
        for start, stop in pace.slices(np.array(times) + 5_000_000, len(times)):
            due += [(clock.time - 100, row) for row in range(start, stop)]
    assert [(round(at, 2), row) for at, row in due] == [(0, 0), (0.1, 1), (0.2, 2), (1.2, 0)]


def test_lines_without_a_time_and_late_lines_go_with_the_one_before():
    clock = Clock()
    pace = AtEventTime(1.0, clock.sleep, clock.now)
    times = np.array([-1, 10_000, -1, 11_000, 9_000, 11_010])
    assert list(pace.slices(times, 6)) == [(0, 3), (3, 6)]
    assert clock.time - 100 == pytest.approx(1.0)


def test_no_time_at_all_is_flat_out():
    clock = Clock()
    assert list(AtEventTime(1.0, clock.sleep, clock.now).slices(np.full(3, -1), 3)) == [(0, 3)]
    assert clock.slept == []


@given(st.lists(st.lists(st.integers(-1, 50_000), max_size=20), max_size=5), st.floats(0.1, 1000))
def test_every_row_once_and_in_order_at_any_pace(batches, speed):
    clock = Clock()
    pace = AtEventTime(speed, clock.sleep, clock.now)
    for batch in batches:
        parts = list(pace.slices(np.array(batch, dtype=np.int64), len(batch)))
        assert [row for start, stop in parts for row in range(start, stop)] == list(range(len(batch)))


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ((None, None, False), FlatOut),
        ((None, 5.0, False), AtRate),
        ((2.0, None, False), AtEventTime),
        ((None, None, True), AtEventTime),
    ],
)
def test_flags_choose_the_pace(flags, kind):
    assert isinstance(choose_pace(*flags), kind)


@pytest.mark.parametrize(
    ("flags", "words"),
    [((1.0, 1.0, False), "exclude"), ((0.0, None, False), "--speed 0"), ((None, -1.0, False), "--rate -1")],
)
def test_a_pace_that_cannot_be(flags, words):
    with pytest.raises(ProblemError, match=words):
        choose_pace(*flags)


# -- partitions


class Taken:
    """A sender that keeps what it is given."""

    def __init__(self):
        self.given = []

    def send(self, topic, partition, values, keys=None):
        self.given.append((topic, partition, list(values), keys and list(keys)))


def replay(key, partitions=4):
    taken = Taken()
    return Replay(taken, to_service("dfs"), FlatOut(), lambda service: (f"logs.{service}", partitions), key), taken


def hdfs_line(block, number=1):
    return (
        b"081109 203518 %d INFO dfs.DataNode$DataXceiver: Receiving block blk_%d src: /10.0.0.1:1 dest: /10.0.0.2:2"
        % (
            number,
            block,
        )
    )


def test_the_lines_of_a_session_stay_on_one_partition_in_order():
    run, taken = replay("session")
    lines = [hdfs_line(block, number) for number in range(3) for block in range(1000, 1040)]
    run.send(lines)
    partitions_of = {}
    for topic, partition, values, keys in taken.given:
        assert topic == "logs.dfs"
        for value, key in zip(values, keys, strict=True):
            assert key in value
            partitions_of.setdefault(key, set()).add(partition)
    assert len(partitions_of) == 40
    assert all(len(found) == 1 for found in partitions_of.values())
    assert len(set.union(*partitions_of.values())) == 4
    for _, _, values, _ in taken.given:
        assert [lines.index(value) for value in values] == sorted(lines.index(value) for value in values)


def test_without_a_key_whole_batches_take_turns():
    run, taken = replay("none", partitions=2)
    for _ in range(4):
        run.send([b"a", b"b"])
    assert [(partition, values, keys) for _, partition, values, keys in taken.given] == [
        (number % 2, [b"a", b"b"], None) for number in range(4)
    ]
    assert (run.sent.lines, run.sent.bytes, run.sent.topics) == (8, 8, {"logs.dfs": 8})
