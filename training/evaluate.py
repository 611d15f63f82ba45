"""How well the detectors do on labelled HDFS blocks, with the very parser, sessions and scorer of the job.

Blocks in the order of their first line; the first ``split`` of the blocks are learnt, the rest is tested, and a block
belongs wholly to the side of its first line. Nothing is chosen on the test side: thresholds, epochs and the end event
come from the newest fifth of the learnt side (``training.learner``). Two ways of learning are printed: *clean*
(anomalous blocks taken out, as in the papers) and *unfiltered* (as they come, which is what production has).
"""

import csv
import gzip
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.records import Detection
from contracts.service import DetectorOptions, ServiceSettings, SessionOptions
from models.bundle import Bundle
from models.learning import Say
from models.scorer import Scorer
from models.sessions import SessionTable
from parsing.events import Events, Lines
from parsing.parser import Parser
from training.dataset import ALL_SESSIONS, BATCH_LINES, Dataset, build
from training.learner import TrainingError, learn

BLOCK = re.compile(rb"blk_-?\d+")
ENDLESS_SECONDS = 1e9
"""Blocks are known whole here: no gap ends one. In the job the same is a ``session.gap_seconds`` of years."""
BOOTSTRAPS = 1_000

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """A labelled session: its lines in order."""

    name: str
    anomalous: bool


@dataclass(frozen=True)
class Labelled:
    """A labelled log: its lines in order, the block of each, and the blocks in the order of their first lines."""

    lines: list[bytes]
    owners: list[int]
    blocks: list[Block]

    @classmethod
    def read(cls, folder: Path) -> "Labelled":
        """Read ``hdfs.log.gz`` and ``labels.csv`` of a folder.

        Raises:
            TrainingError: a file is missing, or names no block.
        """
        log, labels = folder / "hdfs.log.gz", folder / "labels.csv"
        for path in (log, labels):
            if not path.exists():
                raise TrainingError(f"{path} is missing: --data names a folder with hdfs.log.gz and labels.csv")
        with labels.open(newline="") as file:
            anomalous = {row["BlockId"]: row["Label"] != "Normal" for row in csv.DictReader(file)}
        lines: list[bytes] = []
        owners: list[int] = []
        blocks: list[Block] = []
        numbers: dict[str, int] = {}
        with gzip.open(log) as stream:
            for line in stream:
                found = BLOCK.search(line)
                name = found.group().decode() if found else ""
                if name not in anomalous:
                    continue
                if name not in numbers:
                    numbers[name] = len(blocks)
                    blocks.append(Block(name, anomalous[name]))
                lines.append(line.rstrip(b"\r\n"))
                owners.append(numbers[name])
        if not blocks:
            raise TrainingError(f"{log} has no line of a block that {labels} knows")
        return cls(lines, owners, blocks)

    def part(self, first: int, last: int, clean: bool = False) -> "Labelled":
        """The lines of the blocks ``first`` to ``last`` (excluded); with ``clean`` of the normal ones only."""
        keep = [first <= i < last and not (clean and block.anomalous) for i, block in enumerate(self.blocks)]
        numbers = np.cumsum(keep) - 1
        chosen = [row for row, owner in enumerate(self.owners) if keep[owner]]
        return Labelled(
            [self.lines[row] for row in chosen],
            [int(numbers[self.owners[row]]) for row in chosen],
            [block for block, kept in zip(self.blocks, keep, strict=True) if kept],
        )


def split_hdfs(data: Path, split: float, test_data: Path | None = None) -> tuple[Labelled, Labelled, Labelled]:
    """The learnt side as it comes, the learnt side without anomalous blocks, and the tested side."""
    whole = Labelled.read(data)
    if test_data is not None:
        return whole, whole.part(0, len(whole.blocks), clean=True), Labelled.read(test_data)
    cut = int(len(whole.blocks) * split)
    if not 0 < cut < len(whole.blocks):
        raise TrainingError(f"--split {split} leaves one side of {len(whole.blocks)} blocks empty")
    return whole.part(0, cut), whole.part(0, cut, clean=True), whole.part(cut, len(whole.blocks))


