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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from typing import Protocol as TypingProtocol

import numpy as np

from contracts.service import BudgetOptions
from models.learning import HELD_BACK, Say
from training.datasets import OURS, WINDOW, DataSet, Flags, How, Side, Split, faults, read
from training.field import KINDS
from training.learner import TrainingError
from training.measures import average_precision, measures, precision_at
from training.simple import Model, Numbers
from training.supervised import BAR, Supervised

Protocol = Literal["strict", "leaky"]
S = TypeVar("S")
R = TypeVar("R")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
LOOKED_AT = 0.01
"""Share of the tested sessions, the strangest, over which ``precision_at_budget`` is."""
REASONS = 3
"""Told of a session that is explained."""
Strange = Mapping[str, Any]
"""A session that is explained."""
SHORT = 10
"""Events: wuyifan18/DeepLog has no window to judge in sessions of so many or fewer, and counts them as found."""
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
    parser: str = OURS,
    workers: int = 1,
    explain: int = 0,
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
        parser: of raw lines, where the data set has them (``training.other_parsers``).
        workers: processes among which the runs are divided; seconds are true where each has a core of its own.
        explain: of each model, sessions of the tested side to explain, the strangest by its first run.
        progress: is told what goes on.

    Returns:
        ``models.<name>.{precision, recall, f1, f1_unique, f1_std, f1_by_run, false_alarm_rate, average_precision,
        precision_at_budget, lines_until_raised, seconds_until_raised, alarms_a_day, recall_short_rule,
        false_alarm_rate_short_rule, train_seconds, train_cpu_seconds, windows_per_second, peak_rss_mb, runs}``, means
        over the runs, a window being a session,
        ``lines_until_raised`` and ``seconds_until_raised`` the median of the anomalies that are found, from their first
        line on (the seconds where lines are dated, ``alarms_a_day`` where the tested side also comes after the learnt
        one), ``..._short_rule`` with every session of
        ``SHORT`` events or fewer raised, the memory that of the whole process up to then, ``precision_at_budget`` that
        of the strangest ``LOOKED_AT``, ``train_cpu_seconds`` without what waited for other work; on *deeplog*,
        precision and F1 are made of recall and false alarms at the sizes of its whole split, and
        ``comparable`` is false;
        ``faults`` of the first run's split (``training.datasets.faults``), ``sessions``, ``anomalies``, ...;
        ``strangest.<name>[].{session, anomalous, strangeness, because[].{words, amount}}`` where ``explain`` asks

    Raises:
        TrainingError: an unknown name, a split that the data set has not, a learnt side without normal sessions.
    """
    unknown = sorted(set(models) - set(KINDS))
    if unknown:
        raise TrainingError(f"No model {', '.join(unknown)}: --models takes {', '.join(KINDS)}")
    source = read(name, data, window, parser)
    how = split or ("random" if protocol == "leaky" else source.card.splits[0])
    begun = time.perf_counter()
    splits = Splits(source, how, share)
    first = splits.at(0)
    lacking = {one: why for one in models or KINDS if (why := lacks(KINDS[one], first))}
    if models and lacking:
        raise TrainingError("; ".join(f"{one} cannot be measured on {name}: {why}" for one, why in lacking.items()))
    tasks = [
        Task(one, seed, protocol, explain=0 if seed else explain)
        for one in models or KINDS
        if one not in lacking
        for seed in range(seeds if how == "random" or KINDS[one].draws else 1)
    ]
    runs: dict[str, list[dict[str, float]]] = {}
    strangest: dict[str, list[Strange]] = {}
    for number, (task, (figures, told)) in enumerate(zip(tasks, parallel(tasks, splits, workers), strict=True), 1):
        progress(f"{number} of {len(tasks)}: {task.model} on {name}, {how} split, seed {task.seed}")
        runs.setdefault(task.model, []).append(figures)
        strangest.setdefault(task.model, []).extend(told)
    rows = {model: _mean(one) for model, one in runs.items()}
    if name == "deeplog":
        rows = {model: _with_short_rule(row) for model, row in rows.items()}
    return {
        "dataset": name,
        "split": how,
        "share": len(first.learnt) / (len(first.learnt) + len(first.tested)),
        "seeds": max(int(row["runs"]) for row in rows.values()),
        "seconds": time.perf_counter() - begun,
        "workers": workers,
        "protocol": protocol,
        "parser": parser,
        "templates": len({one for line in (*first.learnt.lines, *first.tested.lines) for one in line}),
        "learnt_sessions": len(first.learnt),
        "sessions": len(first.tested),
        "anomalies": int(first.tested.truth.sum()),
        "base_rate": float(first.tested.truth.mean()),
        "faults": faults(first),
        "comparable": name != "deeplog",
        "beware": source.card.beware,
        "left_out": lacking,
        "models": rows,
        **({"strangest": strangest} if explain else {}),
    }


def lacks(kind: type[Model], split: Split) -> str:
    """What a model needs and a split has not, in words; empty where it has all."""
    match kind.needs:
        case "labels" if not split.learnt.truth.any():
            return "no learnt session is an anomaly"
        case "texts" if not split.texts:
            return "the texts of its templates are not known"
        case "values" if split.learnt.values is None or split.tested.values is None:
            return "its raw lines are not there, or were parsed by another parser"
        case _:
            return ""


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


class Splits:
    """The ways in which a data set is divided, each made once."""

    def __init__(self, source: DataSet, how: How, share: float) -> None:
        self._of = partial(source.split, how, share)
        self._drawn = how == "random"
        self._made: dict[int, Split] = {}

    def at(self, seed: int) -> Split:
        """The one of a seed; on a split that is not drawn it is always the same."""
        drawn = seed if self._drawn else 0
        if drawn not in self._made:
            self._made[drawn] = self._of(drawn)
        return self._made[drawn]


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a model."""

    model: str
    seed: int
    protocol: Protocol
    explain: int = 0

    def figures(self, splits: Splits) -> tuple[dict[str, float], list[Strange]]:
        """Measure it, and explain the strangest sessions."""
        split = splits.at(self.seed)
        model = KINDS[self.model](self.seed, split.texts)
        return measured(model, split, self.protocol), explained(model, split.tested, self.explain)


