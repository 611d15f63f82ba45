"""Reads log files: plain, gzip or Zstandard, as batches of lines without their ends."""

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from cli.shell import ProblemError

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 8192
"""Looked at to tell text from anything else."""
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
STANDARD_INPUT = Path("-")


class Readable(Protocol):
    """Anything bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none at the end."""
        ...


class LogFile:
    """A log file, decompressed while it is read; what it is compressed with is seen from its first bytes.

    ``-`` is standard input.

    Usage::

        with LogFile(Path("app.log.gz")) as log:
            for lines in log.batches(10_000):
                ...

    Raises:
        ProblemError: the file is missing, a folder, not to be opened, empty, or broken in the middle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = sys.stdin.fileno() if path == STANDARD_INPUT else path
            self._raw = open(file, "rb", closefd=path != STANDARD_INPUT)  # noqa: SIM115  (closed by `close`)
        except FileNotFoundError:
            raise ProblemError(f"{path} does not exist") from None
        except IsADirectoryError:
            raise ProblemError(f"{path} is a folder; name the log files in it") from None
        except PermissionError:
            raise ProblemError(f"no permission to read {path}") from None
        magic = self._raw.peek(4)[:4]
        if not magic:
            self._raw.close()
            raise ProblemError(f"{self.name} is empty: there is no line in it")
        self._text = self._decompress(magic)

    def _decompress(self, magic: bytes) -> "Readable":
        if magic.startswith(GZIP):
            return gzip.GzipFile(fileobj=self._raw)
        if magic == ZSTANDARD:
            import zstandard  # noqa: PLC0415  (only where a file needs it)

            return zstandard.ZstdDecompressor().stream_reader(self._raw, read_across_frames=True)
        return self._raw

    @property
    def name(self) -> str:
        """What to call it."""
        return "standard input" if self.path == STANDARD_INPUT else str(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk; 0 of a pipe, whose size nobody knows."""
        return os.fstat(self._raw.fileno()).st_size

    @property
    def position(self) -> int:
        """Bytes on disk already read: what a progress bar shows; 0 of a pipe."""
        return self._raw.tell() if self._raw.seekable() else 0

    def batches(self, lines: int) -> Iterator[list[bytes]]:
        """Yield lists of up to ``lines`` lines, without their ends; a last line that has no end counts too."""
        waiting: list[bytes] = []
        rest = b""
        while chunk := self._read():
            found = (rest + chunk).split(b"\n")
            rest = found.pop()
            waiting += [line[:-1] if line.endswith(b"\r") else line for line in found] if b"\r" in chunk else found
            while len(waiting) >= lines:
                yield waiting[:lines]
                del waiting[:lines]
        if rest:
            waiting.append(rest.removesuffix(b"\r"))
        if waiting:
            yield waiting

    def _read(self) -> bytes:
        try:
            chunk = self._text.read(CHUNK_BYTES)
        except (OSError, EOFError) as error:
            raise ProblemError(f"{self.name} is damaged: {error}") from None
        except Exception as error:
            if type(error).__module__.startswith(("zlib", "zstandard")):
                raise ProblemError(f"{self.name} is damaged: {error}") from None
            raise
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> "LogFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_text(path: Path) -> list[bytes]:
    """Read all lines of a text log.

    Raises:
        ProblemError: as `LogFile`, and where the file holds something else than text.
    """
    with LogFile(path) as log:
        lines = [line for batch in log.batches(50_000) for line in batch]
    check_text(lines, str(path))
    if not any(line.strip() for line in lines):
        raise ProblemError(f"{path} has only blank lines")
    return lines


def check_text(lines: list[bytes], name: str) -> None:
    """Look at the first lines of a file.

    Raises:
        ProblemError: they are no text.
    """
    head = b"\n".join(lines[:100])[:HEAD_BYTES]
    if head.startswith(UTF16):
        raise ProblemError(f"{name} is UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8 {Path(name).name}")
    if b"\x00" in head:
        raise ProblemError(f"{name} is a binary file, not a log: it has zero bytes near its start")
