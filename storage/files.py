"""Files on HDFS, or in a local folder behind the same small interface.

    files = open_files(settings.hdfs)
    files.write("/logcanary/hello", b"text")       # all of it or nothing; FileExistsError if it is there
    files.read("/logcanary/hello")                 # b"text"
    [info.name for info in files.list("/logcanary")]

Errors are the built-in ones of a file system (``FileNotFoundError``, ``FileExistsError``, ``IsADirectoryError``, ...);
whatever else goes wrong, a server that does not answer above all, is a ``StorageError`` that names address and setting.
"""

import contextlib
import os
import posixpath
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from contracts.settings import HdfsOptions

TEMPORARY = ".tmp-"
"""Names that begin so are files still being written; ``list`` leaves them out."""


class StorageError(OSError):
    """The store did not do what was asked for a reason that may pass: try again, or see to the setting it names."""


@dataclass(frozen=True)
class FileInfo:
    """An entry of a folder: ``name`` without the folder, ``size`` in bytes, ``modified_ms`` since 1970 UTC."""

    name: str
    size: int
    modified_ms: int
    is_dir: bool


Infos = list[FileInfo]
"""Entries of a folder; a class with a method ``list`` cannot name the type."""


class Files(Protocol):
    """What LogCanary asks of a store. Paths are absolute (``/a/b``); whole files are read and written at once."""

    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: the store does not answer.
        """

    def write(self, path: str, data: bytes) -> None:
        """Write a file in one piece: under a temporary name in the same folder, then renamed. Makes missing folders.

        Raises:
            FileExistsError: there is one already; it stays as it was.
            StorageError: the store does not answer; nothing is there under the name, or (if the answer to the
                rename was lost) all of it.
        """

    def list(self, folder: str) -> list[FileInfo]:
        """The entries of a folder by name, without files still being written; empty where there is no such folder.

        Raises:
            NotADirectoryError: it is a file.
            StorageError: the store does not answer.
        """

    def move(self, path: str, to: str) -> None:
        """Give a file another name in the same folder, whoever else tries the same at this moment.

        Raises:
            FileNotFoundError: there is none.
            FileExistsError: something has that name already; both stay as they were.
            StorageError: the store does not answer; the file has one of the two names.
        """

    def leftovers(self, folder: str) -> Infos:
        """The entries that ``list`` leaves out: files still being written, or left by writers that were killed.

        Raises:
            StorageError: the store does not answer.
        """

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""

    def delete(self, path: str, recursive: bool = False) -> bool:
        """Delete a file or folder; says whether it was there.

        Raises:
            OSError: a folder that is not empty, and ``recursive`` not set (``ENOTEMPTY``).
            StorageError: the store does not answer.
        """

    def make(self, folder: str) -> None:
        """Make a folder and the folders above it; nothing happens where it is there."""

    def close(self) -> None:
        """Give connections back."""


def open_files(options: HdfsOptions) -> Files:
    """The store that ``hdfs.url`` names: ``file:///path`` a local folder, ``http(s)://host:port`` WebHDFS.

    Raises:
        ValueError: neither of the two.
    """
    parts = urlsplit(options.url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return LocalFiles(Path(unquote(parts.path)))
    if parts.scheme in ("http", "https") and parts.netloc:
        # Not at the top: the quick way in keeps bundles in a folder and loads no client of HDFS.
        from storage.webhdfs import HdfsFiles  # noqa: PLC0415

        return HdfsFiles(options.url, options.user)
    raise ValueError(
        f"hdfs.url (LOGCANARY_HDFS__URL) is {options.url!r}: give a WebHDFS address (http://host:9870) or a folder (file:///path)"
    )


def checked(path: str) -> str:
    """The path, normalised; only absolute paths without ``..`` are taken."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"a path in the store begins with '/' and has no '..': {path!r}")
    return posixpath.normpath("/" + path.lstrip("/"))


def temporary_name(path: str) -> str:
    """A name beside ``path`` that no other writer takes."""
    return posixpath.join(posixpath.dirname(path), TEMPORARY + secrets.token_hex(8))


class LocalFiles:
    """A folder of this machine as the store; path ``/a`` is ``root/a``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"LocalFiles({str(self.root)!r})"

    def _place(self, path: str) -> Path:
        return self.root / checked(path).lstrip("/")

    def read(self, path: str) -> bytes:
        """See ``Files.read``."""
        return self._place(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See ``Files.write``; the bytes are on the disk when it returns."""
        place, temporary = self._place(path), self._place(temporary_name(checked(path)))
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(temporary, place)  # unlike rename, it refuses where there is one
        finally:
            temporary.unlink(missing_ok=True)

    def list(self, folder: str) -> list[FileInfo]:
        """See ``Files.list``."""
        return [info for info in self._all(folder) if not info.name.startswith(TEMPORARY)]

    def move(self, path: str, to: str) -> None:
        """See ``Files.move``."""
        # Unlike rename, a link refuses where there is one. Killed in between, the file has both names.
        os.link(self._place(path), self._place(to))
        self._place(path).unlink(missing_ok=True)

    def leftovers(self, folder: str) -> Infos:
        """See ``Files.leftovers``."""
        return [info for info in self._all(folder) if info.name.startswith(TEMPORARY)]

    def _all(self, folder: str) -> Infos:
        try:
            entries = [*os.scandir(self._place(folder))]
        except FileNotFoundError:
            return []
        infos = []
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                stat = entry.stat()
                infos.append(FileInfo(entry.name, stat.st_size, stat.st_mtime_ns // 1_000_000, entry.is_dir()))
        return sorted(infos, key=lambda info: info.name)

    def exists(self, path: str) -> bool:
        """See ``Files.exists``."""
        return self._place(path).exists()

    def delete(self, path: str, recursive: bool = False) -> bool:
        """See ``Files.delete``."""
        place = self._place(path)
        try:
            if not place.is_dir():
                place.unlink()
            elif recursive:
                shutil.rmtree(place)
            else:
                place.rmdir()
        except FileNotFoundError:
            return False
        return True

    def make(self, folder: str) -> None:
        """See ``Files.make``."""
        self._place(folder).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """See ``Files.close``; there is nothing to give back."""
