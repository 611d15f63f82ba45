"""The archiver: copies every line of every log topic from Kafka to the archive, nothing lost, nothing twice.

Any number of instances share the partitions as one consumer group. What is archived is decided by the files alone:
an instance that gets a partition goes on after its highest archived offset, whatever was committed. The commits
only tell the exporter how far the archive is.

Every byte is kept, unless a service's settings say ``redact_archive``: then its lines are redacted when their file is
written, and before one is written the control topic is read up to its end, so that no file whose writing begins after
the setting was acknowledged holds what is to be taken out.

``Buffer`` decides which lines make a file and knows no clock, no Kafka and no HDFS; ``Archiver`` is the wiring.
"""

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.records import Settings
from contracts.service import ServiceSettings
from contracts.settings import AppSettings, ArchiveOptions
from parsing.events import Lines
from parsing.redaction import Redaction
from storage.archive import (
    HOUR_MS,
    LATEST_MS,
    SCHEMA,
    ArchiveFile,
    ArchiveOverlapError,
    KafkaRecord,
    archived_until,
    batch_of,
    service_folder,
    sweep,
    write_lines,
)
from storage.broker import (
    ConsumerRebalanceListener,
    CooperativeStickyAssignor,
    KafkaConsumer,
    KafkaError,
    KafkaTimeoutError,
    OffsetAndMetadata,
    TopicPartition,
    consumer,
    log_pattern,
    partitions_of,
    service_of,
)
from storage.control import decode
from storage.files import Files, open_files
from streaming.watchdog import still_alive, stop_watching

GRACE_SECONDS = 5.0
"""After a slot's end, and without a new line, for this long, its file is closed: stragglers of a batching producer."""
POLL_MILLISECONDS = 500
REBALANCE_MILLISECONDS = 5_000
"""How long a round may take for a rebalance that the round before did not see through."""
STEP_RECORDS = 20_000
STEP_BYTES = 16 * 1024 * 1024
"""Lines, and bytes of lines, taken from Kafka in a round: enough that the work per round does not count."""
POLL_RECORDS = 200
"""Lines taken at once; fewer where the lines before were so long that as many would pass ``STEP_BYTES`` by far: the
client unpacks compressed lines as it hands them out, whatever their bytes."""
PARTITION_FETCH_BYTES = 2 * 1024 * 1024
TOPICS_SECONDS = 10.0
"""How often new topics are looked for."""
SESSION_SECONDS = 10.0
"""After this long without a sign of life the partitions of a dead instance go to the others."""
BUFFER_BYTES = 256 * 1024 * 1024
"""Lines held in memory over all partitions; beyond it the largest open file is closed early."""
RETRY_SECONDS = 1.0
RETRY_MOST_SECONDS = 60.0
"""Waits between attempts while HDFS is away: doubled each time, up to the second."""
COMMIT_MILLISECONDS = 10_000
CONTROL_SECONDS = 30.0
"""How long reading the control topic to its end may take before a file is written; then it is tried again."""
SWEEP_SECONDS = 3600.0
"""How often leftovers of killed writers are looked for, beside whenever a partition is taken."""
BLOCKED_SECONDS = 60.0
"""How often a partition that cannot be archived is tried again, and the reason logged."""

log = logging.getLogger("logcanary.archiver")


