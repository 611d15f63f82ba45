"""Alertmanager's configuration, alone and behind a real Prometheus: one page out of one incident, then resolved."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import start_http_server

from contracts.settings import AppSettings
from deploy import monitoring
from deploy.java import find_java
from deploy.parts import Part, Plan, get_json
from deploy.paths import PROJECT, DeployError
from deploy.ports import Ports
from deploy.tools import MOVED, find_tool
from streaming.exporter import Metrics
from tests.machine import patience
from tests.paging import SHIPPED, Pager, pager, telling
from tests.unit.test_exporter import detection

RULES = [rule for path in (PROJECT / "deploy/prometheus").glob("*.rules.yml") for rule in path.read_text().split("\n")]
ALERTS = {rule.split()[-1] for rule in RULES if "- alert: " in rule}
PATIENCE = 60.0
"""Seconds to wait for what takes two to ten on a free machine."""


@pytest.fixture(scope="module")
def tools() -> dict[str, Path]:
    try:
        return {name: find_tool(name) for name in ("prometheus", "prometheus-alertmanager", "amtool")}
    except DeployError as error:
        pytest.skip(f"not all tools are there: {error}")


def test_the_configuration_is_valid(tools: dict[str, Path]) -> None:
    done = subprocess.run([tools["amtool"], "check-config", SHIPPED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=LogCanaryWatchdog", "kind=health", "severity=none"), "watchdog"),
        (("alertname=LogCanaryAnomalyFound", "kind=anomaly", "severity=warning", "service=web"), "anomalies"),
        (("alertname=LogCanaryArchiveLosing", "kind=health", "severity=critical", "service=web"), "health"),
        (("alertname=LogCanaryBundleOld", "kind=health", "severity=info", "service=web"), "health"),
        (("alertname=LogCanaryScoringSlow", "kind=health", "severity=warning", "service=web"), "health"),
    ],
)
def test_anomalies_go_elsewhere_than_health(tools: dict[str, Path], labels: tuple[str, ...], receiver: str) -> None:
    words = [tools["amtool"], "config", "routes", "test", "--config.file", SHIPPED, *labels]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == receiver, done.stderr


def test_the_examples_are_valid_too(tools: dict[str, Path], tmp_path: Path) -> None:
    text = re.sub(r"^( +)# (?=( {2})*(-|\w+_\w+:|\w+:|\w+: ))", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
    tail = text[text.index("\nreceivers:") :]
    assert len(re.findall(r"_configs:", tail)) == 3
    (tmp_path / "alertmanager.yml").write_text(SHIPPED.read_text().split("\nreceivers:")[0] + tail)
    (tmp_path / "logcanary.tmpl").write_bytes((SHIPPED.parent / "logcanary.tmpl").read_bytes())
    words = [tools["amtool"], "check-config", tmp_path / "alertmanager.yml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(any(key.endswith("_configs") for key in one) for one in yaml.safe_load(tail)["receivers"])


def test_moved_paths_are_as_long_as_before() -> None:
    assert all(len(old) == len(new) for old, new in MOVED.values())


def test_every_alert_that_is_named_exists() -> None:
    words = " ".join(rule for one in yaml.safe_load(SHIPPED.read_text())["inhibit_rules"] for rule in _matchers(one))
    for prefix, choice in re.findall(r"(LogCanary\w*)(?:\(([\w|]+)\))?", words):
        assert {prefix + end for end in choice.split("|")} <= ALERTS


def _matchers(rule: dict[str, Any]) -> list[str]:
    return [*rule["source_matchers"], *rule["target_matchers"]]


def test_a_notification_has_words_and_links_and_no_line(tools: dict[str, Path], tmp_path: Path) -> None:
    labels = {"alertname": "LogCanaryAnomalyFound", "kind": "anomaly", "service": "web/1"}
    notes = {"summary": "A line does not belong.", "description": "In web.", "runbook_url": "docs/runbooks/X.md"}
    alert = {"status": "firing", "labels": labels, "annotations": notes}
    data = {"status": "firing", "receiver": "x", "commonLabels": labels, "commonAnnotations": notes, "alerts": [alert]}
    (tmp_path / "data.json").write_text(json.dumps(data))

    def said(name: str) -> str:
        words = [tools["amtool"], "template", "render", f"--template.glob={SHIPPED.parent / 'logcanary.tmpl'}"]
        words += [f"--template.data={tmp_path / 'data.json'}", f'--template.text={{{{ template "{name}" . }}}}']
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    assert said("logcanary.title") == "A line does not belong. (web/1)"
    # The console's list has this filter: test_console_pages.py asks it so.
    assert said("logcanary.link").endswith("/ui/alerts?service=web%2F1")
    assert re.sub(r"http://[^/\s]+", "", said("logcanary.text")).split() == [
        *("In", "web.", "/ui/alerts?service=web%2F1", "/d/logcanary-service?var-service=web%2F1", "docs/runbooks/X.md")
    ]


@contextmanager
def running(part: Part, home: Path) -> Iterator[None]:
    """Run a part of the stack by itself until it is ready; end it afterwards."""
    part.prepare()
    part.log.parent.mkdir(parents=True, exist_ok=True)
    with part.log.open("wb") as log:
        process = subprocess.Popen(part.command(), stdout=log, stderr=log, cwd=home)
    try:
        deadline = time.monotonic() + patience(PATIENCE)
        while not part.ready():
            assert process.poll() is None, part.log.read_text()
            assert time.monotonic() < deadline, part.log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(patience(30))


@pytest.fixture
def page(tools: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Plan, Pager]]:
    """A real Alertmanager, started as in the stack, that tells a receiver of ours."""
    monkeypatch.setattr(monitoring, "SCRAPE_SECONDS", 1)
    with ExitStack() as stack:
        chosen = stack.enter_context(Ports()).choose(tmp_path / "ports.json", {})
        plan = Plan(home=tmp_path, ports=chosen, java=find_java(), settings=AppSettings())
        receiver = stack.enter_context(pager())
        (tmp_path / "alertmanager").mkdir()
        (tmp_path / "alertmanager" / "alertmanager.yml").write_text(telling(receiver.url))
        stack.enter_context(running(monitoring.alertmanager(plan), tmp_path))
        yield plan, receiver


def knowing_whom_to_tell(plan: Plan) -> Part:
    """Prometheus, ready when it has found Alertmanager: what fires before waits a minute to be told again."""
    part = monitoring.prometheus(plan)
    found = f"{plan.url('prometheus')}/api/v1/alertmanagers"
    return replace(part, ready=lambda: part.ready() and bool(get_json(found)["data"]["activeAlertmanagers"]))


def test_a_finding_is_one_page_and_is_resolved(page: tuple[Plan, Pager]) -> None:
    plan, receiver = page
    # Found 35 s ago: the alert ends 60 s after it.
    metrics = Metrics(wall=lambda: time.time() - 35)
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    plan = Plan(plan.home, {**plan.ports, "exporter": server.server_port}, plan.java, plan.settings)
    try:
        with running(knowing_whom_to_tell(plan), plan.home):
            metrics.detection(detection(1, service="web"))
            metrics.detection(detection(2, service="web"))
            told = receiver.wait("anomalies", "firing", "LogCanaryAnomalyFound", PATIENCE)
            (alert,) = told["alerts"]
            assert alert["labels"]["service"] == "web"
            assert (PROJECT / alert["annotations"]["runbook_url"]).is_file()
            over = receiver.wait("anomalies", "resolved", "LogCanaryAnomalyFound", PATIENCE)
            assert [one["labels"]["service"] for one in over["alerts"]] == ["web"]
            scraped = get_json(f"{plan.url('prometheus')}/api/v1/label/__name__/values")["data"]
            assert "alertmanager_notifications_failed_total" in scraped
    finally:
        with closing(server.socket):
            server.shutdown()
            thread.join()
    assert [one for one in receiver.passed if one["receiver"] == "anomalies"] == []


def post(plan: Plan, *alerts: dict[str, str]) -> None:
    body = [{"labels": {"kind": "health", "severity": "warning", **labels}} for labels in alerts]
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(f"{plan.url('alertmanager')}/api/v2/alerts", data, headers), timeout=10
    ).close()


def test_one_fault_in_three_services_is_one_page_and_consequences_are_none(page: tuple[Plan, Pager]) -> None:
    plan, receiver = page
    found = {"alertname": "LogCanaryAnomalyFound", "kind": "anomaly"}
    post(plan, *[{**found, "service": name} for name in ("orders", "pay", "stock")])
    told = receiver.wait("anomalies", "firing", "LogCanaryAnomalyFound", PATIENCE)
    assert {one["labels"]["service"] for one in told["alerts"]} == {"orders", "pay", "stock"}

    post(plan, {"alertname": "LogCanaryArchiveLosing", "severity": "critical", "service": "pay"})
    post(plan, *[{"alertname": f"LogCanaryArchive{name}", "service": "pay"} for name in ("Stalled", "LagHigh")])
    post(plan, {"alertname": "LogCanaryTargetDown", "severity": "critical", "job": "flink"})
    post(plan, {"alertname": "LogCanaryPipelineStalled", "severity": "critical", "service": "pay"})
    post(plan, {"alertname": "LogCanaryArchiveLagHigh", "service": "other"})
    # Told last, because it came last: what would be told was told by then.
    receiver.wait("health", "firing", "LogCanaryArchiveLagHigh", PATIENCE)
    post(plan, {"alertname": "LogCanaryBundleOld", "severity": "info", "service": "pay"})
    last = receiver.wait("health", "firing", "LogCanaryBundleOld", PATIENCE)
    told_of = [
        (one["labels"]["alertname"], one["labels"].get("service"))
        for message in [*receiver.passed, last]
        for one in message["alerts"]
        if message["receiver"] == "health"
    ]
    assert {name for name, _ in told_of} >= {"LogCanaryArchiveLosing", "LogCanaryTargetDown"}
    assert not {"LogCanaryArchiveStalled", "LogCanaryPipelineStalled"} & {name for name, _ in told_of}
    assert ("LogCanaryArchiveLagHigh", "pay") not in told_of
