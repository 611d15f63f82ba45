"""Every store keeps the contract of ``Files``."""

import errno
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.settings import HdfsOptions
from storage.files import TEMPORARY, Files, LocalFiles, StorageError, open_files
from storage.webhdfs import HdfsFiles


@pytest.fixture(params=["local", pytest.param("hdfs", marks=pytest.mark.stack)])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    store: Files = LocalFiles(tmp_path)
    if request.param == "hdfs":
        store = open_files(request.getfixturevalue("stack_settings").hdfs)
    yield store
    store.close()


@pytest.fixture
def folder(files: Files) -> Iterator[str]:
    name = f"/logcanary-test/{secrets.token_hex(8)}"
    yield name
    files.delete(name, recursive=True)


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)) * 5000], ids=["empty", "text", "a megabyte"])
def test_what_is_written_is_read(files: Files, folder: str, data: bytes) -> None:
    files.write(f"{folder}/a/b.bin", data)
    assert files.read(f"{folder}/a/b.bin") == data


def test_names_with_odd_characters(files: Files, folder: str) -> None:
    path = f"{folder}/service=a b/50% #1 ä+&.parquet"
    files.write(path, b"x")
    assert files.read(path) == b"x"
    assert [info.name for info in files.list(f"{folder}/service=a b")] == ["50% #1 ä+&.parquet"]


def test_a_file_is_never_overwritten(files: Files, folder: str) -> None:
    files.write(f"{folder}/a", b"first")
    with pytest.raises(FileExistsError):
        files.write(f"{folder}/a", b"second")
    assert files.read(f"{folder}/a") == b"first"


def test_a_folder_is_never_overwritten(files: Files, folder: str) -> None:
    files.make(f"{folder}/a")
    with pytest.raises(FileExistsError):
        files.write(f"{folder}/a", b"x")
    assert files.list(f"{folder}/a") == []


def test_of_many_writers_one_wins_and_the_file_is_whole(files: Files, folder: str) -> None:
    outcomes: list[int] = []

    def write(number: int) -> None:
        try:
            files.write(f"{folder}/a", bytes([number]) * 100_000)
            outcomes.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert files.read(f"{folder}/a") == bytes(outcomes) * 100_000
    assert [info.name for info in files.list(folder)] == ["a"]


def test_a_refused_write_leaves_nothing_behind(files: Files, folder: str) -> None:
    files.write(f"{folder}/a", b"x")
    for _ in range(3):
        with pytest.raises(FileExistsError):
            files.write(f"{folder}/a", b"y")
    files.delete(f"{folder}/a")
    files.delete(folder)  # fails where anything is left, hidden or not


def test_listing(files: Files, folder: str) -> None:
    files.write(f"{folder}/b", b"12345")
    files.write(f"{folder}/a", b"")
    files.make(f"{folder}/c")
    files.write(f"{folder}/{TEMPORARY}half", b"x")
    listed = files.list(folder)
    assert [(info.name, info.is_dir) for info in listed] == [("a", False), ("b", False), ("c", True)]
    assert all(info.modified_ms > 1_600_000_000_000 for info in listed)
    assert next(info.size for info in listed if info.name == "b") == 5


def test_moving_refuses_what_is_there_and_what_is_not(files: Files, folder: str) -> None:
    files.write(f"{folder}/{TEMPORARY}claim", b"new")
    files.write(f"{folder}/taken", b"old")
    with pytest.raises(FileExistsError):
        files.move(f"{folder}/{TEMPORARY}claim", f"{folder}/taken")
    assert files.read(f"{folder}/taken") == b"old"
    files.move(f"{folder}/{TEMPORARY}claim", f"{folder}/free")
    assert files.read(f"{folder}/free") == b"new"
    assert files.leftovers(folder) == []
    with pytest.raises(FileNotFoundError):
        files.move(f"{folder}/{TEMPORARY}claim", f"{folder}/another")


def test_leftovers_are_what_a_listing_leaves_out(files: Files, folder: str) -> None:
    assert files.leftovers(folder) == []
    files.write(f"{folder}/a", b"")
    files.write(f"{folder}/{TEMPORARY}half", b"123")
    (half,) = files.leftovers(folder)
    assert (half.name, half.size, half.is_dir) == (f"{TEMPORARY}half", 3, False)
    assert half.modified_ms > 1_600_000_000_000
    assert files.delete(f"{folder}/{half.name}")


def test_listing_what_is_not_a_folder(files: Files, folder: str) -> None:
    assert files.list(f"{folder}/nothing") == []
    files.write(f"{folder}/a", b"x")
    with pytest.raises(NotADirectoryError):
        files.list(f"{folder}/a")


def test_a_folder_changes_its_time_when_a_file_comes(files: Files, folder: str) -> None:
    files.write(f"{folder}/sub/a", b"x")
    (sub,), (file,) = files.list(folder), files.list(f"{folder}/sub")
    assert sub.modified_ms >= file.modified_ms


def test_exists_and_delete(files: Files, folder: str) -> None:
    files.write(f"{folder}/a/b", b"x")
    assert files.exists(f"{folder}/a")
    assert files.exists(f"{folder}/a/b")
    with pytest.raises(OSError, match="empty") as caught:
        files.delete(f"{folder}/a")
    assert caught.value.errno == errno.ENOTEMPTY
    assert files.delete(f"{folder}/a/b")
    assert not files.delete(f"{folder}/a/b")
    files.write(f"{folder}/a/c", b"x")
    assert files.delete(f"{folder}/a", recursive=True)
    assert not files.exists(f"{folder}/a")


def test_reading_what_is_not_a_file(files: Files, folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(f"{folder}/nothing")
    files.make(f"{folder}/a")
    files.make(f"{folder}/a")
    with pytest.raises(IsADirectoryError):
        files.read(f"{folder}/a")


def test_a_file_where_a_folder_should_be(files: Files, folder: str) -> None:
    files.write(f"{folder}/a", b"x")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        files.write(f"{folder}/a/b", b"x")


@pytest.mark.parametrize("path", ["a", "", "/a/../../etc/passwd", "/a\0"])
def test_only_absolute_paths_inside_the_store(files: Files, path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        files.read(path)


def test_open_files(tmp_path: Path) -> None:
    assert isinstance(open_files(HdfsOptions(url=f"file://{tmp_path}")), LocalFiles)
    store = open_files(HdfsOptions(url="http://127.0.0.1:9870", user="me"))
    assert isinstance(store, HdfsFiles)
    store.close()
    for url in ("hdfs://namenode:8020", "/some/folder", "file://host/path", ""):
        with pytest.raises(ValueError, match="LOGCANARY_HDFS__URL"):
            open_files(HdfsOptions(url=url))


def test_a_server_that_is_not_there_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        store = HdfsFiles(f"http://127.0.0.1:{taken.getsockname()[1]}", "me")
        for call in (lambda: store.read("/a"), lambda: store.write("/a", b""), lambda: store.list("/")):
            with pytest.raises(StorageError, match="LOGCANARY_HDFS__URL"):
                call()
        store.close()
