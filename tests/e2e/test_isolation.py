"""No service can harm another: flood, strange templates, garbage or broken bundle; nor can one job another."""

import os
import random
import time

import pytest

from contracts.records import Detection
from models.registry import Registry
from storage.broker import producer, read_all
from storage.bulk import BulkSender
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import cancel, list_jobs, submit
from tests.chaos.tables import strange_lines
from tests.e2e.test_job import (
    expected_ids,
    make_bundle,
    make_topic,
    orders,
    pointer,
    scored,
    send,
    statistics,
)
from tests.machine import patience, wait_for

pytestmark = [pytest.mark.timeout(400)]

JOB, OTHER = "e2e-isolation", "e2e-isolation-other"
TOPICS, OTHER_TOPICS = r"logs\.iso-.*", r"logs\.other-iso.*"
FLOOD, CHUNK = 200_000, 4_000
STRANGE = 25_000
"""More dissimilar lines than a service may have templates."""
GARBAGE = 5_000
ROUNDS, ORDERS_A_ROUND = 20, 20
ROUND_SECONDS = 0.5
WORST_LATENCY_MS = 60_000
"""From the newest line's arrival to its score, while all the others misbehave. That is much: ``docs/invariants.md``."""


@pytest.fixture(scope="module")
def stack(stack_settings):
    submit(stack_settings, JOB, TOPICS, start="earliest")
    submit(stack_settings, OTHER, OTHER_TOPICS, start="earliest")
    yield stack_settings
    for job in list_jobs(stack_settings):
        if job.name in (JOB, OTHER) and job.state == "RUNNING":
            cancel(stack_settings, job.name)


def publish(stack, service):
    """A bundle in the registry and in force; returns it."""
    bundle = make_bundle(service)
    files = open_files(stack.hdfs)
    version = Registry(files, stack.hdfs.root).publish(bundle)
    files.close()
    with ControlWriter(stack) as control:
        control.put(pointer(service, version))
    return bundle


def damage(stack, service, version):
    """Overwrite every file of a bundle but its manifest."""
    files = open_files(stack.hdfs)
    folder = Registry(files, stack.hdfs.root).folder(service, version)
    for info in files.list(folder):
        if not info.name.startswith("manifest"):
            files.delete(f"{folder}/{info.name}")
            files.write(f"{folder}/{info.name}", os.urandom(max(info.size, 1)))
    files.close()


def broken(stack, service):
    """A bundle in force whose files are damaged; returns its version."""
    bundle = make_bundle(service)
    files = open_files(stack.hdfs)
    version = Registry(files, stack.hdfs.root).publish(bundle)
    files.close()
    damage(stack, service, version)
    with ControlWriter(stack) as control:
        control.put(pointer(service, version))
    return version


def detection_ids(stack, service):
    found = (Detection.model_validate_json(record.value) for record in read_all(stack, stack.kafka.detections))
    return {one.id for one in found if one.service == service and one.kind != "trace"}


def garbage(chance):
    kinds = (
        lambda: chance.randbytes(chance.randrange(300)),
        lambda: b"",
        lambda: None,
        lambda: chance.randbytes(100_000),
        lambda: b'{"log": ' * chance.randrange(1, 50),
    )
    return [chance.choices(kinds, [70, 10, 10, 1, 9])[0]() for _ in range(GARBAGE)]


def until_in_force(stack, topic, version):
    """Send orders that go well until they are judged with the bundle; returns the lines.

    A pointer reaches a running job soon, not at once: that is what ``storage.control.SWAP_SECONDS`` is for.
    """
    lines = []
    for number in range(100_000, 100_020):
        send(stack, topic, more := orders(number, number + 1, every=10**6))
        lines += more
        wait_for(lambda: scored(stack, topic), len(lines), seconds=60)
        if max(statistics(stack, topic, "score"), key=lambda one: one.last_offset).bundle == version:
            return lines
    raise AssertionError(f"bundle {version} is not in force on {topic}")


def run_quiet(stack, topic, rounds, meanwhile):
    """Send a few orders every half second, and something else in between; returns the lines."""
    lines = []
    for number in range(rounds):
        began = time.monotonic()
        more = orders(number * ORDERS_A_ROUND, (number + 1) * ORDERS_A_ROUND)
        send(stack, topic, more)
        lines += more
        meanwhile(number)
        time.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))  # the rate is the point: a steady stream
    return lines