def service_settings(service: str = "hdfs", kind: str = "deeplog", seed: int = 0) -> ServiceSettings:
    """The settings the evaluation runs under: the defaults, but that no gap ends a block."""
    return ServiceSettings(
        service=service,
        session=SessionOptions(gap_seconds=ENDLESS_SECONDS),
        detector=DetectorOptions.model_validate({"kind": kind, "seed": seed}),
    )


def evaluate_hdfs(
    data: Path,
    *,
    split: float = 0.8,
    seeds: int = 3,
    test_data: Path | None = None,
    progress: Say = lambda words: None,
) -> dict[str, Any]:
    """Measure DeepLog, n-grams and new templates on labelled HDFS blocks.

    Returns:
        ``<detector>.{precision, recall, f1, false_alarm_rate, f1_unique, ...}`` for clean learning (means over seeds,
        with their spread and 95 % bootstrap intervals), the same below ``unfiltered``, and ``lines``, ``sessions``,
        ``anomalies``, ``learnt_sessions``.
    """
    as_it_comes, clean, test = split_hdfs(data, split, test_data)
    truth = np.array([block.anomalous for block in test.blocks])
    report: dict[str, Any] = {
        "lines": len(test.lines),
        "sessions": len(test.blocks),
        "anomalies": int(truth.sum()),
        "base_rate": float(truth.mean()),
        "learnt_sessions": len(clean.blocks),
        "split": split,
        "seeds": seeds,
    }
    for name, learnt in (("clean", clean), ("unfiltered", as_it_comes)):
        progress(f"Learn from {len(learnt.blocks):,} blocks, {name}")
        found = _detectors(learnt, test, seeds, progress)
        unique = _unique(test, found.pop("sequences")[0])
        rows = {detector: _summary(flags, truth, unique) for detector, flags in found.items()}
        if name == "clean":
            report |= rows
        else:
            report["unfiltered"] = rows | {"learnt_sessions": len(learnt.blocks)}
    return report


def _detectors(learnt: Labelled, test: Labelled, seeds: int, say: Say) -> dict[str, list[Any]]:
    """For each detector the flagged blocks [blocks] of each seed; ``sequences`` are the tested template sequences."""
    found: dict[str, list[Any]] = {"deeplog": [], "deeplog_top_g": [], "ngram": [], "new_template": []}
    prepared = Prepared.of(learnt)
    for seed in range(seeds):
        say(f"DeepLog, seed {seed}")
        settings = service_settings(seed=seed)
        bundle = learn(prepared.dataset, settings)
        tested = prepared.tested(test)
        found["deeplog"].append(tested.flagged(bundle))
        found["deeplog_top_g"].append(tested.flagged(_by_top_g(bundle)))
    say("n-grams, new templates")
    found["ngram"].append(tested.flagged(learn(prepared.dataset, service_settings(kind="ngram"))))
    found["new_template"].append(tested.new_template(prepared.dataset.material.templates.keys()))
    found["sequences"] = [tested.sequences()]
    return found


def _by_top_g(bundle: Bundle) -> Bundle:
    settings = bundle.manifest.settings
    detector = settings.detector.model_copy(update={"rule": "top_g"})
    manifest = bundle.manifest.model_copy(update={"settings": settings.model_copy(update={"detector": detector})})
    return Bundle(manifest, bundle.vocabulary, bundle.model)


@dataclass(frozen=True)
class Prepared:
    """A learnt side as a data set, and the state of the parser after it."""

    dataset: Dataset
    parser_state: bytes

    @classmethod
    def of(cls, learnt: Labelled) -> "Prepared":
        """Parse the learnt side."""
        parser = Parser(service_settings())
        dataset = build(batches(learnt.lines, "hdfs"), service_settings(), parser=parser)
        return cls(dataset, parser.dump())

    def tested(self, test: Labelled) -> "ParsedTest":
        """Parse the tested side with what the parser has learnt, as the running job would."""
        parser = Parser(service_settings())
        parser.load(self.parser_state)
        return ParsedTest(test, [parser.parse(batch).events for batch in batches(test.lines, "hdfs")])


