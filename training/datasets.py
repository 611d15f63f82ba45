"""Labelled data sets of the field as sessions of template numbers: readers, splits, known faults, a card each.

    split = read("openstack", folder).split("given")
    split.learnt.lines[0]          # (1, 17, 10, ...)
    faults(split)                  # duplicates, label conflicts, leaks

A reader points at a folder that is there; nothing is downloaded. A split that a data set cannot give is refused: files
without times have no chronological one.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.masks import Masks
from parsing.params import parameters
from parsing.parser import Parsed, Parser
from training.evaluate import Labelled, batches, service_settings
from training.learner import TrainingError
from training.other_parsers import PARSERS, Parse
from training.simple import Line

How = Literal["chronological", "given", "random"]
Flags = NDArray[np.bool_]
Values = tuple[tuple[float | None, ...], ...]
"""Of each event of a session, the numbers that stand for its template's variables; None for one that is no number."""


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """Labelled sessions: a name, the numbers of its templates, and whether it is anomalous, each."""

    names: tuple[str, ...]
    lines: tuple[Line, ...]
    truth: Flags
    moments: tuple[tuple[int, ...], ...] | None = None
    """When each event of each was written, ms since 1970 UTC; None: the data set does not say."""
    values: tuple[Values, ...] | None = None
    """What each event of each carries; None: the data set has no raw lines."""

    def __len__(self) -> int:
        """Sessions."""
        return len(self.lines)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Side":
        """Return the sessions of these rows, in their order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Side(
            tuple(self.names[row] for row in chosen),
            tuple(self.lines[row] for row in chosen),
            self.truth[chosen],
            None if self.moments is None else tuple(self.moments[row] for row in chosen),
            None if self.values is None else tuple(self.values[row] for row in chosen),
        )

    @classmethod
    def of(cls, named: Sequence[tuple[str, Line]], anomalous: Sequence[bool]) -> "Side":
        """Join names, lines and labels."""
        names, lines = tuple(name for name, _ in named), tuple(line for _, line in named)
        return cls(names, lines, np.array(anomalous, dtype=np.bool_))

    def __add__(self, other: "Side") -> "Side":
        """Return the sessions of both, one side after the other."""
        return Side(
            self.names + other.names,
            self.lines + other.lines,
            np.concatenate([self.truth, other.truth]),
            None if self.moments is None or other.moments is None else self.moments + other.moments,
            None if self.values is None or other.values is None else self.values + other.values,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """What is learnt from and what is tested."""

    learnt: Side
    tested: Side
    texts: Mapping[int, str] = field(default_factory=dict)
    """Of templates, by number, where they are known: that of a learnt one as it was when all was learnt."""

    def tested_days(self) -> float | None:
        """How long the tested side lasts; None where lines are not dated, or it is not what came after the learnt."""
        if self.learnt.moments is None or self.tested.moments is None:
            return None
        begun = [moments[0] for moments in self.tested.moments]
        if max(moments[0] for moments in self.learnt.moments) > min(begun):
            return None
        return (max(moments[-1] for moments in self.tested.moments) - min(begun)) / DAY_MS


@dataclass(frozen=True, slots=True)
class Card:
    """Where a data set comes from, how to get it, and what to beware of."""

    origin: str
    files: str
    beware: str
    splits: tuple[How, ...]
    """What it can give; the first is the default."""


CARDS: Mapping[str, Card] = {
    "hdfs": Card(
        "Loghub HDFS_v1 (Xu et al., SOSP 2009), blocks drawn by LogLead; research and academic use, cite Loghub",
        "hdfs.log.gz (raw lines in the order of time), labels.csv (BlockId,Label)",
        "HDFS repeats itself: read the figures over unique sequences, too",
        ("chronological", "random"),
    ),
    "hdfs_100k": Card(
        "deep-loglizer's HDFS_100k (Apache-2.0) over Loghub",
        "session_train.jsonl.gz, session_test.jsonl.gz (block, label, templates)",
        "sessions were drawn at random by its publisher; templates were mined from the whole log, tested part included",
        ("given", "random"),
    ),
    "deeplog": Card(
        "DeepLog's HDFS split (Du et al., CCS 2017) as published in wuyifan18/DeepLog (MIT)",
        "hdfs_train, hdfs_test_abnormal (plain or .gz); hdfs_test_normal where it is to be had",
        "without hdfs_test_normal the last fifth of hdfs_train stands in: precision and F1 are not comparable then",
        ("given", "random"),
    ),
    "openstack": Card(
        "ait-aecid/anomaly-detection-log-datasets (GPL-3.0) over DeepLog's OpenStack log",
        "openstack_train, openstack_test_normal, openstack_test_abnormal; OpenStack_templates.csv (plain or .gz)",
        "few distinct sequences, so most tested ones were learnt",
        ("given", "random"),
    ),
    "hadoop": Card(
        "ait-aecid/anomaly-detection-log-datasets (GPL-3.0) over Loghub Hadoop (Lin et al., ICSE 2016)",
        "hadoop_train, hadoop_test_normal, hadoop_test_abnormal; Hadoop_templates.csv (plain or .gz)",
        "the label is of the application, not of the container whose lines a session holds",
        ("given", "random"),
    ),
    "bgl": Card(
        "Loghub BGL (Oliner and Stearley, DSN 2007): BlueGene/L at LLNL, 4,747,963 lines; research and academic use",
        "BGL.log, or Loghub's BGL_2k.log (plain or .gz)",
        "a window is anomalous where one line is; the sample of 2,000 lines says nothing of models",
        ("chronological", "random"),
    ),
}
OURS = "logcanary"
"""The name of our own parser."""
DAY_MS = 86_400_000
NUMBERS = ("NUM", "SIZE", "DURATION")
"""Types of parameters that are numbers: a size or a duration as it is written, without its unit."""
_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]+)?"
_HEADER = re.compile(r"^\d{6} \d{6} \d+ \w+ \S+: ")
"""Date, time, thread, level and component of a line of HDFS."""
WHOLE_100K = "hdfs_1.0_tar"
"""Where HDFS_100k is published in two folders, the one that has all anomalies on the learnt side."""
WINDOW = 100
"""Lines of a window where a log has no sessions: a convention."""


@dataclass(frozen=True)
class DataSet:
    """A data set and the folder that it lies in."""

    name: str
    folder: Path
    window: int = WINDOW
    """Lines of a window, where it has no sessions."""
    parser: str = OURS
    """What makes templates of raw lines: ours, or one of ``training.other_parsers``."""

    @property
    def card(self) -> Card:
        """What is known of it."""
        return CARDS[self.name]

    def split(self, how: How, share: float = 0.8, seed: int = 0) -> Split:
        """Read it, once for all random splits, and divide it.

        Args:
            how: *chronological*: the sessions that began first are learnt; *given*: as its publishers divide it;
                *random*: drawn with the seed.
            share: of all sessions that are learnt, in (0, 1); not for *given*.
            seed: for *random*.

        Raises:
            TrainingError: a file is missing or unreadable, a side would be empty, or it has no such split.
        """
        if how not in self.card.splits:
            raise TrainingError(
                f"{self.name} has no {how} split (its files do not hold what that needs): "
                f"--split takes {' or '.join(self.card.splits)}"
            )
        match how:
            case "chronological":
                split = self._chronological(share)
            case "given":
                split = self._given()
            case "random":
                split = self._drawn(share, seed)
        if not len(split.learnt) or not len(split.tested):
            raise TrainingError(f"--share {share} leaves one side of {self.folder} empty")
        return split

    def _chronological(self, share: float) -> Split:
        # What is learnt is parsed first: no template of a learnt session is shaped by a line that is tested.
        if self.name == "bgl":
            parser = Parser(service_settings(self.name))
            windows = _windows(self.folder, self.window)
            cut = int(len(windows) * share)
            learnt, texts = _cut_up(parser, windows[:cut], 0)
            tested, more = _cut_up(parser, windows[cut:], cut)
            return Split(learnt, tested, more | texts)
        whole = Labelled.read(self.folder)
        cut = int(len(whole.blocks) * share)
        parsed = self._parsing()
        older, known = parsed(whole.part(0, cut))
        newer, all_known = parsed(whole.part(cut, len(whole.blocks)))
        return Split(older, newer, {**all_known, **known})

    def _parsing(self) -> Callable[[Labelled], tuple[Side, Mapping[int, str]]]:
        """Sessions of raw lines, one part after another, by the parser that is asked for."""
        if self.parser != OURS:
            return partial(_parsed_by, PARSERS[self.parser]())
        return partial(_parsed, Parser(service_settings(self.name), fields=True), service=self.name)

    def _drawn(self, share: float, seed: int) -> Split:
        whole, texts = self._whole
        order = np.random.default_rng(seed).permutation(len(whole))
        cut = int(len(order) * share)
        return Split(whole.take(order[:cut]), whole.take(order[cut:]), texts)

    @cached_property
    def _whole(self) -> tuple[Side, Mapping[int, str]]:
        """All its sessions, and the texts of their templates."""
        if self.name == "hdfs":
            return self._parsing()(Labelled.read(self.folder))
        if self.name == "bgl":
            return _cut_up(Parser(service_settings(self.name)), _windows(self.folder, self.window), 0)
        given = self._given()
        return given.learnt + given.tested, given.texts

    def _given(self) -> Split:
        return _GIVEN[self.name](self.folder, self.name)


def read(name: str, folder: Path, window: int = WINDOW, parser: str = OURS) -> DataSet:
    """Point at a data set.

    Args:
        name: of ``CARDS``.
        folder: where its files lie.
        window: lines of a window, where it has no sessions.
        parser: ours or one of ``training.other_parsers``.

    Raises:
        TrainingError: there is no such data set, parser or folder, or nothing of it is parsed in this way.
    """
    if parser != OURS and (parser not in PARSERS or name != "hdfs"):
        raise TrainingError(
            f"--parser {parser} of {name}: --parser takes {', '.join([OURS, *PARSERS])}, "
            "and other data sets than hdfs have no raw lines, or no other parser yet"
        )
    if name not in CARDS:
        raise TrainingError(f"No data set {name!r}: --dataset takes {', '.join(CARDS)}")
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder: --data names the folder of {name} ({CARDS[name].files})")
    return DataSet(name, folder, window, parser)


def faults(split: Split) -> dict[str, int | float]:
    """Count what makes a figure on this split say less than it seems to.

    Returns:
        ``duplicate_names`` (within a side), ``names_on_both_sides``, ``label_conflicts`` (distinct sequences with both
        labels), ``leaked_normal`` and ``leaked_anomalous`` (share of tested sessions whose very sequence was learnt).
    """
    learnt, tested = split.learnt, split.tested
    known = set(learnt.lines)
    leaked = np.array([line in known for line in tested.lines], dtype=np.bool_)
    sequences: dict[Line, set[bool]] = {}
    for side in (learnt, tested):
        for line, anomalous in zip(side.lines, side.truth.tolist(), strict=True):
            sequences.setdefault(line, set()).add(anomalous)
    return {
        "duplicate_names": sum(count - 1 for side in (learnt, tested) for count in Counter(side.names).values()),
        "names_on_both_sides": len(set(learnt.names) & set(tested.names)),
        "label_conflicts": sum(len(labels) > 1 for labels in sequences.values()),
        "leaked_normal": _share(leaked[~tested.truth]),
        "leaked_anomalous": _share(leaked[tested.truth]),
    }


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _parsed(parser: Parser, labelled: Labelled, service: str) -> tuple[Side, dict[int, str]]:
    """Sessions, and the texts of the templates that are new or have widened."""
    if not labelled.blocks:
        return Side((), (), np.zeros(0, dtype=np.bool_), (), ()), {}
    parsed = [parser.parse(batch) for batch in batches(labelled.lines, service)]
    masks = Masks.build()
    events = pl.concat([_events(one, masks) for one in parsed]).filter(pl.col("session") != "")
    grouped = events.group_by("session", maintain_order=True).agg("template", "time", "values")
    number = {name: row for row, name in enumerate(grouped["session"])}
    rows = grouped[[number[block.name] for block in labelled.blocks]]
    texts = {int(template.id, 16): template.text for one in parsed for template in one.new_templates}
    side = Side(
        tuple(block.name for block in labelled.blocks),
        tuple(map(tuple, rows["template"].to_list())),
        np.array([block.anomalous for block in labelled.blocks], dtype=np.bool_),
        tuple(map(tuple, rows["time"].to_list())),
        tuple(tuple(map(tuple, session)) for session in rows["values"].to_list()),
    )
    return side, texts


def _events(parsed: Parsed, masks: Masks) -> pl.DataFrame:
    """Session, template, time and the numbers among the parameters (``values``) of each event, in the order of lines.

    The numbers stand where the template's text at the end of the batch has its variables.
    """
    frame, fields = parsed.events.frame, parsed.fields
    assert fields is not None
    texts = frame["template"].replace_strict(parsed.events.templates, return_dtype=pl.String)
    found = parameters(fields["message"], texts, masks).frame.filter(pl.col("slot").is_not_null())
    number = pl.col("text").str.extract(f"({_NUMBER})").cast(pl.Float64)
    listed = found.group_by("row", maintain_order=True).agg(
        pl.when(pl.col("type").is_in(NUMBERS)).then(number).alias("values")
    )
    events = frame.select("session", "template", "time").with_row_index("row")
    joined = events.join(listed, on="row", how="left", maintain_order="left")
    return joined.drop("row").with_columns(pl.col("values").fill_null(pl.lit([], dtype=pl.List(pl.Float64))))


def _parsed_by(parse: Parse, labelled: Labelled) -> tuple[Side, Mapping[int, str]]:
    """The same by another parser, of what comes behind a line's header."""
    ids, texts = parse([_HEADER.sub("", line.decode()) for line in labelled.lines])
    found = [list[int]() for _ in labelled.blocks]
    for owner, template in zip(labelled.owners, ids, strict=True):
        found[owner].append(template)
    named = [(block.name, tuple(line)) for block, line in zip(labelled.blocks, found, strict=True)]
    return Side.of(named, [block.anomalous for block in labelled.blocks]), texts


