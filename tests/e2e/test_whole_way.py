"""The whole way on real parts: lines in Kafka, archive in HDFS, training, detections, metrics, a verdict that counts.

One job reads all topics of this file; the tests build on each other in their order.
"""

import gzip
import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest

from contracts.records import Detection, Settings, Statistic
from contracts.retraining import RetrainingRequest
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings
from storage.archive import list_files, read_lines
from storage.broker import consumer, partitions_of
from storage.control import ControlWriter, read_control
from storage.files import open_files
from streaming.submit import cancel, submit
from tests.machine import patience, wait_until
from training.evaluate import Labelled, Prepared, service_settings, split_hdfs
from training.learner import learn
from training.measures import measures
from training.trainer import train

HDFS = "way-hdfs"
PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.timeout(600)]


def logcanary(settings: AppSettings, *words: str) -> str:
    """Run the command line as a user would."""
    environment = os.environ | {"LOGCANARY_HOME": str(settings.home), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "cli.main", *words]
    done = subprocess.run(
        command, check=False, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=patience(300)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Topics:
    """All records of the statistics and detections topics, read on as they come."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._consumer = consumer(settings, auto_offset_reset="earliest")
        self._places = partitions_of(self._consumer, [settings.kafka.statistics, settings.kafka.detections])
        self._consumer.assign(self._places)
        self._consumer.seek_to_beginning()
        self._statistics: list[Statistic] = []
        self._detections: list[Detection] = []

    def close(self) -> None:
        self._consumer.close()

    def refresh(self) -> None:
        """Read on to where the topics end now, however many records come meanwhile."""
        ends = self._consumer.end_offsets(self._places)
        while any(self._consumer.position(place) < end for place, end in ends.items()):
            batches = self._consumer.poll(timeout_ms=300, max_records=10_000)
            for place, records in batches.items():
                if place.topic == self._settings.kafka.statistics:
                    self._statistics += [Statistic.model_validate_json(record.value) for record in records]
                else:
                    self._detections += [Detection.model_validate_json(record.value) for record in records]

    def statistics(self, service: str, stage: str) -> list[Statistic]:
        self.refresh()
        return [one for one in self._statistics if one.service == service and one.stage == stage]

    def detections(self, service: str) -> list[Detection]:
        self.refresh()
        return [one for one in self._detections if one.service == service]

    def scored(self, service: str, bundle: str | None = None) -> int:
        records = self.statistics(service, "score")
        return sum(one.lines for one in records if bundle is None or one.bundle == bundle)

    def through(self) -> dict[str, int]:
        """Lines by service that were scored or counted as dead."""
        self.refresh()
        done: dict[str, int] = {}
        for one in self._statistics:
            lines = one.lines if one.stage == "score" else sum(one.dead.values())
            done[one.service] = done.get(one.service, 0) + lines
        return done


@pytest.fixture(scope="module")
def topics(stack: AppSettings) -> Iterator[Topics]:
    reader = Topics(stack)
    yield reader
    reader.close()


def archived(settings: AppSettings, service: str) -> int:
    files = list_files(open_files(settings.hdfs), settings.hdfs.root, service)
    return sum(file.last - file.first + 1 for file in files)


@pytest.fixture(scope="module")
def stack(stack_settings: AppSettings) -> Iterator[AppSettings]:
    """The stack with one job over the topics of this file."""
    with ControlWriter(stack_settings) as control:
        control.put(Settings(settings=service_settings(HDFS)))
    submit(stack_settings, name="way", topics=r"logs\.(way|ts)-.*", start="earliest")
    yield stack_settings
    cancel(stack_settings, "way")


@pytest.fixture(scope="module")
def hdfs(data_dir: Path) -> tuple[Labelled, Labelled]:
    """The learnt side without anomalous blocks, and the tested side, as in ``logcanary evaluate hdfs``."""
    _, clean, test = split_hdfs(data_dir / "hdfs", 0.8)
    return clean, test


def replay(settings: AppSettings, lines: list[bytes], path: Path, service: str) -> None:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), 1))
    sent = json.loads(logcanary(settings, "replay", str(path), "--service", service, "--json"))
    assert sent["lines"] == len(lines)


def test_the_stack_finds_what_the_core_finds(
    stack: AppSettings, topics: Topics, hdfs: tuple[Labelled, Labelled], tmp_path: Path
) -> None:
    clean, test = hdfs
    replay(stack, clean.lines, tmp_path / "learn.log.gz", HDFS)
    wait_until(lambda: topics.scored(HDFS) == len(clean.lines), "all lines through the job")
    wait_until(lambda: archived(stack, HDFS) == len(clean.lines), "all lines in the archive")
    assert not topics.detections(HDFS)

    manifest = train(stack, RetrainingRequest(service=HDFS, author="test", reason="whole way"))
    assert manifest.lines == len(clean.lines)
    assert read_control(stack).pointers[HDFS].version == manifest.version
    # Lines of a block that neither side knows, until every bucket has taken the bundle up.
    strangers = 0
    while _buckets_on(topics, manifest.version) < stack.flink.buckets:
        block = b"081111 000000 1 INFO dfs.FSNamesystem: BLOCK* NameSystem.delete: blk_%d is added to invalidSet of 1:1"
        replay(stack, [block % n for n in range(strangers, strangers + 40)], tmp_path / "one.log.gz", HDFS)
        strangers += 40
        wait_until(lambda n=strangers: topics.scored(HDFS) == len(clean.lines) + n, "the lines in between")
        assert strangers < 4000, "the job did not take the bundle up"

    replay(stack, test.lines, tmp_path / "test.log.gz", HDFS)
    total = len(clean.lines) + strangers + len(test.lines)
    wait_until(lambda: topics.scored(HDFS) == total, "all lines through the job")

    prepared = Prepared.of(clean)
    bundle = learn(prepared.dataset, service_settings())
    core = prepared.tested(test).flagged(bundle)
    raised = {detection.session for detection in topics.detections(HDFS)}
    stacked = np.array([block.name in raised for block in test.blocks])
    assert (stacked == core).all()
    truth = np.array([block.anomalous for block in test.blocks])
    assert measures(stacked, truth)["f1"] >= 0.62


def _buckets_on(topics: Topics, version: str) -> int:
    newest = {one.bucket: one.bundle for one in topics.statistics(HDFS, "score")}
    return sum(bundle == version for bundle in newest.values())


@pytest.mark.usefixtures("hdfs")
def test_a_detection_carries_its_evidence(stack: AppSettings, topics: Topics) -> None:
    found = topics.detections(HDFS)
    assert found
    _all_archived(stack, topics)
    lines = {
        table["offset"][i].as_py(): table["value"][i].as_py() for table in _tables(stack) for i in range(len(table))
    }
    live = read_control(stack).pointers[HDFS].version
    for one in found:
        assert one.detector == "deeplog"
        assert one.topic == f"logs.{HDFS}"
        assert lines[one.offset].decode().startswith(one.line[:200])
        assert one.session in one.line
        assert len(one.expected) == 5
        assert all(a.probability >= b.probability for a, b in zip(one.expected, one.expected[1:], strict=False))
        assert one.rank >= 1
        assert one.score >= one.threshold
        assert one.bundle == live
    assert any(one.before for one in found)
    ids = [one.id for one in found]
    assert len(ids) == len(set(ids))


def _all_archived(stack: AppSettings, topics: Topics) -> int:
    """Wait until every scored line is archived: the archiver closes a file by size or age, later than scores appear."""
    end = topics.scored(HDFS)
    wait_until(lambda: archived(stack, HDFS) == end, "all lines in the archive")
    return end


def _tables(settings: AppSettings) -> list[Any]:
    return list(read_lines(open_files(settings.hdfs), settings.hdfs.root, HDFS))


@pytest.mark.usefixtures("hdfs")
def test_the_archive_has_every_offset_once(stack: AppSettings, topics: Topics) -> None:
    end = _all_archived(stack, topics)
    offsets = np.concatenate([table["offset"].to_numpy() for table in _tables(stack)])
    assert (np.sort(offsets) == np.arange(end)).all()
    report = json.loads(logcanary(stack, "archive", "verify", "--service", HDFS, "--json"))
    assert (report["holds"], report["lines"], report["first"], report["last"]) == (True, end, 0, end - 1)


@pytest.mark.usefixtures("hdfs")
def test_prometheus_sees_it(stack: AppSettings) -> None:
    """What the panels ask of it is in ``test_dashboards.py``."""
    wait_until(lambda: _query(stack, f'logcanary_detections_total{{service="{HDFS}"}}'), "detections in Prometheus")


def _query(settings: AppSettings, expression: str) -> list[Any]:
    url = f"http://127.0.0.1:{settings.web.prometheus_port}/api/v1/query?{urlencode({'query': expression})}"
    with urlopen(url, timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", expression
    return list(body["data"]["result"])


def test_a_false_positive_is_not_raised_again(
    stack: AppSettings, topics: Topics, hdfs: tuple[Labelled, Labelled], tmp_path: Path
) -> None:
    tested = {block.name for block in hdfs[1].blocks}
    judged = next(one for one in topics.detections(HDFS) if one.session in tested)
    logcanary(stack, "verdict", judged.id[:12], "false-positive", "--reason", "a test said so")
    (said,) = read_control(stack).verdicts[HDFS].values()
    assert (said.value, said.scope, said.template) == ("false-positive", "template", judged.template)
    session = [line for line in hdfs[1].lines if judged.session.encode() in line]
    before = topics.scored(HDFS)
    for attempt in range(1, 20):
        name = f"blk_77000{attempt}".encode()
        again = [line.replace(judged.session.encode(), name) for line in session]
        replay(stack, again, tmp_path / "again.log.gz", HDFS)
        before += len(again)
        wait_until(lambda before=before: topics.scored(HDFS) == before, "the session again")
        if any(one.suppressed for one in topics.statistics(HDFS, "score")):
            break
    else:
        pytest.fail("nothing was suppressed")
    raised = [one for one in topics.detections(HDFS) if one.session == name.decode()]
    assert judged.template not in {one.template for one in raised}
    listed = logcanary(stack, "alerts", "--service", HDFS, "--all", "--json")
    assert "false-positive" in listed


def test_training_waits_for_the_first_lines_of_a_service(stack: AppSettings, tmp_path: Path) -> None:
    young = "way-young"
    with ControlWriter(stack) as control:
        control.put(Settings(settings=ServiceSettings(service=young, detector=DetectorOptions(kind="ngram"))))
    steps = (b"asked for a table", b"looked at the menu", b"ordered", b"paid and went")
    lines = [b"2026-01-01 00:00:00 INFO guest %d %s" % (n // 4, steps[n % 4]) for n in range(700)]
    replay(stack, lines, tmp_path / "young.gz", young)
    assert not archived(stack, young)
    said: list[str] = []
    request = RetrainingRequest(service=young, author="test", reason="young")
    assert train(stack, request, progress=said.append).lines == 700
    assert "Wait for the archive" in said[0]


CHOSEN = "way-chosen"
CHOICE = DetectorOptions(kind="loganomaly", epochs=4, learning="off", session_detectors=("autoencoder", "count_vector"))


def orders(numbers: range, odd: range = range(0), burnt: range = range(0)) -> list[bytes]:
    """Orders two seconds apart, whose stock is checked once or twice, nine times if odd; burnt ones end in a fire."""
    lines = []
    for number in numbers:
        checks = 9 if number in odd else 1 + number % 2
        steps = ["request received for order {}", *["stock of order {} checked"] * checks, "payment of order {} taken"]
        steps.append("the hall with order {} is on fire" if number in burnt else "order {} handed over")
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=2 * number)
        lines += [f"{at:%Y-%m-%d %H:%M:%S} INFO {step.format(number)}".encode() for step in steps]
    return lines


def test_a_service_is_judged_by_the_model_and_the_detectors_that_it_chose(
    stack: AppSettings, topics: Topics, tmp_path: Path
) -> None:
    options = ServiceSettings(
        service=CHOSEN,
        session=SessionOptions(by="identifier", pattern=r"order ([0-9]+)", gap_seconds=60),
        detector=CHOICE,
        budget=BudgetOptions(false_alarm_rate=0.04),  # 120 sessions held back make nothing rarer than 1 in 121
    )
    with ControlWriter(stack) as control:
        control.put(Settings(settings=options))
    learnt = orders(range(10_000, 10_600))
    replay(stack, learnt, tmp_path / "learn.gz", CHOSEN)
    wait_until(lambda: archived(stack, CHOSEN) == len(learnt), "all lines in the archive")
    manifest = train(stack, RetrainingRequest(service=CHOSEN, author="test", reason="own choice"))
    assert manifest.settings.detector == CHOICE

    sent = len(learnt)
    found: dict[str, Detection] = {}
    for first in range(11_000, 15_000, 200):  # until the job has taken the bundle up
        lines = orders(range(first, first + 200), range(first, first + 100, 20), range(first + 7, first + 100, 50))
        replay(stack, lines, tmp_path / "orders.gz", CHOSEN)
        sent += len(lines)
        wait_until(lambda sent=sent: topics.scored(CHOSEN) == sent, "the orders through the job")
        found = {one.detector: one for one in topics.detections(CHOSEN) if one.bundle == manifest.version}
        if found.keys() & set(CHOICE.session_detectors) and "loganomaly" in found:
            break
    assert "loganomaly" in found
    assert found["loganomaly"].expected
    whole = next(found[name] for name in CHOICE.session_detectors if name in found)
    sessions = [one for one in topics.detections(CHOSEN) if one.kind == "session"]
    named = {why.detector for one in sessions for why in one.reasons}
    assert named <= set(CHOICE.session_detectors)
    begins = {"autoencoder": "Unlike what an autoencoder gives back", "count_vector": "Compared with the nearest"}
    wait_until(lambda: "loganomaly; score" in _page(stack, found["loganomaly"]), "the line's alert in the console")
    page = wait_until(lambda: _page(stack, whole), "the session's alert in the console")
    assert begins[whole.detector] in page
    assert f"({whole.detector})" in page


def _page(settings: AppSettings, found: Detection) -> str:
    """The console's page of an alert, without markup's escapes; empty where it does not know it yet."""
    url = f"http://127.0.0.1:{settings.web.console_port}/ui/alerts/{found.service}/{found.signature}"
    try:
        with urlopen(url, timeout=patience(30)) as answer:
            return html.unescape(answer.read().decode())
    except OSError:
        return ""


def test_27_services_of_train_ticket_are_parsed_archived_and_scored(
    stack: AppSettings, topics: Topics, data_dir: Path
) -> None:
    file = data_dir / "trainticket" / "2023-01-29.jsonl.gz"
    sent = json.loads(logcanary(stack, "replay", str(file), "--json"))
    services = {topic.removeprefix("logs."): lines for topic, lines in sent["topics"].items()}
    assert len(services) == 27
    busy, other = sorted(services, key=lambda name: -services[name])[:2]

    wait_until(
        lambda: {name: topics.through().get(name, 0) for name in services} == services,
        "every line scored or counted as dead",
        300,
    )
    wait_until(lambda: all(archived(stack, name) == services[name] for name in services), "every line archived")
    assert not topics.detections(busy)

    with ControlWriter(stack) as control:
        for name in (busy, other):
            options = DetectorOptions(epochs=2, kind="deeplog" if name == busy else "ngram")
            control.put(Settings(settings=ServiceSettings(service=name, detector=options)))
    versions = {
        name: train(stack, RetrainingRequest(service=name, author="test", reason="own bundle")).version
        for name in (busy, other)
    }
    logcanary(stack, "replay", str(file), "--json")
    for name, version in versions.items():
        wait_until(lambda name=name, version=version: topics.scored(name, version) > 0, f"{name} on its own bundle")
    untrained = next(name for name in services if name not in versions)
    assert {one.bundle for one in topics.statistics(untrained, "score")} == {""}
