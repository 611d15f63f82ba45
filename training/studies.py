"""Studies: how models fare as one thing about what they learn, or are asked, gets worse (Chen et al. 2021, section 4).

    figures = bench_study("contamination", "hdfs", folder)
    figures["series"]["deeplog"]     # [{"at": 0.0, "f1": ...}, ...]

One thing is changed at a time, with the seed; everything else is the benchmark's strict protocol
(``training.detection_bench``).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning import Say
from training.datasets import Flags, Side, Split, read
from training.detection_bench import asked, fitted, parallel
from training.field import KINDS
from training.forecasting import Forecast
from training.learner import TrainingError
from training.simple import Model

Change = Callable[[Split, float, np.random.Generator], Split]
TENTHS = 5
"""Parts of the later half, in the study of drift."""
TWIN = 1 << 64
"""Added to the number of a template, which is below, for one that was made of it."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is changed, how far, and whom that concerns."""

    question: str
    unit: str
    points: tuple[float, ...]
    models: tuple[str, ...]
    change: Change
    share: float = 0.8
    learns_once: bool = False
    """Whether only what is asked changes: a model learns for all points at once."""


def contaminated(split: Split, share: float, rng: np.random.Generator) -> Split:
    """So many of what is learnt as normal are anomalies: as a share of the normal sessions, or all there are."""
    anomalies = np.flatnonzero(split.learnt.truth)
    wanted = round(share * np.count_nonzero(~split.learnt.truth))
    truth = split.learnt.truth.copy()
    truth[rng.permutation(anomalies)[:wanted]] = False
    return _learnt_as(split, truth)


def mislabelled(split: Split, share: float, rng: np.random.Generator) -> Split:
    """So many of the labels are the other one."""
    wrong = rng.permutation(len(split.learnt))[: round(share * len(split.learnt))]
    truth = split.learnt.truth.copy()
    truth[wrong] = ~truth[wrong]
    return _learnt_as(split, truth)


def _learnt_as(split: Split, truth: Flags) -> Split:
    """The same with other labels on the learnt side: [n]."""
    return replace(split, learnt=replace(split.learnt, truth=truth))


def newest(split: Split, share: float, rng: np.random.Generator) -> Split:
    """Only the newest are learnt."""
    count = len(split.learnt)
    return Split(split.learnt.take(np.arange(count - max(1, round(share * count)), count)), split.tested, split.texts)


def unseen(split: Split, share: float, rng: np.random.Generator) -> Split:
    """So many of the tested sessions have one line whose words were changed by a release, so that it is a new template.

    The words are those of the old template without one, as Zhang et al. 2019 (section 4) make unstable logs; nothing is
    wrong with these lines, so each alarm on them is a false one.
    """
    lines = list(split.tested.lines)
    for row in rng.permutation(len(lines))[: round(share * len(lines))].tolist():
        place = int(rng.integers(len(lines[row])))
        lines[row] = (*lines[row][:place], lines[row][place] + TWIN, *lines[row][place + 1 :])
    return replace(split, tested=replace(split.tested, lines=tuple(lines)))


def misparsed(split: Split, share: float, rng: np.random.Generator) -> Split:
    """So many templates are parsed wrongly: one is taken for another, the next falls apart in two by its parameter."""
    templates = sorted({template for line in split.learnt.lines for template in line})
    order = rng.permutation(len(templates)).tolist()
    wrong = [templates[place] for place in order[: round(share * len(templates))]]
    merged = {one: templates[int(rng.integers(len(templates)))] for one in wrong[::2]}
    torn = set(wrong[1::2])

    def parsed(side: Side) -> Side:
        lines = tuple(
            tuple(merged.get(one, one) + (TWIN if one in torn and rng.random() < 0.5 else 0) for one in line)
            for line in side.lines
        )
        return replace(side, lines=lines)

    return Split(parsed(split.learnt), parsed(split.tested), split.texts)


def later_part(split: Split, tenth: float, rng: np.random.Generator) -> Split:
    """Only one part of what is tested, counted from 1."""
    return Split(split.learnt, split.tested.take(_part(split, tenth)), split.texts)


def retrained(split: Split, tenth: float, rng: np.random.Generator) -> Split:
    """The same, with all that came before it learnt."""
    part = _part(split, tenth)
    return Split(split.learnt + split.tested.take(np.arange(part[0])), split.tested.take(part), split.texts)


def unchanged(split: Split, point: float, rng: np.random.Generator) -> Split:
    """Leave it as it is: the point is the model's."""
    return split


