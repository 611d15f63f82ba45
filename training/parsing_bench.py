"""How well templates agree with labelled ones, beside drain3: ``logcanary bench parsing --accuracy``.

The four metrics are LogPub's (Jiang et al., *A Large-Scale Evaluation for Log Parsing Techniques: How Far Are We?*,
ISSTA 2024, arXiv 2308.10828, section 3.3, "Evaluation metrics"):

- **GA**, grouping accuracy: the share of messages whose group holds the same messages as their group by the labels.
- **FGA**, the F1 of groups: of the groups found, and of those labelled, how many are the same.
- **PA**, parsing accuracy: the share of messages whose template is the labelled text.
- **FTA**, the F1 of templates: a template found is right if all its messages are labelled with its very text.

A group is what a parser gives one id. Texts are compared after ``normalised``, which is done alike to the labels, to
our templates and to drain3's. The parsers see the messages without their headers, as in the paper: the column
``Content`` of Loghub's structured files.
"""

import csv
import gzip
import io
import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.parser import Parser

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
    text = " ".join(_TYPED.sub(WILDCARD, text).split())
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
    norm = {text: normalised(text) for text in {*labels, *texts}}
    ga, fga = grouping(labels, ids)
    pa, fta = agreement([norm[label] for label in labels], [norm[text] for text in texts])
    return Accuracy(*(round(one, 4) for one in (ga, fga, pa, fta)))


def bench_accuracy(data: Path) -> dict[str, Any]:
    """Measure all systems below a folder, one folder each, as Loghub has them.

    Returns:
        ``systems.NAME.{GA, FGA, PA, FTA, drain3}``, and ``average`` and ``drain3_average`` over the systems.

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
    systems = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        for path in sorted(folder.glob(STRUCTURED))[:1]:
            packed = path.read_bytes()
            text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            systems.append((folder.name, [row["Content"] for row in rows], [row["EventTemplate"] for row in rows]))
    if not systems:
        raise ParsingBenchError(f"there is no {STRUCTURED} below {data}: --data takes the folder of the systems")
    return systems
