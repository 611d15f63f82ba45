"""Follow a file as it is written and send its records to a service's topic (``logcanary follow``)."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.2
"""Time between two looks at a file that has nothing new: files have no portable event to wait for."""
QUIET_POLLS = 5
"""A record that may still grow (a stack trace) is given up as complete after this many looks without a new line."""
CHUNK_BYTES = 1 << 20
MAX_RECORD_BYTES = 900_000
"""A record is ended here at the latest: a broker takes 1 MB by default."""


@dataclass
class Records:
    r"""Joins lines to records: a line that does not match ``start`` belongs to the record before it.

    >>> records = Records(re.compile(rb"[0-9]{4}-"))
    >>> records.feed(b"2026-01-01 a\n  at b\n2026-01-02 c\n")
    [b'2026-01-01 a\n  at b']
    >>> records.flush()
    [b'2026-01-02 c']
    """

    start: re.Pattern[bytes] | None = None
    _rest: bytes = b""
    _open: list[bytes] = field(default_factory=list)
    _open_bytes: int = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; return the records that are now complete."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        done: list[bytes] = []
        for line in lines:
            starts = self.start is None or self.start.match(line) is not None
            if self._open and (starts or self._open_bytes + len(line) > MAX_RECORD_BYTES):
                done.extend(self.flush())
            self._open.append(line)
            self._open_bytes += len(line) + 1
        if self.start is None:
            done.extend(self.flush())
        return done

    def flush(self) -> list[bytes]:
        """Return the record that was held back because it might have grown."""
        record = b"\n".join(self._open)
        self._open, self._open_bytes = [], 0
        return [record] if record else []


def follow(
    path: Path, start: re.Pattern[bytes] | None, stop: threading.Event, from_end: bool = False
) -> Iterator[list[bytes]]:
    """Yield lists of new records of a file until ``stop`` is set; survives rotation and truncation.

    The file may not exist yet. What is written between the last look and ``stop`` is still yielded.
    """
    records = Records(start)
    quiet, inode, position = 0, -1, 0
    first = True
    while True:
        stopping = stop.is_set()
        data = b""
        if path.exists():
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != inode or status.st_size < position:
                    inode, position = status.st_ino, status.st_size if first and from_end else 0
                file.seek(position)
                data = file.read(CHUNK_BYTES)
                position += len(data)
        first = False
        quiet = 0 if data else quiet + 1
        found = records.feed(data) if data else []
        if stopping or quiet == QUIET_POLLS:
            found.extend(records.flush())
        if found:
            yield found
        if stopping and not data:
            return
        if not data:
            stop.wait(POLL_SECONDS)


def ship(
    path: Path,
    send: Callable[[bytes], object],
    stop: threading.Event,
    start: re.Pattern[bytes] | None = None,
    from_end: bool = False,
) -> int:
    """Send every record of a growing file until ``stop`` is set; return how many were sent."""
    sent = 0
    for batch in follow(path, start, stop, from_end):
        for record in batch:
            send(record)
        sent += len(batch)
    return sent
