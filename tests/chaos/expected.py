"""What must come out of known lines, by the core alone: no Flink, no Kafka, no state that is saved and read again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contracts.records import END_TEMPLATE
from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from models.bundle import Bundle
from models.scorer import Scorer
from models.sessions import SessionTable
from parsing.events import Lines
from parsing.parser import Parser

CHUNK_LINES = 5_000

Ints = NDArray[np.int64]


@dataclass
class Expected:
    """What the lines of a topic come to."""

    lines: list[int] = field(default_factory=list)
    """By partition."""
    detections: set[str] = field(default_factory=set)
    """Their ids."""
    dead: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of the lines that cannot be read."""
    scored: dict[tuple[int, int], Ints] = field(default_factory=dict)
    """The offsets that each partition and bucket is to judge, in order."""
    known: frozenset[str] = frozenset()
    """Ids of the templates that the bundle knows; what the parser learns beside them may generalise meanwhile."""


def expect(
    settings: AppSettings, options: ServiceSettings, topic: str, bundle: Bundle, partitions: Sequence[Sequence[bytes]]
) -> Expected:
    """Work out what these lines of each partition (its first at offset 0) come to."""
    known = frozenset(entry.template for entry in bundle.vocabulary.entries) | {END_TEMPLATE}
    expected = Expected(lines=[len(lines) for lines in partitions], known=known)
    for partition, lines in enumerate(partitions):
        _partition(settings, options, topic, bundle, partition, lines, expected)
    return expected


def _partition(
    settings: AppSettings,
    options: ServiceSettings,
    topic: str,
    bundle: Bundle,
    partition: int,
    lines: Sequence[bytes],
    expected: Expected,
) -> None:
    parser, scorer = Parser(options, settings.flink.max_line_bytes), Scorer(bundle)
    tables: dict[int, SessionTable] = {}
    offsets: dict[int, list[Ints]] = {}
    for at in range(0, len(lines), CHUNK_LINES):
        values = lines[at : at + CHUNK_LINES]
        rows = np.arange(at, at + len(values))
        arrivals = np.full(len(values), time.time_ns() // 1_000_000)
        parsed = parser.parse(Lines.from_list(options.service, topic, partition, rows, arrivals, values))
        expected.dead |= {(letter.partition, letter.offset) for letter in parsed.dead}
        for bucket, events in parsed.events.by_bucket(settings.flink.buckets):
            table = tables.get(bucket)
            if table is None:
                table = tables[bucket] = SessionTable(
                    bundle.manifest.window, options.session.gap_seconds, options.session.max_open
                )
            scored = scorer.score(events, table.extend(events))
            expected.detections |= {one.id for one in scored.detections}
            offsets.setdefault(bucket, []).append(events.column("offset"))
    for bucket, parts in offsets.items():
        expected.scored[partition, bucket] = np.concatenate(parts)
