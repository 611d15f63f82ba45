"""The archive: every line of every service as Parquet files on HDFS, each named by the offsets it holds.

    <root>/archive/service=<service>/hour=<YYYYMMDDTHH>/<topic>.<partition>.<first>-<last>.parquet

``first`` and ``last`` are Kafka offsets with 20 digits; ``hour`` (UTC) is that of the first line's Kafka timestamp.
A file is there whole or not at all, and files of one partition never overlap: a file proves that its offsets are
archived. No later line of a file is of a later slot than the first, so none is of a later hour; lines that Kafka
got late may be of an earlier one.

Every writer begins behind the highest archived offset, so files that would overlap begin at the same one. A file is
written as the *claim* of its first offset, a name that only one can take, and gets its own name when nothing else
holds its offsets. A claim whose writer died or sleeps is finished by whoever comes next, and never deleted before its
offsets are archived.
"""

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.files import TEMPORARY, Files, StorageError

HOUR_MS = 3_600_000
LATE_MS = HOUR_MS
"""A line whose Kafka timestamp is this much older than those around it is found only by a wider time window."""
LATEST_MS = 253_402_300_799_999
"""The end of the year 9999; later (broken) timestamps are filed there, and kept as they are inside the file."""
FORMAT = b"1"
COMPRESSION_LEVEL = 3
"""zstd's default: log lines shrink about tenfold, and higher levels cost more than they save."""

_header = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])
SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("headers", pa.list_(_header), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
    ],
    metadata={b"logcanary.archive": FORMAT},
)
"""Columns of a file: a Kafka record each row, in offset order, every byte as it came. ``timestamp`` is Kafka's, in
milliseconds since 1970 UTC (-1: none); a record without a value is null, which is not the same as empty."""

LEFTOVER_MS = HOUR_MS
"""Files under a temporary name that are older than this were left by a writer that was killed. One that still lives
(a machine that was suspended) fails when it renames its file, and writes it again."""
LEFTOVER_FOLDERS_MS = 48 * HOUR_MS
"""Leftovers are looked for in folders that changed within this time before the one changed last."""
CLAIM_TRIES = 5
"""Claims of others that are finished before a write is given up for now; more than one is rare."""

_claim = re.compile(
    rf"^{re.escape(TEMPORARY)}claim-(?P<topic>[A-Za-z0-9._-]+)\.(?P<partition>\d+)\.(?P<first>\d{{20}})$"
)
_name = re.compile(r"^(?P<topic>[A-Za-z0-9._-]+)\.(?P<partition>\d+)\.(?P<first>\d{20})-(?P<last>\d{20})\.parquet$")


class ArchiveOverlapError(Exception):
    """Another file already holds some of these offsets: somebody else archives this partition. Nothing was written."""


class KafkaRecord(Protocol):
    """What is kept of a Kafka record; kafka-python's own records fit."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since 1970 UTC."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """The line."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Its headers, in order; a name may come twice."""


@dataclass(frozen=True, order=True)
class ArchiveFile:
    """A file of the archive, known by its name; ``first`` and ``last`` are inclusive, ``size`` is in bytes."""

    topic: str
    partition: int
    first: int
    last: int
    path: str
    size: int
    modified_ms: int

    def overlaps(self, first: int, last: int) -> bool:
        """Whether it holds offsets from ``first`` to ``last``."""
        return self.first <= last and first <= self.last


def service_folder(root: str, service: str) -> str:
    """The folder of one service's files."""
    return f"{root.rstrip('/')}/archive/service={service}"


def hour_folder(root: str, service: str, timestamp: int) -> str:
    """The folder of a file whose first line has this timestamp (ms)."""
    moment = datetime.fromtimestamp(min(max(timestamp, 0), LATEST_MS) / 1000, UTC)
    return f"{service_folder(root, service)}/hour={moment:%Y%m%dT%H}"


def file_name(topic: str, partition: int, first: int, last: int) -> str:
    """The name of the file that holds these offsets."""
    return f"{topic}.{partition}.{first:020d}-{last:020d}.parquet"


