"""Thresholds of newer time or for another budget: the model stays, what is raised changes, trainings by a schedule."""

import numpy as np
import pytest

from contracts.retraining import RetrainingRequest, Run
from contracts.service import BudgetOptions, RetrainingOptions
from models.adjusting import MOST_RATE, rate_of, recalibrated, with_budget
from models.bundle import Bundle
from models.learning import LearnError, check
from models.registry import Registry
from models.scorer import Scorer
from storage.files import LocalFiles
from tests.unit.test_gating import NGRAM, made
from tests.unit.test_training import STEPS, dataset, orders
from training import schedule
from training.schedule import due

NOW = 1_780_000_000_000
HOUR = 3_600_000
ODD = [STEPS[0], STEPS[2], STEPS[1], STEPS[3]]


def mixed(first: int, count: int, every: int) -> list[bytes]:
    """Orders of which each so-manyth goes another way."""
    return [
        line
        for number in range(first, first + count)
        for line in orders(range(number, number + 1), ODD if number % every == 0 else STEPS)
    ]


def raised(bundle: Bundle, data) -> float:
    """Share of the windows' sessions that the sequence model raises."""
    material = data.material
    rows = np.flatnonzero(material.targets[material.which] != 1)
    which = material.which[rows]
    over = Scorer(bundle).raises(material.contexts[which], material.targets[which], material.streams[rows])
    return len(np.unique(material.sessions[rows][over])) / len(np.unique(material.sessions))


@pytest.fixture(scope="module")
def live():
    return made(mixed(100, 600, 1_000))[0]


def test_thresholds_of_newer_time_make_quiet_what_has_become_usual(live, tmp_path):
    newer = dataset(mixed(1_000, 600, 20), NGRAM)
    assert raised(live, newer) == pytest.approx(0.05, abs=0.01)
    found = recalibrated(live, newer.material, newer.sessions, NOW)
    assert raised(found, newer) <= 0.01
    assert found.model is live.model
    assert found.manifest.version != live.manifest.version
    assert found.manifest.created_ms == NOW
    assert sum(found.manifest.surprises) == pytest.approx(1)
    registry = Registry(LocalFiles(tmp_path), "/logcanary")
    registry.publish(found)
    again = registry.load("shop", found.manifest.version)
    assert raised(again, newer) == raised(found, newer)
    again.detectors()


def test_a_model_of_another_window_cannot_have_new_thresholds(live):
    longer = NGRAM.model_copy(update={"detector": NGRAM.detector.model_copy(update={"window": 4})})
    other = dataset(orders(range(100, 300)), longer)
    with pytest.raises(LearnError, match=r"looks at 10 events before, the settings say 4 \(detector\.window\)"):
        recalibrated(live, other.material, other.sessions, NOW)
    few = dataset(orders(range(100, 110)), NGRAM)
    with pytest.raises(LearnError, match="40 lines to learn from"):
        check(few.material, "shop")


def test_another_budget_raises_more_or_less_and_is_a_bundle_of_its_own(live):
    newer = dataset(mixed(1_000, 600, 20), NGRAM)
    wide = recalibrated(live, newer.material, newer.sessions, NOW)
    shares = [
        raised(with_budget(wide, BudgetOptions(false_alarm_rate=rate), NOW), newer) for rate in (0.001, 0.02, 0.3)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert shares[-1] == pytest.approx(0.05, abs=0.01)
    versions = {with_budget(live, BudgetOptions(false_alarm_rate=rate), NOW).manifest.version for rate in (0.001, 0.02)}
    assert len(versions | {live.manifest.version}) == 3


def test_thresholds_by_hand_hold_whatever_the_budget_says(live, tmp_path):
    newer = dataset(mixed(1_000, 600, 20), NGRAM)
    deaf = with_budget(live, live.manifest.settings.budget, NOW, {"session": 1_000.0, "stream": 1_000.0})
    assert raised(deaf, newer) == 0
    nervous = with_budget(live, live.manifest.settings.budget, NOW, {"session": -1.0})
    assert raised(nervous, newer) == 1
    registry = Registry(LocalFiles(tmp_path), "/logcanary")
    registry.publish(deaf)
    again = registry.load("shop", deaf.manifest.version).calibrated("session")
    assert again.bar == 1_000
    assert 0 <= again.threshold <= 1


def test_alerts_a_day_become_a_rate_at_the_pace_of_the_data(live):
    day = live.manifest.model_copy(update={"data_from_ms": 0, "data_to_ms": 12 * HOUR, "sessions": 5_000})
    assert rate_of(day, 10) == pytest.approx(10 / 10_000)
    assert rate_of(day, 1e9) == MOST_RATE
    assert rate_of(day.model_copy(update={"sessions": 0, "windows": 20_000}), 10) == pytest.approx(10 / 40_000)
    with pytest.raises(LearnError, match="give a rate instead"):
        rate_of(day.model_copy(update={"data_to_ms": 0}), 10)


def run(hours_ago: float, state: str = "done") -> Run:
    request = RetrainingRequest(service="pay", author="ada", reason="r")
    return Run(id="x", request=request, state=state, asked_ms=NOW - round(hours_ago * HOUR))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("every", "newest", "expected"),
    [
        (0, None, False),
        (24, None, True),
        (24, run(23), False),
        (24, run(25), True),
        (24, run(25, "running"), False),
        (24, run(23, "failed"), False),
        (24, run(25, "kept"), True),
    ],
)
def test_what_is_due(every, newest, expected):
    found = due("pay", RetrainingOptions(every_hours=every, lookback_hours=48), newest, NOW)
    assert (found is not None) == expected
    if found is not None:
        assert (found.author, found.reason, found.from_ms) == (schedule.AUTHOR, "every 24 hours", NOW - 48 * HOUR)


def test_what_is_learnt_from_is_everything_unless_said():
    found = due("pay", RetrainingOptions(every_hours=0.5), None, NOW)
    assert found is not None
    assert found.from_ms is None