Window = tuple[list[bytes], bool]
"""Messages, and whether one of them is anomalous."""


def _windows(folder: Path, lines: int) -> list[Window]:
    """BGL's messages, so many lines a window; the first word of a line, its label, is not among them.

    Raises:
        TrainingError: the log is missing or unreadable.
    """
    name = next((one for one in ("BGL.log", "BGL_2k.log") if any(folder.glob(f"{one}*"))), "BGL.log")
    rows = [text.split(" ", 9) for text in _text(folder, name).splitlines()]
    parts = [rows[start : start + lines] for start in range(0, len(rows), lines)]
    return [([_message(row) for row in part], any(row[0] != "-" for row in part)) for part in parts]


def _message(row: list[str]) -> bytes:
    return row[9].encode() if len(row) > 9 else b""


def _cut_up(parser: Parser, windows: Sequence[Window], first: int) -> tuple[Side, dict[int, str]]:
    """Windows as sides have them, called after their number, and the texts of new templates."""
    found, texts = [list[int]() for _ in windows], dict[int, str]()
    owner = np.repeat(np.arange(len(windows)), [len(messages) for messages, _ in windows])
    for batch in batches([message for messages, _ in windows for message in messages], "bgl"):
        parsed = parser.parse(batch)
        texts |= {int(template.id, 16): template.text for template in parsed.new_templates}
        places = owner[parsed.events.column("offset")].tolist()
        for window, template in zip(places, parsed.events.template_ids().tolist(), strict=True):
            found[window].append(template)
    named = [(f"window {first + number}", tuple(line)) for number, line in enumerate(found)]
    return Side.of(named, [is_anomalous for _, is_anomalous in windows]), texts


