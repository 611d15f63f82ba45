"""The archive as a whole: what it holds, whether it is complete, and what is old enough to go.

    for report in verify(files, root, "pay"):       # a partition each
        print(report.partition, report.lines, report.problems)
    with lease(files, root, "pay", from_ms, to_ms):  # nobody deletes these lines meanwhile
        ...
    expire(files, root, "pay", before_ms)

A file's name says which offsets it holds; ``verify`` opens it and counts. Offsets before the first file are no gap:
they are older than the archive, or have gone by ``expire``. Kafka itself leaves offsets out where producers use
transactions, or where a topic is compacted: those are reported as missing, because nobody can tell from here.
"""

import contextlib
import json
import posixpath
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from storage.archive import HOUR_MS, LATE_MS, ArchiveFile, hour_folders, list_files, read_file, service_folder
from storage.files import Files

DAY_MS = 24 * HOUR_MS
LEASE_MS = 24 * HOUR_MS
"""A lease that is older was left by a reader that was killed."""
SHOWN = 100
"""Problems kept of each partition; all are counted."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the archive holds of one partition, and what is wrong with it."""

    service: str
    topic: str
    partition: int
    files: int
    bytes: int
    first: int
    """Its first offset ..."""
    last: int
    """... and its last."""
    lines: int
    """Counted in the files; where they were not opened, as their names say."""
    missing: int
    """Offsets between the two that no file holds."""
    twice: int
    """Offsets that more than one file holds."""
    damaged: int
    """Files that cannot be read or do not hold what their names say."""
    problems: tuple[str, ...]
    """In words, ``SHOWN`` at most."""

    @property
    def holds(self) -> bool:
        """Whether every offset is there once."""
        return not (self.missing or self.twice or self.damaged)


def verify(
    files: Files,
    root: str,
    service: str,
    *,
    opened: bool = True,
    progress: Callable[[ArchiveFile], None] = lambda file: None,
) -> Iterator[Report]:
    """Look whether each offset of a service is archived once; a report for each partition, by topic and number.

    Args:
        files: the store.
        root: the folder of LogCanary's data (``hdfs.root``).
        service: whose archive.
        opened: read every file and count; else their names alone are looked at.
        progress: called with each file before it is read.

    Raises:
        StorageError: the store does not answer.
    """
    for (topic, partition), group in groupby(
        list_files(files, root, service), key=lambda file: (file.topic, file.partition)
    ):
        yield _report(files, service, topic, partition, list(group), progress if opened else None)


def _report(
    files: Files,
    service: str,
    topic: str,
    partition: int,
    listed: list[ArchiveFile],
    progress: Callable[[ArchiveFile], None] | None,
) -> Report:
    problems: list[str] = []
    missing = twice = damaged = 0
    reached = listed[0].first - 1
    for file in listed:
        if file.first > reached + 1:
            missing += file.first - reached - 1
            problems.append(f"offsets {reached + 1} to {file.first - 1} are in no file")
        if file.first <= reached:
            twice += min(reached, file.last) - file.first + 1
            problems.append(f"offsets {file.first} to {min(reached, file.last)} are in {file.path}, too")
        reached = max(reached, file.last)
    lines = sum(file.last - file.first + 1 for file in listed)
    if progress is not None:
        lines = 0
        for file in listed:
            progress(file)
            count, wrong = _inside(files, file)
            lines += count
            if wrong:
                damaged += 1
                problems.append(f"{file.path}: {wrong}")
            elif absent := file.last - file.first + 1 - count:
                missing += absent
                problems.append(f"{file.path} lacks {absent} of its offsets")
    return Report(
        service,
        topic,
        partition,
        len(listed),
        sum(file.size for file in listed),
        listed[0].first,
        reached,
        lines,
        missing,
        twice,
        damaged,
        tuple(problems[:SHOWN]),
    )


def _inside(files: Files, file: ArchiveFile) -> tuple[int, str]:
    """Lines of a file, and what is wrong with it (empty: nothing)."""
    try:
        table = read_file(files, file)
    except (ValueError, FileNotFoundError) as error:
        return 0, str(error)
    offsets = table["offset"].to_numpy()
    if not len(offsets) or (offsets[0], offsets[-1]) != (file.first, file.last) or (np.diff(offsets) < 1).any():
        return len(offsets), f"its name says offsets {file.first} to {file.last}, it holds {_words(offsets)}"
    place = set(zip(table["topic"].unique().to_pylist(), table["partition"].unique().to_pylist(), strict=False))
    if place != {(file.topic, file.partition)}:
        return len(offsets), "its name says another topic or partition than it holds"
    return len(offsets), ""


