"""What the pages say of services and of LogCanary itself, read from the exporter's text."""

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from console import advice, vitals
from console.advice import ExporterError
from console.api import create
from console.pages import Pages
from console.store import Store
from console.vitals import Look, Pulse, looked
from streaming.exporter import Metrics
from tests.unit.test_console import alone
from tests.unit.test_console_pages import SCRIPT, Reading
from tests.unit.test_exporter import statistic

NOW = 1_800_000_000_000


def exported(lines=0, stalled=False, **gauges):
    """The exporter's text with one service, ``pay``, in the exporter's own series."""
    metrics = Metrics(wall=lambda: NOW / 1000)
    of = {"service": "pay", "topic": "logs.pay", "last": lines - 1}
    metrics.statistic(statistic("parse", **of, emitted_ms=NOW))
    metrics.statistic(statistic("score", **of, emitted_ms=NOW - (180_000 if stalled else 2_000)))
    text = generate_latest(metrics.registry).decode()
    extra = CollectorRegistry()
    for name, value in gauges.items():
        text = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(f"logcanary_{name}{{"))
        Gauge(f"logcanary_{name}", "x", ["service"], registry=extra).labels("pay").set(value)
    return text + generate_latest(extra).decode()


def test_what_is_read_is_what_the_exporter_writes():
    names = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    families = {family.name for family in Metrics().registry.collect()}
    assert {name.removesuffix("_total") for name in vitals._READ} <= families | names
    assert vitals._LAST in families


def test_lines_a_second_are_between_two_looks_and_never_below_zero():
    first = looked(exported(lines=1_000), NOW, Look())
    assert first.services["pay"].lines_per_second is None
    second = looked(exported(lines=6_000, templates=12, open_sessions=3), NOW + 10_000, first)
    assert second.services["pay"].lines_per_second == 500
    assert (second.services["pay"].templates, second.services["pay"].sessions) == (12, 3)
    assert second.words == "1 service, 500 lines a second, the last scored 12 s ago"
    again = looked(exported(lines=10), NOW + 20_000, second)  # the exporter began anew
    assert again.services["pay"].lines_per_second is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stalled": True, "scoring_lag_lines": 4_000}, "4,000 lines wait to be scored; for 3 min none"),
        ({"archive_lag_lines": 20_000}, "20,000 lines are not archived yet"),
        ({"bundle_refused": 1}, "failed its checks"),
        ({"learning_paused": 1}, "no template is learnt"),
    ],
)
def test_trouble_is_told_with_its_service(given, words):
    (said,) = looked(exported(**given), NOW, Look()).trouble["pay"]
    assert words in said


def test_what_is_no_trouble_is_none():
    for given in ({"stalled": True}, {"scoring_lag_lines": 4_000}, {"archive_lag_lines": 100}):
        assert looked(exported(**given), NOW, Look()).trouble == {}


def test_the_exporter_is_asked_seldom_and_its_absence_is_told(tmp_path, monkeypatch):
    asked, now = [], [NOW]

    def scrape(settings):
        asked.append(now[0])
        if len(asked) > 1:
            raise ExporterError("the exporter does not answer")
        return exported(lines=1)

    monkeypatch.setattr(vitals, "scrape", scrape)
    pulse = Pulse(alone(tmp_path), lambda: now[0])
    assert pulse.last.at_ms == 0
    assert pulse.look() is pulse.look() is pulse.last
    now[0] += 5_000
    assert pulse.look().trouble == {"": ("the exporter does not answer",)}
    assert asked == [NOW, NOW + 5_000]


def test_the_course_has_a_figure_a_minute_and_a_count_that_fell_began_anew(tmp_path, monkeypatch):
    minutes = [
        {"lines": 600, "templates": 10, "fit_unknown_ratio": 0.0},
        {"lines": 1_200, "templates": 14, "fit_unknown_ratio": 0.25},
        {"lines": 60, "templates": 3, "fit_unknown_ratio": 0.5},
    ]
    now = [NOW]
    monkeypatch.setattr(vitals, "scrape", lambda settings: exported(**minutes[(now[0] - NOW) // 60_000]))
    pulse = Pulse(alone(tmp_path), lambda: now[0])
    for _ in range(36):  # every five seconds
        pulse.look()
        now[0] += 5_000
        if now[0] == NOW + 60_000:
            assert pulse.course("pay") is None, "one look says nothing of a course"
    course = pulse.course("pay")
    assert (course.since_ms, course.lines, course.new_templates) == (NOW, [10.0, 1.0], [4.0, 3.0])
    assert course.unknown == [25.0, 50.0]
    assert pulse.course("web") is None
    store = Store(tmp_path / "console.db")
    pages = Pages(alone(tmp_path), store, Reading(store))
    pages.site.pulse = pulse
    now[0] -= 5_000
    with TestClient(create(alone(tmp_path), pages), base_url="http://127.0.0.1:8080") as client:
        page = client.get("/ui/services/pay").text
    assert "New templates a minute" in page
    assert page.count("<polyline") == 3
    store.close()


def test_the_pages_show_it_escaped(tmp_path, monkeypatch):
    store = Store(tmp_path / "console.db")
    text = exported(lines=1, templates=1_234, scoring_lag_lines=7, fit_alarms_per_day=3.5, fit_budget_per_day=5)
    monkeypatch.setattr(vitals, "scrape", lambda settings: text)
    monkeypatch.setattr(advice, "log_topics", lambda settings: ["logs.pay", "logs.web"])
    app = create(alone(tmp_path), Pages(alone(tmp_path), store, Reading(store)))
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        assert "not known yet" in client.get("/ui/alerts").text
        assert "LogCanary is well: 1 service, " in client.get("/ui/health").text
        assert "LogCanary is well" in client.get("/ui/alerts").text
        rows = client.get("/ui/services").text
        assert "3.5 of 5.0" in rows
        assert "not met yet" in rows
        assert "1,234 templates" in client.get("/ui/services/pay").text
        monkeypatch.setattr(vitals, "KEPT_SECONDS", 0)
        text = exported(bundle_refused=1).replace("pay", SCRIPT.replace('"', ""))
        page = client.get("/ui/health").text
        assert "failed its checks" in page
        assert "<script>alert" not in page
    store.close()
