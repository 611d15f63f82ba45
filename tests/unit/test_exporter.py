"""Records in, numbers out: each micro-batch and each detection is counted once."""

import json
import random
import re
import secrets
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import BundlePointer, Detection, Settings, Statistic, Training, TrainingOutcome
from contracts.service import ServiceSettings
from contracts.settings import AppSettings, WebOptions
from storage.broker import ensure_topics, producer
from storage.control import ControlView, key_of
from streaming import exporter
from streaming.exporter import DETECTORS, ID_COLUMNS, ID_ROWS, Metrics, RecentIds, bundle_time
from tests.machine import patience

T0 = 1_780_000_000_000
BUNDLE = "20260501T120000-0123abcd"
GRAFANA = Path(__file__).parents[2] / "grafana"


def statistic(stage: str = "parse", first: int = 0, last: int = 99, **fields: Any) -> Statistic:
    usual = {
        "stage": stage,
        "service": "web",
        "topic": "logs.web",
        "partition": 0,
        "first_offset": first,
        "last_offset": last,
        "lines": last - first + 1,
        "newest_arrival_ms": T0 + last,
        "newest_event_ms": T0 + last - 500,
        "emitted_ms": T0 + last + 250,
        "seconds": 0.5,
        "bundle": BUNDLE if stage == "score" else "",
    }
    return Statistic(**{**usual, **fields})


def detection(number: int = 1, detector: str = "deeplog", service: str = "web") -> Detection:
    return Detection(
        id=f"{number:016x}",
        signature="0" * 16,
        service=service,
        detector=detector,
        kind="event",
        topic=f"logs.{service}",
        partition=0,
        offset=number,
        arrival_ms=T0,
        event_ms=T0,
        detected_ms=T0,
        session="",
        line="a line",
        level="",
        template="0" * 16,
        template_text="a line",
        score=1.0,
        threshold=0.9,
        surprise=9.0,
        rank=3,
        expected=(),
        before=(),
        bundle=BUNDLE,
        headline="a line that does not belong",
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"logcanary_{name}", labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(wall=lambda: 42.0)


def test_a_parsed_batch(metrics: Metrics) -> None:
    metrics.statistic(statistic(bytes=5000, cut=2, dead={"invalid_utf8": 3}, templates=7, new_templates=4))
    assert value(metrics, "lines_total", service="web") == 100
    assert value(metrics, "bytes_total", service="web") == 5000
    assert value(metrics, "cut_lines_total", service="web") == 2
    assert value(metrics, "deadletters_total", service="web", reason="invalid_utf8") == 3
    assert value(metrics, "deadletters_total", service="web", reason="null") == 0
    assert value(metrics, "new_templates_total", service="web") == 4
    assert value(metrics, "templates", service="web") == 7
    assert value(metrics, "operator_seconds_total", service="web", stage="parse") == 0.5
    assert value(metrics, "newest_arrival_timestamp_seconds", service="web") == (T0 + 99) / 1000
    assert value(metrics, "newest_event_timestamp_seconds", service="web") == (T0 - 401) / 1000
    assert value(metrics, "last_statistics_timestamp_seconds", stage="parse") == (T0 + 349) / 1000
    assert value(metrics, "last_statistics_timestamp_seconds", stage="score") is None
    assert value(metrics, "scored_lines_total", service="web") == 0


def test_templates_that_come_and_go_are_counted_by_reason(metrics: Metrics) -> None:
    changes, overflow = {"evicted": 5, "merged": 1}, {"full": 30, "paused": 7}
    metrics.statistic(statistic(changes=changes, overflow=overflow, paused=True, forgotten=11))
    assert value(metrics, "template_changes_total", service="web", reason="evicted") == 5
    assert value(metrics, "template_changes_total", service="web", reason="returned") == 0
    assert value(metrics, "overflow_lines_total", service="web", reason="full") == 30
    assert value(metrics, "overflow_lines_total", service="web", reason="paused") == 7
    assert value(metrics, "forgotten_texts_total", service="web") == 11
    assert value(metrics, "learning_paused", service="web") == 1
    metrics.statistic(statistic(first=100, last=199))
    assert value(metrics, "learning_paused", service="web") == 0


def test_a_scored_batch(metrics: Metrics) -> None:
    metrics.statistic(
        statistic("score", bucket=1, windows=90, windows_remembered=80, unknown=5, suppressed=2, sessions=30)
    )
    metrics.statistic(statistic("score", bucket=2, windows=10, windows_remembered=0, sessions=12, reworded=4))
    assert value(metrics, "scored_lines_total", service="web") == 200
    assert value(metrics, "windows_total", service="web", outcome="remembered") == 80
    assert value(metrics, "windows_total", service="web", outcome="computed") == 20
    assert value(metrics, "unknown_events_total", service="web") == 5
    assert value(metrics, "reworded_events_total", service="web") == 4
    assert value(metrics, "suppressed_total", service="web") == 2
    assert value(metrics, "open_sessions", service="web") == 42
    assert value(metrics, "line_to_score_seconds_bucket", service="web", le="0.25") == 2
    assert value(metrics, "line_to_score_seconds_sum", service="web") == 0.5
    assert value(metrics, "bundle_in_force", service="web") == 1
    assert value(metrics, "bundle_created_timestamp_seconds", service="web") == bundle_time(BUNDLE) == 1_777_636_800
    assert value(metrics, "lines_total", service="web") == 0


def test_lines_of_a_service_without_a_bundle_are_not_scored(metrics: Metrics) -> None:
    metrics.statistic(statistic("score", bucket=0, bundle=""))
    assert value(metrics, "scored_lines_total", service="web") == 0
    assert value(metrics, "bundle_in_force", service="web") == 0
    assert value(metrics, "bundle_created_timestamp_seconds", service="web") is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.data())
