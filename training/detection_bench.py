"""The benchmark of detection: models of the field on labelled data, by an honest protocol or the field's leaky one.

*strict*: normal sessions of the learnt side alone; the newest fifth of them (of a random split: a fifth at random) is
held back and makes the threshold, for 0.5 % false alarms. The tested side is asked once, after everything is chosen.
Supervised models learn from the labels of the learnt side, all of it, and raise what is likelier an anomaly than not:
there is no threshold to choose. Where no learnt session is an anomaly they have no row, and it is said why.
*leaky*: the same models, with the threshold that gives the best F1 on the tested side, which is what the field does, so
that the difference is seen.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from contracts.service import BudgetOptions
from models.learning import HELD_BACK, Say
from training.datasets import WINDOW, DataSet, Flags, How, Side, Split, faults, read
from training.field import MODELS, SUPERVISED
from training.learner import TrainingError
from training.measures import average_precision, measures, precision_at
from training.simple import Model, Numbers
from training.supervised import BAR, Supervised

Protocol = Literal["strict", "leaky"]
LOOKED_AT = 0.01
"""Share of the tested sessions, the strangest, over which ``precision_at_budget`` is."""
DEEPLOG_SESSIONS = (553_366, 16_838)
"""Normal and abnormal test sessions of DeepLog's split; the normal ones are not published with it."""


def bench_detection(
    name: str,
    data: Path,
    *,
    models: Sequence[str] = (),
    split: How | None = None,
    share: float = 0.8,
    seeds: int = 5,
    protocol: Protocol = "strict",
    window: int = WINDOW,
    progress: Say = lambda words: None,
) -> dict[str, Any]:
    """Measure models on a data set.

    Args:
        name: of the data set (``training.datasets.CARDS``).
        data: its folder.
        models: names (``training.field``); none: all that fit.
        split: none: what the protocol and the data set begin with (*leaky* draws at random).
        share: of the sessions that are learnt, where the split is not given.
        seeds: random splits that are drawn; on another split, runs of a model that draws (others run once).
        protocol: *strict* or *leaky*.
        window: lines of a window, where the data set has no sessions.
        progress: is told what goes on.

    Returns:
        ``models.<name>.{precision, recall, f1, f1_unique, f1_std, f1_by_run, false_alarm_rate, average_precision,
        precision_at_budget, train_seconds, train_cpu_seconds, windows_per_second, peak_rss_mb, runs}``, means over the
        runs, a window being a session, the memory that of the whole process up to then, ``precision_at_budget`` that of
        the strangest ``LOOKED_AT``, ``train_cpu_seconds`` without what waited for other work; on
        *deeplog*, precision and F1 are made of recall and false alarms at the sizes of its whole split, and
        ``comparable`` is false;
        ``faults`` of the first run's split (``training.datasets.faults``), ``sessions``, ``anomalies``, ...

    Raises:
        TrainingError: an unknown name, a split that the data set has not, a learnt side without normal sessions.
    """
    kinds: dict[str, type[Model]] = {**MODELS, **SUPERVISED}
    unknown = sorted(set(models) - set(kinds))
    if unknown:
        raise TrainingError(f"No model {', '.join(unknown)}: --models takes {', '.join(kinds)}")
    source = read(name, data, window)
    how = split or ("random" if protocol == "leaky" else source.card.splits[0])
    runs = _runs(source, how, share, seeds if how == "random" else 1)
    chosen = [kinds[one] for one in (models or kinds)]
    rows: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for kind in chosen:
        if issubclass(kind, Supervised) and not models and not runs[0].learnt.truth.any():
            left_out[kind.name] = "no learnt session is an anomaly"
            continue
        times = seeds if kind.draws else len(runs)
        progress(f"{kind.name} on {name}, {how} split, {times} run(s)")
        splits = [runs[seed % len(runs)] for seed in range(times)]
        rows[kind.name] = _mean([_run(kind(seed, one.texts), one, protocol) for seed, one in enumerate(splits)])
    first = runs[0]
    if name == "deeplog":
        rows = {model: row | _reweighted(row["recall"], row["false_alarm_rate"]) for model, row in rows.items()}
    return {
        "dataset": name,
        "split": how,
        "share": len(first.learnt) / (len(first.learnt) + len(first.tested)),
        "seeds": max(int(row["runs"]) for row in rows.values()),
        "protocol": protocol,
        "learnt_sessions": len(first.learnt),
        "sessions": len(first.tested),
        "anomalies": int(first.tested.truth.sum()),
        "base_rate": float(first.tested.truth.mean()),
        "faults": faults(first),
        "comparable": name != "deeplog",
        "beware": source.card.beware,
        "left_out": left_out,
        "models": rows,
    }