@dataclass
class Segment:
    """The lines of one file: consecutive rows of one partition."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    lines: int = 0
    bytes: int = 0

    @property
    def first(self) -> int:
        """Its first offset."""
        return int(self.batches[0]["offset"][0].as_py())

    @property
    def last(self) -> int:
        """Its last offset."""
        return int(self.batches[-1]["offset"][-1].as_py())


class Buffer:
    """Cuts the lines of one partition into files.

    A file ends with the line that makes ``roll_lines`` or ``roll_bytes`` full, and before a line of a later slot than
    its first line's. Slots are ``roll_seconds`` of Kafka's timestamps and begin anew with each hour. Lines of an
    earlier slot (late ones) stay in the open file: two producers whose clocks differ must not make a file a line.
    Where the cuts fall depends on offsets and timestamps only, not on how the lines were fetched; the exception is
    ``due``, for lines after which none follow.
    """

    def __init__(self, options: ArchiveOptions) -> None:
        self._options = options
        self._open = Segment()
        self._slot_end = 0
        self._opened = self._added = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of the open file, as ``roll_bytes`` counts them."""
        return self._open.bytes

    def add(self, batch: pa.RecordBatch, now: float) -> list[Segment]:
        """Take in rows that follow those before; returns the files that are now full.

        Args:
            batch: rows of the archive's schema, in offset order.
            now: seconds of a clock that only goes forward.
        """
        times = np.clip(batch["timestamp"].to_numpy(), 0, LATEST_MS)
        ends = np.cumsum(_sizes(batch))
        closed, start = [], 0
        while start < batch.num_rows:
            if not self._open.lines:
                self._slot_end = slot_end(int(times[start]), self._options.roll_seconds)
                self._opened = now
            taken = int(ends[start - 1]) if start else 0
            later = _first(times[start:] >= self._slot_end) + start
            full = min(
                start + self._options.roll_lines - self._open.lines,
                _first(ends[start:] - taken + self._open.bytes >= self._options.roll_bytes) + start + 1,
            )
            end = min(later, full, batch.num_rows)
            if end > start:
                self._open.batches.append(batch.slice(start, end - start))
                self._open.lines += end - start
                self._open.bytes += int(ends[end - 1]) - taken
            if end == full or end == later < batch.num_rows:
                closed.append(self.close())
            start = end
        self._added = now
        return closed

    def due(self, now: float, now_ms: int) -> bool:
        """Whether the open file should be closed although no line says so.

        Args:
            now: seconds of the clock of ``add``.
            now_ms: the time of day, milliseconds since 1970 UTC.
        """
        if not self._open.lines:
            return False
        quiet = now - self._added >= GRACE_SECONDS and now_ms >= self._slot_end + GRACE_SECONDS * 1000
        # A trickle of lines with old timestamps is never quiet; its file gets no older than a slot either.
        return quiet or now - self._opened >= self._options.roll_seconds + GRACE_SECONDS

    def close(self) -> Segment:
        """End the open file and return it."""
        segment, self._open = self._open, Segment()
        return segment


def slot_end(timestamp: int, roll_seconds: int) -> int:
    """The end (ms) of the slot a Kafka timestamp (ms) lies in; no slot crosses an hour."""
    hour = timestamp - timestamp % HOUR_MS
    roll = roll_seconds * 1000
    return min(timestamp - (timestamp - hour) % roll + roll, hour + HOUR_MS)


def _first(flags: NDArray[np.bool_]) -> int:
    """The place of the first flag that is set, or the number of flags."""
    return int(np.argmax(flags)) if flags.any() else len(flags)