@settings(deadline=None, max_examples=50)
def test_batches_that_come_again_are_counted_once(sizes: list[int], data: st.DataObject) -> None:
    """A crash goes back to some offset, and the lines after it come again in other batches."""
    metrics, position, end = Metrics(), 0, 0
    for size in sizes:
        metrics.statistic(statistic(first=position, last=position + size - 1))
        end = max(end, position + size)
        position = data.draw(st.integers(0, position + size)) if data.draw(st.booleans()) else position + size
    assert value(metrics, "lines_total", service="web") == end


def test_partitions_and_buckets_are_counted_apart(metrics: Metrics) -> None:
    for partition in (0, 1):
        metrics.statistic(statistic(partition=partition, templates=5 + partition))
        for bucket in (0, 1):
            metrics.statistic(statistic("score", partition=partition, bucket=bucket))
    assert value(metrics, "lines_total", service="web") == 200
    assert value(metrics, "scored_lines_total", service="web") == 400
    assert value(metrics, "templates", service="web") == 6


def test_the_work_of_timers_counts_though_it_has_no_offsets(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.statistic(statistic("score", first=99, last=99, lines=0, windows=3, bucket=0))
    assert value(metrics, "windows_total", service="web", outcome="computed") == 6
    assert value(metrics, "line_to_score_seconds_count", service="web") == 0


def test_what_was_counted_in_an_earlier_life_only_says_how_things_stand(metrics: Metrics) -> None:
    metrics.statistic(statistic(templates=7), counts=False)
    assert value(metrics, "lines_total", service="web") == 0
    assert value(metrics, "templates", service="web") == 7
    metrics.statistic(statistic(first=50, last=149))
    assert value(metrics, "lines_total", service="web") == 50


def test_timestamps_never_go_back(metrics: Metrics) -> None:
    metrics.statistic(statistic(first=500, last=599))
    metrics.statistic(statistic(first=0, last=99))
    assert value(metrics, "newest_arrival_timestamp_seconds", service="web") == (T0 + 599) / 1000
    assert value(metrics, "last_statistics_timestamp_seconds", stage="parse") == (T0 + 849) / 1000


def test_a_detection_is_counted_once(metrics: Metrics) -> None:
    for number in (1, 2, 1, 1):
        metrics.detection(detection(number))
    metrics.detection(detection(3, "deeplog.end"))
    assert value(metrics, "detections_total", service="web", detector="deeplog") == 2
    assert value(metrics, "detections_total", service="web", detector="deeplog.end") == 1
    assert value(metrics, "newest_detection_timestamp_seconds", service="web") == 42.0


def test_a_detection_of_an_earlier_life_is_known_and_not_counted(metrics: Metrics) -> None:
    metrics.detection(detection(1), counts=False)
    metrics.detection(detection(1))
    assert value(metrics, "detections_total", service="web", detector="deeplog") == 0
    assert value(metrics, "newest_detection_timestamp_seconds", service="web") is None


def test_the_memory_of_detections_has_one_size_and_keeps_the_newest() -> None:
    ids = RecentIds(ID_ROWS, ID_COLUMNS)
    size = ids._ids.nbytes
    chance = random.Random(3)
    some = [chance.getrandbits(64) | 1 for _ in range(200_000)]
    assert all(ids.add(one) for one in some)
    assert not any(ids.add(one) for one in some[-10_000:])
    assert sum(ids.add(one) for one in some[:10_000]) > 5_000  # the oldest are forgotten
    assert ids._ids.nbytes == size <= 1 << 20


def test_known_services_begin_at_zero(metrics: Metrics) -> None:
    view = ControlView()
    record = Settings(settings=ServiceSettings(service="pay"))
    view.apply(key_of(record), record.model_dump_json().encode())
    metrics.control(view)
    for detector in DETECTORS:
        assert value(metrics, "detections_total", service="pay", detector=detector) == 0
    assert value(metrics, "lines_total", service="pay") == 0
    assert value(metrics, "bundle_refused", service="pay") == 0


def test_trainings_are_counted_once_whoever_starts_anew(metrics: Metrics) -> None:
    view = ControlView()

    def told(number: int, outcome: TrainingOutcome) -> None:
        record = Training(service="web", id=f"20260101T00000{number}-00000000", outcome=outcome)
        view.apply(key_of(record), record.model_dump_json().encode())
        metrics.control(view)

    def counts(of: Metrics) -> list[float | None]:
        return [value(of, "trainings_total", service="web", outcome=one) for one in get_args(TrainingOutcome)]

    metrics.know("web")
    assert counts(metrics) == [0, 0, 0, 0, 0]
    for number, outcome in enumerate(("promoted", "refused", "failed", "cancelled", "failed", "asked")):
        told(number, "asked")
        told(number, outcome)
    assert counts(metrics) == [6, 1, 1, 2, 1]
    again = Metrics()
    again.control(view)
    assert counts(again) == counts(metrics)
    view.apply("training/web/20260101T000000-00000000", None)
    metrics.control(view)
    assert counts(metrics) == [6, 1, 1, 2, 1]


def test_a_pointer_that_scoring_does_not_follow_is_pending(metrics: Metrics) -> None:
    view = ControlView()
    pointer = BundlePointer(service="web", version=BUNDLE, author="me", reason="", moved_ms=T0)
    view.apply(key_of(pointer), pointer.model_dump_json().encode())
    metrics.control(view)
    assert value(metrics, "bundle_pointer_moved_timestamp_seconds", service="web") == T0 / 1000
    assert value(metrics, "bundle_pending", service="web") == 0  # no lines since: nothing can be said
    metrics.statistic(statistic("score", bundle="20260401T120000-0123abcd", bundle_refused="hash"))
    assert value(metrics, "bundle_pending", service="web") == 1
    assert value(metrics, "bundle_refused", service="web") == 1
    metrics.statistic(statistic("score", first=100, last=110))
    assert value(metrics, "bundle_pending", service="web") == 0
    assert value(metrics, "bundle_refused", service="web") == 0


def test_lags(metrics: Metrics) -> None:
    services = {"logs.web": "web", "logs.new": "new"}
    starts = {("logs.web", 0): 0, ("logs.web", 1): 100, ("logs.new", 0): 0}
    ends = {("logs.web", 0): 1000, ("logs.web", 1): 300, ("logs.new", 0): 50}
    metrics.statistic(statistic(first=0, last=899))
    metrics.statistic(statistic("score", first=0, last=799, bucket=0))
    metrics.statistic(statistic("score", first=0, last=879, bucket=1))
    metrics.lags(services, starts, ends, {("logs.web", 0): 600})
    assert value(metrics, "archive_lag_lines", service="web") == 400 + 200
    assert value(metrics, "archived_lines", service="web") == 600
    assert value(metrics, "scoring_lag_lines", service="web") == 120
    assert value(metrics, "archive_lag_lines", service="new") == 50
    assert value(metrics, "scoring_lag_lines", service="new") is None  # not looked at by any job: not the same as 0


def test_the_margin_says_how_near_retention_is_to_what_is_not_archived(metrics: Metrics) -> None:
    services = {"logs.web": "web", "logs.new": "new"}
    ends = {("logs.web", 0): 1000, ("logs.new", 0): 50}
    for start, archived, margin in (
        (0, 10, 1.0),
        (200, 400, 0.25),
        (500, 400, 0.0),
        (500, 1000, 1.0),
        (500, None, 0.0),
    ):
        starts = {("logs.web", 0): start, ("logs.new", 0): 0}
        metrics.lags(services, starts, ends, {} if archived is None else {("logs.web", 0): archived})
        assert value(metrics, "archive_margin_ratio", service="web") == margin
        assert value(metrics, "archive_margin_ratio", service="new") == 1.0


def test_a_late_detection_pages_nobody(metrics: Metrics) -> None:
    metrics.detection(detection(1).model_copy(update={"late": True}))
    assert value(metrics, "late_detections_total", service="web", detector="deeplog") == 1
    assert value(metrics, "detections_total", service="web", detector="deeplog") == 0
    assert value(metrics, "newest_detection_timestamp_seconds", service="web") is None


def test_a_topic_that_is_gone_has_no_lag(metrics: Metrics) -> None:
    metrics.lags({"logs.web": "web"}, {("logs.web", 0): 0}, {("logs.web", 0): 10}, {})
    assert value(metrics, "archive_lag_lines", service="web") == 10
    metrics.lags({}, {}, {}, {})
    assert value(metrics, "archive_lag_lines", service="web") is None
    assert value(metrics, "lines_total", service="web") == 0


def test_a_topic_made_anew_counts_from_its_new_beginning(metrics: Metrics) -> None:
    metrics.statistic(statistic(first=0, last=999))
    metrics.lags({"logs.web": "web"}, {("logs.web", 0): 0}, {("logs.web", 0): 10}, {})
    metrics.statistic(statistic(first=0, last=9))
    assert value(metrics, "lines_total", service="web") == 1010


@pytest.mark.parametrize("version", ["", "latest", "20269901T000000-0123abcd"])
def test_a_version_that_is_none_has_no_time(version: str) -> None:
    assert bundle_time(version) is None


def test_names_keep_to_the_conventions(metrics: Metrics) -> None:
    metrics.statistic(statistic())
    for family in metrics.registry.collect():
        assert family.name.startswith("logcanary_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_created", "_ms", "_age"))
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= {"service", "detector", "reason", "stage", "outcome", "topic"}


