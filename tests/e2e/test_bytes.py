"""Bytes on the real stack: any record that Kafka takes comes back from the archive, and the job sees the same bytes."""

import json
import random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from typer.testing import CliRunner

from cli.deadletters import REPLAY_OF
from cli.main import app
from contracts.records import DeadLetter
from contracts.settings import AppSettings
from models.registry import Registry
from storage.archive import list_files, read_lines
from storage.broker import Record, TopicPartition, admin, producer, read_all
from storage.control import ControlView, ControlWriter, key_of
from storage.files import open_files
from streaming.buckets import Saved
from streaming.bundles import Bundles
from streaming.stages import ParseStage, ScoreStage
from streaming.submit import cancel, submit
from tests.e2e.test_job import detections, make_bundle, pointer, statistics
from tests.machine import wait_for
from tests.packing import pack

JOB, TOPICS = "e2e-bytes", r"logs\.bytes-.*"
SERVICES = ANY, WORST, DEAD = "bytes-any", "bytes-worst", "bytes-dead"
MEGABYTE = 1_000_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LATEST_MS = 1_795_000_000_000
pytestmark = [pytest.mark.timeout(400)]


class Sent(NamedTuple):
    """A record as a producer sends it."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 0


NASTY = [
    None, b"", b"\x00", b"\x00" * 40, b" \t\r\n", b"\n", b"a\nb", b"a\r\n", b"\x1e", b"\x1f", b"\xff", b"\xfe\xff",
    b"\xc3(", b"\xf0\x9f\x90", b"\xed\xa0\x80", b"\xef\xbb\xbfline", "🐦 größe 日本".encode(), b"LCFR", b"PAR1",
    b"{", b"}", b'{"log":"a container line\\n"}', b'{"log":"\\ud800"}', b"null", b"-1", b",", b"|", b"#", b"/", b'"',
    b"\\", b"\x7f", b"\x80",
    *(frame for _, _, frame in pack(["logs.x"], *(np.zeros((3, 1), np.int64)), [b"a line in a frame"], 100)),
]  # fmt: skip
"""What is special to the frames, the archive, Kafka, JSON, the parser or a terminal."""

pieces = st.one_of(st.sampled_from(NASTY[1:]), st.binary(max_size=20), st.text(max_size=10).map(str.encode))
values = st.one_of(st.sampled_from(NASTY), st.lists(pieces, max_size=3).map(b"".join))
headers = st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=6)), max_size=2).map(tuple)


@st.composite
def batches(draw):
    """Records of one batch, with times that lie close together, or anywhere: each step ahead makes a file."""
    base = draw(st.integers(0, LATEST_MS - 2_000))
    times = st.integers(base, base + 2_000)
    keys = st.none() | st.binary(max_size=6)
    records = draw(st.lists(st.builds(Sent, values, keys, headers, times), min_size=30, max_size=60))
    return [*records, draw(st.builds(Sent, values, keys, headers, st.integers(0, LATEST_MS)))]


@pytest.fixture(scope="module")
def bundles():
    return {service: make_bundle(service) for service in SERVICES}


@pytest.fixture(scope="module")
def stack(stack_settings, bundles):
    """The stack with a job whose services have bundles that know none of their lines: each line is a detection."""
    files = open_files(stack_settings.hdfs)
    with ControlWriter(stack_settings) as control:
        for service, bundle in bundles.items():
            control.put(pointer(service, Registry(files, stack_settings.hdfs.root).publish(bundle)))
    files.close()
    with admin(stack_settings) as client:
        # The producer's times, whatever they are, and no record is too old to be kept.
        own_times = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        client.create_topics({f"logs.{ANY}": {"num_partitions": 1, "configs": own_times}})
        client.create_topics({f"logs.{service}": {"num_partitions": 1} for service in (WORST, DEAD)})
        client.wait_for_topics([f"logs.{service}" for service in SERVICES])
    submit(stack_settings, JOB, TOPICS, start="earliest")
    yield stack_settings
    cancel(stack_settings, JOB)


def send_batch(stack, topic, records, codec="none"):
    """Send a batch as any client may: ``KafkaProducer.send`` wants a key or a value, and a value for each header."""
    builder = MemoryRecordsBuilder(2, CODECS[codec], 1 << 24)
    for record in records:
        assert builder.append(record.timestamp, record.key, record.value, list(record.headers))
    place = TopicPartition(topic, 0)
    batch = ProducerBatch(place, builder)
    with producer(stack) as out:
        out.partitions_for(topic)
        with out._accumulator._tp_lock(place):
            out._accumulator._batches[place].append(batch)
            out._accumulator._incomplete.add(batch)
        out._sender.wakeup()
        assert batch.produce_future.wait(30)
    assert batch.produce_future.succeeded(), batch.produce_future.exception


def in_kafka(topic, sent, arrivals):
    """What was sent to an empty topic, as records."""
    return [
        Record(topic, 0, offset, arrival, one.key, one.value, list(one.headers))
        for offset, (one, arrival) in enumerate(zip(sent, arrivals, strict=True))
    ]


def archived(stack, service):
    """How many offsets the archive's files name."""
    files = list_files(open_files(stack.hdfs), stack.hdfs.root, service)
    return sum(file.last - file.first + 1 for file in files)