def _sizes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Bytes of each row: value, key and headers."""
    sizes: NDArray[np.int64] = np.zeros(batch.num_rows, np.int64)
    for name in ("value", "key"):
        sizes += pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy(zero_copy_only=False)
    headers = batch["headers"].flatten()
    if len(headers):
        keys, values = headers.flatten()
        lengths = np.zeros(len(headers) + 1, np.int64)
        lengths[1:] = np.cumsum(
            pc.add(pc.binary_length(keys), pc.fill_null(pc.binary_length(values), 0)).to_numpy(zero_copy_only=False)
        )
        stops = np.cumsum(pc.list_value_length(batch["headers"]).to_numpy(zero_copy_only=False))
        sizes += np.diff(lengths[np.concatenate(([0], stops))])
    return sizes


@dataclass
class _Partition:
    """What the archiver knows of a partition it owns; ``position`` is the next offset it wants."""

    service: str
    buffer: Buffer
    position: int | None = None
    full: deque[Segment] = field(default_factory=deque)
    next_try: float = 0.0

    @property
    def bytes(self) -> int:
        return self.buffer.bytes + sum(segment.bytes for segment in self.full)


def redacted(batch: pa.RecordBatch, redaction: Redaction) -> pa.RecordBatch:
    """Rows of one partition with redacted lines; keys and headers stay."""
    lengths = pc.fill_null(pc.binary_length(batch["value"]), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    blob = b"".join(value for value in batch["value"].to_pylist() if value)
    offsets, arrivals = batch["offset"].to_numpy(), batch["timestamp"].to_numpy()
    lines = Lines("", batch["topic"][0].as_py(), batch["partition"][0].as_py(), offsets, arrivals, blob, lengths)
    done = redaction.lines(lines)
    if done is lines:
        return batch
    starts = done.starts().tolist()
    values = [
        None if length < 0 else done.blob[start : start + length]
        for start, length in zip(starts[:-1], done.lengths.tolist(), strict=True)
    ]
    at = SCHEMA.get_field_index("value")
    return batch.set_column(at, SCHEMA.field(at), pa.array(values, pa.binary()))


class Redactions:
    """What services want taken out of their archive, as the control topic says it now.

    Args:
        settings: where Kafka is.
        alive: called while the topic is read.
    """

    def __init__(self, settings: AppSettings, alive: Callable[[], None] = lambda: None) -> None:
        self._settings, self._alive = settings, alive
        self._client: KafkaConsumer | None = None
        self._wanted: dict[str, Redaction] = {}

    def of(self, service: str) -> Redaction | None:
        """What is taken out of a service's lines; None: nothing, they are kept as they are.

        Raises:
            KafkaError, BrokerUnreachableError: Kafka does not answer, so that nobody knows.
        """
        try:
            self._read_on()
        except (KafkaError, OSError):  # begun anew, it knows all there is
            self.close()
            raise
        return self._wanted.get(service)

    def close(self) -> None:
        """Give the connection back."""
        client, self._client, self._wanted = self._client, None, {}
        if client is not None:
            client.close(autocommit=False, timeout_ms=COMMIT_MILLISECONDS)

    def _read_on(self) -> None:
        """Read the control topic up to its end at the time of the call."""
        if self._client is None:
            self._client = consumer(self._settings, auto_offset_reset="earliest", fetch_max_wait_ms=50)
        client = self._client
        places = partitions_of(client, [self._settings.kafka.control])
        if not places:  # nothing was said yet
            return
        if client.assignment() != set(places):
            client.assign(places)
            client.seek_to_beginning(*places)
        ends = client.end_offsets(places, timeout_ms=COMMIT_MILLISECONDS)
        deadline = time.monotonic() + CONTROL_SECONDS
        while any(client.position(place) < ends[place] for place in places):
            for records in client.poll(timeout_ms=POLL_MILLISECONDS).values():
                for record in records:
                    self.apply((record.key or b"").decode("utf-8", "replace"), record.value)
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"{self._settings.kafka.control} cannot be read to its end")
            self._alive()

    def apply(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic; what is no service's settings changes nothing."""
        kind, _, service = key.partition("/")
        if kind != "settings":
            return
        try:
            record = None if value is None else decode(key, value)
            said = record.settings if isinstance(record, Settings) else ServiceSettings(service=service)
            redaction = Redaction.build(said.redact) if said.redact_archive else None
        except ValueError:  # no setting of ours: what was said before holds, as in the job
            return
        if redaction is None:
            self._wanted.pop(service, None)
        else:
            self._wanted[service] = redaction


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group decides; it runs on the client's own thread, so it only takes notes."""

    def __init__(self, client: KafkaConsumer) -> None:
        self._client = client
        self.notes: deque[tuple[bool, list[TopicPartition]]] = deque()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = sorted(assigned)
        # Nothing is fetched before the archive was asked where to begin.
        self._client.pause(*partitions)
        self.notes.append((True, partitions))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.notes.append((False, sorted(revoked)))


