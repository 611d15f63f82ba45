"""The Flink job on the real stack: no byte stops it, topics and bundles reach it at once, a crash changes nothing."""

import math
import os
import signal
import time

import numpy as np
import psutil
import pytest

from contracts.records import BundlePointer, DeadLetter, Detection, Move, Settings, Statistic
from contracts.service import DetectorOptions, ServiceSettings
from contracts.settings import AppSettings
from deploy.status import read_status
from models.learning import Collector, fit_ngram, learn
from models.registry import Registry
from models.sessions import SessionTable
from parsing.events import Lines
from parsing.parser import Parser
from storage.broker import admin, producer, read_all
from storage.bulk import BulkSender
from storage.control import SWAP_SECONDS, ControlView, ControlWriter, key_of
from storage.files import open_files
from streaming.buckets import Saved
from streaming.bundles import Bundles
from streaming.names import FRAME_BYTES, FRAME_LINES
from streaming.stages import ParseStage, ScoreStage
from streaming.submit import cancel, list_jobs, stop, submit
from tests.machine import patience, wait_for
from tests.packing import pack
from tests.unit import test_trace_stage as traced
from tests.unit import test_whole_stage as whole

JOB = "e2e-job"
TOPICS = r"logs\.job-.*"
pytestmark = [pytest.mark.timeout(400)]

STEPS = ("request received", "stock checked and reserved", "payment of the basket taken", "parcel handed to carrier")
WRONG = (STEPS[0], STEPS[3], STEPS[1])


def order(number, steps=STEPS):
    return [f"2024-05-0{1 + number % 9} 10:00:0{i} INFO {step} trace_id={number:032x}" for i, step in enumerate(steps)]


def orders(first, last, every=7):
    """Lines of orders, one in ``every`` of which goes wrong."""
    chosen = (order(number, WRONG if number % every == 3 else STEPS) for number in range(first, last))
    return [line.encode() for lines in chosen for line in lines]


@pytest.fixture(scope="module")
def stack(stack_settings):
    submit(stack_settings, JOB, TOPICS, start="earliest")
    yield stack_settings
    cancel(stack_settings, JOB)


def make_topic(settings: AppSettings, topic, partitions=1):
    with admin(settings) as client:
        client.create_topics({topic: {"num_partitions": partitions}})
        client.wait_for_topics([topic])


def send(settings, topic, values, partition=0):
    with producer(settings, linger_ms=20) as out:
        # A record without a value needs a key.
        for future in [
            out.send(topic, key=b"key" if value is None else None, value=value, partition=partition) for value in values
        ]:
            future.get(30)


def statistics(settings, topic, stage):
    """Those of a topic, replays counted once."""
    found = {}
    for record in read_all(settings, settings.kafka.statistics):
        one = Statistic.model_validate_json(record.value)
        if (one.topic, one.stage) == (topic, stage):
            found[one.partition, one.bucket, one.first_offset, one.last_offset, one.lines] = one
    return list(found.values())


def detections(settings, service, *, of_traces=False):
    """What the sequence model and the session detectors found, or what was found in traces."""
    found = (Detection.model_validate_json(record.value) for record in read_all(settings, settings.kafka.detections))
    return [one for one in found if one.service == service and (one.kind == "trace") == of_traces]


def scored(settings, topic):
    return sum(one.lines for one in statistics(settings, topic, "score"))


def options_of(service):
    return ServiceSettings(service=service, detector=DetectorOptions(kind="ngram", window=4, end_event="off"))