def in_archive(stack, service):
    """The archive's rows as records."""
    rows = [row for table in read_lines(open_files(stack.hdfs), stack.hdfs.root, service) for row in table.to_pylist()]
    return [Record(**row | {"headers": [(head["key"], head["value"]) for head in row["headers"]]}) for row in rows]


def differing(found, wanted):
    """Offsets of records that are not the same: a comparison of megabytes is nothing to print."""
    assert len(found) == len(wanted)
    return [one.offset for one, other in zip(found, wanted, strict=True) if one != other]


def by_the_core(stack: AppSettings, bundle, records):
    """Dead letters, detections and counts that the stages make of records, without Kafka and Flink."""
    service, topic = bundle.manifest.service, records[0].topic

    class Shelf:
        def load(self, service, version):
            return bundle

    view, limit = ControlView(), stack.flink.max_line_bytes
    view.apply(key_of(known := pointer(service, bundle.manifest.version)), known.model_dump_json().encode())
    parse, score = ParseStage(stack, view), ScoreStage(stack, view, Bundles(Shelf()))
    # The source hands on one byte more than is parsed.
    lines = [one.value and one.value[: limit + 1] for one in records]
    columns = np.array([(one.partition, one.offset, one.timestamp) for one in records], np.int64).T
    ((_, key, frame),) = pack([topic] * len(lines), *columns, lines, limit)
    out = parse.parse(key, frame, lambda: None)
    scored = [score.score(bucket, events, lambda: Saved(b"", [])) for bucket, events in out.events]
    return out, [found for one in scored for found in one.detections]


def letters(stack, topic):
    found = (DeadLetter.model_validate_json(record.value) for record in read_all(stack, stack.kafka.deadletters))
    mine = {(one.offset, one.replayed_ms): one for one in found if one.topic == topic}
    return [mine[key] for key in sorted(mine)]


def counts(stack, topic):
    """Lines, bytes, dead lines by reason, cut and odd lines, as the job counted them, and the lines it scored."""
    parsed = statistics(stack, topic, "parse")
    dead, odd = ({}, {})
    for one in parsed:
        for total, more in ((dead, one.dead), (odd, one.odd)):
            total |= {reason: total.get(reason, 0) + number for reason, number in more.items()}
    sums = [sum(getattr(one, name) for one in parsed) for name in ("lines", "bytes", "cut")]
    return (*sums, dead, odd), sum(one.lines for one in statistics(stack, topic, "score"))


def essence(detection):
    return detection.offset, detection.line, detection.session, detection.template, detection.event_ms


def check(stack, bundle, wanted):
    """The archive has these records, and the job has seen the very same lines: it says of them what the core says."""
    service, topic = bundle.manifest.service, wanted[0].topic
    assert not differing(list(read_all(stack, topic)), wanted)
    out, found = by_the_core(stack, bundle, wanted)
    said = out.statistic
    parsed = said.lines, said.bytes, said.cut, said.dead, said.odd
    wait_for(lambda: counts(stack, topic), (parsed, len(wanted) - len(out.dead)), seconds=60)
    wait_for(lambda: letters(stack, topic), out.dead, seconds=60)
    expected = {one.id: essence(one) for one in found}
    assert len(expected) >= (len(wanted) - len(out.dead)) // 2
    wait_for(lambda: {one.id: essence(one) for one in detections(stack, service)}, expected, seconds=60)
    wait_for(lambda: archived(stack, service), len(wanted), seconds=60)
    assert not differing(in_archive(stack, service), wanted)


ANYTHING = []
"""All that was sent to the topic of the property, whose examples follow each other on the one stack."""


@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(batches(), st.sampled_from(sorted(CODECS)))
def test_any_record_comes_back_byte_for_byte(stack, bundles, records, codec):
    send_batch(stack, f"logs.{ANY}", records, codec)
    ANYTHING.extend(records)
    check(stack, bundles[ANY], in_kafka(f"logs.{ANY}", ANYTHING, [one.timestamp for one in ANYTHING]))


