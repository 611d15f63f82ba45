"""How well and how fast lines become templates, beside drain3: ``logcanary bench parsing --accuracy --speed``.

The four metrics of accuracy are LogPub's (Jiang et al., *A Large-Scale Evaluation for Log Parsing Techniques: How Far
Are We?*, ISSTA 2024, arXiv 2308.10828, section 3, "Evaluation metrics"):

- **GA**, grouping accuracy: the share of messages whose group holds the same messages as their group by the labels.
- **FGA**, the F1 of groups: of the groups found, and of those labelled, how many are the same.
- **PA**, parsing accuracy: the share of messages whose template is the labelled text.
- **FTA**, the F1 of templates: a template found is right if all its messages are labelled with its very text.

A group is what a parser gives one id. Texts are compared after ``normalised``, which is done alike to the labels, to
our templates and to drain3's; ``PA_literal`` and ``FTA_literal`` are the same with nothing but the types of masks and
the blanks between words made equal. The parsers see the messages without their headers, as in the paper: the column
``Content`` of Loghub's structured files.

Speed is lines per CPU second of one thread, so that other work on the machine counts little: ours from raw lines to
event columns, drain3 from messages whose headers are off already, with our masks, on the same lines.
"""

import csv
import gzip
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.masks import DEFAULT_MASKS
from parsing.parser import Parser
from training.pipeline_bench import CORPORA, BenchError, Passes, read_passes

BATCH_LINES = 5_000
"""Lines parsed at once, about as many as the job's batches have."""
RUNS = 3
"""Runs of ours, each with a fresh parser; the one in the middle counts."""
ADVERSARIAL_TEMPLATES = 20_000
"""Dissimilar texts of one length, which a plain Drain compares with each other one by one."""
ADVERSARIAL_WORDS = 12
VOCABULARY = 5_000
"""Words they are drawn from."""
DRAIN3_SECONDS = 10.0
"""CPU seconds that drain3 is given at most; its rate is that over the lines it gets through. With every dissimilar text
it becomes slower: all of them would take hours, and its rate over the first is better than over all."""
ARRIVAL_MS = 1_795_352_869_000
"""When all lines arrived: 2026-11-22, after those of the corpora were written."""

WILDCARD = "<*>"
STRUCTURED = "*.log_structured*.csv*"
"""A system's labelled messages: a CSV file, or one packed with gzip, with ``Content`` and ``EventTemplate``."""

DRAIN3_MASKS = (
    (r"(?<![A-Za-z0-9])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?(?![A-Za-z0-9])", "IP"),
    (r"(?<![A-Za-z0-9])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![A-Za-z0-9])", "UUID"),
    (r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{2}:){3,}[0-9a-fA-F]{2}(?![A-Za-z0-9])", "ID"),
    (r"(?<![A-Za-z0-9])0[xX][0-9a-fA-F]+(?![A-Za-z0-9])", "HEX"),
    (r"(?<![A-Za-z0-9])[-+]?[0-9]+(?![A-Za-z0-9])", "NUM"),
)
"""What drain3 masks here, for all systems alike: the set of its README, with UUIDs, without what is one product's."""


class ParsingBenchError(Exception):
    """The benchmark cannot run; the message says why."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The four metrics, each from 0 to 1."""

    GA: float
    FGA: float
    PA: float
    FTA: float
    PA_literal: float
    FTA_literal: float


def grouping(labels: Sequence[Hashable], found: Sequence[Hashable]) -> tuple[float, float]:
    """Return GA and FGA of groups: [n] names of the labelled groups, [n] of those found.

    >>> grouping(["a", "a", "b", "c"], [1, 1, 2, 2])
    (0.5, 0.4)
    """
    right, of_labels, of_found = 0, _members(labels), _members(found)
    groups = 0
    for rows in of_found.values():
        if of_labels[labels[rows[0]]] == rows:
            right += len(rows)
            groups += 1
    return right / len(labels), _f1(groups, len(of_found), len(of_labels))


def agreement(labels: Sequence[str], texts: Sequence[str]) -> tuple[float, float]:
    """Return PA and FTA of templates: [n] labelled texts, [n] those found.

    >>> agreement(["a", "a", "b <*>", "b <*>"], ["a", "a", "b <*>", "<*> <*>"])
    (0.75, 0.4)
    """
    same = sum(label == text for label, text in zip(labels, texts, strict=True))
    of_found = _members(texts)
    right = sum({labels[row] for row in rows} == {text} for text, rows in of_found.items())
    return same / len(labels), _f1(right, len(of_found), len(set(labels)))


