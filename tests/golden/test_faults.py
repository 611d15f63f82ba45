"""Injected faults in a recorded day of 27 services: what is found, and at what price, must not get worse unseen."""

from pathlib import Path

import pytest

from training.trainticket import evaluate_trainticket


@pytest.mark.timeout(600)
def test_faults_of_train_ticket(data_dir: Path) -> None:
    report = evaluate_trainticket(data_dir / "trainticket", curve=False)
    ensemble = report["ensemble"]
    assert ensemble["faults"] == 28
    assert ensemble["found_related"] >= 22
    assert ensemble["groups_per_hour"] <= 25
    assert ensemble["control"] < 0.1
