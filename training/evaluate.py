"""How well the detectors do on labelled HDFS blocks, with the very parser, sessions and scorer of the job.

Blocks in the order of their first line; the first ``split`` of the blocks are learnt, the rest is tested, and a block
belongs wholly to the side of its first line. Nothing is chosen on the test side: thresholds, epochs and the end event
come from the newest fifth of the learnt side (``training.learner``). Two ways of learning are printed: *clean*
(anomalous blocks taken out, as in the papers) and *unfiltered* (as they come, which is what production has), and each
with the detectors frozen after it and learning while they run (``training.session_bench``).
"""

import csv
import gzip
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.records import Detection
from contracts.service import DetectorOptions, ServiceSettings, SessionDetector, SessionOptions
from models.bundle import Bundle
from models.finished import Sessions
from models.learning import Say
from models.scorer import Scorer
from models.sessions import SessionTable
from parsing.events import Events, Lines
from parsing.parser import Parser
from training.dataset import ALL_SESSIONS, BATCH_LINES, Dataset, build
from training.learner import TrainingError, learn
from training.measures import summary
from training.session_bench import Learnt, ensemble_of, flags_of, judge, kinds_of, sequences_of

BLOCK = re.compile(rb"blk_-?\d+")
ENDLESS_SECONDS = 1e9
"""For windows blocks are known whole: no gap ends one. In the job the same is a ``session.gap_seconds`` of years."""
GAP_MS = int(SessionOptions().gap_seconds * 1000)
"""For finished sessions the gap is the default one."""

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
    """The settings the evaluation runs under: the defaults, but that no gap ends a block.

    Sequence models and the ensemble of session detectors are made one by one here, each with the whole budget.
    """
    return ServiceSettings(
        service=service,
        session=SessionOptions(gap_seconds=ENDLESS_SECONDS),
        detector=DetectorOptions.model_validate({"kind": kind, "seed": seed, "sessions": "off"}),
    )


MODES = ("frozen", "learning")