def batch_of(topic: str, partition: int, records: Sequence[KafkaRecord]) -> pa.RecordBatch:
    """Records of one partition, in offset order, as rows of ``SCHEMA``."""
    number = len(records)
    headers = [list(record.headers or ()) for record in records]
    if any(headers):
        header_column = pa.array(headers, pa.map_(pa.string(), pa.binary())).cast(SCHEMA.field("headers").type)
    else:
        empty = pa.array([], _header)
        header_column = pa.ListArray.from_arrays(pa.array(np.zeros(number + 1, np.int32)), empty)
    columns = [
        pa.array(np.full(number, topic, object), pa.string()),
        pa.array(np.full(number, partition, np.int32)),
        pa.array([record.offset for record in records], pa.int64()),
        pa.array([-1 if record.timestamp is None else record.timestamp for record in records], pa.int64()),
        header_column,
        pa.array([record.key for record in records], pa.binary()),
        pa.array([record.value for record in records], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def encode(table: pa.Table) -> bytes:
    """Rows as the bytes of a Parquet file; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        # Lines hardly repeat byte for byte: a dictionary of them costs and gives nothing.
        use_dictionary=["topic", "partition"],
        column_encoding={"offset": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"},
    )
    return bytes(sink.getvalue())


def write_lines(files: Files, root: str, service: str, batches: Sequence[pa.RecordBatch]) -> ArchiveFile:
    """Archive rows of one partition, in offset order, as one file; done already is done.

    Args:
        files: the store.
        root: the folder of LogCanary's data (``hdfs.root``).
        service: whose lines they are.
        batches: at least one row in all, of ``SCHEMA``.

    Raises:
        ArchiveOverlapError: other files hold some of these offsets.
        StorageError: the store does not answer; trying again is safe.
    """
    table = pa.Table.from_batches(batches, SCHEMA)
    first, last = table["offset"][0].as_py(), table["offset"][-1].as_py()
    mine = _Place.of(table, hour_folder(root, service, table["timestamp"][0].as_py()))
    claim = f"{mine.folder}/{claim_name(mine.topic, mine.partition, first)}"
    data = b""
    for _ in range(CLAIM_TRIES):
        if found := mine.holders(files, first, last):
            break
        data = data or encode(table)
        try:
            files.write(claim, data)
        except FileExistsError:
            # Somebody is about to archive from this offset on, sleeps, or died; with other bounds perhaps.
            theirs = _read_claim(files, claim)
        else:
            theirs = last
        if theirs is not None and not mine.holders(files, first, theirs):
            # Taken from us: somebody else finished this claim.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                files.move(claim, f"{mine.folder}/{file_name(mine.topic, mine.partition, first, theirs)}")
    else:
        raise StorageError(f"others archive {mine.topic}.{mine.partition} from offset {first} on at this moment")
    if [(one.first, one.last) for one in found] != [(first, last)]:
        there = ", ".join(one.path for one in found)
        raise ArchiveOverlapError(f"offsets {first} to {last} of {mine.topic}.{mine.partition} overlap with {there}")
    return found[0]


@dataclass(frozen=True)
class _Place:
    """Where the files that begin with one line lie."""

    topic: str
    partition: int
    folder: str

    @classmethod
    def of(cls, table: pa.Table, folder: str) -> "_Place":
        return cls(table["topic"][0].as_py(), table["partition"][0].as_py(), folder)

    def holders(self, files: Files, first: int, last: int) -> list[ArchiveFile]:
        """Files that hold some of these offsets.

        Writers that overlap began after the same archived offset, so their first files lie in the same folder.
        """
        here = _files_in(files, self.folder)
        mine = [one for one in here if (one.topic, one.partition) == (self.topic, self.partition)]
        return [one for one in mine if one.overlaps(first, last)]


def claim_name(topic: str, partition: int, first: int) -> str:
    """The name under which a file that begins with this offset is written."""
    return f"{TEMPORARY}claim-{topic}.{partition}.{first:020d}"


def _read_claim(files: Files, claim: str) -> int | None:
    """The last offset of a claimed file; None where it is finished meanwhile."""
    try:
        data = files.read(claim)
    except FileNotFoundError:
        return None
    last: int = decode(data, claim)["offset"][-1].as_py()
    return last


def sweep(files: Files, root: str, service: str, now_ms: int) -> int:
    """Delete what killed writers of a service left behind more than ``LEFTOVER_MS`` ago; returns how many files.

    A claim stays for as long as its offsets are not archived: whoever archives them finishes it.

    Raises:
        StorageError: the store does not answer.
    """
    folders = hour_folders(files, root, service)
    since = max((modified_ms for _, _, modified_ms in folders), default=0) - LEFTOVER_FOLDERS_MS
    swept = 0
    for folder, _, modified_ms in folders:
        if modified_ms < since:
            continue
        for entry in files.leftovers(folder):
            if entry.is_dir or entry.modified_ms > now_ms - LEFTOVER_MS or _awaited(files, folder, entry.name):
                continue
            swept += files.delete(f"{folder}/{entry.name}")
    return swept


def _awaited(files: Files, folder: str, name: str) -> bool:
    """Whether this is a claim whose offsets are not archived yet."""
    claim = _claim.match(name)
    if claim is None:
        return False
    first = int(claim["first"])
    return not _Place(claim["topic"], int(claim["partition"]), folder).holders(files, first, first)


def list_files(
    files: Files, root: str, service: str, from_ms: int | None = None, to_ms: int | None = None
) -> list[ArchiveFile]:
    """Files of a service that may hold lines with Kafka timestamps in [from_ms, to_ms), by partition and offset.

    Only the folders of the hours in question are looked into, and those of the hour after, for lines that came late.

    Raises:
        StorageError: the store does not answer.
    """
    found = []
    for folder, start, _ in hour_folders(files, root, service):
        if (from_ms is None or start + HOUR_MS > from_ms) and (to_ms is None or start < to_ms + LATE_MS):
            found += _files_in(files, folder)
    return sorted(found)


def read_file(files: Files, file: ArchiveFile) -> pa.Table:
    """All rows of a file (``SCHEMA``).

    Raises:
        FileNotFoundError: it is gone.
        StorageError: the store does not answer.
        ValueError: it is not a file of this archive's format.
    """
    return decode(files.read(file.path), file.path)


def decode(data: bytes, path: str) -> pa.Table:
    """The rows in the bytes of a Parquet file; ``path`` is for the error.

    Raises:
        ValueError: not Parquet, or of another format.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable file of the archive: {error}") from error
    format_ = (table.schema.metadata or {}).get(b"logcanary.archive")
    if format_ != FORMAT:
        raise ValueError(f"{path} is of archive format {format_!r}, this version reads {FORMAT!r}")
    return table.select(SCHEMA.names).cast(SCHEMA)


def read_lines(
    files: Files,
    root: str,
    service: str,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Iterator[pa.Table]:
    """The lines of a service with Kafka timestamps in [from_ms, to_ms): a table a file, partition after partition.

    Within a partition rows come in offset order, and no offset twice.

    Raises:
        StorageError: the store does not answer.
        ValueError: a file is not readable.
    """
    yield from read_files(files, list_files(files, root, service, from_ms, to_ms), from_ms, to_ms)


def read_files(
    files: Files, listed: Iterable[ArchiveFile], from_ms: int | None = None, to_ms: int | None = None
) -> Iterator[pa.Table]:
    """The lines of files (ordered as ``list_files`` does) with Kafka timestamps in [from_ms, to_ms): a table each.

    Raises:
        StorageError: the store does not answer.
        ValueError: a file is not readable.
    """
    place: tuple[str, int] | None = None
    done = -1
    for file in listed:
        if place != (file.topic, file.partition):
            place, done = (file.topic, file.partition), -1
        table = read_file(files, file)
        wanted: Any = pc.greater(table["offset"], done)
        if from_ms is not None:
            wanted = pc.and_(wanted, pc.greater_equal(table["timestamp"], from_ms))
        if to_ms is not None:
            wanted = pc.and_(wanted, pc.less(table["timestamp"], to_ms))
        done = max(done, file.last)
        table = table.filter(wanted)
        if table.num_rows:
            yield table


def archived_until(
    files: Files, root: str, service: str, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """The highest archived offset of each (topic, partition) of a service; those with no file are left out.

    Raises:
        StorageError: the store does not answer.
    """
    wanted = set(partitions)
    newest: dict[tuple[str, int], ArchiveFile] = {}
    # A partition's files are written in offset order, so its highest offset is in the file written last. Folders are
    # looked through from the one changed last; one not changed since a file was written holds none written later.
    for folder, _, modified_ms in sorted(hour_folders(files, root, service), key=lambda entry: -entry[2]):
        if wanted and all(key in newest and newest[key].modified_ms > modified_ms for key in wanted):
            break
        for file in _files_in(files, folder):
            key = (file.topic, file.partition)
            if key in wanted and (key not in newest or file.last > newest[key].last):
                newest[key] = file
    return {key: file.last for key, file in newest.items()}


def services(files: Files, root: str) -> list[str]:
    """The services that have an archive, by name."""
    entries = files.list(f"{root.rstrip('/')}/archive")
    return [
        entry.name.removeprefix("service=") for entry in entries if entry.is_dir and entry.name.startswith("service=")
    ]


def hour_folders(files: Files, root: str, service: str) -> list[tuple[str, int, int]]:
    """(path, start of the hour in ms, time of the last change in ms) of a service's folders, by hour."""
    folders = []
    base = service_folder(root, service)
    for entry in files.list(base):
        if entry.is_dir and re.fullmatch(r"hour=\d{8}T\d{2}", entry.name):
            folders.append((f"{base}/{entry.name}", _start_of(entry.name), entry.modified_ms))
    return folders


def hour_of(file: ArchiveFile) -> int:
    """The hour in whose folder a file lies: its beginning in ms since 1970 UTC."""
    return _start_of(posixpath.basename(posixpath.dirname(file.path)))


def _start_of(hour: str) -> int:
    return int(datetime.strptime(hour, "hour=%Y%m%dT%H").replace(tzinfo=UTC).timestamp() * 1000)


def _files_in(files: Files, folder: str) -> list[ArchiveFile]:
    """The archive's files in a folder; anything else that lies there is none of ours."""
    found = []
    for entry in files.list(folder):
        match = _name.match(entry.name)
        if match and not entry.is_dir:
            found.append(
                ArchiveFile(
                    topic=match["topic"],
                    partition=int(match["partition"]),
                    first=int(match["first"]),
                    last=int(match["last"]),
                    path=f"{folder}/{entry.name}",
                    size=entry.size,
                    modified_ms=entry.modified_ms,
                )
            )
    return found
