"""The archive keeps every byte, refuses overlaps and finds what it has by time, partition and offset."""

import contextlib
import string
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import archive
from storage.archive import ArchiveOverlapError, archived_until, batch_of, list_files, read_lines, write_lines
from storage.files import Files, LocalFiles

ROOT = "/logcanary"
HOUR = 3_600_000
NOON = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Line:
    """A Kafka record."""

    offset: int
    timestamp: int | None = NOON
    key: bytes | None = None
    value: bytes | None = b"line"
    headers: Sequence[tuple[str, bytes | None]] = field(default=())


def lines(first: int, last: int, timestamp: int = NOON) -> list[Line]:
    return [Line(offset, timestamp, value=b"line %d" % offset) for offset in range(first, last + 1)]


def write(files: Files, *records: Line, partition: int = 0, service: str = "web") -> archive.ArchiveFile:
    return write_lines(files, ROOT, service, [batch_of(f"logs.{service}", partition, records)])


def offsets(files: Files, from_ms: int | None = None, to_ms: int | None = None) -> list[tuple[int, int]]:
    return [
        (partition, offset)
        for table in read_lines(files, ROOT, "web", from_ms, to_ms)
        for partition, offset in zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True)
    ]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return LocalFiles(tmp_path)


headers = st.lists(st.tuples(st.text(string.printable, max_size=5), st.none() | st.binary(max_size=5)), max_size=3)
records = st.lists(
    st.builds(
        Line,
        offset=st.integers(1, 5),  # steps, made offsets below
        timestamp=st.none() | st.integers(-1, 2**62),
        key=st.none() | st.binary(max_size=8),
        value=st.none() | st.binary(max_size=200),
        headers=headers,
    ),
    min_size=1,
    max_size=30,
)


@given(records, st.integers(0, 2**40), st.data())
@settings(max_examples=60, deadline=None)
def test_every_byte_comes_back(given_records: list[Line], start: int, data: st.DataObject) -> None:
    written, offset = [], start
    for record in given_records:
        offset += record.offset
        written.append(Line(offset, record.timestamp, record.key, record.value, record.headers))
    cut = data.draw(st.integers(0, len(written)))
    batches = [batch_of("logs.web", 3, part) for part in (written[:cut], written[cut:]) if part]
    with tempfile.TemporaryDirectory() as folder:
        files = LocalFiles(Path(folder))
        file = write_lines(files, ROOT, "web", batches)
        assert (file.topic, file.partition) == ("logs.web", 3)
        assert (file.first, file.last) == (written[0].offset, written[-1].offset)
        (table,) = read_lines(files, ROOT, "web")
    assert table.schema == archive.SCHEMA
    rows = table.to_pylist()
    assert [row["offset"] for row in rows] == [line.offset for line in written]
    assert [row["timestamp"] for row in rows] == [-1 if line.timestamp is None else line.timestamp for line in written]
    assert [row["key"] for row in rows] == [line.key for line in written]
    assert [row["value"] for row in rows] == [line.value for line in written]
    assert [[(entry["key"], entry["value"]) for entry in row["headers"]] for row in rows] == [
        list(line.headers) for line in written
    ]


def test_layout(files: Files) -> None:
    file = write(files, *lines(7, 12, NOON + 1), partition=2)
    folder = "/logcanary/archive/service=web/hour=20260501T12"
    assert file.path == f"{folder}/logs.web.2.00000000000000000007-00000000000000000012.parquet"
    assert file.size == len(files.read(file.path))
    assert archive.services(files, ROOT) == ["web"]
    assert archive.services(files, "/nothing") == []


def test_the_same_rows_give_the_same_bytes_however_they_came(files: Files) -> None:
    rows = lines(0, 99)
    one = pa.Table.from_batches([batch_of("logs.web", 0, rows)])
    two = pa.Table.from_batches([batch_of("logs.web", 0, rows[:10]), batch_of("logs.web", 0, rows[10:])])
    assert archive.encode(one) == archive.encode(two)


def test_writing_again_changes_nothing(files: Files) -> None:
    first = write(files, *lines(0, 9))
    assert write(files, *lines(0, 9)) == first
    assert len(list_files(files, ROOT, "web")) == 1


@pytest.mark.parametrize(("first", "last"), [(0, 4), (5, 9), (3, 6), (0, 20), (9, 20), (0, 8)])
def test_an_overlap_is_refused(files: Files, first: int, last: int) -> None:
    write(files, *lines(0, 9))
    with pytest.raises(ArchiveOverlapError, match=f"offsets {first} to {last} of logs.web.0 overlap"):
        write(files, *lines(first, last))
    assert [(file.first, file.last) for file in list_files(files, ROOT, "web")] == [(0, 9)]