def _words(offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> str:
    if not len(offsets):
        return "none"
    return f"{len(offsets)} from {offsets.min()} to {offsets.max()}"


# -- what goes ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lease(files: Files, root: str, service: str, from_ms: int | None, to_ms: int | None) -> Iterator[None]:
    """Keep ``expire`` away from lines with Kafka timestamps in [from_ms, to_ms) while the block runs.

    Raises:
        StorageError: the store does not answer.
    """
    path = f"{_leases(root, service)}/{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.json"
    files.write(path, json.dumps({"from_ms": from_ms, "to_ms": to_ms}).encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it runs out by itself
            files.delete(path)


@dataclass(frozen=True, slots=True)
class Expired:
    """What was deleted, or would be."""

    files: int
    bytes: int
    kept: int
    """Files that are old enough and stayed because someone reads them."""


def expire(files: Files, root: str, service: str, before_ms: int, now_ms: int, *, dry_run: bool = False) -> Expired:
    """Delete the hours of a service whose lines all have Kafka timestamps before ``before_ms``.

    An hour's folder goes when the hour after it is over, too, since it may hold lines that Kafka got late. What a
    reader holds a ``lease`` on stays, and so does each partition's newest file, which tells an archiver where to go on.

    Raises:
        StorageError: the store does not answer; what is gone is gone, and doing it again is safe.
    """
    held = list(_held(files, root, service, now_ms))
    newest = {(file.topic, file.partition): posixpath.dirname(file.path) for file in list_files(files, root, service)}
    count = size = kept = 0
    for folder, start, _ in hour_folders(files, root, service):
        if start + HOUR_MS + LATE_MS > before_ms or folder in newest.values():
            continue
        inside = [entry for entry in files.list(folder) if not entry.is_dir]
        if any(_meets(start, from_ms, to_ms) for from_ms, to_ms in held):
            kept += len(inside)
            continue
        count, size = count + len(inside), size + sum(entry.size for entry in inside)
        if not dry_run:
            files.delete(folder, recursive=True)
    return Expired(count, size, kept)


def _meets(start: int, from_ms: int | None, to_ms: int | None) -> bool:
    """Whether the hour that begins then may hold lines that a reader wants (as ``list_files`` looks for them)."""
    return (from_ms is None or start + HOUR_MS > from_ms) and (to_ms is None or start < to_ms + LATE_MS)


def _held(files: Files, root: str, service: str, now_ms: int) -> Iterable[tuple[int | None, int | None]]:
    """The windows of the leases in force; those of readers that are long gone are cleared away."""
    folder = _leases(root, service)
    for entry in files.list(folder):
        path = f"{folder}/{entry.name}"
        if entry.modified_ms < now_ms - LEASE_MS:
            files.delete(path)
            continue
        with contextlib.suppress(FileNotFoundError):  # given back since it was listed
            window = json.loads(files.read(path))
            yield window["from_ms"], window["to_ms"]


def _leases(root: str, service: str) -> str:
    return f"{service_folder(root, service)}/leases"


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the archive holds of one service."""

    service: str
    files: int
    lines: int
    bytes: int
    from_ms: int
    """Beginning of its first hour ..."""
    to_ms: int
    """... and end of its last."""
    empty_hours: int
    """Hours between the two without a file: the service was quiet, or nothing was archived."""


def holdings(files: Files, root: str, service: str) -> Holdings | None:
    """What the archive holds of a service, by the names of its files; None: nothing.

    Raises:
        StorageError: the store does not answer.
    """
    hours = [start for folder, start, _ in hour_folders(files, root, service) if files.list(folder)]
    listed = list_files(files, root, service)
    if not listed:
        return None
    lines = sum(file.last - file.first + 1 for file in listed)
    empty = sum((later - earlier) // HOUR_MS - 1 for earlier, later in pairwise(hours))
    size = sum(file.size for file in listed)
    return Holdings(service, len(listed), lines, size, hours[0], hours[-1] + HOUR_MS, empty)