class Work(TypingProtocol[S_contra, R_co]):
    """What can be run beside others."""

    def figures(self, shared: S_contra, /) -> R_co:
        """Run it on what all share."""


class _Worker:
    """What a process of its own keeps between tasks."""

    shared: ClassVar[Any]

    @classmethod
    def begin(cls, shared: Any) -> None:  # noqa: ANN401
        cls.shared = shared

    @classmethod
    def work(cls, task: Work[Any, R]) -> R:
        return task.figures(cls.shared)


def parallel(tasks: Sequence[Work[S, R]], shared: S, workers: int) -> Iterator[R]:
    """Run tasks, in processes of their own where there is more than one worker; figures in their order."""
    if workers == 1:
        yield from (task.figures(shared) for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _Worker.begin, (shared,)) as pool:
        for future in [pool.submit(_Worker.work, task) for task in tasks]:
            yield future.result()


def measured(model: Model, split: Split, protocol: Protocol) -> dict[str, float]:
    """Let a model learn one side of a split and ask it about the other.

    Raises:
        TrainingError: it cannot learn from this side.
    """
    bar, spent = fitted(model, split)
    return asked(model, split, protocol, bar) | spent


def explained(model: Model, tested: Side, most: int) -> list[Strange]:
    """The strangest sessions of a side, the first of equal ones, with the greatest reasons of each."""
    if not most:
        return []
    strangeness = model.strangeness_of(tested)
    return [
        {
            "session": tested.names[row],
            "anomalous": bool(tested.truth[row]),
            "strangeness": float(strangeness[row]),
            "because": [asdict(reason) for reason in model.why(tested.take([row]))[:REASONS]],
        }
        for row in np.argsort(-strangeness, kind="stable")[:most].tolist()
    ]