def names(metrics: Metrics) -> set[str]:
    """All names a query can use, with every family having at least one series."""
    metrics.statistic(statistic())
    whole = {"surprises": (100, *[0] * 8), "sessions_judged": 1}
    metrics.statistic(statistic("score", **whole, emitted_ms=round(time.time() * 1000)))
    metrics.detection(detection())
    view = ControlView()
    learnt = (1.0, *[0.0] * 8)
    pointer = BundlePointer(service="web", version=BUNDLE, author="me", reason="", moved_ms=T0, surprises=learnt)
    view.apply(key_of(pointer), pointer.model_dump_json().encode())
    metrics.control(view)
    metrics.fit()
    metrics.lags({"logs.web": "web"}, {("logs.web", 0): 0}, {("logs.web", 0): 200}, {})
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def test_the_dashboards_ask_for_what_there_is(metrics: Metrics) -> None:
    for path in GRAFANA.glob("dashboards/*.json"):
        dashboard = json.loads(path.read_text())
        assert dashboard["uid"].startswith("logcanary-")
        assert {variable["name"] for variable in dashboard["templating"]["list"]} >= {"datasource", "service"}
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        for panel in dashboard["panels"]:
            assert panel["title"]
            if panel["type"] == "row":
                continue
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
            for target in panel["targets"]:
                for window in re.findall(r"\[(.*?)\]", target["expr"]):
                    assert window in ("$__rate_interval", "$__range")


