"""Every panel of every dashboard and every rule, asked of the Prometheus that scrapes the running stack.

The service that is looked at is in trouble: it was trained on orders of one kind and writes another since, and an
engineer has confirmed the first alert. So a panel without an answer is a mistake in its query, unless ``EMPTY`` says
why it is not.
"""

import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from contracts.records import Settings
from contracts.retraining import RetrainingRequest
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings
from deploy.paths import PROJECT
from storage.broker import admin
from storage.control import ControlWriter
from streaming.submit import cancel, submit
from tests.e2e.test_learning_loop import AFTER, Shop
from tests.e2e.test_whole_way import Topics, archived, logcanary
from tests.machine import patience, wait_until
from tests.panels import Panel, Series, board, series_of
from training.trainer import train

pytestmark = [pytest.mark.timeout(600)]

BOARDS = sorted((PROJECT / "grafana" / "dashboards").glob("*.json"))
SOURCE = yaml.safe_load((PROJECT / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
RULES = sorted((PROJECT / "deploy" / "prometheus").glob("*.rules.yml"))
SHOWN_SECONDS = 300
"""The time that the dashboards show here, in which the service has lived."""
STEP_SECONDS = 15
"""Between two points: Grafana's for an hour on a panel of a quarter of a screen."""
EMPTY: dict[tuple[str, str], str] = {}
"""(dashboard, panel) whose query rightly has no answer while the service is in trouble, and why. None is, by now: the
exporter shows counters as 0 before anything happens, and the rest has happened to the service."""


class Asked(NamedTuple):
    """A query as Grafana would send it."""

    board: str
    panel: str
    expression: str
    is_instant: bool = False


@pytest.fixture(scope="module")
def service(stack_settings: AppSettings) -> Iterator[str]:
    """The service in trouble, whose lines come until the tests are over."""
    name = f"panels-{secrets.token_hex(4)}"
    options = ServiceSettings(
        service=name,
        session=SessionOptions(by="identifier", pattern=r"order ([0-9]+)", gap_seconds=2.0),
        detector=DetectorOptions(kind="ngram"),
        budget=BudgetOptions(false_alarm_rate=0.01),
    )
    with ControlWriter(stack_settings) as control:
        control.put(Settings(settings=options))
    client = admin(stack_settings)
    client.create_topics({f"logs.{name}": {"num_partitions": 2}}, wait_for_metadata=True)
    client.close()
    shop, topics = Shop(stack_settings, f"logs.{name}"), Topics(stack_settings)
    submit(stack_settings, name="panels", topics=rf"logs\.{name}", start="earliest")
    shop.start()
    try:
        _get_into_trouble(stack_settings, name, shop, topics)
        yield name
    finally:
        shop.stop()
        topics.close()
        cancel(stack_settings, "panels")


def _get_into_trouble(settings: AppSettings, name: str, shop: Shop, topics: Topics) -> None:
    wait_until(lambda: archived(settings, name) >= 6_000, "lines in the archive", 120)
    version = train(settings, RetrainingRequest(service=name, author="test", reason="panels")).version
    wait_until(lambda: topics.scored(name, version) > 0, "lines scored by the bundle", 120)
    shop.steps = AFTER
    found = wait_until(lambda: topics.detections(name), "a detection", 120)
    logcanary(settings, "verdict", found[0].id[:12], "confirmed", "--reason", "a test said so")


def ask(settings: AppSettings, path: str, **words: object) -> Any:
    """What Prometheus answers; an error of its is one of the test."""
    url = f"http://127.0.0.1:{settings.web.prometheus_port}/api/v1/{path}?{urlencode(words)}"
    try:
        with urlopen(url, timeout=patience(10)) as answer:
            return json.load(answer)["data"]
    except HTTPError as error:
        pytest.fail(f"{words.get('query', path)}: {error.read().decode()}")


def concrete(expression: str, service: str) -> str:
    """A query with Grafana's variables filled in as Grafana fills them in.

    ``$__rate_interval`` is four times the data source's interval at least, and the step with one interval more.
    """
    scrape = int(SOURCE["datasources"][0]["jsonData"]["timeInterval"].removesuffix("s"))
    variables = {
        "__rate_interval": f"{max(4 * scrape, STEP_SECONDS + scrape)}s",
        "__range": f"{SHOWN_SECONDS}s",
        "__interval": f"{STEP_SECONDS}s",
        "service": service,
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables[found[1]], expression)


def has_data(answer: Any) -> bool:
    """Whether there is a point with a number in it: Grafana shows "No data" and NaN alike."""
    values = [value for one in answer["result"] for _, value in one.get("values", [one.get("value", (0, "NaN"))])]
    return any(not math.isnan(float(value)) for value in values)


def answer(settings: AppSettings, asked: Asked, service: str) -> Any:
    query, now = concrete(asked.expression, service), time.time()
    if asked.is_instant:
        return ask(settings, "query", query=query, time=now)
    window = {"start": now - SHOWN_SECONDS, "end": now, "step": STEP_SECONDS}
    return ask(settings, "query_range", query=query, **window)


def answers(settings: AppSettings, asked: Asked, service: str) -> bool:
    return has_data(answer(settings, asked, service))


def queries() -> list[Asked]:
    found = []
    for path in BOARDS:
        read = json.loads(path.read_text())
        for panel in read["panels"]:
            for target in panel.get("targets", ()):
                found.append(Asked(path.stem, panel["title"], target["expr"], target.get("instant", False)))
        found += [Asked(path.stem, note["name"], note["expr"]) for note in read["annotations"]["list"]]
    return found


def shipped() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_every_panel_has_an_answer(stack_settings: AppSettings, service: str) -> None:
    silent = set(queries())
    assert len({asked.board for asked in silent}) == 4
    assert EMPTY.keys() <= {(asked.board, asked.panel) for asked in silent}

    def all_answered() -> bool:
        silent.difference_update([asked for asked in silent if answers(stack_settings, asked, service)])
        return {(asked.board, asked.panel) for asked in silent} <= EMPTY.keys()

    try:
        wait_until(all_answered, "an answer to every panel", 90)
    except AssertionError:
        wrong = [one for one in sorted(silent) if (one.board, one.panel) not in EMPTY]
        pytest.fail("\n".join(f"{one.board}: {one.panel}: {concrete(one.expression, service)}" for one in wrong))
    # What has an answer after all needs no reason.
    assert {(asked.board, asked.panel) for asked in silent} == EMPTY.keys()
    for path in BOARDS:
        svg = board(json.loads(path.read_text())["title"], shown(stack_settings, path.stem, service))
        assert svg.count("<polyline") >= 4, "an answer has points"
        if "LOGCANARY_PICTURES" in os.environ:
            (PROJECT / "docs" / "pictures" / f"board-{path.stem}.svg").write_text(svg.replace(service, "shop"))


def shown(settings: AppSettings, name: str, service: str) -> list[Panel]:
    """What each panel of a dashboard shows, in their order."""
    found: dict[str, list[Series]] = {}
    for asked in queries():
        if asked.board == name:
            found.setdefault(asked.panel, []).extend(series_of(answer(settings, asked, service)))
    return [Panel(title, series) for title, series in found.items()]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_offers_the_service(stack_settings: AppSettings, service: str, path: Any) -> None:
    lists = [one for one in json.loads(path.read_text())["templating"]["list"] if one["type"] == "query"]
    assert lists
    for one in lists:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["query"]["query"]).groups()  # type: ignore[union-attr]
        offered = ask(stack_settings, f"label/{label}/values", **{"match[]": metric})
        assert service in offered
        if one["includeAll"]:  # all of them at once, as the page opens
            for asked in (asked for asked in queries() if asked.board == path.stem):
                answers(stack_settings, asked, one["allValue"])


@pytest.mark.usefixtures("service")
def test_prometheus_works_out_every_rule(stack_settings: AppSettings) -> None:
    def loaded() -> list[dict[str, Any]]:
        found = [rule for group in ask(stack_settings, "rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    rules = wait_until(loaded, "every rule to have been worked out")
    assert {rule["name"] for rule in rules} == {rule.get("record") or rule["alert"] for rule in shipped()}
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


def test_a_record_has_the_service_and_an_alert_something_to_watch(stack_settings: AppSettings, service: str) -> None:
    """An alert is rightly silent; one that asks for a series which never comes is silent for ever."""
    for record in (rule["record"] for rule in shipped() if "record" in rule):
        query = f'{record}{{service="{service}"}}'
        wait_until(partial(_is_there, stack_settings, query), query)
    for alert in (rule for rule in shipped() if "alert" in rule):
        ask(stack_settings, "query", query=alert["expr"])
        bare = re.sub(r"\{[^}]*\}", "", alert["expr"])
        for name in set(re.findall(r"\b(?:(?:logcanary|flink|alertmanager)_|service:)[\w:]+|\bup\b", bare)):
            query = f"count({name})"
            wait_until(partial(_is_there, stack_settings, query), query)


def _is_there(settings: AppSettings, query: str) -> bool:
    return has_data(ask(settings, "query", query=query))