def test_the_worst_lines_come_back_byte_for_byte(stack, bundles):
    topic, chance = f"logs.{WORST}", random.Random(3)
    small = [
        *(Sent(value, b"key" if value is None else None) for value in NASTY),
        *(Sent(b"line", key, (("trace", value), ("trace", b"again"), ("größe", b"\x00"))) for key, value in
          [(b"", b""), (b"\xff\x00", b"\xff"), (None, b"\n"), ("🐦".encode(), "🐦".encode())]),
    ]  # fmt: skip
    large = [
        Sent(b"x" * MEGABYTE),
        Sent(b"\x00" * MEGABYTE),
        Sent(chance.randbytes(MEGABYTE), chance.randbytes(1_000)),
        Sent("🐦".encode() * (MEGABYTE // 4)),
        Sent(b"word " * MEGABYTE),
        Sent(b"a line behind the long ones"),
    ]
    for codec, some in ((None, small), ("lz4", small), (None, large), ("lz4", large)):
        with producer(stack, compression_type=codec, linger_ms=20, max_request_size=8 * MEGABYTE) as out:
            for one in some:
                out.send(topic, one.value, one.key, list(one.headers), partition=0)
    arrivals = [record.timestamp for record in read_all(stack, topic)]
    check(stack, bundles[WORST], in_kafka(topic, [*small, *small, *large, *large], arrivals))


def logcanary(stack, *words):
    """Run the command line; returns the JSON it prints."""
    done = CliRunner().invoke(app, [*words, "--json"], env={"LOGCANARY_HOME": str(stack.home)})
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


BAD = [
    Sent(b"", b"key", (("who", b"\xff\x00"),)),
    Sent(None, b"\xfe"),
    Sent(b"\xff\xfe broken \x00", None, (("trace", b"1"), ("trace", b"2"))),
    Sent(None),
    Sent(b"\xff" + b" " * 2 * MEGABYTE),
    Sent(b"  "),
    Sent(b"\xc3(", None, (("no value", None),)),
]
BAD_REASONS = ["empty", "null", "invalid_utf8", "null", "invalid_utf8", "empty", "invalid_utf8"]
SENDABLE = [0, 1, 2, 4, 5]
"""Of ``BAD``: the rest kafka-python does not send."""


def again(bad, offset):
    return bad._replace(headers=(*bad.headers, (REPLAY_OF, f"logs.{DEAD}/0/{offset}".encode())))


def content(records):
    return [Sent(one.value, one.key, tuple(one.headers)) for one in records]


def test_dead_letters_are_listed_and_sent_again_byte_for_byte(stack):
    topic = f"logs.{DEAD}"
    send_batch(stack, topic, BAD)
    wait_for(lambda: len(letters(stack, topic)), len(BAD))
    listed = logcanary(stack, "deadletters", "list", "--service", DEAD)
    assert [(one["offset"], one["reason"]) for one in listed[::-1]] == list(enumerate(BAD_REASONS))
    assert [one["head"] for one in listed if one["offset"] == 2] == ["\\xff\\xfe broken \x00"]

    (tried,) = logcanary(stack, "deadletters", "replay", "--service", DEAD, "--dry-run")
    assert (tried["replayed"], tried["left_out"], tried["dry_run"]) == (5, 2, True)
    assert len(list(read_all(stack, topic))) == len(BAD)
    (done,) = logcanary(stack, "deadletters", "replay", "--service", DEAD)
    assert done["by_reason"] == {"empty": 2, "null": 1, "invalid_utf8": 2}
    assert (done["left_out"], done["missing"], done["refused"], done["from_archive"]) == (2, 0, 0, 0)
    lines = [*BAD, *(again(BAD[offset], offset) for offset in SENDABLE)]
    assert content(read_all(stack, topic)) == lines
    # Each counts again, and is bad again.
    wait_for(lambda: counts(stack, topic)[0][3], {"empty": 4, "null": 3, "invalid_utf8": 5})
    wait_for(lambda: len(logcanary(stack, "deadletters", "list", "--service", DEAD)), len(lines))
    listed = logcanary(stack, "deadletters", "list", "--service", DEAD)
    assert sorted(one["offset"] for one in listed if one["replayed_ms"]) == SENDABLE

    wait_for(lambda: archived(stack, DEAD), len(lines))
    with admin(stack) as client:
        client.delete_records({TopicPartition(topic, 0): len(BAD)})
    words = ("deadletters", "replay", "--service", DEAD, "--reason", "invalid_utf8")
    (done,) = logcanary(stack, *words, "--again")
    # Offsets 2 and 4 from the archive; 9 and 10, which repeat them, from Kafka; 6 has the header without a value.
    assert (done["replayed"], done["from_archive"], done["left_out"]) == (4, 2, 1)
    assert content(read_all(stack, topic))[-4:] == [
        again(BAD[2], 2), again(BAD[4], 4), again(BAD[2], 9), again(BAD[4], 10)
    ]  # fmt: skip
    wait_for(lambda: counts(stack, topic)[0][0], len(lines) + 4)