@pytest.mark.stack
def test_from_kafka_to_http(stack_settings: AppSettings) -> None:
    """What is written to the topics shows on the page, and a second life does not count it again."""
    service = f"test-{secrets.token_hex(4)}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine = stack_settings.model_copy(update={"web": WebOptions(exporter_port=port)})
    ensure_topics(mine)
    ids = iter(range(secrets.randbits(40), 1 << 60))

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def see(line: str) -> None:
        deadline = time.monotonic() + patience(30)
        while line not in page():
            assert time.monotonic() < deadline, f"{line} is not on the page:\n{page()}"
            time.sleep(0.2)

    def send(first: int, last: int) -> None:
        client = producer(mine)
        record = statistic(first=first, last=last, service=service, topic=f"logs.{service}")
        client.send(mine.kafka.statistics, key=service.encode(), value=record.model_dump_json().encode())
        client.send(mine.kafka.statistics, key=service.encode(), value=b"{broken")
        found = detection(next(ids), service=service).model_dump_json().encode()
        for _ in range(2):
            client.send(mine.kafka.detections, key=service.encode(), value=found)
        client.flush()
        client.close()

    for first, lines in ((0, 100), (50, 50)):
        stop = threading.Event()
        metrics = Metrics()
        feeder = exporter.Exporter(mine, metrics)
        server, serving = exporter.start_http_server(port, "127.0.0.1", metrics.registry)
        thread = threading.Thread(target=feeder.run, args=(stop,))
        thread.start()
        try:
            time.sleep(1)
            send(first, first + 99)
            see(f'logcanary_lines_total{{service="{service}"}} {float(lines)}')
            see(f'logcanary_detections_total{{detector="deeplog",service="{service}"}} 1.0')
        finally:
            stop.set()
            thread.join()
            server.shutdown()
            server.server_close()
            serving.join()


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings_ = AppSettings(web=WebOptions(exporter_port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="LOGCANARY_WEB__EXPORTER_PORT"):
            exporter.run(settings_, threading.Event())