_NORMAL = ("new_template", "count_vector", "ngram", "pca", "ensemble", "deeplog", "loganomaly", "autoencoder")
_LABELS = ("decision_tree", "logistic_regression", "svm", "cnn", "mlp")
STUDIES: Mapping[str, Study] = {
    "contamination": Study(
        "Anomalies that are learnt as normal",
        "share of the learnt",
        (0, 0.005, 0.01, 0.02, 0.03),
        _NORMAL,
        contaminated,
    ),
    "label_noise": Study(
        "Labels that are wrong", "share of the learnt", (0, 0.005, 0.01, 0.02, 0.05), _LABELS, mislabelled
    ),
    "size": Study(
        "Little to learn from, the newest of it; and what more of it costs",
        "share of the learnt side",
        (0.02, 0.05, 0.1, 0.25, 0.5, 1),
        (*_NORMAL, *_LABELS),
        newest,
    ),
    "unseen": Study(
        "A release changes words: lines that are new and normal",
        "share of the tested sessions",
        (0, 0.05, 0.1, 0.2, 0.3),
        (*_NORMAL, *_LABELS, "logrobust"),
        unseen,
        learns_once=True,
    ),
    "parser": Study(
        "Templates that are parsed wrongly",
        "share of the templates",
        (0, 0.05, 0.1, 0.2, 0.4),
        (*_NORMAL, *_LABELS),
        misparsed,
    ),
    "window": Study(
        "Events before the one that is foretold",
        "events",
        (2, 5, 10, 20),
        ("deeplog", "loganomaly", "transformer"),
        unchanged,
    ),
    "drift": Study(
        "Half is learnt, and time goes on",
        "tenth of the later half",
        tuple(range(1, TENTHS + 1)),
        (*_NORMAL, *_LABELS),
        later_part,
        share=0.5,
        learns_once=True,
    ),
    "retraining": Study(
        "The same, with all that came before learnt anew",
        "tenth of the later half",
        tuple(range(1, TENTHS + 1)),
        (*_NORMAL, *_LABELS),
        retrained,
        share=0.5,
    ),
}


def bench_study(
    study: str,
    dataset: str,
    data: Path,
    *,
    models: Sequence[str] = (),
    seeds: int = 3,
    workers: int = 1,
    progress: Say = lambda words: None,
) -> dict[str, Any]:
    """Measure models at each point of a study.

    Args:
        study: of ``STUDIES``.
        dataset: of ``training.datasets.CARDS``, by its first split.
        data: its folder.
        models: names (``training.field``); none: those of the study.
        seeds: runs of each point.
        workers: processes among which the runs are divided.
        progress: is told what goes on.

    Returns:
        ``series.<model>[].{at, f1, f1_std, precision, recall, false_alarm_rate, train_cpu_seconds,
        windows_per_second}``, means over the seeds; a point at which a model could not learn says why in ``left_out``.

    Raises:
        TrainingError: an unknown study, model or data set.
    """
    if study not in STUDIES:
        raise TrainingError(f"No study {study!r}: there are {', '.join(STUDIES)}")
    of = STUDIES[study]
    unknown = sorted(set(models) - set(KINDS))
    if unknown:
        raise TrainingError(f"No model {', '.join(unknown)}: --models takes {', '.join(KINDS)}")
    begun = time.perf_counter()
    source = read(dataset, data)
    split = source.split(source.card.splits[0], of.share)
    tasks = [Run(study, model, seed) for model in models or of.models for seed in range(seeds)]
    found: dict[str, list[list[dict[str, float]]]] = {}
    left_out: dict[str, str] = {}
    for number, (task, (points, refused)) in enumerate(zip(tasks, parallel(tasks, split, workers), strict=True), 1):
        progress(f"{number} of {len(tasks)}: {task.model}, seed {task.seed}")
        found.setdefault(task.model, []).append(points)
        left_out |= refused
    return {
        "study": study,
        "question": of.question,
        "unit": of.unit,
        "dataset": dataset,
        "seeds": seeds,
        "workers": workers,
        "seconds": time.perf_counter() - begun,
        "left_out": left_out,
        "series": {model: _means(runs) for model, runs in found.items()},
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One model at all points of a study, with one seed."""

    study: str
    model: str
    seed: int

    def figures(self, split: Split) -> tuple[list[dict[str, float]], dict[str, str]]:
        """Measure it, and say at which points it cannot learn, and why not."""
        study, made, refused = STUDIES[self.study], list[dict[str, float]](), dict[str, str]()
        learnt: tuple[Model, float, dict[str, float]] | None = None
        for point in study.points:
            changed = study.change(split, point, np.random.default_rng(self.seed))
            try:
                if learnt is None or not study.learns_once:
                    model = self._model(changed, point)
                    learnt = model, *fitted(model, changed)
                model, bar, spent = learnt
                made.append({"at": point, **asked(model, changed, "strict", bar), **spent})
            except TrainingError as error:
                refused[f"{self.model} at {point:g}"] = str(error)
        return made, refused

    def _model(self, split: Split, point: float) -> Model:
        model = KINDS[self.model](self.seed, _with_twins(split.texts))
        if self.study == "window" and isinstance(model, Forecast):
            model.window = int(point)
        return model


def _means(runs: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Of the runs at each point."""
    found: dict[float, list[Mapping[str, float]]] = {}
    for row in chain.from_iterable(runs):
        found.setdefault(row["at"], []).append(row)
    return [
        {"at": at, **{field: float(np.mean([row[field] for row in rows])) for field in _FIELDS}}
        | {"f1_std": float(np.std([row["f1"] for row in rows]))}
        for at, rows in found.items()
    ]


_FIELDS = ("f1", "precision", "recall", "false_alarm_rate", "train_cpu_seconds", "windows_per_second")


def _part(split: Split, tenth: float) -> NDArray[np.int64]:
    part: NDArray[np.int64] = np.array_split(np.arange(len(split.tested)), TENTHS)[round(tenth) - 1]
    return part


def _with_twins(texts: Mapping[int, str]) -> dict[int, str]:
    """Texts, and those of the templates made of them: without the last word that is no parameter."""
    return {**texts, **{number + TWIN: _shortened(text) for number, text in texts.items()}}


def _shortened(text: str) -> str:
    words = text.split()
    plain = [place for place, word in enumerate(words) if word.isalpha()]
    return " ".join(words[: plain[-1]] + words[plain[-1] + 1 :]) if plain else text
