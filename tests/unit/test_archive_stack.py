"""The archiver on the real Kafka and HDFS: nothing lost, nothing twice, whoever dies and whatever is away."""

import contextlib
import itertools
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.settings import AppSettings, ArchiveOptions
from storage.archive import list_files, read_lines
from storage.broker import admin, end_offsets, log_topics, producer
from storage.files import open_files
from streaming.archiver import Archiver
from tests.machine import patience, wait_until

pytestmark = pytest.mark.stack

Sent = dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]


@pytest.fixture
def mine(stack_settings: AppSettings) -> Iterator[AppSettings]:
    """Settings under which this test is alone: its own topics, consumer group and folder."""
    name = f"test{secrets.token_hex(4)}"
    settings = stack_settings.model_copy(
        update={
            "kafka": stack_settings.kafka.model_copy(update={"log_prefix": f"{name}."}),
            "hdfs": stack_settings.hdfs.model_copy(update={"root": f"/logcanary-test/{name}"}),
            "archive": ArchiveOptions(roll_seconds=2, roll_lines=700, group=name),
        }
    )
    yield settings
    client = admin(settings)
    client.delete_topics(log_topics(settings))
    client.close()
    files = open_files(settings.hdfs)
    files.delete(settings.hdfs.root, recursive=True)
    files.close()


def make(settings: AppSettings, **partitions: int) -> None:
    client = admin(settings)
    names = {f"{settings.kafka.log_prefix}{service}": number for service, number in partitions.items()}
    client.create_topics({name: {"num_partitions": number} for name, number in names.items()}, wait_for_metadata=True)
    client.close()


def send(settings: AppSettings, sent: Sent, service: str, partitions: int, number: int) -> None:
    """Send lines of all kinds; every byte value, nulls and empty ones are among them."""
    chance = random.Random(number)
    client = producer(settings, linger_ms=5)
    topic = f"{settings.kafka.log_prefix}{service}"
    for count in range(number):
        partition = count % partitions
        value = chance.choice([None, b"", chance.randbytes(40), b"INFO line %d of block blk_%d" % (count, count % 7)])
        key = b"key" if value is None else chance.choice([None, b"key"])  # the client sends no record without both
        client.send(
            topic, key=key, value=value, partition=partition, headers=[("n", b"%d" % count)] if count % 5 == 0 else None
        )
        sent.setdefault((topic, partition), []).append((key, value))
    client.flush()
    client.close()


@contextlib.contextmanager
def archiver(settings: AppSettings) -> Iterator[subprocess.Popen[str]]:
    """An archiver as users run it: a process of its own."""
    environment = {
        **os.environ,
        "LOGCANARY_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "LOGCANARY_KAFKA__LOG_PREFIX": settings.kafka.log_prefix,
        "LOGCANARY_HDFS__URL": settings.hdfs.url,
        "LOGCANARY_HDFS__USER": settings.hdfs.user,
        "LOGCANARY_HDFS__ROOT": settings.hdfs.root,
        "LOGCANARY_ARCHIVE__ROLL_SECONDS": str(settings.archive.roll_seconds),
        "LOGCANARY_ARCHIVE__ROLL_LINES": str(settings.archive.roll_lines),
        "LOGCANARY_ARCHIVE__GROUP": settings.archive.group,
    }
    command = [sys.executable, "-m", "streaming.archiver"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    output: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=output.extend, args=(process.stderr,))
    reader.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
        print("".join(output))  # shown where the test fails


def archived(settings: AppSettings) -> dict[tuple[str, int], int]:
    """Number of archived offsets by partition."""
    numbers: dict[tuple[str, int], int] = {}
    files = open_files(settings.hdfs)
    for topic in log_topics(settings):
        for file in list_files(files, settings.hdfs.root, topic.removeprefix(settings.kafka.log_prefix)):
            key = (file.topic, file.partition)
            numbers[key] = numbers.get(key, 0) + file.last - file.first + 1
    files.close()
    return numbers


