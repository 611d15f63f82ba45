"""Injected faults in a recorded day of 27 services: what is found, and at what price, must not get worse unseen."""

from pathlib import Path

import numpy as np
import pytest

from models.tracing import TRACE_DETECTORS
from models.tracing.across import Across, Raised
from training.trainticket import Day, evaluate_trainticket, ticks, watch


@pytest.mark.timeout(600)
def test_faults_of_train_ticket(data_dir: Path) -> None:
    report = evaluate_trainticket(data_dir / "trainticket", curve=False)
    ensemble = report["ensemble"]
    assert ensemble["faults"] == 28
    assert ensemble["found_related"] >= 22
    assert ensemble["groups_per_hour"] <= 25
    assert ensemble["control"] < 0.1


def told(raised: list[Raised]) -> set[tuple[int, int, int]]:
    """Event time, service and alert of each."""
    return {(one.finding.at_ms, one.alert.service, one.alert.number) for one in raised}


@pytest.mark.timeout(600)
def test_the_evaluation_raises_what_the_operator_of_the_job_raises(data_dir: Path) -> None:
    day = Day.read(data_dir / "trainticket")
    evaluated = watch(day, list(ticks(day.lines)), TRACE_DETECTORS)
    across = Across(rates=False, services=day.services)
    raised: set[tuple[int, int, int]] = set()
    for start in range(0, len(day.lines), 4_000):
        part = day.lines.take(np.arange(start, min(start + 4_000, len(day.lines))))
        for number, service in enumerate(day.services):
            across.add(service, part.take(np.flatnonzero(part.services == number)), {})
        raised |= told(across.until(int(part.times[-1])))
        if start == 80_000:
            again = Across(rates=False)
            again.load(across.dump())
            across = again
    raised |= told(across.until(2**62))
    assert {(one.at_ms, one.service, one.number) for one in evaluated.raised} == raised
    assert len(raised) > 50
