"""What the session detectors find in real HDFS blocks: floors that no change may fall below, without DeepLog."""

from pathlib import Path

import numpy as np
import pytest

from training.evaluate import MODES, Prepared, split_hdfs
from training.measures import measures
from training.session_bench import ensemble_of, flags_of, judge

BUDGET = 0.005
FLOORS = {("frozen", 0.5): 0.85, ("learning", 0.5): 0.90, ("frozen", 0.8): 0.88, ("learning", 0.8): 0.88}
"""F1 of the ensemble, clean learning."""


@pytest.mark.parametrize("split", [0.5, 0.8])
def test_the_ensemble_does_not_fall_below_its_floors(data_dir: Path, split: float) -> None:
    _, clean, test = split_hdfs(data_dir / "hdfs", split)
    prepared = Prepared.of(clean)
    tested = prepared.tested(test)
    truth = np.array([block.anomalous for block in test.blocks])
    for mode in MODES:
        ensemble = ensemble_of(prepared.learnt, BUDGET)
        found = flags_of(ensemble, tested.states, judge(ensemble, tested.states, mode == "learning"), tested.names)
        f1 = {name: measures(flags, truth)["f1"] for name, flags in found.items()}
        assert f1["ensemble"] >= FLOORS[mode, split], f1