class Archiver:
    """One instance of the archiver.

    Args:
        settings: Kafka, HDFS and the sizes of files.
        files: the store; ``hdfs.url`` where none is given.
        clock: seconds that only go forward.
        wall: the time of day in seconds since 1970 UTC.
        alive: called whenever a step was made that may take long.
        buffer_bytes: lines held in memory over all partitions; one more answer of Kafka may come on top.

    Raises:
        BrokerUnreachableError: Kafka does not answer at the start; later it is waited for.
    """

    def __init__(
        self,
        settings: AppSettings,
        files: Files | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        alive: Callable[[], None] = lambda: None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._settings = settings
        self._alive = alive
        self._buffer_bytes = buffer_bytes
        self._files = files or open_files(settings.hdfs)
        self._clock, self._wall = clock, wall
        self._owned: dict[TopicPartition, _Partition] = {}
        self._away_until = 0.0
        self._retry_seconds = 0.0
        self._longest = 1
        """Bytes of the longest of the lines taken last."""
        self._swept: dict[str, float] = {}
        self._redactions = Redactions(settings, alive)
        self._client = consumer(
            settings,
            group_id=settings.archive.group,
            auto_offset_reset="earliest",
            # Keeps a partition, and what is buffered of it, where it is when instances or topics come and go.
            partition_assignment_strategy=[CooperativeStickyAssignor],
            metadata_max_age_ms=int(TOPICS_SECONDS * 1000),
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            max_poll_records=POLL_RECORDS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        )
        self._rebalances = _Rebalances(self._client)
        self._client.subscribe(pattern=log_pattern(settings.kafka), listener=self._rebalances)

    def run(self, stop: threading.Event) -> None:
        """Archive until ``stop`` is set. What is not written by then is read again by whoever comes next."""
        try:
            while not stop.is_set():
                self.step()
        finally:
            self._redactions.close()
            self._client.close(autocommit=False, timeout_ms=5_000)
            self._files.close()

    def step(self) -> None:
        """One round: what the group decided, new lines, full files; takes half a second at most when all is well."""
        self._alive()
        self._rebalance()
        self._place()
        self._sweep()
        for key, records in self._poll().items():
            self._take(key, records)
        self._rebalance()
        self._close()
        self._store()
        self._throttle()

    def _poll(self) -> dict[TopicPartition, list[KafkaRecord]]:
        """Lines by partition, in order; waits for the first."""
        polled: dict[TopicPartition, list[KafkaRecord]] = {}
        count = size = 0
        wait, coordinator = POLL_MILLISECONDS, self._client._coordinator
        if coordinator.rejoining:
            # kafka-python 3.0 forgets a rebalance that began with a new topic where a poll ends between the answers to
            # its two requests: the outcome is never taken, no heartbeat is sent, and the instance idles for ever. Begun
            # again, it gets the time it needs.
            coordinator.request_rejoin()
            wait = REBALANCE_MILLISECONDS
        try:
            while count < STEP_RECORDS and size < STEP_BYTES:
                most = min(POLL_RECORDS, (STEP_BYTES - size) // self._longest + 1)
                more = self._client.poll(timeout_ms=0 if count else wait, max_records=most)
                if not more:
                    break
                lengths = [len(record.value or b"") for records in more.values() for record in records]
                count, size, self._longest = count + len(lengths), size + sum(lengths), max(1, *lengths)
                for key, records in more.items():
                    polled.setdefault(key, []).extend(records)
                if self._rebalances.notes:
                    break  # who owns what has changed: what comes next belongs to other owners
        except KafkaError as error:
            # One partition that cannot be read, or a broker that restarts, must not stop the others.
            log.error("cannot read from Kafka, trying again in %.0f s: %s", RETRY_SECONDS, error)
            time.sleep(RETRY_SECONDS)
        return polled

    def _rebalance(self) -> None:
        """Own what the group gave, forget what it took; lines not written yet are read again by the next owner."""
        while self._rebalances.notes:
            given, keys = self._rebalances.notes.popleft()
            for key in keys:
                self._owned.pop(key, None)
                service = service_of(self._settings.kafka, key.topic)
                if given and service is not None:
                    self._owned[key] = _Partition(service, Buffer(self._settings.archive))
                    self._swept.pop(service, None)
            log.info(
                "%s %s", "archiving" if given else "no longer archiving", [f"{k.topic}.{k.partition}" for k in keys]
            )

    def _place(self) -> None:
        """Go to the first offset that is not archived, in each partition that was just given."""
        now = self._clock()
        waiting: dict[str, list[TopicPartition]] = {}
        for key, partition in self._owned.items():
            if partition.position is None and partition.next_try <= now and self._away_until <= now:
                waiting.setdefault(partition.service, []).append(key)
        for service, keys in waiting.items():
            self._alive()
            try:
                newest = archived_until(
                    self._files, self._settings.hdfs.root, service, [(k.topic, k.partition) for k in keys]
                )
            except OSError as error:
                self._store_away(error)
                return
            self._store_back()
            for key in keys:
                try:
                    self._begin(key, newest.get((key.topic, key.partition)))
                except (KafkaError, ValueError, KeyError) as error:  # taken away meanwhile, or Kafka is busy
                    log.info("cannot begin with %s.%s yet: %s", key.topic, key.partition, error)
                    self._owned[key].next_try = now + RETRY_SECONDS

    def _begin(self, key: TopicPartition, archived: int | None) -> None:
        start = self._client.beginning_offsets([key], timeout_ms=COMMIT_MILLISECONDS)[key]
        end = self._client.end_offsets([key], timeout_ms=COMMIT_MILLISECONDS)[key]
        partition = self._owned[key]
        if archived is None:
            committed = self._client.committed(key, timeout_ms=COMMIT_MILLISECONDS)
            position = start if committed is None else min(max(start, committed), end)
        else:
            position = archived + 1
            if position > end:
                log.error(
                    "%s.%s ends at offset %d but the archive holds offsets up to %d: the topic was made anew. "
                    "Move its old files out of %s, then archiving goes on.",
                    *(
                        key.topic,
                        key.partition,
                        end,
                        archived,
                        service_folder(self._settings.hdfs.root, partition.service),
                    ),
                )
                partition.next_try = self._clock() + BLOCKED_SECONDS
                return
            if position < start:
                log.error(
                    "%s.%s: %d offsets from %d on left Kafka before they were archived; raise the topic's retention.",
                    *(key.topic, key.partition, start - position, position),
                )
                position = start
        self._client.seek(key, position)
        self._client.resume(key)
        partition.position = position
        if archived is not None:
            self._commit({key: position})

    def _sweep(self) -> None:
        """Look for leftovers of killed writers in one service: where a partition was just taken, and every hour."""
        now = self._clock()
        if self._away_until > now:
            return
        for service in sorted({partition.service for partition in self._owned.values()}):
            if self._swept.get(service, -SWEEP_SECONDS) + SWEEP_SECONDS > now:
                continue
            self._alive()
            try:
                number = sweep(self._files, self._settings.hdfs.root, service, int(self._wall() * 1000))
            except OSError as error:
                self._store_away(error)
                return
            self._store_back()
            self._swept[service] = now
            if number:
                log.info("deleted %d temporary files of service %s that a killed archiver had left", number, service)
            return

    def _take(self, key: TopicPartition, records: list[KafkaRecord]) -> None:
        partition = self._owned.get(key)
        # Records fetched before a seek or for an owner before us are not what we asked for.
        if partition is None or partition.position is None or records[0].offset < partition.position:
            return
        segments = partition.buffer.add(batch_of(key.topic, key.partition, records), self._clock())
        partition.full.extend(segments)
        partition.position = records[-1].offset + 1

    def _close(self) -> None:
        """Close files that are due by the clock, and the largest ones when memory is short."""
        now, now_ms = self._clock(), int(self._wall() * 1000)
        for partition in self._owned.values():
            if partition.buffer.due(now, now_ms):
                partition.full.append(partition.buffer.close())
        if self._away_until <= now and self._bytes() > self._buffer_bytes:
            largest = max(self._owned.values(), key=lambda one: one.buffer.bytes)
            if largest.buffer.bytes:
                largest.full.append(largest.buffer.close())

    def _store(self) -> None:
        """Write full files; while HDFS is away they wait."""
        done: dict[TopicPartition, int] = {}
        for key, partition in list(self._owned.items()):
            while partition.full and self._away_until <= self._clock():
                self._alive()
                segment = partition.full[0]
                try:
                    file = self._write(partition.service, segment)
                except ArchiveOverlapError as error:
                    log.warning("%s; asking the archive again where to begin", error)
                    self._client.pause(key)
                    self._owned[key] = _Partition(partition.service, Buffer(self._settings.archive))
                    break
                except (OSError, KafkaError) as error:  # without Kafka nobody knows what is to be taken out
                    self._store_away(error)
                    break
                self._store_back()
                partition.full.popleft()
                done[key] = file.last + 1
        if done:
            self._commit(done)

    def _write(self, service: str, segment: Segment) -> ArchiveFile:
        started = time.monotonic()
        redaction, batches = self._redactions.of(service), segment.batches
        if redaction is not None:
            batches = [redacted(batch, redaction) for batch in batches]
        file = write_lines(self._files, self._settings.hdfs.root, service, batches)
        log.info(
            "archived %s (%d lines, %d bytes, %d in the file, %.2f s)",
            *(file.path, segment.lines, segment.bytes, file.size, time.monotonic() - started),
        )
        return file

    def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Tell the group how far the archive is; a commit that fails costs nothing, the files are what counts."""
        try:
            self._client.commit(
                {key: OffsetAndMetadata(offset, "", -1) for key, offset in offsets.items()},
                timeout_ms=COMMIT_MILLISECONDS,
            )
        except KafkaError as error:
            log.info("the offsets just archived could not be committed: %s", error)

    def _throttle(self) -> None:
        """Read on only where there is room: files that wait for HDFS stop their partition, full memory stops all."""
        crowded = self._bytes() > self._buffer_bytes
        paused = self._client.paused()
        for key, partition in self._owned.items():
            if partition.position is None:
                continue
            hold = crowded or bool(partition.full)
            try:
                if hold and key not in paused:
                    self._client.pause(key)
                elif not hold and key in paused:
                    self._client.resume(key)
            except KeyError:  # taken away meanwhile
                continue

    def _bytes(self) -> int:
        return sum(partition.bytes for partition in self._owned.values())

    def _store_away(self, error: OSError) -> None:
        self._retry_seconds = min(max(RETRY_SECONDS, self._retry_seconds * 2), RETRY_MOST_SECONDS)
        self._away_until = self._clock() + self._retry_seconds
        log.warning("cannot archive, trying again in %.0f s: %s", self._retry_seconds, error)

    def _store_back(self) -> None:
        if self._retry_seconds:
            log.info("the archive answers again")
        self._retry_seconds = 0.0


def run(settings: AppSettings, stop: threading.Event) -> None:
    """Run one archiver until ``stop`` is set.

    Raises:
        BrokerUnreachableError: Kafka does not answer at the start.
    """
    try:
        Archiver(settings, alive=still_alive).run(stop)
    finally:
        stop_watching()


def main() -> None:
    """Run one archiver until SIGTERM or Ctrl-C (``python -m streaming.archiver``)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("hdfs").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(AppSettings(), stop)


if __name__ == "__main__":
    main()
