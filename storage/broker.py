"""Kafka clients with LogCanary's settings: producer, consumer, admin, topics, offsets, reading a topic whole.

    ensure_topics(settings)
    with producer(settings) as out:
        out.send("logs.web", value=b"a line").get(30)
    for record in read_all(settings, settings.kafka.control):
        ...

Every call that needs Kafka and does not reach it raises ``BrokerUnreachableError``, in one sentence with the setting.
This module is the one door to kafka-python; the names of the library that others need are imported from here.
"""

import contextlib
import re
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from contracts.service import ServiceName
from contracts.settings import AppSettings, KafkaOptions

with warnings.catch_warnings():
    # The library reads its schemas by a call that Python 3.11 and 3.12 deprecate and later versions take back.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import (
        ConsumerRebalanceListener,
        KafkaAdminClient,
        KafkaConsumer,
        KafkaProducer,
        OffsetAndMetadata,
        TopicPartition,
    )
    from kafka.consumer.fetcher import ConsumerRecord
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

__all__ = [
    "BrokerUnreachableError",
    "ConsumerRebalanceListener",
    "CooperativeStickyAssignor",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "KafkaTimeoutError",
    "OffsetAndMetadata",
    "Record",
    "TopicPartition",
    "admin",
    "as_record",
    "consumer",
    "end_offsets",
    "ensure_topics",
    "log_pattern",
    "log_topics",
    "newest_records",
    "partitions_of",
    "producer",
    "read_all",
    "read_at",
    "security",
    "service_of",
    "unreachable",
]

CONNECT_SECONDS = 5.0
"""How long to try addresses where nobody listens: a broker that is being started again may need a moment."""
ANSWER_SECONDS = 20.0
"""How long the first answer may take: a broker that listens but still starts needs up to ten seconds."""
DAY_MS = 24 * 60 * 60 * 1000
RETENTION_DAYS = {"detections": 365, "statistics": 30, "deadletters": 90, "audit": 365}
"""Engineers and trainings go back to detections; statistics live on in Prometheus, dead letters in the archive."""
PARTITIONS = 4
"""Of each of these topics; records are keyed by service, so that those of one service stay in order."""

Client = TypeVar("Client", KafkaAdminClient, KafkaConsumer, KafkaProducer)

_service_name: TypeAdapter[str] = TypeAdapter(ServiceName)


class BrokerUnreachableError(ConnectionError):
    """Kafka did not answer at ``kafka.bootstrap``."""


class Record(NamedTuple):
    """A Kafka record; ``timestamp`` is milliseconds since 1970 UTC, -1 where the producer gave none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def producer(settings: AppSettings, **options: object) -> KafkaProducer:
    """A ``KafkaProducer`` that waits for all replicas and writes nothing twice on its own retries.

    Args:
        settings: where Kafka is.
        options: further settings of ``kafka.KafkaProducer``.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    # acks=all and idempotence are the library's defaults (3.0) and are said here because much rests on them.
    return _connect(KafkaProducer, settings, {"acks": "all", "enable_idempotence": True, **options})