def _members(names: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Return the rows of each name, rising."""
    rows: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    return rows


def _f1(right: int, found: int, labelled: int) -> float:
    return 2 * right / (found + labelled)


# -- texts -------------------------------------------------------------------------------------------------------

_TYPED = re.compile(r"<(?:[A-Z][A-Z0-9_]*|\.\.\.)>")
_PATH_ENDS = re.compile(r"([\s,!;:=|\"'\[\](){}])")
_WORD_ENDS = re.compile(r"([\s,!;:=|\"'\[\](){}.\-+@#$%&])")
_CONSTANTS = frozenset(("true", "false", "null", "root", "admin"))


def literal(text: str) -> str:
    """Write a template with ``<*>`` for every type of mask and one blank between words."""
    return " ".join(_TYPED.sub(WILDCARD, text).split())


def normalised(text: str) -> str:
    """Write a template as LogPub compares templates.

    The rules of Khan et al., *Guidelines for Assessing the Accuracy of Log Message Template Identification Techniques*
    (ICSE 2022), with which LogPub's labels were corrected (arXiv 2308.10828, section 3.1): one blank between words;
    paths, numbers, booleans and the names *root*, *admin* and *null* are variables; a word with a variable in it is
    one; so are variables one after another, joined by nothing or by ``. : #``. Labels that are corrected already stay
    as they are. Types of masks (``<NUM>``) become ``<*>`` first.

    >>> normalised("took  <NUM>.<NUM> s,  block blk_<*> of <IP>:80 in /var/log")
    'took <*> s, block <*> of <*> in <*>'
    """
    text = literal(text)
    text = "".join(WILDCARD if re.fullmatch(r"(?:/[^/]+)+", part) else part for part in _PATH_ENDS.split(text))
    text = "".join(map(_variable, _WORD_ENDS.split(text)))
    before = ""
    while text != before:
        before = text
        for joined in ("<*>.<*>", "<*><*>", "#<*>#", "<*>:<*>"):
            text = text.replace(joined, WILDCARD)
    return text


def _variable(word: str) -> str:
    if word.isdecimal() or word.lower() in _CONSTANTS:
        return WILDCARD
    return WILDCARD if WILDCARD in word and "/" not in word else word


# -- parsers -----------------------------------------------------------------------------------------------------


def ours(messages: list[str]) -> tuple[list[int], list[str]]:
    """Parse messages with the default settings: [n] ids, [n] newest texts of their templates."""
    parser = Parser(ServiceSettings(service="bench", format="raw"))
    n = len(messages)
    values: list[bytes | None] = [message.encode() for message in messages]
    lines = Lines.from_list("bench", "logs.bench", 0, np.arange(n), np.zeros(n), values)
    parsed = parser.parse(lines)
    if parsed.dead:
        raise ParsingBenchError(f"{len(parsed.dead)} labelled messages are empty or no text")
    ids = parsed.events.template_ids().tolist()
    return ids, [parsed.events.templates[template] for template in ids]


def drain3_miner(masks: Sequence[tuple[str, str]]) -> TemplateMiner:
    """A drain3 with its default tree and these masks, (expression, name) each."""
    config = TemplateMinerConfig()
    config.profiling_enabled = False
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in masks]
    return TemplateMiner(config=config)


def drain3(messages: list[str]) -> tuple[list[int], list[str]]:
    """The same by drain3 with ``DRAIN3_MASKS``."""
    miner = drain3_miner(DRAIN3_MASKS)
    ids = [int(miner.add_log_message(message)["cluster_id"]) for message in messages]
    texts = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    return ids, [texts[one] for one in ids]


# -- accuracy ----------------------------------------------------------------------------------------------------


def accuracy(labels: list[str], ids: list[int], texts: list[str]) -> Accuracy:
    """Compare templates with the labelled ones: [n] labelled texts, [n] ids and [n] texts found."""
    figures = list(grouping(labels, ids))
    for compared in (normalised, literal):
        same = {text: compared(text) for text in {*labels, *texts}}
        figures += agreement([same[label] for label in labels], [same[text] for text in texts])
    return Accuracy(*(round(one, 4) for one in figures))


def bench_accuracy(data: Path) -> dict[str, Any]:
    """Measure all systems below a folder, or below its ``loghub``: one folder each, as Loghub has them.

    Returns:
        ``systems.NAME`` with the figures of ``Accuracy`` and drain3's as ``drain3``; ``average`` and ``drain3_average``
        over the systems.

    Raises:
        ParsingBenchError: there is no labelled file.
    """
    ours_, drain3_, systems = [], [], {}
    for name, messages, labels in read_systems(data):
        ours_.append(accuracy(labels, *ours(messages)))
        drain3_.append(accuracy(labels, *drain3(messages)))
        systems[name] = {**asdict(ours_[-1]), "drain3": asdict(drain3_[-1])}
    return {"systems": systems, "average": _average(ours_), "drain3_average": _average(drain3_)}


def _average(figures: list[Accuracy]) -> dict[str, float]:
    rows = [asdict(one) for one in figures]
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}


def read_systems(data: Path) -> list[tuple[str, list[str], list[str]]]:
    """Read (name, [n] messages, [n] labelled templates) of every system."""
    if not data.is_dir():
        raise ParsingBenchError(f"there is no folder {data}: --data takes the folder of the systems")
    systems = []
    data = data / "loghub" if (data / "loghub").is_dir() else data
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        for path in sorted(folder.glob(STRUCTURED))[:1]:
            packed = path.read_bytes()
            text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            systems.append((folder.name, [row["Content"] for row in rows], [row["EventTemplate"] for row in rows]))
    if not systems:
        raise ParsingBenchError(f"there is no {STRUCTURED} below {data}: --data takes the folder of the systems")
    return systems


# -- speed -------------------------------------------------------------------------------------------------------


def bench_speed(data: Path) -> dict[str, Any]:
    """Measure in a process of its own, in which polars has one thread.

    Args:
        data: the folder above ``hdfs`` and ``trainticket``, or a folder beside them.

    Returns:
        ``hdfs`` and ``trainticket``: ``{lines, lines_per_second, drain3_lines_per_second, ratio}``; ``adversarial``:
        ``{templates, known_lines_per_second, new_templates_per_second, bytes_per_template, peak_bytes,
        drain3_lines_per_second}``.

    Raises:
        ParsingBenchError: a corpus is not there.
    """
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(data)],
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=False,
    )
    if child.returncode:
        raise ParsingBenchError(f"the measuring process ended with {child.returncode}; what it said is above")
    figures = json.loads(child.stdout)
    if "error" in figures:
        raise ParsingBenchError(figures["error"])
    return dict(figures)


def _corpus(data: Path, name: str) -> dict[str, Any]:
    passes = _passes(data, name)
    lines = passes.rewrite(0)
    batches = _batches(lines)

    def parse() -> None:
        parser = Parser(ServiceSettings(service="bench"))
        for batch in batches:
            parser.parse(batch)

    rate = len(lines) / statistics.median(_seconds(parse) for _ in range(RUNS))
    drain3_rate = _drain3_on([passes.message(line) for line in lines])
    return {
        "lines": len(lines),
        "lines_per_second": round(rate),
        "drain3_lines_per_second": round(drain3_rate),
        "ratio": round(rate / drain3_rate, 1),
    }


def _passes(data: Path, name: str) -> Passes:
    try:
        return read_passes(data, name)
    except BenchError:
        return read_passes(data.parent, name)


def dissimilar(templates: int) -> list[bytes]:
    """Return texts of ``ADVERSARIAL_WORDS`` words each that have next to nothing in common: [templates]."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)
    random = np.random.default_rng(0)
    words = np.unique(random.choice(letters, (VOCABULARY * 2, 6)).view("S6").ravel())[:VOCABULARY]
    return [b" ".join(row) for row in random.choice(words, (templates, ADVERSARIAL_WORDS)).tolist()]


def _adversarial(templates: int = ADVERSARIAL_TEMPLATES) -> dict[str, Any]:
    texts = dissimilar(templates)
    batches = _batches(texts)

    def parse(parser: Parser) -> Callable[[], object]:
        return lambda: [parser.parse(batch) for batch in batches]

    parsers = [Parser(ServiceSettings(service="bench", format="raw")) for _ in range(RUNS)]
    new = statistics.median(_seconds(parse(parser)) for parser in parsers)
    known = statistics.median(_seconds(parse(parser)) for parser in parsers)
    tracemalloc.start()
    weighed = Parser(ServiceSettings(service="bench", format="raw"))
    parse(weighed)()
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "templates": weighed.template_count,
        "known_lines_per_second": round(templates / known),
        "new_templates_per_second": round(weighed.template_count / new),
        "bytes_per_template": round(size / weighed.template_count),
        "peak_bytes": peak,  # while they were learnt
        "drain3_lines_per_second": round(_drain3_on([text.decode() for text in texts])),
    }


