"""A job that is stopped goes on with four instances of each operator, and then with one: its state moves along."""

import pytest

from contracts.records import Template
from deploy.jobs import list_jobs
from models.registry import Registry
from storage.broker import read_all
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import cancel, stop, submit
from tests.e2e import test_upgrade as upgrade
from tests.e2e.test_job import make_bundle, make_topic, pointer, send
from tests.e2e.test_upgrade import Core, interleaved
from tests.machine import wait_for

JOB, SERVICE, TOPIC = "e2e-rescale", "re-pay", "logs.re-pay"
TOPICS = r"logs\.re-.*"
PARTITIONS, APART = 4, 7_000
WIDTHS = (1, 4, 1)
pytestmark = [pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def stack(stack_settings):
    yield stack_settings
    if any(job.name == JOB and job.state == "RUNNING" for job in list_jobs(stack_settings)):
        cancel(stack_settings, JOB)


@pytest.fixture(autouse=True)
def of_this_service(monkeypatch):
    """The helpers of the other test speak of its service and topic."""
    for name, value in (("SERVICE", SERVICE), ("TOPIC", TOPIC), ("PARTITIONS", PARTITIONS)):
        monkeypatch.setattr(upgrade, name, value)


def test_state_moves_from_one_instance_to_four_and_back(stack):
    bundle = make_bundle(SERVICE)
    files = open_files(stack.hdfs)
    known = pointer(SERVICE, Registry(files, stack.hdfs.root).publish(bundle))
    files.close()
    partitions = [interleaved(partition * APART) for partition in range(PARTITIONS)]
    every, third = len(partitions[0]), len(partitions[0]) // 3
    wanted = {one.id for p, lines in enumerate(partitions) for one in Core(bundle, [known]).detections(p, lines)}
    # The test can tell: without the sessions that are open at a stop, other lines stand out.
    forgetful = Core(bundle, [known])
    assert {
        one.id for p, lines in enumerate(partitions) for one in forgetful.detections(p, lines[third:], third)
    } - wanted

    with ControlWriter(stack) as control:
        control.put(known)
    make_topic(stack, TOPIC, PARTITIONS)
    for part, width in enumerate(WIDTHS):
        wide = stack.model_copy(update={"flink": stack.flink.model_copy(update={"parallelism": width})})
        submit(wide, JOB, TOPICS, start="earliest")
        last = every if part == len(WIDTHS) - 1 else (part + 1) * third
        for partition, lines in enumerate(partitions):
            send(stack, TOPIC, lines[part * third : last], partition)
        upgrade.wait_until_scored(stack, PARTITIONS * last)
        if part < len(WIDTHS) - 1:
            stop(stack, JOB)
    wait_for(lambda: len({one.id for one, _ in upgrade.detections(stack)}), len(wanted))

    upgrade.each_offset_once(stack, every)
    assert {one.id for one, _ in upgrade.detections(stack)} == wanted
    # Every template is in the catalogue once, with the line that made it, whichever instance that was.
    records = [record for record in read_all(stack, stack.kafka.control) if record.value]
    kept = {record.key: record.value for record in records if record.key.startswith(f"template/{SERVICE}/".encode())}
    templates = [Template.model_validate_json(value) for value in kept.values()]
    assert len({one.text for one in templates if one.alias_of is None}) == sum(
        one.alias_of is None for one in templates
    )
    assert all(one.example and one.partition >= 0 and one.offset >= 0 for one in templates)