class _Consumer(KafkaConsumer):  # type: ignore[misc]
    """A consumer that reads on where a partition is resumed.

    kafka-python 3.0 puts aside what it has fetched of a paused partition, and takes it up again only while it holds
    no records of another one. It counts records that are read to their end as held, so that a resumed partition could
    wait for ever.
    """

    def poll(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if not self._fetcher._next_partition_records:
            self._fetcher._next_partition_records = None
        return super().poll(*arguments, **options)


def consumer(settings: AppSettings, *topics: str, **options: object) -> KafkaConsumer:
    """A ``KafkaConsumer``; without ``group_id`` it commits nothing.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    usual: dict[str, object] = {
        # A consumer that makes the topics it asks for hides a misspelt name.
        "allow_auto_create_topics": False,
        "enable_auto_commit": False,
        # Checksums in plain Python cost 24 us a line, three times all the rest; the C library costs nothing.
        "check_crcs": find_spec("crc32c") is not None,
    }
    return _connect(_Consumer, settings, {**usual, **options}, *topics)


def admin(settings: AppSettings, **options: object) -> KafkaAdminClient:
    """A ``KafkaAdminClient``; its calls return plain dicts.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    return _connect(KafkaAdminClient, settings, options)


def _connect(
    client: Callable[..., Client], settings: AppSettings, options: dict[str, object], *arguments: str
) -> Client:
    bootstrap = settings.kafka.bootstrap
    servers = [server.strip() for server in bootstrap.split(",") if server.strip()]
    if not _answers(servers):
        raise BrokerUnreachableError(unreachable(bootstrap))
    usual = {"bootstrap_servers": servers, "bootstrap_timeout_ms": int(ANSWER_SECONDS * 1000)}
    try:
        return client(*arguments, **{**usual, **security(settings.kafka), **options})
    except (KafkaTimeoutError, KafkaConnectionError, OSError) as error:
        raise BrokerUnreachableError(unreachable(bootstrap)) from error


def security(kafka: KafkaOptions) -> dict[str, str]:
    """What kafka-python is told of TLS and SASL; nothing where brokers are spoken to in the open.

    Raises:
        BrokerUnreachableError: ``kafka.sasl_password_file`` cannot be read.
    """
    if kafka.security_protocol == "PLAINTEXT":
        return {}
    options: dict[str, str] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL") and kafka.ssl_cafile:
        options["ssl_cafile"] = kafka.ssl_cafile
    if kafka.security_protocol.startswith("SASL"):
        try:
            password = Path(kafka.sasl_password_file).read_text().rstrip("\r\n")
        except OSError as error:
            raise BrokerUnreachableError(
                f"Kafka's password cannot be read: {error.strerror}: kafka.sasl_password_file is"
                f" {kafka.sasl_password_file}"
            ) from error
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": password,
        }
    return options


def _answers(servers: Sequence[str]) -> bool:
    """Whether somebody listens at one of the addresses; the library leaves sockets open where nobody does."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        for server in servers:
            host, _, port = server.rpartition(":")
            with contextlib.suppress(OSError, ValueError):
                seconds = max(0.1, deadline - time.monotonic())
                socket.create_connection((host.strip("[]") or server, int(port)), seconds).close()
                return True
        if time.monotonic() + 0.5 > deadline:
            return False
        time.sleep(0.5)


def unreachable(bootstrap: str) -> str:
    """The sentence that says Kafka is not there and what to do."""
    return (
        f"Kafka does not answer at {bootstrap}: is it running, "
        "and is kafka.bootstrap (LOGCANARY_KAFKA__BOOTSTRAP) its address?"
    )


def ensure_topics(settings: AppSettings) -> list[str]:
    """Make LogCanary's own topics where they are missing; returns the names of those made.

    Replication is the broker's default. The control topic has one partition and is compacted: its order is the order
    in which things were said, and the last word on every key stays for ever.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    kafka = settings.kafka
    wanted: dict[str, dict[str, Any]] = {
        kafka.control: {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}},
    }
    for name, days in RETENTION_DAYS.items():
        wanted[getattr(kafka, name)] = {"num_partitions": PARTITIONS, "configs": {"retention.ms": str(days * DAY_MS)}}
    made = []
    with _closing(admin(settings)) as client:
        there = set(client.list_topics())
        for topic, options in wanted.items():
            if topic not in there:
                with contextlib.suppress(TopicAlreadyExistsError):  # another process was quicker
                    client.create_topics({topic: options})
                    made.append(topic)
        client.wait_for_topics(list(wanted))
    return made


def service_of(kafka: KafkaOptions, topic: str) -> str | None:
    """The service whose lines a topic carries; None for LogCanary's own topics and names that are no service's."""
    if topic in kafka.own or not topic.startswith(kafka.log_prefix):
        return None
    try:
        return _service_name.validate_python(topic.removeprefix(kafka.log_prefix))
    except ValidationError:
        return None


def log_pattern(kafka: KafkaOptions) -> str:
    """The regular expression of all log topics, for subscriptions; the whole name has to match."""
    own = "|".join(map(re.escape, kafka.own))
    return f"^(?!(?:{own})$){re.escape(kafka.log_prefix)}[A-Za-z0-9][A-Za-z0-9._-]*$"


