"""Signs of a bundle that fits no more, and the one advice they become: from statistics to a sentence."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from console.advice import ExporterError, advise_all, read_signs
from contracts.records import BundlePointer, Settings
from contracts.service import BudgetOptions, ServiceSettings
from contracts.settings import AppSettings, WebOptions
from models import drift
from models.drift import EDGES, Signs, advise, counts, distance, shares
from storage.control import ControlView, key_of
from streaming.exporter import Metrics
from streaming.fitting import FitGauges, Fits
from tests.unit.test_exporter import statistic
from tests.unit.test_training import verdict

NOW = 1_780_000_000_000
MINUTE = 60_000
OLD, NEW = "20260501T120000-0123abcd", "20260601T120000-0123abcd"
LEARNT = (0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01, 0.0)


def scored(at_ms=NOW, bundle=OLD, **fields):
    return statistic("score", emitted_ms=at_ms, bundle=bundle, **fields)


def view(*records):
    found = ControlView()
    for record in records:
        found.apply(key_of(record), record.model_dump_json().encode())
    return found


def pointer(version=OLD, made_ms=NOW - 1):
    return BundlePointer(
        service="web", version=version, author="ada", reason="r", moved_ms=NOW, made_ms=made_ms, surprises=LEARNT
    )


def test_windows_are_counted_by_how_surprising_they_are():
    found = counts(np.array([0.0, 0.005, 0.01, 3.0, 50.0], dtype=np.float32))
    assert found == (2, 1, 0, 0, 0, 0, 1, 0, 1)
    assert len(found) == len(EDGES) + 1
    assert sum(shares(np.array([0.0, 0.005, 3.0], dtype=np.float32))) == pytest.approx(1)
    assert shares(np.zeros(0, dtype=np.float32)) == ()


def test_the_distance_is_0_for_the_same_shares_and_grows_both_ways():
    assert distance([one * 1_000 for one in LEARNT], LEARNT) == pytest.approx(0, abs=2e-3)
    assert distance(LEARNT[::-1], LEARNT) == pytest.approx(distance(LEARNT, LEARNT[::-1]))
    assert distance(LEARNT[::-1], LEARNT) > drift.DISTANT
    # (.9 - .5) ln(.9 / .5) + (.1 - .5) ln(.1 / .5)
    assert distance([9, 1], [0.5, 0.5]) == pytest.approx(0.4 * np.log(1.8) + 0.4 * np.log(5))
    assert distance([0, 0], [0.5, 0.5]) is None
    assert distance([1, 2, 3], []) is None


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (Signs(), "retrain: there is no bundle, nothing is scored"),
        (Signs(bundle_ms=NOW), "the bundle fits"),
        (Signs(bundle_ms=NOW, events=999, unknown=0.5), "the bundle fits"),
        (
            Signs(bundle_ms=NOW, events=5_000, unknown=0.12, unknown_since_ms=NOW - MINUTE),
            "retrain: 12.0% of the events are of templates that the bundle does not know since 2026-05-28 20:25 UTC",
        ),
        (
            Signs(bundle_ms=NOW, events=5_000, distance=0.4),
            "retrain: events are as surprising as they were not in training (stability index 0.40 > 0.25)",
        ),
        (
            Signs(bundle_ms=NOW, alarms=12, alarms_per_day=288, budget_per_day=100),
            "retrain: 288 alarms a day where the budget is 100",
        ),
        (Signs(bundle_ms=NOW, alarms=9, alarms_per_day=288, budget_per_day=100), "the bundle fits"),
        (Signs(bundle_ms=NOW, reviewed=10, confirmed=4), "retrain: only 4 of 10 reviewed alarms were faults"),
        (Signs(bundle_ms=NOW, reviewed=10, confirmed=5), "the bundle fits"),
        (Signs(bundle_ms=NOW - 100 * 86_400_000), "the bundle fits · the bundle is 100 days old"),
    ],
)
def test_signs_become_one_advice(signs, words):
    assert advise(signs, NOW).words == words
    assert advise(signs, NOW).retrain == words.startswith("retrain")


def test_shares_are_of_the_last_hour():
    fits = Fits()
    fits.scored(scored(NOW - 100 * MINUTE, first=0, last=999, unknown=1_000))
    fits.scored(scored(NOW, first=1_000, last=1_999, unknown=100, reworded=50))
    found = fits.signs(NOW)["web"]
    assert (found.events, found.unknown) == (1_000, 0.05)
    assert fits.signs(NOW + 200 * MINUTE)["web"].events == 0


def test_since_when_templates_are_unknown_is_the_first_minute_without_a_break():
    fits = Fits()
    for minute, unknown in enumerate([0, 50, 0, 40, 60, 50]):
        at = NOW + minute * MINUTE
        fits.scored(scored(at, first=minute * 100, last=minute * 100 + 99, unknown=unknown))
    since = fits.signs(NOW + 5 * MINUTE)["web"].unknown_since_ms
    assert since // MINUTE == (NOW + 3 * MINUTE) // MINUTE


def test_another_bundle_begins_anew_and_late_words_of_the_old_one_do_not_bring_it_back():
    fits = Fits()
    fits.control(view(pointer()), NOW)
    fits.scored(scored(NOW, OLD, first=0, last=999, unknown=1_000))
    fits.scored(scored(NOW, NEW, first=1_000, last=1_099))
    assert fits.signs(NOW)["web"].unknown == 0
    fits.scored(scored(NOW, NEW, first=1_100, last=1_199))
    assert fits.signs(NOW)["web"].events == 200


def test_alarms_are_held_against_what_was_agreed_on():
    fits = Fits()
    agreed = Settings(settings=ServiceSettings(service="web", budget=BudgetOptions(false_alarm_rate=0.01)))
    fits.control(view(pointer(), agreed), NOW)
    fits.scored(scored(NOW, sessions_judged=500, windows=4_000))
    for _ in range(20):
        fits.alarm("web", NOW)
    found = fits.signs(NOW)["web"]
    assert (found.alarms, found.alarms_per_day, found.budget_per_day) == (20, 20 * 1440, 5 * 1440)
    assert "28,800 alarms a day where the budget is 7,200" in advise(found, NOW).words


def test_verdicts_in_force_count_by_what_they_say():
    given = {"service": "web", "given_ms": NOW}
    records = [
        verdict(value, "s").model_copy(update=given | {"detection": f"{number:016x}"} | more)
        for number, (value, more) in enumerate(
            [
                ("confirmed", {}),
                ("expected", {}),
                ("false-positive", {}),
                ("unsure", {}),
                ("expected", {"undone_ms": 1}),
                ("confirmed", {"given_ms": NOW - 40 * 86_400_000}),
            ]
        )
    ]
    fits = Fits()
    fits.control(view(pointer(), *records), NOW)
    found = fits.signs(NOW)["web"]
    assert (found.reviewed, found.confirmed) == (3, 1)


def test_signs_come_back_whole_from_the_exporters_text():
    signs = {
        "web": Signs(5_000, 0.125, NOW, 0.3, 288.5, 100.0, 12, 10, 4, NOW - 1_000),
        "pay": Signs(bundle_ms=NOW),
    }
    registry = CollectorRegistry()
    gauges = FitGauges(registry)
    for service, one in signs.items():
        gauges.show(service, one, NOW)
    text = generate_latest(registry).decode()
    assert read_signs(text) == signs
    assert 'logcanary_retraining_advised{service="web"} 1.0' in text
    assert 'logcanary_retraining_advised{service="pay"} 0.0' in text


def test_the_exporter_shows_what_it_was_told():
    metrics = Metrics(wall=lambda: NOW / 1000)
    metrics.control(view(pointer()))
    metrics.statistic(scored(first=0, last=4_999, unknown=600, surprises=tuple(int(one * 5_000) for one in LEARNT)))
    metrics.statistic(scored(first=0, last=4_999, unknown=600))  # once more, after a crash
    metrics.fit()
    found = read_signs(generate_latest(metrics.registry).decode())["web"]
    assert (found.events, found.unknown) == (5_000, 0.12)
    assert found.distance == pytest.approx(0, abs=0.01)
    assert advise(found, NOW).retrain


def test_an_exporter_that_does_not_answer_is_named():
    with pytest.raises(ExporterError, match=r"127\.0\.0\.1:9.*web\.exporter_port"):
        advise_all(AppSettings(web=WebOptions(exporter_port=9)))
