"""The two threads of a run: one sends lines at a steady rate, one follows what becomes of them."""

import json
import threading
import time
from collections.abc import Sequence

from contracts.settings import AppSettings
from storage.broker import BrokerUnreachableError, KafkaError, consumer, end_offsets, partitions_of, producer
from storage.bulk import BulkSender
from tests.chaos.orders import Orders

TICK_SECONDS = 0.05
PATIENCE_SECONDS = 0.5
"""Between two attempts to reach a broker that is being started again."""


class Sender(threading.Thread):
    """Sends the lines of each partition in order, ``rate`` lines a second over all, until ``stop``.

    Args:
        settings: where Kafka is.
        topic: has a partition for each of ``streams``.
        streams: the lines, by partition.
        rate: lines a second, may be changed at any time.
        limit: lines over all partitions, after which it ends.
        keep: remember what was sent, for comparison.
    """

    def __init__(
        self,
        settings: AppSettings,
        topic: str,
        streams: Sequence[Orders],
        rate: float,
        limit: int | None = None,
        keep: bool = True,
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self.settings, self.topic, self.streams = settings, topic, streams
        self.rate, self.limit, self.keep = rate, limit, keep
        self.count = 0
        self.sent: list[list[bytes]] = [[] for _ in streams]
        self.error: BaseException | None = None
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Send; what goes wrong is in ``error``."""
        try:
            with producer(self.settings) as out:
                bulk = BulkSender(out)
                self._send(bulk)
                bulk.flush()
        except BaseException as error:
            self.error = error

    def _send(self, bulk: BulkSender) -> None:
        owed, last, turn = 0.0, time.monotonic(), 0
        while not self._stop_asked.wait(TICK_SECONDS) and (self.limit is None or self.count < self.limit):
            now = time.monotonic()
            # A broker that was away is not made up for at once: the rate is steady, not the average.
            owed = min(owed + (now - last) * self.rate, max(self.rate, 1.0))
            last = now
            left = int(owed) if self.limit is None else min(int(owed), self.limit - self.count)
            owed -= left
            for _ in self.streams:
                # Fewer lines than partitions in a tick: each has its turn.
                share = left // len(self.streams) + (turn < left % len(self.streams))
                self._to(bulk, turn, share)
                turn = (turn + 1) % len(self.streams)
            turn = (turn + left) % len(self.streams)

    def _to(self, bulk: BulkSender, partition: int, count: int) -> None:
        if count:
            lines = self.streams[partition].take(count)
            bulk.send(self.topic, partition, lines)
            self.count += count
            if self.keep:
                self.sent[partition] += lines

    def stop(self) -> None:
        """Send no more, and wait until Kafka has what was sent."""
        self.abandon()
        self.join()
        self.check()

    def abandon(self) -> None:
        """Send no more, whatever becomes of what was sent."""
        self._stop_asked.set()

    def check(self) -> None:
        """Raise what the thread died of, if it did."""
        if self.error is not None:
            raise RuntimeError(f"lines can no longer be sent: {self.error!r}") from self.error


class Follower(threading.Thread):
    """Follows the statistics of one topic's scoring from the time of its making, whatever happens to the broker.

    Records that operators repeat after a crash come again; ``progressed`` is made for that.
    """

    def __init__(self, settings: AppSettings, topic: str) -> None:
        super().__init__(name="follower", daemon=True)
        self.settings, self.topic = settings, topic
        self.records: list[tuple[int, int, int, int, int, int]] = []
        """Emitted (ms), partition, bucket, last offset, lines, newest arrival (ms); as they come."""
        self.read_at = time.monotonic()
        """When the broker last answered."""
        self._forgotten = 0
        self._base: dict[int, int] = {}
        self._positions = end_offsets(settings, [settings.kafka.statistics])
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Follow until ``stop``."""
        while not self._stop_asked.is_set():
            try:
                self._follow()
            except (BrokerUnreachableError, KafkaError, OSError, ValueError):
                self._stop_asked.wait(PATIENCE_SECONDS)  # it is being started again

    def _follow(self) -> None:
        with consumer(self.settings, fetch_max_wait_ms=100, max_poll_records=2_000) as client:
            partitions = partitions_of(client, [self.settings.kafka.statistics])
            client.assign(partitions)
            for partition in partitions:
                client.seek(partition, self._positions.get((partition.topic, partition.partition), 0))
            while not self._stop_asked.is_set():
                for partition, records in client.poll(timeout_ms=200).items():
                    for record in records:
                        self._take(record.value)
                    self._positions[partition.topic, partition.partition] = records[-1].offset + 1
                    self.read_at = time.monotonic()

    def _take(self, value: bytes) -> None:
        one = json.loads(value)
        if one["topic"] == self.topic and one["stage"] == "score" and one["lines"]:
            names = ("emitted_ms", "partition", "bucket", "last_offset", "lines", "newest_arrival_ms")
            emitted, partition, bucket, last, lines, arrival = (one[name] for name in names)
            self.records.append((emitted, partition, bucket, last, lines, arrival))

    def reached(self, partitions: int, until_ms: int | None = None) -> list[int]:
        """The highest offset scored of each partition, -1 for none; by records emitted up to a time."""
        found = highest(self.records[self._forgotten :], partitions, until_ms)
        return [max(one, self._base.get(partition, -1)) for partition, one in enumerate(found)]

    def progressed(self, before: Sequence[int], after_ms: int) -> int | None:
        """When (ms) every partition had gone past ``before`` by records emitted after a time; None: not yet."""
        return progress(self.records[self._forgotten :], before, after_ms)

    def forget(self, until_ms: int) -> None:
        """Remember of the records up to the first emitted after a time only how far they went: the list grows long."""
        while self._forgotten < len(self.records) and self.records[self._forgotten][0] <= until_ms:
            _, partition, _, last, *_ = self.records[self._forgotten]
            self._base[partition] = max(last, self._base.get(partition, -1))
            self._forgotten += 1

    def stop(self) -> None:
        """Follow no more."""
        self._stop_asked.set()
        self.join(10)


def highest(records: Sequence[tuple[int, ...]], partitions: int, until_ms: int | None = None) -> list[int]:
    """The highest last offset of each partition among records emitted up to a time, -1 for none.

    >>> highest([(10, 0, 0, 5, 1, 0), (20, 0, 1, 9, 1, 0)], 2, until_ms=15)
    [5, -1]
    """
    found = [-1] * partitions
    for emitted, partition, _, last, *_ in records:
        if until_ms is None or emitted <= until_ms:
            found[partition] = max(found[partition], last)
    return found


def progress(records: Sequence[tuple[int, ...]], before: Sequence[int], after_ms: int) -> int | None:
    """When (ms) every partition was past ``before``, by records emitted after a time; None: not yet.

    >>> progress([(10, 0, 0, 5, 1, 0), (20, 0, 1, 6, 1, 0)], [4], after_ms=15)
    20
    """
    moments: dict[int, int] = {}
    for emitted, partition, _, last, *_ in records:
        if emitted > after_ms and last > before[partition]:
            moments[partition] = min(emitted, moments.get(partition, emitted))
    return max(moments.values()) if len(moments) == len(before) else None
