"""Archived lines to a data set: parsed and cut into windows as online, then made unique with counts.

The same ``Parser`` and ``SessionTable`` as in the job see the lines in the same order, so that a line has the same
template id and the same window in both.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.bundle import Sanity
from contracts.records import Template, Verdict
from contracts.service import ServiceSettings
from models.finished import Sessions
from models.gating import Reviewed
from models.learning import Collector, Material
from models.sessions import SessionTable, Windows, gap_of
from models.whole import WholeSessions
from parsing.events import Events, Lines
from parsing.parser import Parser
from parsing.sessions import spread
from training.sanity import Watch

BATCH_LINES = 20_000
ALL_SESSIONS = 1 << 40
"""Open sessions while learning: none is closed for want of room."""
WHOLE_ROWS, WHOLE_SESSIONS = 4_000_000, 500_000
"""Events and sessions kept in case that a session goes on: 150 MB."""
MOST_STATES = 200_000
"""Whole sessions learnt from: the newest."""

MOST_REVIEWED = 500
"""Judged sessions that candidates are tried on: the newest verdicts."""

Flags = NDArray[np.bool_]
Span = tuple[int, int]
"""From, and until before: milliseconds since 1970 UTC."""


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
    sanity: Sanity
    """What is noteworthy in the lines."""
    reviewed: tuple[Reviewed, ...] = ()
    """Sessions that engineers judged *confirmed*, *false positive* or *expected*."""


def build(
    lines: Iterable[Lines],
    settings: ServiceSettings,
    *,
    catalogue: Iterable[Template] = (),
    verdicts: Iterable[Verdict] = (),
    without: Sequence[Span] = (),
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
        without: times of arrival that are left out, as those of known incidents.
        parser: one that has parsed what came before; else a new one is made.
        endless: sessions never end by a gap, only with the data (labelled data sets, where a session is known whole).
        max_line_bytes: limit for parsing.
    """
    parser = parser or Parser(settings, max_line_bytes)
    parser.adopt(catalogue)
    verdicts = tuple(verdicts)
    excluded, reviews, watch = _Excluded.of(verdicts, without), _Reviews.of(verdicts, settings), Watch()
    cutter = _Cutter(settings, endless)
    found: dict[str, Template] = {}
    count = dead = 0
    low, high, topic = np.iinfo(np.int64).max, 0, ""
    for batch in lines:
        parsed = parser.parse(batch)
        found |= {template.id: template for template in parsed.new_templates}
        count, dead, topic = count + len(batch), dead + len(parsed.dead), batch.topic
        low, high = min(low, int(batch.arrivals.min())), max(high, int(batch.arrivals.max()))
        watch.add(batch, parsed.events)
        events = spread(parsed.events, settings.session)
        reviews.add(events)
        events = excluded.drop(events)
        if settings.session.unnamed == "ignore":
            events = events.take(np.flatnonzero((events.frame["session"] != "").to_numpy()))
        cutter.add(events)
    cutter.close(topic)
    material = cutter.collector.material(
        lines=count, from_ms=min(low, high), to_ms=high, left_out=dict(excluded.left_out)
    )
    sessions = cutter.wholes.sessions(material.templates)
    reviewed = reviews.sessions(topic)
    sanity = watch.report(material, sessions, reviewed)
    return Dataset(material, topic, dead, tuple(found.values()), sessions, sanity, reviewed)


class _Cutter:
    """Cuts events into windows and whole sessions, and gathers both."""

    def __init__(self, settings: ServiceSettings, endless: bool) -> None:
        everything: dict[str, object] = {"max_open": ALL_SESSIONS} | ({"gap_seconds": math.inf} if endless else {})
        self._settings, self._endless = settings, endless
        self._table = SessionTable.of(settings.detector.window, settings.session.model_copy(update=everything))
        self.collector = Collector(settings.detector.window)
        self.wholes = _Wholes(gap_of(settings.session), endless)

    def add(self, events: Events) -> None:
        """Take in the next events."""
        windows = self._table.extend(events)
        self.collector.add(windows, events.templates)
        self.wholes.add(events, windows)

    def close(self, topic: str) -> None:
        """The data end; where sessions end with them, they do so now."""
        if self._endless:
            windows = self._table.close()
            self.collector.add(windows, {})
            self.wholes.add(Events.empty(self._settings.service, topic), windows)


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