@dataclass(frozen=True)
class ParsedTest:
    """The tested side as events."""

    labelled: Labelled
    events: list[Events]

    def detections(self, bundle: Bundle) -> list[Detection]:
        """What the job would raise, with the ends of all sessions at the end."""
        settings = bundle.manifest.settings
        table = SessionTable(bundle.manifest.window, settings.session.gap_seconds, ALL_SESSIONS)
        scorer = Scorer(bundle)
        found: list[Detection] = []
        for events in self.events:
            found += scorer.score(events, table.extend(events)).detections
        return found + scorer.score(self.events[-1].slice(0, 0), table.close()).detections

    def flagged(self, bundle: Bundle) -> Flags:
        """[blocks] Whether anything was raised on the block."""
        return self._named({detection.session for detection in self.detections(bundle)})

    def new_template(self, known: Collection[int]) -> Flags:
        """[blocks] Whether the block holds a template that the learnt side does not."""
        frames = (events.frame for events in self.events)
        strange: set[str] = set()
        for frame in frames:
            strange |= set(frame.filter(~frame["template"].is_in(list(known)))["session"].to_list())
        return self._named(strange)

    def sequences(self) -> dict[str, tuple[int, ...]]:
        """The templates of each block in order."""
        found: dict[str, list[int]] = {}
        for events in self.events:
            for session, template in zip(
                events.frame["session"].to_list(), events.frame["template"].to_list(), strict=True
            ):
                found.setdefault(session, []).append(template)
        return {session: tuple(templates) for session, templates in found.items()}

    def _named(self, names: set[str]) -> Flags:
        return np.array([block.name in names for block in self.labelled.blocks])


def batches(lines: Sequence[bytes], service: str, arrival_ms: int = 4_000_000_000_000) -> Iterator[Lines]:
    """Lines as the job's micro-batches of one partition; ``arrival_ms`` lies after any time in the lines."""
    for start in range(0, len(lines), BATCH_LINES):
        chunk = list(lines[start : start + BATCH_LINES])
        offsets = np.arange(start, start + len(chunk), dtype=np.int64)
        arrivals = np.full(len(chunk), arrival_ms, dtype=np.int64)
        yield Lines.from_list(service, f"logs.{service}", 0, offsets, arrivals, chunk)


def _unique(test: Labelled, sequences: dict[str, tuple[int, ...]]) -> NDArray[np.int64]:
    """[blocks] number of the block's distinct sequence."""
    numbers: dict[tuple[int, ...], int] = {}
    return np.array([numbers.setdefault(sequences.get(block.name, ()), len(numbers)) for block in test.blocks])


def _summary(runs: list[Flags], truth: Flags, unique: NDArray[np.int64]) -> dict[str, Any]:
    """Means over the seeds, the spread of F1, and a 95 % bootstrap interval of the first seed's F1."""
    figures = [measures(flags, truth) for flags in runs]
    first = np.array([int(np.flatnonzero(unique == number)[0]) for number in range(int(unique.max()) + 1)])
    distinct = [measures(flags[first], truth[first])["f1"] for flags in runs]
    row: dict[str, Any] = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
    row["f1_unique"] = float(np.mean(distinct))
    row["f1_by_seed"] = [one["f1"] for one in figures]
    row["f1_interval"] = _bootstrap(runs[0], truth)
    row["unique_sequences"] = len(first)
    return row


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


def _bootstrap(flags: Flags, truth: Flags) -> list[float]:
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(truth), len(truth)) for _ in range(BOOTSTRAPS))
    figures = [measures(flags[rows], truth[rows])["f1"] for rows in drawn]
    return [float(figure) for figure in np.quantile(figures, [0.025, 0.975])]
