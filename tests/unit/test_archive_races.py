"""Writers of one partition that sleep, wake up and die between any two calls of the store: no overlap, no gap.

Each writer is a thread that makes one call of the store when it is told to; who goes next is drawn by chance. What a
writer does between two calls needs no store, so these are all the ways in which writers can get in each other's way.
"""

import os
import random
import tempfile
import threading
from pathlib import Path

import pytest

from storage.archive import (
    HOUR_MS,
    LEFTOVER_MS,
    ArchiveOverlapError,
    archived_until,
    batch_of,
    claim_name,
    hour_folder,
    list_files,
    sweep,
    write_lines,
)
from storage.files import Infos, LocalFiles, StorageError
from tests.unit.test_archive_files import NOON, ROOT, Line, lines, offsets, write

LAST = 60
"""Offsets 0 to this are archived; each is a minute after the one before, so that an hour ends among them."""


class Killed(BaseException):
    """What a thread gets in place of a SIGKILL; nothing catches it."""


class Turns(LocalFiles):
    """A store that makes one call of its writer a turn."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.mine, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.killed = False
        self.over = False

    def _wait(self) -> None:
        self.done.release()
        self.mine.acquire()
        if self.killed:
            raise Killed

    def read(self, path: str) -> bytes:
        self._wait()
        return super().read(path)

    def write(self, path: str, data: bytes) -> None:
        self._wait()
        super().write(path, data)

    def list(self, folder: str) -> Infos:
        self._wait()
        return super().list(folder)

    def move(self, path: str, to: str) -> None:
        self._wait()
        super().move(path, to)

    def leftovers(self, folder: str) -> Infos:
        self._wait()
        return super().leftovers(folder)

    def delete(self, path: str, recursive: bool = False) -> bool:
        self._wait()
        return super().delete(path, recursive)


def archive_all(files: LocalFiles, chance: random.Random) -> None:
    """Archive as an archiver does, with file bounds of its own (two archivers close quiet files at other lines)."""
    position: int | None = None
    while position is None or position <= LAST:
        if position is None:
            sweep(files, ROOT, "web", NOON + 10**12)  # as if all leftovers were old
            position = archived_until(files, ROOT, "web", [("logs.web", 0)]).get(("logs.web", 0), -1) + 1
            continue
        last = min(LAST, position + chance.randrange(12))
        records = [
            Line(offset, NOON + offset * HOUR_MS // 60, value=b"%d" % offset) for offset in range(position, last + 1)
        ]
        try:
            position = write_lines(files, ROOT, "web", [batch_of("logs.web", 0, records)]).last + 1
        except ArchiveOverlapError:
            position = None
        except (StorageError, FileNotFoundError):
            continue  # tried again


@pytest.mark.parametrize("seed", range(60))
def test_writers_that_sleep_and_die_anywhere_leave_no_overlap_and_no_gap(seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        writers: list[Turns] = []
        threads = []
        for number in range(4):
            files = Turns(Path(folder))

            def work(files: Turns = files, number: int = number) -> None:
                try:
                    archive_all(files, random.Random(f"{seed}/{number}"))
                except Killed:
                    pass
                finally:
                    files.over = True
                    files.done.release()

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            files.done.acquire()
            writers.append(files)
        awake: Turns | None = None
        while running := [one for one in writers if not one.over]:
            # Some go on for long while the others sleep, some take turns call by call.
            if awake is None or awake.over or chance.random() < 0.3:
                awake = chance.choice(running)
            awake.killed = chance.random() < 0.01
            awake.mine.release()
            awake.done.acquire()
        for thread in threads:
            thread.join()
        check_no_overlap(LocalFiles(Path(folder)))
        archive_all(LocalFiles(Path(folder)), chance)  # whoever comes last finds nobody in the way
        check_no_overlap(LocalFiles(Path(folder)))
        assert offsets(LocalFiles(Path(folder))) == [(0, offset) for offset in range(LAST + 1)]


def check_no_overlap(files: LocalFiles) -> None:
    """Files follow each other without gap; every file holds what its name says."""
    end = -1
    for file in list_files(files, ROOT, "web"):
        assert file.first == end + 1
        end = file.last
    assert offsets(files) == [(0, offset) for offset in range(end + 1)]


def test_a_claim_of_a_dead_writer_is_finished_by_the_next_and_never_swept_before(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    write(files, *lines(0, 9))
    (whole,) = list_files(files, ROOT, "web")
    folder = hour_folder(ROOT, "web", NOON)
    claim = f"{folder}/{claim_name('logs.web', 0, 0)}"
    files.move(whole.path, claim)  # as if its writer had died before it gave the file its name
    assert sweep(files, ROOT, "web", NOON + 10**12) == 0
    assert list_files(files, ROOT, "web") == []
    with pytest.raises(ArchiveOverlapError, match=r"offsets 0 to 4 of logs.web.0 overlap with .*-00000000000000000009"):
        write(files, *lines(0, 4))
    assert files.leftovers(folder) == []
    assert offsets(files) == [(0, offset) for offset in range(10)]
    # And one whose offsets others have archived meanwhile is nobody's.
    files.write(claim, files.read(whole.path))
    assert sweep(files, ROOT, "web", NOON + 10**12) == 1
    assert files.leftovers(folder) == []
    assert offsets(files) == [(0, offset) for offset in range(10)]


def test_only_old_temporary_files_are_swept(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    write(files, *lines(0, 9))
    folder = hour_folder(ROOT, "web", NOON)
    now = 1_700_000_000_000
    for name, age in ((".tmp-old", LEFTOVER_MS), (".tmp-new", LEFTOVER_MS - 1000)):
        files.write(f"{folder}/{name}", b"half a file")
        os.utime(tmp_path / folder.lstrip("/") / name, ns=((now - age) * 1_000_000,) * 2)
    assert sweep(files, ROOT, "web", now) == 1
    assert [info.name for info in files.leftovers(folder)] == [".tmp-new"]
    assert sweep(files, ROOT, "pay", now) == 0
    assert offsets(files) == [(0, offset) for offset in range(10)]


def test_a_writer_whose_temporary_file_was_swept_writes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LocalFiles(tmp_path)
    fsync = os.fsync

    def swept(descriptor: int) -> None:
        fsync(descriptor)
        for path in tmp_path.rglob(".tmp-*"):
            path.unlink()

    monkeypatch.setattr(os, "fsync", swept)
    with pytest.raises(FileNotFoundError):
        write(files, *lines(0, 9))
    monkeypatch.setattr(os, "fsync", fsync)
    write(files, *lines(0, 9))
    check_no_overlap(files)


def test_a_full_disk_leaves_no_half_file_and_is_got_over(tmp_path: Path) -> None:
    """The kernel refuses in the middle of a write, as a full disk does; the limit on a file's size needs no root."""
    import resource

    files = LocalFiles(tmp_path)
    chance = random.Random(1)
    noise = [Line(offset, NOON, value=chance.randbytes(1000)) for offset in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(files, *noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    write(files, *noise)
    assert offsets(files) == [(0, offset) for offset in range(100)]
