"""Whether the archive is complete, and what may go: every offset once, leases, the newest file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_archive_files import HOUR, NOON, ROOT, Files, lines, write

from storage.archive import list_files
from storage.files import LocalFiles
from storage.keeping import LEASE_MS, Expired, Report, expire, holdings, lease, verify


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return LocalFiles(tmp_path)


def reports(files: Files, opened: bool = True) -> list[Report]:
    return list(verify(files, ROOT, "web", opened=opened))


def test_a_complete_archive_holds_and_is_counted_by_partition(files: Files) -> None:
    write(files, *lines(5, 9))
    write(files, *lines(10, 30, NOON + HOUR))
    write(files, *lines(0, 3), partition=2)
    first, second = reports(files)
    assert (first.partition, first.files, first.first, first.last, first.lines) == (0, 2, 5, 30, 26)
    assert (second.partition, second.lines) == (2, 4)
    assert first.holds
    assert second.holds
    assert not first.problems


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=40)
def test_every_file_that_is_gone_is_missed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    files = LocalFiles(tmp_path_factory.mktemp("archive"))
    at, written = 0, []
    for size in sizes:
        written.append(write(files, *lines(at, at + size - 1)))
        at += size
    gone = data.draw(st.sets(st.sampled_from(range(len(sizes))), max_size=len(sizes) - 1))
    for index in gone:
        files.delete(written[index].path)
    (report,) = reports(files)
    left = [index for index in range(len(sizes)) if index not in gone]
    assert report.missing == sum(sizes[index] for index in gone if left[0] < index < left[-1])
    assert report.holds == (report.missing == 0)
    assert report.lines == sum(sizes[index] for index in left)


def test_what_is_there_twice_is_named(files: Files) -> None:
    file = write(files, *lines(0, 9))
    other = file.path.replace(f"{0:020d}-{9:020d}", f"{5:020d}-{14:020d}")
    files.write(other, files.read(file.path))
    (report,) = reports(files, opened=False)
    assert (report.twice, report.missing, report.damaged) == (5, 0, 0)
    assert report.problems == (f"offsets 5 to 9 are in {other}, too",)


@pytest.mark.parametrize("damage", ["other offsets", "no parquet", "other partition"])
def test_a_file_that_does_not_hold_what_its_name_says_is_damaged(files: Files, damage: str) -> None:
    file = write(files, *lines(0, 9))
    data = files.read(file.path)
    if damage == "no parquet":
        files.delete(file.path)
        files.write(file.path, data[:-20])
    elif damage == "other offsets":
        files.delete(file.path)
        files.write(file.path.replace(f"-{9:020d}", f"-{19:020d}"), data)
    else:
        files.delete(file.path)
        files.write(file.path.replace("logs.web.0.", "logs.web.7."), data)
    (report,) = reports(files)
    assert report.damaged == 1
    assert not report.holds
    assert len(report.problems) == 1
    assert reports(files, opened=False)[0].holds, "the name alone does not show it"


def test_an_offset_that_is_missing_within_a_file_is_missed(files: Files) -> None:
    write(files, *lines(0, 3), *lines(6, 9))
    (report,) = reports(files)
    assert (report.missing, report.damaged, report.lines) == (2, 0, 8)


def test_old_hours_go_and_the_newest_file_of_each_partition_stays(files: Files) -> None:
    write(files, *lines(0, 9, NOON))
    write(files, *lines(10, 19, NOON + HOUR))
    write(files, *lines(20, 29, NOON + 2 * HOUR))
    write(files, *lines(0, 4, NOON), partition=1)  # quiet since
    now = NOON + 1000 * HOUR
    assert expire(files, ROOT, "web", NOON + 2 * HOUR, now) == Expired(0, 0, 0), "partition 1 is to know where to go on"
    write(files, *lines(5, 6, NOON + 2 * HOUR), partition=1)
    assert expire(files, ROOT, "web", NOON + 2 * HOUR - 1, now) == Expired(0, 0, 0), "an hour too early"
    planned = expire(files, ROOT, "web", NOON + 2 * HOUR, now, dry_run=True)
    assert (planned.files, planned.kept) == (2, 0)
    assert len(list_files(files, ROOT, "web")) == 5
    assert expire(files, ROOT, "web", NOON + 2 * HOUR, now) == planned
    assert [(file.partition, file.first) for file in list_files(files, ROOT, "web")] == [(0, 10), (0, 20), (1, 5)]
    assert all(report.holds for report in reports(files))


def test_what_is_being_read_stays_until_its_reader_is_done_or_long_gone(files: Files, tmp_path: Path) -> None:
    for hour in range(4):
        write(files, *lines(10 * hour, 10 * hour + 9, NOON + hour * HOUR))
    before = NOON + 3 * HOUR
    now = max(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) // 1_000_000
    with lease(files, ROOT, "web", NOON, NOON + HOUR):
        # The hour after may hold lines of it that came late: it is read, too.
        assert expire(files, ROOT, "web", before, now).kept == 2
    with lease(files, ROOT, "web", NOON + 30 * HOUR, None):
        assert expire(files, ROOT, "web", before, now, dry_run=True).files == 2, "another time is read"
    killed = lease(files, ROOT, "web", None, None)
    killed.__enter__()
    assert expire(files, ROOT, "web", before, now).kept == 2
    assert expire(files, ROOT, "web", before, now + LEASE_MS + 60_000).files == 2


def test_holdings_say_from_when_to_when_and_which_hours_are_empty(files: Files) -> None:
    assert holdings(files, ROOT, "web") is None
    write(files, *lines(0, 9, NOON))
    write(files, *lines(10, 12, NOON + 5 * HOUR))
    found = holdings(files, ROOT, "web")
    assert found is not None
    assert (found.files, found.lines, found.from_ms, found.to_ms, found.empty_hours) == (
        2,
        13,
        NOON,
        NOON + 6 * HOUR,
        4,
    )
