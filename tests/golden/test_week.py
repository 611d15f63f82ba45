"""A week of HDFS: quiet days stay within the budget, a fault is reported each time it comes."""

from collections import Counter
from pathlib import Path

import pytest

from training.evaluate import Labelled
from training.week import (
    CLOCK_DAY,
    DAY_S,
    DAYS,
    FAULT_DAYS,
    FAULTY,
    HOST_DAY,
    NOON_S,
    PEAK_DAY,
    PEAK_S,
    RELEASE_DAY,
    SHIFT_S,
    _batches,
    edit,
    evaluate_week,
    slices,
)  # fmt: skip


@pytest.fixture(scope="module")
def log(data_dir: Path) -> Labelled:
    return Labelled.read(data_dir / "hdfs")


def test_edits_do_what_they_say_and_the_same_for_the_same_seed(log: Labelled) -> None:
    plain, week = slices(log), edit(slices(log), 3)
    assert [(one.at, one.text) for one in week.lines] == [(one.at, one.text) for one in edit(slices(log), 3).lines]
    assert {plain.day_of(line) for line in plain.lines} == set(range(DAYS + 1))
    owner: dict[str, int] = {}
    assert all(owner.setdefault(line.block, plain.day_of(line)) == plain.day_of(line) for line in plain.lines)
    begins = RELEASE_DAY * DAY_S + NOON_S
    old = {line.text for line in plain.lines}
    released = [line for line in week.lines if b"Now" in line.text and line.block in week.edits["release"]]
    assert released
    assert all(line.at >= begins for line in released)
    assert any(b"audit of" in line.text for line in week.lines)
    busy = Counter(week.day_of(line) for line in week.lines)
    assert busy[PEAK_DAY] > 1.1 * sorted(busy.values())[len(busy) // 2]
    assert [len(week.edits[f"fault {day}"]) for day in FAULT_DAYS] == [FAULTY] * len(FAULT_DAYS)
    assert week.edits["host"]
    before = [line for line in week.lines if week.day_of(line) in (1, 3)]
    assert all(line.text in old for line in before)
    low, high = PEAK_S
    assert low < high <= DAY_S
    assert HOST_DAY <= DAYS


def test_the_clock_in_the_lines_is_ahead_on_one_day_only(log: Labelled) -> None:
    week = slices(log)
    for day, ahead in ((CLOCK_DAY - 1, 0), (CLOCK_DAY, SHIFT_S), (CLOCK_DAY + 1, 0)):
        last = [line for line in week.lines if week.day_of(line) == day][-1:]
        (batch,) = _batches(last, 0)
        written = int(batch.line(0)[7:13] or b"0")
        hours = (written // 10_000 + 24 - (int(last[0].at) + ahead) % DAY_S // 3_600) % 24
        assert hours == 0


@pytest.mark.timeout(600)
def test_quiet_days_are_within_the_budget_and_the_fault_is_reported_every_time(data_dir: Path) -> None:
    figures = evaluate_week(data_dir / "hdfs", kind="ngram")
    assert figures["quiet_alarms_mean"] <= figures["quiet_budget_mean"]
    assert figures["quiet_alarms_over_budget_most"] <= 2
    assert all(figures["faults"].values())
    assert figures["host"]["raised"] > 0
    # A tenth of the templates in other words is no flood, and what is new about them is one incident at most.
    assert figures["release_sessions_raised"] < figures["release_sessions"] / 20
    assert figures["release_groups"] <= 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [3, 8])
def test_a_release_of_lines_that_are_not_alike_is_one_incident_and_then_normal(data_dir: Path, seed: int) -> None:
    figures = evaluate_week(data_dir / "hdfs", seed=seed, kind="ngram")
    assert figures["release_groups"] <= 1
    last = figures["days"][-1]
    assert last["raised"] < last["sessions"] / 20, "three days later it is how things are"
    assert all(figures["faults"].values())