def test_neighbours_and_other_partitions_do_not_overlap(files: Files) -> None:
    write(files, *lines(10, 19))
    write(files, *lines(0, 9))
    write(files, *lines(20, 29))
    write(files, *lines(5, 25), partition=1)
    assert offsets(files) == [(0, offset) for offset in range(30)] + [(1, offset) for offset in range(5, 26)]


def test_of_writers_that_overlap_at_the_same_moment_nothing_overlaps_in_the_end(files: Files) -> None:
    for attempt in range(10):
        start = attempt * 100
        gate = threading.Barrier(4)

        def archive_from(last: int, start: int = start, gate: threading.Barrier = gate) -> None:
            gate.wait()
            with contextlib.suppress(ArchiveOverlapError):
                write(files, *lines(start, start + last))

        threads = [threading.Thread(target=archive_from, args=(last,)) for last in (5, 10, 15, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([file for file in list_files(files, ROOT, "web") if file.overlaps(start, start + 99)]) <= 1


def test_time_windows(files: Files) -> None:
    write(files, *lines(0, 9, NOON))
    write(files, *lines(10, 19, NOON + HOUR))
    write(files, *lines(20, 29, NOON + 4 * HOUR))
    # A line that came late, in the file of the hour after.
    write(files, Line(30, NOON + 5 * HOUR), Line(31, NOON + 5 * HOUR - 1000), Line(32, NOON + 5 * HOUR + 1))
    assert offsets(files, NOON + 4 * HOUR, NOON + 5 * HOUR) == [(0, offset) for offset in [*range(20, 30), 31]]
    assert offsets(files, NOON, NOON) == []
    assert offsets(files, NOON, NOON + 1) == [(0, offset) for offset in range(10)]
    assert offsets(files, to_ms=NOON + HOUR) == [(0, offset) for offset in range(10)]
    assert offsets(files, from_ms=NOON + 5 * HOUR) == [(0, 30), (0, 32)]
    assert {file.first for file in list_files(files, ROOT, "web", NOON + 2 * HOUR, NOON + 4 * HOUR + 1)} == {20, 30}
    assert list_files(files, ROOT, "web", NOON + 7 * HOUR) == []
    assert list_files(files, ROOT, "pay") == []


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62])
def test_impossible_times_are_filed_and_kept(files: Files, timestamp: int) -> None:
    write(files, *lines(0, 3, timestamp))
    (table,) = read_lines(files, ROOT, "web")
    assert table["timestamp"].to_pylist() == [timestamp] * 4


def test_no_offset_is_read_twice_even_where_files_overlap(files: Files) -> None:
    write(files, *lines(0, 9))
    table = pa.Table.from_batches([batch_of("logs.web", 0, lines(5, 14))])
    files.write(
        f"{archive.hour_folder(ROOT, 'web', NOON)}/{archive.file_name('logs.web', 0, 5, 14)}", archive.encode(table)
    )
    assert offsets(files) == [(0, offset) for offset in range(15)]


def test_the_highest_archived_offset(files: Files) -> None:
    assert archived_until(files, ROOT, "web", [("logs.web", 0)]) == {}
    write(files, *lines(0, 9, NOON + 3 * HOUR))
    write(files, *lines(10, 19, NOON))  # timestamps need not rise with offsets
    write(files, *lines(0, 4, NOON), partition=1)
    wanted = [("logs.web", 0), ("logs.web", 1), ("logs.web", 2), ("logs.pay", 0)]
    assert archived_until(files, ROOT, "web", wanted) == {("logs.web", 0): 19, ("logs.web", 1): 4}
    write(files, *lines(20, 20, NOON + 9 * HOUR))
    assert archived_until(files, ROOT, "web", wanted[:1]) == {("logs.web", 0): 20}
    assert archived_until(files, ROOT, "web", []) == {}


def test_strangers_in_the_folders_are_left_alone(files: Files) -> None:
    write(files, *lines(0, 9))
    for name in ("notes.txt", "logs.web.0.1-2.parquet", ".tmp-0123"):
        files.write(f"{archive.hour_folder(ROOT, 'web', NOON)}/{name}", b"x")
    files.write("/logcanary/archive/service=web/hour=yesterday/a", b"x")
    files.write("/logcanary/archive/readme", b"x")
    assert len(offsets(files)) == 10
    assert archive.services(files, ROOT) == ["web"]


def test_a_file_that_is_not_ours_is_named(files: Files) -> None:
    path = f"{archive.hour_folder(ROOT, 'web', NOON)}/{archive.file_name('logs.web', 0, 0, 9)}"
    files.write(path, b"not parquet")
    with pytest.raises(ValueError, match="is not a readable file of the archive"):
        list(read_lines(files, ROOT, "web"))
    other = pa.Table.from_batches([batch_of("logs.web", 0, lines(0, 9))]).replace_schema_metadata(
        {"logcanary.archive": "9"}
    )
    with pytest.raises(ValueError, match="format b'9'"):
        archive.decode(archive.encode(other), path)
