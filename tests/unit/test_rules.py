"""The shipped Prometheus rules: valid, firing and silent where they should, with a runbook each."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.paths import PROJECT, DeployError
from deploy.tools import find_tool
from streaming.exporter import Metrics
from tests.unit.test_exporter import names

FOLDER = PROJECT / "deploy" / "prometheus"
RULES = sorted(FOLDER.glob("*.rules.yml"))
DASHBOARDS = sorted((PROJECT / "grafana" / "dashboards").glob("*.json"))
OTHERS = {
    "up",
    "ALERTS",
    "alertmanager_notifications_failed_total",
    # Read off a running Flink 2.2.1; tests/e2e/test_dashboards.py asks the real one.
    "flink_jobmanager_job_numRestarts",
    "flink_jobmanager_job_numberOfCompletedCheckpoints",
    "flink_jobmanager_job_numberOfFailedCheckpoints",
    "flink_jobmanager_job_lastCheckpointDuration",
    "flink_taskmanager_job_task_backPressuredTimeMsPerSecond",
    "flink_taskmanager_job_task_busyTimeMsPerSecond",
    "flink_taskmanager_Status_JVM_Memory_Heap_Used",
}
KEYWORDS = {"and", "or", "unless", "offset", "on", "by", "d", "h", "m", "s"}


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return find_tool("promtool")
    except DeployError as error:
        pytest.skip(f"promtool is not there: {error}")


def test_the_rules_are_valid(promtool: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_the_rules_fire_and_are_silent(promtool: Path, path: Path) -> None:
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[str]:
    return [block for path in RULES for block in path.read_text().split("- alert: ")[1:]]


def test_each_alert_says_what_to_do_and_is_tested() -> None:
    pages = {path.stem: path.read_text() for path in (PROJECT / "docs" / "runbooks").glob("*.md")}
    tested = "".join(path.read_text() for path in FOLDER.glob("tests/*.yml"))
    found = []
    for alert in alerts():
        name = alert.split("\n")[0]
        found.append(name)
        assert re.fullmatch(r"LogCanary([A-Z][a-z]+)+", name)
        assert re.search(r"severity: (critical|warning|info|none)\n", alert)
        assert re.search(r"kind: (anomaly|health)\n", alert)
        assert "{{" not in re.findall(r"summary: (.*)", alert)[0]
        assert "description: " in alert
        assert f"runbook_url: docs/runbooks/{name}.md\n" in alert
        assert re.search(rf"alertname: {name}\n +exp_alerts:", tested), f"{name} has no case in which it fires"
        assert name == "LogCanaryWatchdog" or f"alertname: {name}, exp_alerts: []" in tested, f"{name}: no silent case"
    assert sorted(found) == sorted(pages)
    for name, text in pages.items():
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert headings == [name, "What it means", "How to see it", "What to do"]


def test_every_recorded_series_is_tested() -> None:
    tested = "".join(path.read_text() for path in FOLDER.glob("tests/*.yml"))
    for name in recorded():
        assert f"expr: {name}\n" in tested, f"{name} is in no promql_expr_test"


def recorded() -> list[str]:
    return [rule["record"] for group in groups() for rule in group["rules"] if "record" in rule]


def groups() -> list[dict[str, Any]]:
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def test_rules_and_panels_ask_for_what_there_is() -> None:
    """Names the exporter exports, records of ours, and what Flink, Alertmanager and Prometheus are known to export."""
    there = names(Metrics()) | set(recorded()) | OTHERS
    asked = {rule["expr"] for group in groups() for rule in group["rules"]}
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    asked |= {target["expr"] for board in boards for panel in board["panels"] for target in panel.get("targets", ())}
    asked |= {note["expr"] for board in boards for note in board["annotations"]["list"]}
    lists = {one["query"]["query"] for board in boards for one in board["templating"]["list"] if one["type"] == "query"}
    asked |= {re.sub(r"^label_values\((.*), \w+\)$", r"\1", one) for one in lists}
    used: set[str] = set()
    for expression in asked:
        bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)", "", expression)
        used |= {name for name in re.findall(r"[A-Za-z_:][\w:]*(?![\w:]*\s*\()", bare) if name not in KEYWORDS}
    assert used - there == set()
    assert used >= OTHERS, "names nobody asks for any more"


def test_prometheus_understands_every_panel(promtool: Path, tmp_path: Path) -> None:
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    concrete = [re.sub(r"\$__\w+", "10m", one).replace("$service", "web") for one in asked]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(concrete)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_four_dashboards_ask_one_question_each() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert {board["uid"] for board in boards} == {
        f"logcanary-{name}" for name in ("overview", "service", *("pipeline", "models"))
    }
    assert all(board["title"].endswith("?") for board in boards)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_lie_on_each_other(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
