"""The archiver takes up every rebalance of its group, however long it takes, and what was paused goes on."""

import secrets
import time

from contracts.settings import ArchiveOptions
from storage.archive import list_files
from storage.broker import CooperativeStickyAssignor, TopicPartition, admin, consumer, producer
from storage.files import open_files
from streaming.archiver import POLL_MILLISECONDS, Archiver
from tests.machine import patience


def test_a_rebalance_that_outlasts_a_poll_is_taken_up(stack_settings, monkeypatch):
    name = f"rebalance{secrets.token_hex(4)}"
    settings = stack_settings.model_copy(
        update={
            "kafka": stack_settings.kafka.model_copy(update={"log_prefix": f"{name}."}),
            "archive": ArchiveOptions(roll_seconds=1, group=name),
        }
    )
    assign = CooperativeStickyAssignor.assign

    def slow(*arguments):
        time.sleep(POLL_MILLISECONDS / 1000 + 0.2)  # as on a busy machine: between the two requests of a rebalance
        return assign(*arguments)

    monkeypatch.setattr(CooperativeStickyAssignor, "assign", slow)
    files, archiver = open_files(settings.hdfs), Archiver(settings)
    try:
        for service in ("first", "second"):  # the second is found by an archiver that is in its group already
            with admin(settings) as client:
                client.create_topics({f"{name}.{service}": {"num_partitions": 1}})
            with producer(settings) as out:
                out.send(f"{name}.{service}", b"a line", partition=0).get(30)
            deadline = time.monotonic() + patience(60)
            while not list_files(files, settings.hdfs.root, service):
                assert time.monotonic() < deadline, f"{service} is not archived"
                archiver.step()
    finally:
        archiver._client.close(autocommit=False)
        files.close()


def test_a_partition_that_was_paused_with_records_at_hand_goes_on(stack_settings):
    topic = f"paused{secrets.token_hex(4)}"
    with admin(stack_settings) as client:
        client.create_topics({topic: {"num_partitions": 2}})
    with producer(stack_settings) as out:
        for number in range(600):
            out.send(topic, b"line %d" % number, partition=number % 2)
        out.flush()
    with consumer(stack_settings, topic, auto_offset_reset="earliest", max_poll_records=100) as reader:
        read: dict[TopicPartition, int] = {}

        def read_until(done):
            deadline = time.monotonic() + patience(30)
            while not done():
                assert time.monotonic() < deadline, read
                for key, records in reader.poll(timeout_ms=200).items():
                    read[key] = read.get(key, 0) + len(records)

        read_until(lambda: read)
        first = next(iter(read))
        other = TopicPartition(topic, 1 - first.partition)
        assert read[first] < 300
        reader.pause(first)
        read_until(lambda: read.get(other) == 300)
        reader.resume(first)
        read_until(lambda: read[first] == 300)
