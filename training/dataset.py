"""Archived lines to a data set: parsed and cut into windows as online, then made unique with counts.

The same ``Parser`` and ``SessionTable`` as in the job see the lines in the same order, so that a line has the same
template id and the same window in both.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.records import Template, Verdict
from contracts.service import ServiceSettings
from models.finished import Sessions
from models.learning import Collector, Material
from models.sessions import SessionTable, Windows, gap_of
from models.whole import WholeSessions
from parsing.events import Events, Lines
from parsing.parser import Parser
from parsing.sessions import spread

BATCH_LINES = 20_000
ALL_SESSIONS = 1 << 40
"""Open sessions while learning: none is closed for want of room."""
WHOLE_ROWS, WHOLE_SESSIONS = 4_000_000, 500_000
"""Events and sessions kept in case that a session goes on: 150 MB."""
MOST_STATES = 200_000
"""Whole sessions learnt from: the newest."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Dataset:
    """The windows of a service in the order they came, and what else its lines said."""

    material: Material
    topic: str
    dead: int
    """Lines that could not be parsed."""
    found: tuple[Template, ...]
    """Templates that were new to the parser."""
    sessions: Sessions
    """Whole sessions in every state in which they rested, in the order in which they were over; the newest of many."""


def build(
    lines: Iterable[Lines],
    settings: ServiceSettings,
    *,
    catalogue: Iterable[Template] = (),
    verdicts: Iterable[Verdict] = (),
    parser: Parser | None = None,
    endless: bool = False,
    max_line_bytes: int = 65_536,
) -> Dataset:
    """Parse lines and cut them into windows.

    Args:
        lines: batches of one service, in offset order within each partition.
        settings: of the service.
        catalogue: templates known online, so that ids agree.
        verdicts: sessions (or, without identifier, lines) judged *confirmed* or *unsure*, or normal for a time only,
            are left out.
        parser: one that has parsed what came before; else a new one is made.
        endless: sessions never end by a gap, only with the data (labelled data sets, where a session is known whole).
        max_line_bytes: limit for parsing.
    """
    parser = parser or Parser(settings, max_line_bytes)
    parser.adopt(catalogue)
    everything: dict[str, object] = {"max_open": ALL_SESSIONS} | ({"gap_seconds": float("inf")} if endless else {})
    table = SessionTable.of(settings.detector.window, settings.session.model_copy(update=everything))
    excluded = _Excluded.of(verdicts)
    collector = Collector(settings.detector.window)
    wholes = _Wholes(gap_of(settings.session), endless)
    found: dict[str, Template] = {}
    count = dead = 0
    low, high, topic = np.iinfo(np.int64).max, 0, ""
    for batch in lines:
        parsed = parser.parse(batch)
        found |= {template.id: template for template in parsed.new_templates}
        count, dead, topic = count + len(batch), dead + len(parsed.dead), batch.topic
        low, high = min(low, int(batch.arrivals.min())), max(high, int(batch.arrivals.max()))
        events = excluded.drop(spread(parsed.events, settings.session))
        if settings.session.unnamed == "ignore":
            events = events.take(np.flatnonzero((events.frame["session"] != "").to_numpy()))
        windows = table.extend(events)
        collector.add(windows, events.templates)
        wholes.add(events, windows)
    if endless:
        windows = table.close()
        collector.add(windows, {})
        wholes.add(Events.empty(settings.service, topic), windows)
    material = collector.material(lines=count, from_ms=min(low, high), to_ms=high, left_out=dict(excluded.left_out))
    return Dataset(material, topic, dead, tuple(found.values()), wholes.sessions(material.templates))