def make_bundle(service):
    """A bundle learnt by the core from orders that go well."""
    options, lines = options_of(service), orders(0, 400, every=10**6)
    parser, table, collector = Parser(options), SessionTable(4, math.inf, 10**6), Collector(4)
    batch = Lines.from_list(service, f"logs.{service}", 0, range(len(lines)), [0] * len(lines), lines)
    events = parser.parse(batch).events
    collector.add(table.extend(events), events.templates)
    material = collector.material(lines=len(lines), from_ms=0, to_ms=1)
    return learn(material, options, fit_ngram, created_ms=time.time_ns() // 1_000_000)


def pointer(service, version, previous=""):
    before = (Move(version=previous, from_ms=0),) if previous else ()
    return BundlePointer(service=service, version=version, author="test", reason="test", moved_ms=1, before=before)


def test_any_bytes_come_in_and_every_line_is_accounted_for(stack):
    topic = "logs.job-bytes"
    rng = np.random.default_rng(1)
    values = [
        b"plain line 1", b"", None, b"\x00",
        b"with\x00nul and , | and \n newline", b"\xff\xfe\xc3(", "größe 🐦 ok".encode(),
        b"x" * 200_000, b"\xc3\xa9" * 40_000, b" ", b"{",
        b'{"log":"a container line\\n","stream":"stdout"}', b"\xf0\x9f\x90",
    ]  # fmt: skip
    values += [rng.bytes(rng.integers(0, 60)) for _ in range(2_000)]
    make_topic(stack, topic)
    send(stack, topic, values)
    wait_for(lambda: sum(one.lines for one in statistics(stack, topic, "parse")), len(values))
    parsed = statistics(stack, topic, "parse")
    dead = sum(sum(one.dead.values()) for one in parsed)
    wait_for(lambda: scored(stack, topic) + dead, len(values))
    assert sum(one.cut for one in parsed) + sum(one.dead.get("too_long", 0) for one in parsed) == 2
    assert min(one.first_offset for one in parsed) == 0
    assert max(one.last_offset for one in parsed) == len(values) - 1
    reasons = {reason for one in parsed for reason in one.dead}
    assert {"null", "empty"} <= reasons
    assert "error" not in reasons

    def letters():
        found = (DeadLetter.model_validate_json(record.value) for record in read_all(stack, stack.kafka.deadletters))
        return {one.offset: one for one in found if one.topic == topic}

    wait_for(lambda: len(letters()), dead)
    assert (letters()[1].reason, letters()[2].reason) == ("empty", "null")


def test_a_batch_is_bounded_by_its_lines_and_by_their_bytes(stack):
    long, short = "logs.job-long", "logs.job-short"
    for topic in (long, short):
        make_topic(stack, topic)
    limit = stack.flink.max_line_bytes
    with producer(stack, linger_ms=20) as out:
        bulk = BulkSender(out)
        for _ in range(20):
            bulk.send(long, 0, [b"x" * limit] * 15)
            bulk.send(short, 0, [b"short"] * 10_000)
        bulk.flush()
    for topic, lines in ((long, 300), (short, 200_000)):
        wait_for(lambda topic=topic: sum(one.lines for one in statistics(stack, topic, "parse")), lines)
    assert max(one.bytes for one in statistics(stack, long, "parse")) <= FRAME_BYTES
    assert max(one.lines for one in statistics(stack, short, "parse")) <= FRAME_LINES


def test_a_topic_made_while_the_job_runs_is_read_from_its_first_line(stack):
    topic = f"logs.job-late-{time.time_ns()}"
    make_topic(stack, topic, partitions=2)
    send(stack, topic, [b"number %d" % i for i in range(300)], 0)
    send(stack, topic, [b"other %d" % i for i in range(200)], 1)
    wait_for(lambda: scored(stack, topic), 500, seconds=60)
    assert {(one.partition, one.first_offset) for one in statistics(stack, topic, "parse")} >= {(0, 0), (1, 0)}


def test_a_pointer_moved_while_the_job_runs_takes_effect_and_a_bad_one_does_not(stack):
    service, topic = "job-swap", "logs.job-swap"
    make_topic(stack, topic)
    send(stack, topic, orders(0, 50))
    wait_for(lambda: scored(stack, topic), len(orders(0, 50)))
    assert {one.bundle for one in statistics(stack, topic, "score")} == {""}
    version = Registry(open_files(stack.hdfs), stack.hdfs.root).publish(make_bundle(service))
    sent = {"lines": len(orders(0, 50)), "next": 50}

    def newest():
        """Send a few orders more and say what they were scored with."""
        more = orders(sent["next"], sent["next"] + 10)
        first = sent["lines"]
        send(stack, topic, more)
        sent["lines"], sent["next"] = first + len(more), sent["next"] + 10
        wait_for(lambda: scored(stack, topic), sent["lines"])
        late = [one for one in statistics(stack, topic, "score") if one.first_offset >= first]
        return {(one.bundle, bool(one.bundle_refused)) for one in late}

    job = next(job.id for job in list_jobs(stack) if job.name == JOB)
    with ControlWriter(stack) as control:
        control.put(pointer(service, version))
        wait_for(newest, {(version, False)}, seconds=60)
        control.put(pointer(service, "20240101T000000-00000000", previous=version))
        wait_for(newest, {(version, True)}, seconds=60)
        control.put(pointer(service, version))
        wait_for(newest, {(version, False)}, seconds=60)
        control.delete(f"bundle/{service}")
        wait_for(newest, {("", False)}, seconds=60)
    assert next(one.id for one in list_jobs(stack) if one.name == JOB) == job
    found = detections(stack, service)
    assert found
    assert all(one.bundle == version and one.expected and one.headline for one in found)


def expected_ids(service, topic, bundle, partitions):
    """What the core says of the lines of each partition, without Flink."""
    settings, view = AppSettings(), ControlView()

    class Shelf:
        def load(self, service, version):
            return bundle

    view.apply(key_of(known := pointer(service, bundle.manifest.version)), known.model_dump_json().encode())
    parse, score = ParseStage(settings, view), ScoreStage(settings, view, Bundles(Shelf()))
    ids = set()
    for partition, lines in enumerate(partitions):
        n = len(lines)
        columns = np.full(n, partition), np.arange(n), np.full(n, time.time_ns() // 1_000_000)
        for _, key, frame in pack([topic] * n, *columns, lines, settings.flink.max_line_bytes):
            for bucket, events in parse.parse(key, frame, lambda: None).events:
                ids |= {one.id for one in score.score(bucket, events, lambda: Saved(b"", [])).detections}
    return ids


def test_a_killed_taskmanager_changes_no_detection(stack):
    service, topic = "job-kill", "logs.job-kill"
    bundle = make_bundle(service)
    version = Registry(open_files(stack.hdfs), stack.hdfs.root).publish(bundle)
    with ControlWriter(stack) as control:
        control.put(pointer(service, version))
    make_topic(stack, topic, partitions=2)
    partitions = [orders(10_000, 16_000), orders(20_000, 26_000)]
    half = len(partitions[0]) // 2
    for partition, lines in enumerate(partitions):
        send(stack, topic, lines[:half], partition)
    wait_for(lambda: scored(stack, topic) > half, True)
    part = next(part for part in read_status(stack.home).parts if part.name == "taskmanager")
    children = psutil.Process(part.pid).children(recursive=True)
    os.kill(part.pid, signal.SIGKILL)
    for partition, lines in enumerate(partitions):
        send(stack, topic, lines[half:], partition)
    wait_for(lambda: scored(stack, topic) >= sum(map(len, partitions)), True, seconds=150)
    time.sleep(2)
    wanted = expected_ids(service, topic, bundle, partitions)
    assert len(wanted) > 1000
    assert {one.id for one in detections(stack, service)} == wanted
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_whole_sessions_are_judged_as_by_the_core_alone_through_a_kill(stack):
    service, topic = "job-whole", "logs.job-whole"
    options = whole.OPTIONS.model_copy(update={"service": service})
    bundle = whole.bundle_of(options)
    version = Registry(open_files(stack.hdfs), stack.hdfs.root).publish(bundle)
    make_topic(stack, topic)
    with ControlWriter(stack) as control:
        control.put(Settings(settings=options), pointer(service, version))
    time.sleep(patience(SWAP_SECONDS))  # nobody says when both operators know
    lines = [text.encode() for _, text in whole.SHOWN_LOG]
    send(stack, topic, lines[: len(lines) // 2])
    wait_for(lambda: scored(stack, topic), len(lines) // 2)
    part = next(part for part in read_status(stack.home).parts if part.name == "taskmanager")
    os.kill(part.pid, signal.SIGKILL)
    send(stack, topic, lines[len(lines) // 2 :])
    core = whole.Run(bundle).feed(whole.SHOWN_LOG)
    wanted = {(one.id, one.kind, one.detector) for one in core.found}
    assert {one.session for one in core.whole} == {str(number) for number in whole.ODD}
    wait_for(lambda: {(one.id, one.kind, one.detector) for one in detections(stack, service)}, wanted, seconds=150)
    # The newest are not over yet: the last line is in one bucket only.
    assert sum(one.sessions_judged for one in statistics(stack, topic, "score")) > whole.SHOWN / 2
    found = next(one for one in detections(stack, service) if one.kind == "session")
    assert found.headline == found.reasons[0].sentence
    assert found.bundle == version


def test_traces_are_watched_across_services_as_by_the_core_alone_through_a_kill(stack):
    rows = [(at, f"job-{service}", text) for at, service, text in traced.day()]
    core = traced.Run(services := ("job-shop", "job-stock"))
    for at in range(0, len(rows), 500):
        core.feed(rows[at : at + 500], at)
    wanted = traced.told(core.over().found)
    assert {place[0] for place in wanted.values()} == {"job-stock"}
    for service in services:
        make_topic(stack, f"logs.{service}")
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        for service in services:
            send(stack, f"logs.{service}", [text.encode() for _, one, text in part if one == service])
        if part[0] is rows[0]:
            for service in services:
                wait_for(lambda service=service: scored(stack, f"logs.{service}"), half // 2)
            killed = next(part for part in read_status(stack.home).parts if part.name == "taskmanager")
            os.kill(killed.pid, signal.SIGKILL)
    wait_for(lambda: traced.told(detections(stack, "job-stock", of_traces=True)), wanted, seconds=150)
    assert detections(stack, "job-stock") == []
    assert detections(stack, "job-shop", of_traces=True) == []


def test_stopped_with_a_savepoint_it_goes_on_where_it_was(stack):
    topic = "logs.job-kill"
    savepoint = stop(stack, JOB)
    assert savepoint.startswith("file:")
    before = {one.first_offset for one in statistics(stack, topic, "score")}
    send(stack, topic, [b"sent while nobody listened"] * 10)
    submit(stack, JOB, TOPICS, start="latest")
    last = len(orders(10_000, 16_000)) + 9
    wait_for(lambda: max(one.last_offset for one in statistics(stack, topic, "score")), last)
    new = {one.first_offset for one in statistics(stack, topic, "score")} - before
    assert min(new) == last - 9