def _by_files(folder: Path, name: str) -> Split:
    train, normal, abnormal = (
        read_sequences(folder, f"{name}_{part}") for part in ("train", "test_normal", "test_abnormal")
    )
    return Split(_labelled(train, []), _labelled(normal, abnormal), _texts(folder, name))


def _texts(folder: Path, name: str) -> dict[int, str]:
    """The texts of templates, one a line and numbered from 1, where their file lies beside the sessions."""
    called = next((one.name for one in folder.iterdir() if one.name.lower().startswith(f"{name}_templates.csv")), None)
    lines = _text(folder, called.removesuffix(".gz")).splitlines() if called else []
    return dict(enumerate(lines, 1))


def _deeplog(folder: Path, name: str) -> Split:
    train, abnormal = read_sequences(folder, "hdfs_train"), read_sequences(folder, "hdfs_test_abnormal")
    if any((folder / f"hdfs_test_normal{end}").exists() for end in ("", ".gz")):
        return Split(_labelled(train, []), _labelled(read_sequences(folder, "hdfs_test_normal"), abnormal))
    cut = len(train) * 4 // 5
    return Split(_labelled(train[:cut], []), _labelled(train[cut:], abnormal))


def _jsonl(folder: Path, name: str) -> Split:
    inside = folder / WHOLE_100K
    folder = inside if inside.is_dir() else folder
    numbers: dict[str, int] = {}  # learnt first: a number that only the tested side has is higher than all learnt

    def side(part: str) -> Side:
        records = [json.loads(line) for line in _text(folder, f"session_{part}.jsonl").splitlines()]
        named = [
            (str(one["block"]), tuple(numbers.setdefault(text, len(numbers) + 1) for text in one["templates"]))
            for one in records
        ]
        return Side.of(named, [bool(one["label"]) for one in records])

    try:
        return Split(side("train"), side("test"), {number: text for text, number in numbers.items()})
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder} holds no JSON lines with block, label, templates: {error}") from error