def threshold(held_back: Numbers, budget: float) -> float:
    """The lowest strangeness of held-back normal sessions that at most a share ``budget`` of them lies above.

    >>> threshold(np.array([0.0, 0.0, 1.0, 2.0]), budget=0.25)
    1.0
    """
    return float(np.sort(held_back)[len(held_back) - 1 - int(budget * len(held_back))])


def best_on_test(strangeness: Numbers, truth: Flags) -> float:
    """The threshold with the best F1 on the tested side: what *leaky* does, and nothing else may."""
    candidates = np.unique(np.concatenate([[-1.0], strangeness]))
    return float(max(candidates, key=lambda one: measures(strangeness > one, truth)["f1"]))


def _runs(source: DataSet, how: How, share: float, seeds: int) -> list[Split]:
    return [source.split(how, share, seed) for seed in range(seeds)]


def _run(model: Model, split: Split, protocol: Protocol) -> dict[str, float]:
    if isinstance(model, Supervised):
        return _run_supervised(model, split, protocol)
    normal = split.learnt.take(np.flatnonzero(~split.learnt.truth))
    cut = int(len(normal) * (1 - HELD_BACK))
    if not 0 < cut < len(normal):
        raise TrainingError(f"The learnt side has {len(normal)} normal sessions: at least 2 are needed (--share)")
    clock = _Clock()
    model.learn(normal.lines[:cut])
    bar = threshold(model.strangeness(normal.lines[cut:]), BudgetOptions().false_alarm_rate)
    return _asked(model, split, protocol, bar, clock.seconds())


def _run_supervised(model: Supervised, split: Split, protocol: Protocol) -> dict[str, float]:
    clock = _Clock()
    model.learn_labelled(split.learnt.lines, split.learnt.truth)
    return _asked(model, split, protocol, BAR, clock.seconds())


@dataclass(frozen=True, slots=True)
class _Clock:
    """Wall clock and processor seconds since it was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def seconds(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"train_seconds": wall, "train_cpu_seconds": cpu}


def _asked(model: Model, split: Split, protocol: Protocol, bar: float, spent: dict[str, float]) -> dict[str, float]:
    """Ask a model about the tested side, once."""
    began = time.perf_counter()
    strangeness = model.strangeness(split.tested.lines)
    asked = time.perf_counter()
    if protocol == "leaky":
        bar = best_on_test(strangeness, split.tested.truth)
    flags = strangeness > bar
    return measures(flags, split.tested.truth) | {
        "f1_unique": _unique_f1(flags, split.tested),
        "average_precision": average_precision(strangeness, split.tested.truth),
        "precision_at_budget": precision_at(strangeness, split.tested.truth, LOOKED_AT),
        "windows_per_second": len(strangeness) / max(asked - began, 1e-9),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **spent,
    }


def _unique_f1(flags: Flags, tested: Side) -> float:
    first: dict[tuple[tuple[int, ...], bool], int] = {}
    for row, line in enumerate(tested.lines):
        first.setdefault((line, bool(tested.truth[row])), row)
    rows = np.array(list(first.values()), dtype=np.int64)
    return measures(flags[rows], tested.truth[rows])["f1"]


def _reweighted(recall: float, false_alarm_rate: float) -> dict[str, float]:
    """Precision and F1 had all of DeepLog's test sessions been there, the normal ones raised as often as these."""
    normal, abnormal = DEEPLOG_SESSIONS
    hits, alarms = recall * abnormal, false_alarm_rate * normal
    return {
        "precision": hits / (hits + alarms) if hits + alarms else 0.0,
        "f1": 2 * hits / (hits + alarms + abnormal),
    }


def _mean(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    f1 = [run["f1"] for run in runs]
    return row | {"f1_std": float(np.std(f1)), "f1_by_run": f1, "runs": len(runs)}
