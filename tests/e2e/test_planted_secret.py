"""A secret in the lines of a topic, on the real stack: in no topic of ours, no archive, no page, no metric, no log."""

import re
import secrets
import urllib.request

import pytest

from contracts.records import DeadLetter, Settings
from models.registry import Registry
from storage.archive import list_files, read_lines
from storage.broker import admin, producer, read_all
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import cancel, submit
from tests.e2e.test_job import detections, make_bundle, options_of, pointer
from tests.machine import wait_until

JOB, SERVICE = "e2e-redaction", "redaction"
TOPIC = f"logs.{SERVICE}"
SECRET = f"zq{secrets.token_hex(8)}qz"
LIMIT = 65_536
LINES = [
    f"2026-01-01 10:00:00 INFO login with password={SECRET} failed".encode(),
    f'{{"time":"2026-01-01T10:00:00Z","message":"got in","password":"{SECRET}"}}'.encode(),
    f'{{"message":"broken, "token":"{SECRET}"'.encode(),
    f'{{"log":"{{\\"msg\\":\\"hello\\",\\"secret\\":\\"{SECRET}\\"}}\\n","stream":"stdout"}}'.encode(),
    f"2026-01-01 10:00:00 INFO trace_id={7:032x} api_key={SECRET}".encode(),
    f"GET http://bob:{SECRET}@host/x".encode(),
    # Cut in the middle of the secret, before it, and behind its key.
    b"x" * (LIMIT - 6) + f" {SECRET} password={SECRET}".encode(),
    b"x" * LIMIT + f" password={SECRET}".encode(),
    b"y" * (LIMIT - 20) + f" password={SECRET}".encode(),
    b"\xff\xfe password=" + SECRET.encode(),
    b"\xff" + b" " * LIMIT + b" password=" + SECRET.encode(),
]
TRACES = [SECRET[:6].encode(), SECRET[-6:].encode()]
"""What is looked for: either end of it."""
UNREDACTABLE = 6
"""The one whose first secret has no key: the archive has the whole line, and it stays."""
pytestmark = [pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack(stack_settings):
    """The stack with a job whose service has a bundle that knows none of these lines: each is a detection."""
    options = options_of(SERVICE).model_copy(update={"redact": ("credentials",), "redact_archive": True})
    files = open_files(stack_settings.hdfs)
    version = Registry(files, stack_settings.hdfs.root).publish(make_bundle(SERVICE))
    files.close()
    with ControlWriter(stack_settings) as control:
        control.put(Settings(settings=options), pointer(SERVICE, version))
    with admin(stack_settings) as client:
        client.create_topics({TOPIC: {"num_partitions": 1}})
        client.wait_for_topics([TOPIC])
    submit(stack_settings, JOB, re.escape(TOPIC), start="earliest")
    yield stack_settings
    cancel(stack_settings, JOB)


def holding(named):
    """Names of the bytes that hold a piece of the secret."""
    return [name for name, data in named for trace in TRACES if trace in data]


def on_topics(stack):
    """All records of our own topics."""
    kafka = stack.kafka
    for topic in (kafka.detections, kafka.statistics, kafka.deadletters, kafka.control):
        for record in read_all(stack, topic):
            yield f"{topic}/{record.partition}/{record.offset}", (record.key or b"") + (record.value or b"")


def letters(stack):
    found = (DeadLetter.model_validate_json(record.value) for record in read_all(stack, stack.kafka.deadletters))
    return {one.offset: one for one in found if one.topic == TOPIC}


def page(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def pages(stack):
    """The console's pages that speak of the service, and every alert's own; and the exporter's metrics."""
    console = f"http://127.0.0.1:{stack.web.console_port}"
    seen, waiting = set(), ["/ui/alerts", f"/ui/alerts?service={SERVICE}", "/ui/services", f"/ui/services/{SERVICE}"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        data = page(console + path)
        yield path, data
        waiting += re.findall(r'href="(/ui/alerts/[^"?#]+)"', data.decode())
    yield "/metrics", page(f"http://127.0.0.1:{stack.web.exporter_port}/metrics")


def in_archive(stack):
    rows = [row for table in read_lines(open_files(stack.hdfs), stack.hdfs.root, SERVICE) for row in table.to_pylist()]
    return {row["offset"]: row["value"] for row in rows}


def logs(stack):
    """All that the parts have written into log files."""
    for path in sorted((stack.home / "logs").rglob("*")):
        if path.is_file():
            yield str(path.relative_to(stack.home)), path.read_bytes()


def test_a_planted_secret_comes_out_nowhere(stack):
    with producer(stack, max_request_size=4_000_000) as out:
        for line in LINES:
            out.send(TOPIC, line, partition=0)
    parsed = len(LINES) - 2  # the last two are not UTF-8
    wait_until(lambda: sorted(letters(stack)) == [parsed, parsed + 1], "two dead letters", 90)
    # A session's order may be judged too: at least every line.
    wait_until(lambda: {one.offset for one in detections(stack, SERVICE)} >= set(range(parsed)), "a finding a line", 90)
    files = open_files(stack.hdfs)
    wait_until(lambda: sum(f.last - f.first + 1 for f in list_files(files, stack.hdfs.root, SERVICE)) == len(LINES), 90)
    files.close()

    found = {one.offset: one for one in detections(stack, SERVICE)}
    assert "<redacted:password>" in found[0].line
    assert "<redacted:password>" in letters(stack)[parsed].head
    assert holding(on_topics(stack)) == []

    archived = in_archive(stack)
    assert sorted(archived) == list(range(len(LINES)))
    assert b"password=<redacted:password>" in archived[0]
    whole = archived.pop(UNREDACTABLE)
    assert whole.endswith(f"x {SECRET} password=<redacted:password>".encode())
    assert holding((str(offset), value) for offset, value in archived.items()) == []

    wait_until(lambda: b"redacted:password" in b"".join(data for _, data in pages(stack)), "the findings on a page", 60)
    assert holding(pages(stack)) == []
    assert holding(logs(stack)) == []