def test_services_that_misbehave_cost_the_others_nothing(stack):
    names = {kind: f"iso-{kind}" for kind in ("quiet", "flood", "strange", "garbage", "broken")}
    topics = {kind: f"logs.{name}" for kind, name in names.items()}
    bundle = publish(stack, names["quiet"])
    refused = broken(stack, names["broken"])
    for topic in topics.values():
        make_topic(stack, topic)
    chance = random.Random(9)
    # The quiet service is known before the others begin, as it would be.
    first = until_in_force(stack, topics["quiet"], bundle.manifest.version)
    flood = [b"2024-05-01 10:00:00 INFO the same thing happened %d times again" % number for number in range(FLOOD)]
    strange, dirt = strange_lines(chance, STRANGE), garbage(chance)
    failing = orders(0, 400)

    with producer(stack, linger_ms=20) as out:
        bulk = BulkSender(out)

        def misbehave(number):
            some = flood[number * FLOOD // ROUNDS : (number + 1) * FLOOD // ROUNDS]
            for start in range(0, len(some), CHUNK):
                bulk.send(topics["flood"], 0, some[start : start + CHUNK])
            bulk.send(topics["strange"], 0, strange[number * STRANGE // ROUNDS : (number + 1) * STRANGE // ROUNDS])
            for value in dirt[number * GARBAGE // ROUNDS : (number + 1) * GARBAGE // ROUNDS]:
                out.send(topics["garbage"], key=b"key" if value is None else None, value=value)
            bulk.send(topics["broken"], 0, failing[number * 80 : (number + 1) * 80])

        lines = first + run_quiet(stack, topics["quiet"], ROUNDS, misbehave)
        bulk.flush()
        out.flush()

    wait_for(lambda: scored(stack, topics["quiet"]), len(lines), seconds=60)
    found = [one for one in statistics(stack, topics["quiet"], "score") if one.last_offset >= len(first)]
    waits = sorted(one.emitted_ms - one.newest_arrival_ms for one in found)
    print("from arrival to score, ms:", waits)
    assert waits[-1] < patience(WORST_LATENCY_MS)
    assert {one.bundle for one in found} == {bundle.manifest.version}
    # The others are handled too, and say what is wrong with them.
    for kind, sent in (("flood", FLOOD), ("strange", STRANGE), ("garbage", GARBAGE)):
        wait_for(lambda topic=topics[kind]: sum(one.lines for one in statistics(stack, topic, "parse")), sent)
    # 20,000 are kept, and within 20,000 lines there may be an eighth more.
    assert 20_000 <= max(one.templates for one in statistics(stack, topics["strange"], "parse")) <= 22_500
    assert sum(sum(one.dead.values()) for one in statistics(stack, topics["garbage"], "parse")) > GARBAGE // 10
    judged = statistics(stack, topics["broken"], "score")
    assert judged
    assert all(refused in one.bundle_refused and not one.bundle for one in judged)
    wanted = expected_ids(names["quiet"], topics["quiet"], bundle, [lines])
    assert len(wanted) > 20
    wait_for(lambda: detection_ids(stack, names["quiet"]), wanted, seconds=30)


def test_a_job_that_is_cancelled_in_the_middle_changes_nothing_for_another(stack):
    service, topic = "iso-steady", "logs.iso-steady"
    bundle = publish(stack, service)
    make_topic(stack, topic)
    make_topic(stack, other := "logs.other-iso")
    sent = {"count": 0}

    def meanwhile(number):
        send(stack, other, more := orders(number * 100, (number + 1) * 100))
        sent["count"] += len(more)
        if number == 4:
            wait_for(lambda: scored(stack, other) > 0, True, seconds=60)
            cancel(stack, OTHER)

    before = next(job.id for job in list_jobs(stack) if job.name == JOB)
    lines = until_in_force(stack, topic, bundle.manifest.version)
    lines += run_quiet(stack, topic, 10, meanwhile)
    wait_for(lambda: scored(stack, topic), len(lines), seconds=60)
    wanted = expected_ids(service, topic, bundle, [lines])
    assert len(wanted) > 10
    wait_for(lambda: detection_ids(stack, service), wanted, seconds=30)
    running = {job.name: job for job in list_jobs(stack)}
    assert running[JOB].state == "RUNNING"
    assert running[JOB].id == before
    assert running.get(OTHER) is None or running[OTHER].state != "RUNNING"
    assert scored(stack, other) < sent["count"]