class _Reviews:
    """Gathers the sessions that engineers judged, whole, whatever becomes of them in the training."""

    def __init__(self, judged: dict[str, bool], settings: ServiceSettings) -> None:
        self._judged, self._settings = judged, settings
        self._parts: dict[str, list[Events]] = {}

    @classmethod
    def of(cls, verdicts: Iterable[Verdict], settings: ServiceSettings) -> "_Reviews":
        """The newest verdicts that say of a session what it is, and for good."""
        clear = [one for one in verdicts if one.session and one.value != "unsure"]
        clear = [one for one in clear if not one.undone_ms and not one.expires_ms]
        clear.sort(key=lambda one: one.given_ms)
        judged: dict[str, bool] = {}
        for one in clear:  # a session with a fault is one, whatever was said of its other findings
            judged[one.session] = judged.get(one.session, False) or one.value == "confirmed"
        return cls(dict(list(judged.items())[-MOST_REVIEWED:]), settings)

    def add(self, events: Events) -> None:
        """Keep the events of these sessions."""
        if not self._judged:
            return
        names = events.frame["session"]
        for name in names.filter(names.is_in(list(self._judged))).unique(maintain_order=True).to_list():
            self._parts.setdefault(name, []).append(events.take(np.flatnonzero((names == name).to_numpy())))

    def sessions(self, topic: str) -> tuple[Reviewed, ...]:
        """Those that were met, each with its windows."""
        return tuple(self._reviewed(name, parts, topic) for name, parts in self._parts.items())

    def _reviewed(self, name: str, parts: list[Events], topic: str) -> Reviewed:
        cutter = _Cutter(self._settings, endless=True)
        for part in parts:
            cutter.add(part)
        cutter.close(topic)
        material = cutter.collector.material(lines=sum(map(len, parts)), from_ms=0, to_ms=0)
        return Reviewed(name, self._judged[name], material, cutter.wholes.sessions(material.templates))


@dataclass
class _Excluded:
    """Sessions and single lines that engineers judged, by verdict, and times that are left out."""

    sessions: dict[str, set[str]]
    lines: dict[str, set[tuple[int, int]]]
    without: Sequence[Span] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, verdicts: Iterable[Verdict], without: Sequence[Span] = ()) -> "_Excluded":
        """Sort the verdicts that take lines out."""
        sessions: dict[str, set[str]] = {}
        lines: dict[str, set[tuple[int, int]]] = {}
        for verdict in verdicts:
            if (why := _left_out(verdict)) and verdict.session:
                sessions.setdefault(why, set()).add(verdict.session)
            elif why:
                lines.setdefault(why, set()).add((verdict.partition, verdict.offset))
        return cls(sessions, lines, without)

    def drop(self, events: Events) -> Events:
        """The events without those that a verdict takes out."""
        for value in self.sessions.keys() | self.lines.keys():
            out = events.frame["session"].is_in(list(self.sessions.get(value, ()))).to_numpy().copy()
            out |= self._singled_out(events, self.lines.get(value, set()))
            events = self._left(events, out, value)
        if self.without:
            arrivals = events.column("arrival")
            out = np.zeros(len(events), dtype=bool)
            for from_ms, to_ms in self.without:
                out |= (arrivals >= from_ms) & (arrivals < to_ms)
            events = self._left(events, out, "incident")
        return events

    def _left(self, events: Events, out: Flags, why: str) -> Events:
        if not out.any():
            return events
        self.left_out[why] = self.left_out.get(why, 0) + int(out.sum())
        return events.take(np.flatnonzero(~out))

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
