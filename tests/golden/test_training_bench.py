"""Training on unique windows by their weights is as good as on all of them."""

from pathlib import Path

import pytest

from training.training_bench import compare_windows


@pytest.mark.timeout(900)
def test_unique_windows_are_as_good_as_all(data_dir: Path) -> None:
    found = compare_windows(data_dir / "hdfs")
    assert found["f1_unique_weighted"] >= found["f1_all_windows"] - 0.005
    assert found["f1_unique_weighted"] >= 0.68
    for way in ("unique_weighted", "unique_root"):
        assert found[f"held_back_nats_{way}"] <= found["held_back_nats_all_windows"] + 0.01
    assert found["score_seconds_distinct"] < found["score_seconds_all"]
    assert found["same_nats_seconds_unique_weighted"] < found["same_nats_seconds_all_windows"]
