"""A job that is stopped with a savepoint goes on as a later version of itself: changed code, one more operator."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from contracts.records import Detection, Settings, Statistic, Verdict
from contracts.service import DetectorOptions, ServiceSettings
from contracts.settings import AppSettings
from deploy.jobs import list_jobs, read_spec
from deploy.paths import DeployError
from models.registry import Registry
from storage.broker import read_all
from storage.control import ControlView, ControlWriter, key_of
from storage.files import open_files
from streaming.buckets import Saved
from streaming.bundles import Bundles
from streaming.stages import ParseStage, ScoreStage
from streaming.submit import cancel, stop, submit
from tests.e2e.test_job import STEPS, WRONG, make_bundle, make_topic, pointer, send
from tests.machine import wait_for
from tests.packing import pack

JOB, SERVICE, TOPIC = "e2e-upgrade", "up-pay", "logs.up-pay"
TOPICS = r"logs\.up-.*"
UPGRADED = str(Path(__file__).with_name("upgraded_job.py"))
SHORT = (STEPS[0], STEPS[2], STEPS[3])
PARTITIONS, ORDERS, ABREAST = 2, 500, 50
"""Of the orders of a partition this many are open at once."""
APART = 7_000
"""Between the numbers of two partitions: a multiple of 7, so that both have as many lines."""
pytestmark = [pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack(stack_settings):
    yield stack_settings
    if any(job.name == JOB and job.state == "RUNNING" for job in list_jobs(stack_settings)):
        cancel(stack_settings, JOB)


def interleaved(first):
    """Lines of orders, ``ABREAST`` of them at once, step by step: wherever they are cut, orders are open."""
    lines = []
    for start in range(first, first + ORDERS, ABREAST):
        for i in range(len(STEPS)):
            for number in range(start, start + ABREAST):
                steps = WRONG if number % 7 == 3 else SHORT if number % 7 == 5 else STEPS
                if i < len(steps):
                    lines.append(f"2024-05-01 10:00:0{i} INFO {steps[i]} trace_id={number:032x}".encode())
    return lines


class Core:
    """What parser, models and stages say of lines, without Flink and without a stop."""

    def __init__(self, bundle, control):
        view = ControlView()
        for record in control:
            view.apply(key_of(record), record.model_dump_json().encode())
        settings = AppSettings()

        class Shelf:
            def load(self, service, version):
                return bundle

        self._parse, self._score = ParseStage(settings, view), ScoreStage(settings, view, Bundles(Shelf()))
        self._limit = settings.flink.max_line_bytes

    def detections(self, partition, lines, first=0):
        n, found = len(lines), []
        columns = np.full(n, partition), np.arange(first, first + n), np.full(n, time.time_ns() // 1_000_000)
        for _, key, frame in pack([TOPIC] * n, *columns, lines, self._limit):
            for bucket, events in self._parse.parse(key, frame, lambda: None).events:
                found += self._score.score(bucket, events, lambda: Saved(b"", [])).detections
        return found


def false_positive(detection):
    return Verdict(
        service=SERVICE,
        detection=detection.id,
        template=detection.template,
        topic=TOPIC,
        partition=detection.partition,
        offset=detection.offset,
        session=detection.session,
        event_ms=detection.event_ms,
        arrival_ms=detection.arrival_ms,
        value="false-positive",
        reason="test",
        author="test",
        given_ms=1,
    )


def published(stack):
    bundle = make_bundle(SERVICE)
    files = open_files(stack.hdfs)
    version = Registry(files, stack.hdfs.root).publish(bundle)
    files.close()
    return bundle, pointer(SERVICE, version)


def statistics(stack, stage):
    """All records of the topic, those that came twice twice, with the version that wrote them."""
    found = [json.loads(record.value) for record in read_all(stack, stack.kafka.statistics)]
    return [
        (Statistic.model_validate(one), one.get("version", 1))
        for one in found
        if (one["topic"], one["stage"]) == (TOPIC, stage)
    ]


def detections(stack):
    found = [json.loads(record.value) for record in read_all(stack, stack.kafka.detections)]
    return [(Detection.model_validate(one), one.get("number")) for one in found if one["service"] == SERVICE]


def wait_until_scored(stack, lines):
    wait_for(lambda: sum(one.lines for one, _ in statistics(stack, "score")), lines)


def each_offset_once(stack, lines):
    """Whether the ranges that were parsed follow one another, in each partition, to its last line."""
    for partition in range(PARTITIONS):
        of_partition = [one for one, _ in statistics(stack, "parse") if one.partition == partition]
        ranges = sorted((one.first_offset, one.last_offset, one.lines) for one in of_partition)
        expected = 0
        for first, last, count in ranges:
            assert (first, last) == (expected, first + count - 1), ranges
            expected = last + 1
        assert expected == lines, ranges


def test_changed_code_and_one_more_operator_go_on_where_the_old_job_stopped(stack):
    bundle, known = published(stack)
    partitions = [interleaved(partition * APART) for partition in range(PARTITIONS)]
    every, third = len(partitions[0]), len(partitions[0]) // 3
    assert every - third > third + ABREAST
    raised = [one for p, lines in enumerate(partitions) for one in Core(bundle, [known]).detections(p, lines)]
    quiet = false_positive(raised[0])
    core = Core(bundle, [known, quiet])
    wanted = {one.id for p, lines in enumerate(partitions) for one in core.detections(p, lines)}
    assert 100 < len(wanted) < len(raised)
    # The test can tell: without the sessions that are open at the stop, other lines stand out.
    forgetful = Core(bundle, [known, quiet])
    rest = {one.id for p, lines in enumerate(partitions) for one in forgetful.detections(p, lines[third:], third)}
    assert rest - wanted

    with ControlWriter(stack) as control:
        control.put(Settings(settings=ServiceSettings(service=SERVICE, detector=DetectorOptions(traces="off"))))
        control.put(known)
        control.put(quiet)
    make_topic(stack, TOPIC, PARTITIONS)
    submit(stack, JOB, TOPICS, start="earliest")
    for partition, lines in enumerate(partitions):
        send(stack, TOPIC, lines[:third], partition)
    wait_until_scored(stack, PARTITIONS * third)
    stop(stack, JOB)
    before = len(detections(stack))
    assert before
    for partition, lines in enumerate(partitions):
        send(stack, TOPIC, lines[third : 2 * third], partition)
    submit(stack, JOB, TOPICS, program=UPGRADED)
    wait_until_scored(stack, PARTITIONS * 2 * third)
    for partition, lines in enumerate(partitions):
        send(stack, TOPIC, lines[2 * third :], partition)
    wait_until_scored(stack, PARTITIONS * every)
    wait_for(lambda: len(detections(stack)), len(wanted))

    each_offset_once(stack, every)
    scores = statistics(stack, "score")
    assert {version for one, version in scores if one.first_offset >= third} == {2}
    assert {version for one, version in scores if one.last_offset < third} == {1}
    assert {(one.bundle, one.bundle_refused) for one, _ in scores} == {(known.version, "")}
    found = detections(stack)
    assert {one.id for one, _ in found} == wanted
    assert quiet.template not in {one.template for one, _ in found}
    assert sorted(number for _, number in found if number) == list(range(1, len(wanted) - before + 1))


def test_the_version_before_is_refused_before_it_is_submitted_and_nothing_is_forgotten(stack):
    savepoint = stop(stack, JOB)
    ids = next(job.job_id for job in list_jobs(stack) if job.name == JOB)
    said = f"The job cannot go on from {savepoint}: there is state of 'count', and this version has no such operator"
    for address in (None, savepoint):
        with pytest.raises(DeployError, match=re.escape(said)):
            submit(stack, JOB, TOPICS, from_savepoint=address)
    with pytest.raises(DeployError, match=r"The job cannot go on from .*-gone: Cannot find checkpoint or savepoint"):
        submit(stack, JOB, TOPICS, from_savepoint=f"{savepoint}-gone")
    assert not read_spec(stack, JOB).wanted
    assert next(job.job_id for job in list_jobs(stack) if job.name == JOB) == ids

    parsed = sum(one.lines for one, _ in statistics(stack, "parse"))
    submit(stack, JOB, TOPICS, allow_non_restored_state=True)
    for partition in range(PARTITIONS):
        send(stack, TOPIC, interleaved((PARTITIONS + partition) * APART), partition)
    wait_until_scored(stack, 2 * parsed)
    each_offset_once(stack, parsed)
    late = [version for one, version in statistics(stack, "score") if one.first_offset >= parsed // PARTITIONS]
    assert set(late) == {1}