def evaluate_hdfs(
    data: Path,
    *,
    split: float = 0.8,
    seeds: int = 3,
    test_data: Path | None = None,
    frozen: bool = False,
    progress: Say = lambda words: None,
) -> dict[str, Any]:
    """Measure bundles, session detectors and their ensemble on labelled HDFS blocks.

    Returns:
        ``<detector>.{precision, recall, f1, false_alarm_rate, f1_unique, ...}`` (``training.measures.summary``) for
        clean learning, the same below ``unfiltered``, and ``lines``, ``sessions``, ``anomalies``, ``learnt_sessions``.
        The rows of session detectors are those of learning while running, or of ``frozen``; both are below
        ``learning`` and ``frozen``. ``deeplog``, ``deeplog_top_g``, ``loganomaly``, ``ngram`` (bundles) and
        ``new_template_naive`` are frozen always; ``sequence`` and ``ensemble_with_sequence`` hold DeepLog, which does
        not learn while running; ``autoencoder`` and ``ensemble_with_autoencoder`` what a service may choose beside the
        defaults; ``ensemble_doubting`` learns no kind of block that under 1 % of the learnt ones are; ``job`` is what
        the job raises: DeepLog and ensemble, with half of the budget each.
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
        "mode": MODES[0 if frozen else 1],
    }
    for name, learnt in (("clean", clean), ("unfiltered", as_it_comes)):
        progress(f"Learn from {len(learnt.blocks):,} blocks, {name}")
        found = _found(learnt, test, seeds, progress)
        rows = {mode: _rows(found, mode, truth) for mode in MODES}
        part = rows[report["mode"]] | {mode: _of_sessions(rows[mode]) for mode in MODES}
        if name == "clean":
            report |= part | {"kinds": {kind: int(which.sum()) for kind, which in found.kinds.items()}}
        else:
            report["unfiltered"] = part | {"learnt_sessions": len(learnt.blocks)}
    return report


BUNDLES = ("deeplog", "deeplog_top_g", "loganomaly", "ngram", "new_template_naive")


@dataclass(frozen=True, eq=False)
class _Found:
    """Which blocks each detector raised, for each seed, and what is known of the blocks."""

    flags: dict[str, dict[str, list[Flags]]]  # mode -> detector -> seeds
    unique: NDArray[np.int64]
    kinds: dict[str, Flags]


def _found(learnt: Labelled, test: Labelled, seeds: int, say: Say) -> _Found:
    prepared = Prepared.of(learnt)
    tested = prepared.tested(test)
    flags: dict[str, dict[str, list[Flags]]] = {mode: {} for mode in MODES}

    def add(detector: str, raised: Flags, modes: Sequence[str] = MODES) -> None:
        for mode in modes:
            flags[mode].setdefault(detector, []).append(raised)

    half = service_settings().budget.false_alarm_rate / 2
    shared = {mode: tested.by_detector(prepared.learnt, learning=mode == "learning", budget=half) for mode in MODES}
    for seed in range(seeds):
        say(f"DeepLog, LogAnomaly, seed {seed}")
        bundle = learn(prepared.dataset, service_settings(seed=seed))
        add("deeplog", tested.flagged(bundle))
        halved = tested.flagged(_with_budget(bundle, half))
        for mode in MODES:
            add("job", halved | shared[mode]["ensemble"], [mode])
        add("deeplog_top_g", tested.flagged(_by_top_g(bundle)))
        add("loganomaly", tested.flagged(learn(prepared.dataset, service_settings(kind="loganomaly", seed=seed))))
        for mode in MODES:
            with_model = tested.by_detector(prepared.learnt, bundle, learning=mode == "learning")
            add("sequence", with_model["sequence"], [mode])
            add("ensemble_with_sequence", with_model["ensemble"], [mode])
    for mode in MODES:
        say(f"Session detectors, {mode}")
        for detector, raised in tested.by_detector(prepared.learnt, learning=mode == "learning").items():
            add(detector, raised, [mode])
        with_net = tested.by_detector(prepared.learnt, more=("autoencoder",), learning=mode == "learning")
        add("autoencoder", with_net["autoencoder"], [mode])
        add("ensemble_with_autoencoder", with_net["ensemble"], [mode])
        doubting = tested.by_detector(prepared.learnt.doubting(), learning=mode == "learning")
        add("ensemble_doubting", doubting["ensemble"], [mode])
    say("n-grams, new templates")
    add("ngram", tested.flagged(learn(prepared.dataset, service_settings(kind="ngram"))))
    add("new_template_naive", tested.new_template(prepared.dataset.material.templates.keys()))
    truth = np.array([block.anomalous for block in test.blocks])
    return _Found(flags, sequences_of(tested.whole, tested.names), kinds_of(tested.whole, tested.names, truth))


def _rows(found: _Found, mode: str, truth: Flags) -> dict[str, Any]:
    return {detector: summary(runs, truth, found.unique, found.kinds) for detector, runs in found.flags[mode].items()}


def _of_sessions(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {detector: row for detector, row in rows.items() if detector not in BUNDLES}


def _by_top_g(bundle: Bundle) -> Bundle:
    return _with(bundle, {"detector": bundle.manifest.settings.detector.model_copy(update={"rule": "top_g"})})


def _with_budget(bundle: Bundle, rate: float) -> Bundle:
    budget = bundle.manifest.settings.budget.model_copy(update={"false_alarm_rate": rate})
    return _with(bundle, {"budget": budget})


def _with(bundle: Bundle, update: Mapping[str, Any]) -> Bundle:
    settings = bundle.manifest.settings.model_copy(update=update)
    return Bundle(bundle.manifest.model_copy(update={"settings": settings}), bundle.vocabulary, bundle.model)


@dataclass(frozen=True)
class Prepared:
    """A learnt side as a data set and as finished sessions, and the state of the parser after it."""

    dataset: Dataset
    learnt: Learnt
    parser_state: bytes

    @classmethod
    def of(cls, learnt: Labelled) -> "Prepared":
        """Parse the learnt side."""
        parser = Parser(service_settings())
        dataset = build(batches(learnt.lines, "hdfs"), service_settings(), parser=parser)
        state = parser.dump()
        again = Parser(service_settings())
        whole = whole_sessions([again.parse(batch).events for batch in batches(learnt.lines, "hdfs")])
        return cls(dataset, Learnt.of(whole, GAP_MS), state)

    def tested(self, test: Labelled) -> "ParsedTest":
        """Parse the tested side with what the parser has learnt, as the running job would."""
        parser = Parser(service_settings())
        parser.load(self.parser_state)
        return ParsedTest(test, [parser.parse(batch).events for batch in batches(test.lines, "hdfs")])


def whole_sessions(events: Sequence[Events]) -> Sessions:
    """Whole sessions of a log that is over; one that would still have been open was known to be over with the log."""
    joined = Events.concat(events)
    return Sessions.of(joined, closed_ms=int(joined.column("time").max()))


@dataclass(frozen=True)
class ParsedTest:
    """The tested side as events."""

    labelled: Labelled
    events: list[Events]

    @property
    def names(self) -> list[str]:
        """Of the blocks, in the order of their first lines."""
        return [block.name for block in self.labelled.blocks]

    @cached_property
    def whole(self) -> Sessions:
        """The blocks as whole sessions."""
        return whole_sessions(self.events)

    @cached_property
    def states(self) -> Sessions:
        """The blocks in every state in which they rested."""
        return self.whole.resting(GAP_MS)

    def by_detector(
        self,
        learnt: Learnt,
        bundle: Bundle | None = None,
        *,
        learning: bool,
        budget: float | None = None,
        more: Sequence[SessionDetector] = (),
    ) -> dict[str, Flags]:
        """[blocks] Which blocks each session detector raises, a bundle's model if one is given, and their ensemble.

        The detectors are the default ones and ``more``.
        """
        rate = service_settings().budget.false_alarm_rate if budget is None else budget
        ensemble = ensemble_of(learnt, rate, bundle, more)
        return flags_of(ensemble, self.states, judge(ensemble, self.states, learning), self.names)

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

    def _named(self, names: set[str]) -> Flags:
        return np.array([block.name in names for block in self.labelled.blocks])


def batches(lines: Sequence[bytes], service: str, arrival_ms: int = 4_000_000_000_000) -> Iterator[Lines]:
    """Lines as the job's micro-batches of one partition; ``arrival_ms`` lies after any time in the lines."""
    for start in range(0, len(lines), BATCH_LINES):
        chunk = list(lines[start : start + BATCH_LINES])
        offsets = np.arange(start, start + len(chunk), dtype=np.int64)
        arrivals = np.full(len(chunk), arrival_ms, dtype=np.int64)
        yield Lines.from_list(service, f"logs.{service}", 0, offsets, arrivals, chunk)