class _Wholes:
    """Gathers sessions that are over; without a gap (``endless``) they are over with their last line."""

    def __init__(self, gap_seconds: float, endless: bool) -> None:
        self._store = WholeSessions(WHOLE_ROWS, WHOLE_SESSIONS)
        self._gap = 0 if endless else int(gap_seconds * 1000)
        self._parts: deque[Sessions] = deque()
        self._states = 0

    def add(self, events: Events, windows: Windows) -> None:
        """Take in the windows of a batch, and what ended in it."""
        self._store.extend(events, windows)
        part, _ = self._store.finished(windows, self._gap)
        self._store.shrink()
        self._parts.append(part)
        self._states += len(part)
        while self._states - len(self._parts[0]) >= MOST_STATES:
            self._states -= len(self._parts.popleft())

    def sessions(self, texts: dict[int, str]) -> Sessions:
        """All of them, in the order in which they were over."""
        joined = Sessions.joined(self._parts)
        return replace(joined, texts=texts).take(np.argsort(joined.closed, kind="stable"))


@dataclass
class _Excluded:
    """Sessions and single lines that engineers judged, by verdict."""

    sessions: dict[str, set[str]]
    lines: dict[str, set[tuple[int, int]]]
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> "_Excluded":
        """Sort the verdicts that take lines out."""
        sessions: dict[str, set[str]] = {}
        lines: dict[str, set[tuple[int, int]]] = {}
        for verdict in verdicts:
            if (why := _left_out(verdict)) and verdict.session:
                sessions.setdefault(why, set()).add(verdict.session)
            elif why:
                lines.setdefault(why, set()).add((verdict.partition, verdict.offset))
        return cls(sessions, lines)

    def drop(self, events: Events) -> Events:
        """The events without those that a verdict takes out."""
        for value in self.sessions.keys() | self.lines.keys():
            out = events.frame["session"].is_in(list(self.sessions.get(value, ()))).to_numpy().copy()
            out |= self._singled_out(events, self.lines.get(value, set()))
            if out.any():
                self.left_out[value] = self.left_out.get(value, 0) + int(out.sum())
                events = events.take(np.flatnonzero(~out))
        return events

    @staticmethod
    def _singled_out(events: Events, places: Collection[tuple[int, int]]) -> Flags:
        out = np.zeros(len(events), dtype=bool)
        for partition, offset in places:
            out |= (events.column("partition") == partition) & (events.column("offset") == offset)
        return out


def _left_out(verdict: Verdict) -> str:
    """Why what was judged is not learnt; empty where it is.

    What is normal until a time is not normal for good, whether the time is over or not: learnt, it would stay quiet.
    """
    if verdict.undone_ms:
        return ""
    if verdict.value in {"confirmed", "unsure"}:
        return verdict.value
    return "expiring" if verdict.expires_ms else ""


def interleaved(partitions: Sequence[Iterator[Lines]], tolerance_ms: int = 200) -> Iterator[Lines]:
    """Batches of several partitions in the order of their arrival, as the job met them.

    A batch is cut where another partition has lines that arrived earlier by more than ``tolerance_ms``, about the
    length of the job's micro-batches: within that, the order between partitions is not known online either.
    """
    heads = [(batch, partition) for partition in partitions if (batch := next(partition, None)) is not None]
    while heads:
        heads.sort(key=lambda head: int(head[0].arrivals[0]))
        batch, partition = heads.pop(0)
        size = len(batch)
        if heads:
            later = batch.arrivals > int(heads[0][0].arrivals[0]) + tolerance_ms
            size = int(later.argmax()) if later.any() else size
        yield batch.slice(0, size)
        rest = batch.slice(size, len(batch)) if size < len(batch) else next(partition, None)
        if rest is not None:
            heads.append((rest, partition))


def lines_of(tables: Iterable[pa.Table], service: str) -> Iterator[Lines]:
    """Tables of the archive (one topic and partition each) as batches for the parser."""
    for whole in tables:
        for start in range(0, whole.num_rows, BATCH_LINES):
            table = whole.slice(start, BATCH_LINES).combine_chunks()
            value = table["value"].combine_chunks()
            lengths = pc.fill_null(pc.binary_length(value), -1).to_numpy(zero_copy_only=False).astype(np.int64)
            yield Lines(
                service=service,
                topic=table["topic"][0].as_py(),
                partition=table["partition"][0].as_py(),
                offsets=table["offset"].to_numpy().astype(np.int64),
                arrivals=table["timestamp"].to_numpy().astype(np.int64),
                blob=b"".join(piece for piece in value.to_pylist() if piece),
                lengths=lengths,
            )