def fitted(model: Model, split: Split) -> tuple[float, dict[str, float]]:
    """Let a model learn one side: the strangeness above which it raises, and the seconds that it took.

    Raises:
        TrainingError: it cannot learn from this side.
    """
    clock = _Clock()
    if isinstance(model, Supervised):
        model.learn_labelled(split.learnt.lines, split.learnt.truth)
        return BAR, clock.seconds()
    normal = split.learnt.take(np.flatnonzero(~split.learnt.truth))
    cut = int(len(normal) * (1 - HELD_BACK))
    if not 0 < cut < len(normal):
        raise TrainingError(f"The learnt side has {len(normal)} normal sessions: at least 2 are needed (--share)")
    model.learn_side(normal.take(range(cut)))
    held_back = normal.take(range(cut, len(normal)))
    bar = threshold(model.strangeness_of(held_back), BudgetOptions().false_alarm_rate)
    return bar, clock.seconds()


@dataclass(frozen=True, slots=True)
class _Clock:
    """Wall clock and processor seconds since it was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def seconds(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"train_seconds": wall, "train_cpu_seconds": cpu}


def asked(model: Model, split: Split, protocol: Protocol, bar: float) -> dict[str, float]:
    """Ask a model about the tested side, once."""
    began = time.perf_counter()
    strangeness = model.strangeness_of(split.tested)
    seconds = time.perf_counter() - began
    if protocol == "leaky":
        bar = best_on_test(strangeness, split.tested.truth)
    flags = strangeness > bar
    found = split.tested.take(np.flatnonzero(flags & split.tested.truth))
    until = model.read_until_of(found, bar) if len(found) else np.zeros(0)
    return measures(flags, split.tested.truth) | {
        **_short_rule(flags, split.tested),
        **_by_the_clock(flags, split, found, until),
        "lines_until_raised": _median(until),
        "f1_unique": _unique_f1(flags, split.tested),
        "average_precision": average_precision(strangeness, split.tested.truth),
        "precision_at_budget": precision_at(strangeness, split.tested.truth, LOOKED_AT),
        "windows_per_second": len(strangeness) / max(seconds, 1e-9),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _by_the_clock(flags: Flags, split: Split, found: Side, until: Numbers) -> dict[str, float]:
    """Seconds from the first line of an anomaly to the one that raises it, and alarms a day: where lines are dated."""
    figures: dict[str, float] = {}
    if found.moments is not None:
        whom = zip(found.moments, until.tolist(), strict=True)
        seconds = [(moments[int(lines) - 1] - moments[0]) / 1000 for moments, lines in whom]
        figures["seconds_until_raised"] = _median(seconds)
    if days := split.tested_days():
        figures["alarms_a_day"] = int(flags.sum()) / days
    return figures


def _median(values: Sequence[float] | Numbers) -> float:
    """The median; 0 of nothing."""
    return float(np.median(values)) if len(values) else 0.0


def _unique_f1(flags: Flags, tested: Side) -> float:
    first: dict[tuple[tuple[int, ...], bool], int] = {}
    for row, line in enumerate(tested.lines):
        first.setdefault((line, bool(tested.truth[row])), row)
    rows = np.array(list(first.values()), dtype=np.int64)
    return measures(flags[rows], tested.truth[rows])["f1"]


def _short_rule(flags: Flags, tested: Side) -> dict[str, float]:
    """Recall and false alarms were each session of ten events or fewer raised too, as DeepLog's public code does."""
    figures = measures(flags | np.array([len(line) <= SHORT for line in tested.lines]), tested.truth)
    return {f"{name}_short_rule": figures[name] for name in ("recall", "false_alarm_rate")}


def _with_short_rule(row: dict[str, Any]) -> dict[str, Any]:
    by_rule = _reweighted(row["recall_short_rule"], row["false_alarm_rate_short_rule"])
    return row | _reweighted(row["recall"], row["false_alarm_rate"]) | {"f1_short_rule": by_rule["f1"]}


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
