"""Precision, recall and their kin over labelled sessions, with bootstrap intervals and by kind of anomaly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

BOOTSTRAPS = 1_000


def measures(flags: Flags, truth: Flags) -> dict[str, float]:
    """Precision, recall, F1 and the false-alarm rate; 0 where nothing was raised or nothing was to be found.

    >>> measures(np.array([True, True, False]), np.array([True, False, False]))
    {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'false_alarm_rate': 0.5}
    """
    hits = int((flags & truth).sum())
    raised, wanted, normal = int(flags.sum()), int(truth.sum()), int((~truth).sum())
    return {
        "precision": hits / raised if raised else 0.0,
        "recall": hits / wanted if wanted else 0.0,
        "f1": 2 * hits / (raised + wanted) if raised + wanted else 0.0,
        "false_alarm_rate": (raised - hits) / normal if normal else 0.0,
    }


def average_precision(strangeness: NDArray[np.float64], truth: Flags) -> float:
    """Area under precision over recall, as steps, one for equal strangeness; 0 where nothing is to be found.

    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.8333333333333333
    """
    wanted = int(truth.sum())
    if not wanted:
        return 0.0
    order = np.argsort(-strangeness, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.flatnonzero(np.append(np.diff(strangeness[order]) != 0, True))  # of each step
    steps = np.diff(np.concatenate([[0], hits[last]])) / wanted
    return float((steps * hits[last] / (last + 1)).sum())


def precision_at(strangeness: NDArray[np.float64], truth: Flags, share: float) -> float:
    """Precision where a share of all sessions, the strangest, is looked at; of equally strange ones as many as fit.

    >>> precision_at(np.array([2.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]), share=0.5)
    0.75
    """
    left = max(1, round(share * len(strangeness)))
    hits, looked = 0.0, left
    for level in np.unique(strangeness)[::-1]:
        equal = truth[strangeness == level]
        hits += float(equal.mean()) * min(left, len(equal))
        left -= min(left, len(equal))
        if not left:
            break
    return hits / looked


def summary(
    runs: Sequence[Flags], truth: Flags, unique: Ints, kinds: Mapping[str, Flags] | None = None
) -> dict[str, Any]:
    """Figures of one detector: ``runs`` are its flags [sessions] for each seed.

    Means over the seeds, F1 by seed, 95 % bootstrap intervals of the first seed, the same over distinct sequences
    (``unique`` [sessions] numbers them), and recall by kind of anomaly (``kinds`` [sessions] each).
    """
    first = np.array([int(np.flatnonzero(unique == number)[0]) for number in range(int(unique.max()) + 1)])
    row: dict[str, Any] = dict(_means(runs, truth))
    distinct = _means([flags[first] for flags in runs], truth[first])
    row |= {"f1_unique": distinct["f1"], "false_alarm_rate_unique": distinct["false_alarm_rate"]}
    row["f1_by_seed"] = [measures(flags, truth)["f1"] for flags in runs]
    row["f1_interval"] = intervals(runs[0], truth)["f1"]
    row["intervals"] = intervals(runs[0], truth) | {"f1_unique": intervals(runs[0][first], truth[first])["f1"]}
    row["unique_sequences"] = len(first)
    row["recall_by_kind"] = {
        kind: float(np.mean([measures(flags, truth & which)["recall"] for flags in runs]))
        for kind, which in (kinds or {}).items()
        if (truth & which).any()
    }
    return row


def intervals(flags: Flags, truth: Flags) -> dict[str, list[float]]:
    """95 % bootstrap intervals of ``measures``."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(truth), len(truth)) for _ in range(BOOTSTRAPS)]
    figures = [measures(flags[rows], truth[rows]) for rows in drawn]
    return {
        name: [float(one) for one in np.quantile([figure[name] for figure in figures], [0.025, 0.975])]
        for name in figures[0]
    }


def _means(runs: Sequence[Flags], truth: Flags) -> dict[str, float]:
    figures = [measures(flags, truth) for flags in runs]
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