def _drain3_on(texts: list[str]) -> float:
    """Return drain3's rate over the texts that it gets through in ``DRAIN3_SECONDS``."""
    miner = drain3_miner([(pattern, name) for name, pattern in DEFAULT_MASKS])
    began = time.process_time()
    done, spent = 0, 0.0
    while done < len(texts) and spent < DRAIN3_SECONDS:
        miner.add_log_message(texts[done])
        done += 1
        spent = time.process_time() - began
    return done / spent


def _batches(lines: list[bytes]) -> list[Lines]:
    batches = []
    for start in range(0, len(lines), BATCH_LINES):
        part: list[bytes | None] = [*lines[start : start + BATCH_LINES]]
        n = len(part)
        offsets, arrivals = np.arange(start, start + n), np.full(n, ARRIVAL_MS)
        batches.append(Lines.from_list("bench", "logs.bench", 0, offsets, arrivals, part))
    return batches


def _seconds(what: Callable[[], object]) -> float:
    """Return the CPU seconds that this process, all its threads together, spends on something."""
    began = time.process_time()
    what()
    return time.process_time() - began


def _measure(data: Path) -> dict[str, Any]:
    try:
        return {**{name: _corpus(data, name) for name in CORPORA}, "adversarial": _adversarial()}
    except BenchError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]))))