def log_topics(settings: AppSettings) -> list[str]:
    """The log topics there are, by name.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    with _closing(admin(settings)) as client:
        return sorted(topic for topic in client.list_topics() if service_of(settings.kafka, topic) is not None)


def end_offsets(settings: AppSettings, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """The offset after the newest record of each partition, by (topic, partition); unknown topics are left out.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    with _closing(consumer(settings)) as client:
        return dict(client.end_offsets(partitions_of(client, topics)))


def partitions_of(client: KafkaConsumer, topics: Iterable[str]) -> list[TopicPartition]:
    """The ``TopicPartition`` of the topics that exist, asked of the broker, in order."""
    there = client.topics()  # also refreshes the client's knowledge of partitions
    return [
        TopicPartition(topic, partition)
        for topic in sorted(set(topics) & there)
        for partition in sorted(client.partitions_for_topic(topic))
    ]


def read_all(settings: AppSettings, topic: str, newest: int | None = None) -> Iterator[Record]:
    """All records of a topic from its start to its end at the time of the call; nothing where there is no such topic.

    Records of one partition come in order.

    Args:
        settings: where Kafka is.
        topic: which one.
        newest: only as many of each partition, the last ones.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    with _closing(consumer(settings, max_poll_records=10_000, fetch_max_wait_ms=50)) as client:
        partitions = partitions_of(client, [topic])
        ends = client.end_offsets(partitions) if partitions else {}
        starts = client.beginning_offsets(partitions) if partitions else {}
        if newest is not None:
            starts = {partition: max(start, ends[partition] - newest) for partition, start in starts.items()}
        left = {partition for partition in partitions if starts[partition] < ends[partition]}
        client.assign(sorted(left))
        for partition in left:
            client.seek(partition, starts[partition])
        while left:
            for partition, records in client.poll(timeout_ms=500).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield as_record(record)
            # The position also passes offsets without a record (compacted, or marks of a transaction).
            for partition in [partition for partition in left if client.position(partition) >= ends[partition]]:
                left.remove(partition)
                client.pause(partition)


def newest_records(settings: AppSettings, topic: str, count: int) -> list[Record]:
    """The ``count`` newest records of a topic by their timestamps, or as many as there are, in offset order.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    found = sorted(read_all(settings, topic, newest=count), key=lambda record: (record.timestamp, record.offset))
    return sorted(found[-count:], key=lambda record: (record.partition, record.offset))


def read_at(settings: AppSettings, wanted: Mapping[tuple[str, int], Iterable[int]]) -> Iterator[Record]:
    """The records at these offsets, by (topic, partition), in offset order; what Kafka does not have is left out.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    with _closing(consumer(settings, max_poll_records=2_000, fetch_max_wait_ms=50)) as client:
        there = [place for place in partitions_of(client, {topic for topic, _ in wanted}) if tuple(place) in wanted]
        starts = client.beginning_offsets(there) if there else {}
        ends = client.end_offsets(there) if there else {}
        for place in there:
            offsets = sorted({at for at in wanted[tuple(place)] if starts[place] <= at < ends[place]})
            client.assign([place])
            yield from _at(settings, client, place, deque(offsets))


def _at(settings: AppSettings, client: KafkaConsumer, place: TopicPartition, left: deque[int]) -> Iterator[Record]:
    """The records at the offsets ``left`` of the one assigned partition."""
    answered = time.monotonic()
    if left:
        client.seek(place, left[0])
    while left:
        records = client.poll(timeout_ms=500).get(place, [])
        for record in records:
            while left and left[0] < record.offset:
                left.popleft()  # not there: compacted, or deleted meanwhile
            if left and left[0] == record.offset:
                left.popleft()
                yield as_record(record)
        position = client.position(place)
        while left and left[0] < position:  # marks of a transaction have offsets and no record
            left.popleft()
        if records:
            answered = time.monotonic()
            if left and left[0] != position:
                client.seek(place, left[0])
        elif time.monotonic() - answered > ANSWER_SECONDS:
            raise BrokerUnreachableError(unreachable(settings.kafka.bootstrap))


def as_record(record: ConsumerRecord) -> Record:
    """A record of kafka-python as ours."""
    headers = list(record.headers or ())
    return Record(record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, headers)


@contextlib.contextmanager
def _closing(client: Client) -> Iterator[Client]:
    try:
        yield client
    finally:
        client.close()