_GIVEN: Mapping[str, Callable[[Path, str], Split]] = {
    "hdfs_100k": _jsonl,
    "deeplog": _deeplog,
    "openstack": _by_files,
    "hadoop": _by_files,
}


def _labelled(normal: Sequence[tuple[str, Line]], abnormal: Sequence[tuple[str, Line]]) -> Side:
    return Side.of([*normal, *abnormal], [False] * len(normal) + [True] * len(abnormal))


def read_sequences(folder: Path, name: str) -> list[tuple[str, Line]]:
    """Read the sessions of a file (plain or .gz), ``name,1 2 3`` or ``1 2 3`` a line: name and template numbers, each.

    One without a name is called after its line; one without numbers is left out.

    Raises:
        TrainingError: the file is missing or unreadable, or a line is no sequence.
    """
    found = []
    for row, text in enumerate(_text(folder, name).splitlines(), 1):
        called, _, numbers = text.rpartition(",")
        try:
            line = tuple(int(number) for number in numbers.split())
        except ValueError as error:
            raise TrainingError(
                f"{folder / name} is no file of sequences (name,1 2 3 a line): line {row}: {error}"
            ) from error
        if line:
            found.append((called or f"{name} {row}", line))
    return found


def _text(folder: Path, name: str) -> str:
    path = next((one for one in (folder / name, folder / f"{name}.gz") if one.exists()), None)
    if path is None:
        raise TrainingError(f"{folder / name} is missing (plain or .gz): --data names the folder of the data set")
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
