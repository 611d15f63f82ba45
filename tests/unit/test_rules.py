"""The shipped Prometheus rules: valid, firing and silent where they should, with a runbook each."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy.paths import PROJECT, DeployError
from deploy.tools import find_tool
from streaming.exporter import Metrics
from tests.unit.test_exporter import names

FOLDER = PROJECT / "deploy" / "prometheus"
RULES = sorted(FOLDER.glob("*.rules.yml"))


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
    anchors = re.findall(r"^## (\w+)$", (FOLDER / "runbooks.md").read_text(), re.MULTILINE)
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
        assert f"runbook_url: deploy/prometheus/runbooks.md#{name.lower()}\n" in alert
        assert re.search(rf"alertname: {name}\n +exp_alerts:", tested), f"{name} has no case in which it fires"
        assert name == "LogCanaryWatchdog" or f"alertname: {name}, exp_alerts: []" in tested
    assert sorted(found) == sorted(anchors)


def test_the_rules_ask_for_what_there_is() -> None:
    there = names(Metrics())
    for alert in alerts():
        expression = re.findall(r"expr: (.*?)\n +(?:for|labels):", alert, re.DOTALL)[0]
        assert set(re.findall(r"logcanary_\w+", expression)) <= there