def check(settings: AppSettings, sent: Sent) -> None:
    """What was sent is in the archive, in order, once, and files neither overlap nor leave gaps."""
    files = open_files(settings.hdfs)
    got: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for topic in {topic for topic, _ in sent}:
        service = topic.removeprefix(settings.kafka.log_prefix)
        listed = list_files(files, settings.hdfs.root, service)
        for one, following in itertools.pairwise(listed):
            if one.partition == following.partition:
                assert following.first == one.last + 1
        for table in read_lines(files, settings.hdfs.root, service):
            for row in table.to_pylist():
                got.setdefault((row["topic"], row["partition"]), []).append(row)
    files.close()
    assert got.keys() == sent.keys()
    for key, rows in got.items():
        assert [row["offset"] for row in rows] == list(range(len(sent[key])))
        assert [(row["key"], row["value"]) for row in rows] == sent[key]


def committed(settings: AppSettings) -> dict[tuple[str, int], int]:
    client = admin(settings)
    offsets = client.list_group_offsets({settings.archive.group: None})[settings.archive.group]
    client.close()
    return {tuple(key): entry.offset for key, entry in offsets.items()}


def test_instances_come_go_sleep_and_are_killed(mine: AppSettings) -> None:
    sent: Sent = {}
    make(mine, web=3)
    send(mine, sent, "web", 3, 3000)
    with archiver(mine) as first:
        wait_until(lambda: bool(archived(mine)), "a first file", 30)
        send(mine, sent, "web", 3, 3000)
        time.sleep(0.5)
        first.send_signal(signal.SIGSTOP)  # with lines in memory, as on a machine that is suspended
        make(mine, pay=2)  # a topic that appears while they run
        send(mine, sent, "pay", 2, 1000)
        before = sum(archived(mine).values())
        with archiver(mine) as second:
            wait_until(lambda: sum(archived(mine).values()) > before, "the second to take over", 60)
            second.kill()
        with archiver(mine) as third:
            ends = end_offsets(mine, log_topics(mine))
            assert len(ends) == 5
            wait_until(lambda: archived(mine) == ends, "everything to be archived", 90)
            wait_until(lambda: committed(mine) == ends, "the commits that tell how far the archive is", 10)
            first.send_signal(signal.SIGCONT)  # it still has lines that others archived meanwhile
            time.sleep(5)
            for process in (first, third):
                process.send_signal(signal.SIGTERM)
                assert process.wait(patience(15)) == 0
    check(mine, sent)


class Gate:
    """A way to a server that can be shut: the outage of a real server, without harm to those who share it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open = True
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            server = socket.create_connection(self._target)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self.open and (data := source.recv(65536)):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_while_hdfs_is_away_lines_wait_and_none_is_lost(mine: AppSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.archiver.RETRY_MOST_SECONDS", 2.0)
    sent: Sent = {}
    make(mine, web=2)
    host, port = mine.hdfs.url.removeprefix("http://").rstrip("/").split(":")
    gate = Gate(host, int(port))
    try:
        through = mine.hdfs.model_copy(update={"url": f"http://127.0.0.1:{gate.port}"})
        one = Archiver(mine.model_copy(update={"hdfs": through}))
        stop = threading.Event()
        thread = threading.Thread(target=one.run, args=(stop,))
        thread.start()
        try:
            send(mine, sent, "web", 2, 1500)
            wait_until(lambda: sum(archived(mine).values()) >= 1400, "the first files", 30)
            gate.open = False
            send(mine, sent, "web", 2, 3000)
            time.sleep(5)
            assert sum(archived(mine).values()) <= 1500
            assert one._client.paused()  # lines wait in Kafka, not in memory
            gate.open = True
            wait_until(lambda: archived(mine) == end_offsets(mine, log_topics(mine)), "everything to be archived", 60)
        finally:
            stop.set()
            thread.join()
    finally:
        gate.close()
    check(mine, sent)
