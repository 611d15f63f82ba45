"""Files on HDFS over WebHDFS, by the PyPI library ``hdfs``; see ``storage.files`` for what they promise."""

import contextlib
import errno
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from hdfs import HdfsError, InsecureClient
from requests.adapters import HTTPAdapter

from storage.files import TEMPORARY, FileInfo, Infos, StorageError, checked, temporary_name

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
"""A DataNode under load takes seconds to answer; half a minute of silence is a fault."""
CONNECTIONS = 16
"""HTTP connections kept open per server; more threads than this open new ones."""


class HdfsFiles:
    """HDFS over WebHDFS as one user; may be used by several threads.

    ``url`` is the NameNode's HTTP address, or several with ``;`` between for high availability.
    """

    def __init__(self, url: str, user: str) -> None:
        self.url, self.user = url, user
        session = requests.Session()
        # HDFS is a neighbour: a proxy or a netrc meant for the internet must not come between.
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS))
        self._close = weakref.finalize(self, session.close)
        self._client: Any = InsecureClient(url, user=user, session=session, timeout=(CONNECT_SECONDS, READ_SECONDS))

    def __repr__(self) -> str:
        return f"HdfsFiles({self.url!r}, {self.user!r})"

    def read(self, path: str) -> bytes:
        """See ``Files.read``."""
        path = checked(path)
        with self._errors(path), self._client.read(path) as reader:
            data: bytes = reader.read()
            return data

    def write(self, path: str, data: bytes) -> None:
        """See ``Files.write``."""
        path = checked(path)
        temporary = temporary_name(path)
        try:
            with self._errors(path):
                self._client.write(temporary, data=data)
                self._rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError, HdfsError, requests.RequestException):
                self._client.delete(temporary)
            raise

    def move(self, path: str, to: str) -> None:
        """See ``Files.move``."""
        path, to = checked(path), checked(to)
        with self._errors(path):
            self._rename(path, to)

    def _rename(self, path: str, to: str) -> None:
        # With this option a rename is refused where there is anything, a folder too; without it, and through
        # HttpFS that does not know it, the refusal is a "false".
        answer = self._client._rename(path, destination=to, renameoptions="NONE")
        if answer.content and not answer.json().get("boolean", True):
            raise FileExistsError(errno.EEXIST, "file exists in HDFS", to)

    def list(self, folder: str) -> list[FileInfo]:
        """See ``Files.list``."""
        return [info for info in self._all(folder) if not info.name.startswith(TEMPORARY)]

    def leftovers(self, folder: str) -> Infos:
        """See ``Files.leftovers``."""
        return [info for info in self._all(folder) if info.name.startswith(TEMPORARY)]

    def _all(self, folder: str) -> Infos:
        folder = checked(folder)
        try:
            with self._errors(folder):
                entries = self._client._list_status(folder).json()["FileStatuses"]["FileStatus"]
        except FileNotFoundError:
            return []
        if len(entries) == 1 and not entries[0]["pathSuffix"]:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder in HDFS", folder)
        infos = [
            FileInfo(entry["pathSuffix"], entry["length"], entry["modificationTime"], entry["type"] == "DIRECTORY")
            for entry in entries
        ]
        return sorted(infos, key=lambda info: info.name)

    def exists(self, path: str) -> bool:
        """See ``Files.exists``."""
        path = checked(path)
        try:
            with self._errors(path):
                self._client.status(path)
        except FileNotFoundError:
            return False
        return True

    def delete(self, path: str, recursive: bool = False) -> bool:
        """See ``Files.delete``."""
        path = checked(path)
        with self._errors(path):
            return bool(self._client.delete(path, recursive=recursive))

    def make(self, folder: str) -> None:
        """See ``Files.make``."""
        folder = checked(folder)
        with self._errors(folder):
            self._client.makedirs(folder)

    def close(self) -> None:
        """See ``Files.close``."""
        self._close()

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn the library's errors into the built-in ones; those without a twin name address and setting."""
        try:
            yield
        except HdfsError as error:
            raise self._translated(error, path) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, KeyError) as error:
            asked = urlsplit(getattr(getattr(error, "request", None), "url", None) or self.url)
            raise StorageError(
                f"no useful answer from {asked.scheme}://{asked.netloc} of HDFS for {path} ({type(error).__name__}): "
                f"is HDFS running, and is hdfs.url (LOGCANARY_HDFS__URL, now {self.url}) its WebHDFS address?"
            ) from error

    def _translated(self, error: HdfsError, path: str) -> OSError:
        name, message = error.exception, str(error.message).partition("\n")[0]
        if name in ("AccessControlException", "SecurityException"):
            reason = f"HDFS at {self.url} refuses user {self.user!r} (hdfs.user, LOGCANARY_HDFS__USER): {message}"
            return PermissionError(errno.EACCES, reason, path)
        for exception, words, number, reason in _TWINS:
            if name == exception and words in message:
                return OSError(number, reason, path)  # OSError picks its subclass by the number
        return StorageError(f"HDFS at {self.url} (hdfs.url) refused {path}: {name}: {message}")


_TWINS = (
    ("FileNotFoundException", "is not a file", errno.EISDIR, "a folder in HDFS"),
    ("FileNotFoundException", "", errno.ENOENT, "no such file in HDFS"),
    ("FileAlreadyExistsException", "", errno.EEXIST, "file exists in HDFS"),
    # A file renamed to where a folder is.
    ("IOException", "must both be directories", errno.EEXIST, "a folder is there in HDFS"),
    ("ParentNotDirectoryException", "", errno.ENOTDIR, "a file in HDFS stands where a folder should be"),
    ("PathIsNotEmptyDirectoryException", "", errno.ENOTEMPTY, "folder is not empty in HDFS"),
)
"""Errors of WebHDFS, by name and words of the message, and their twins among the errors of a file system."""
