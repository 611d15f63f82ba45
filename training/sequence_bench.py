"""Session detectors on labelled sequences without times (OpenStack, Hadoop), beside what is simplest.

A folder holds ``NAME_train``, ``NAME_test_normal`` and ``NAME_test_abnormal`` (plain or gzip), a session a line: its
name, a comma, numbers of templates; and ``*_templates.csv``, whose lines the numbers count from 1. There is no time in
them: events are taken a second apart and sessions one after another, and nothing is learnt while running.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.service import BudgetOptions
from models.finished import Sessions
from models.learning import Say
from models.sessions import Ints
from training.datasets import read_sequences
from training.learner import TrainingError
from training.measures import summary
from training.session_bench import Learnt, ensemble_of, flags_of, kinds_of, sequences_of
from training.simple import CountVector, Length, Line, Model, NewTemplate, Ngram

Flags = NDArray[np.bool_]
Lines = list[Line]

FIRST_TEMPLATE = 1
"""Template ids 0 and 1 mean something else (``models.sessions``): number 1 becomes id 2."""
SIMPLEST: dict[str, type[Model]] = {
    "new_template_naive": NewTemplate,
    "length": Length,
    "count_vector_naive": CountVector,
    "bigrams_naive": Ngram,
}
ENDLESS_MS = 2**60
SECOND_MS = 1000


def evaluate_sequences(name: str, data: Path, progress: Say = lambda words: None) -> dict[str, Any]:
    """Measure the session detectors, their ensemble and simple baselines on sequences.

    Returns:
        ``<detector>.{precision, recall, f1, false_alarm_rate, f1_unique, ...}`` (``training.measures.summary``), and
        ``sessions``, ``anomalies``, ``learnt_sessions``, ``lines``.

    Raises:
        TrainingError: a file is missing or cannot be read.
    """
    texts = _texts(data)
    train, normal, abnormal = (
        [line for _, line in read_sequences(data, f"{name}_{part}")]
        for part in ("train", "test_normal", "test_abnormal")
    )
    progress(f"Learn from {len(train):,} sessions, test {len(normal) + len(abnormal):,}")
    learnt = sessions_of(train, texts, "learnt")
    tested = sessions_of([*normal, *abnormal], texts, "tested")
    truth = np.arange(len(tested)) >= len(normal)
    ensemble = ensemble_of(Learnt.of(learnt, ENDLESS_MS), BudgetOptions().false_alarm_rate)
    found = flags_of(ensemble, tested, ensemble.judge(tested), tested.names) | baselines(train, [*normal, *abnormal])
    unique, kinds = sequences_of(tested, tested.names), kinds_of(tested, tested.names, truth)
    rows = {detector: summary([flags], truth, unique, kinds) for detector, flags in found.items()}
    return rows | {
        "lines": len(tested.templates),
        "sessions": len(tested),
        "anomalies": int(truth.sum()),
        "base_rate": float(truth.mean()),
        "learnt_sessions": len(train),
        "kinds": {kind: int(which.sum()) for kind, which in kinds.items()},
    }


def sessions_of(lines: Lines, texts: dict[int, str], prefix: str) -> Sessions:
    """Sequences as finished sessions, one after another."""
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64)
    times: Ints = np.arange(int(starts[-1]), dtype=np.int64) * SECOND_MS
    numbers = np.array([number for line in lines for number in line], dtype=np.uint64)
    return Sessions(
        [f"{prefix} {i}" for i in range(len(lines))],
        starts,
        numbers + np.uint64(FIRST_TEMPLATE),
        times,
        np.zeros(len(times), dtype=np.int64),
        times[starts[1:] - 1],
        np.zeros(len(lines), dtype=np.int64),
        texts,
    )


def baselines(train: Lines, tested: Lines) -> dict[str, Flags]:
    """The simplest detectors (``training.simple``): each raises what training has not, with a bar of nothing."""
    found = {}
    for name, kind in SIMPLEST.items():
        model = kind()
        model.learn(train)
        found[name] = model.strangeness(tested) > 0
    return found


def _texts(data: Path) -> dict[int, str]:
    found = sorted(data.glob("*_templates.csv"))
    if not found:
        raise TrainingError(f"{data} has no *_templates.csv: --data names the folder of the sequences")
    lines = found[0].read_text(encoding="utf-8", errors="replace").splitlines()
    return {number + FIRST_TEMPLATE: line for number, line in enumerate(lines, 1)}
