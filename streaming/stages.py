"""What the two operators do with a batch, free of Flink: lines to events, events to detections.

Usage::

    stage = ParseStage(settings, view)
    out = stage.parse(shard_key("logs.pay", 0), frame, saved=None)   # out.events, out.dead, out.statistic, ...

    stage = ScoreStage(settings, view, Bundles(registry))
    out = stage.score("pay#0", data, saved=lambda: Saved(b"", []))   # out.detections, out.statistic, out.saved

Both keep their tables in memory, ask for saved state only when a key is new to them, and say what is to be saved.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from contracts.records import BundlePointer, DeadLetter, Detection, Statistic, Template
from contracts.settings import AppSettings
from models.bundle import Bundle
from models.scorer import Scored, Scorer
from models.sessions import SessionTable, Windows
from parsing.events import Events, Lines
from parsing.parser import Parsed, Parser
from storage.control import ControlView
from streaming.frames import pieces, unpack

HEAD_BYTES = 1024
"""Of a dead letter's line this much is shown (``contracts.records.DeadLetter.head``)."""
SAVE_SECONDS = 5.0
"""A parser's state is saved at most this often: what is lost in between comes back from the catalogue."""
SAVE_SHARE = 0.02
"""... and saving takes at most this share of the time."""
WHOLE_EVERY = 20
"""Every this many batches the whole table is saved instead of what changed (0.5 ms a delta, 3.7 ms a table)."""
RETRY_SECONDS = 15.0
"""A bundle that could not be read is tried again after this long: the registry may have been away."""
EXPIRY_SECONDS = (1.0, 60.0)
"""Quiet sessions are looked for every quarter of the gap, within these bounds."""

SERVICE_BUCKET = "#"
"""Between service and number in a bucket's key; no service has it in its name."""


def bucket_key(service: str, bucket: int) -> str:
    """The key under which a bucket's events are scored.

    >>> bucket_key("pay", 3)
    'pay#3'
    """
    return f"{service}{SERVICE_BUCKET}{bucket}"


def service_of_topic(settings: AppSettings, topic: str) -> str:
    """The service whose lines a topic carries; a topic without the prefix is a service by its whole name."""
    return topic.removeprefix(settings.kafka.log_prefix) or topic


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


# -- lines to events ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParseOutput:
    """What came of one frame."""

    events: list[tuple[str, bytes]]
    """Bucket key and encoded events."""
    dead: list[DeadLetter]
    statistic: Statistic
    templates: list[Template]
    state: bytes | None
    """The parser's state, where it is time to save it."""


@dataclass(slots=True)
class _Shard:
    parser: Parser
    save_after: float = 0.0
    """Monotonic seconds before which nothing is saved again."""


class ParseStage:
    """The parsers of the partitions that one operator instance has."""

    def __init__(self, settings: AppSettings, view: ControlView) -> None:
        self._settings = settings
        self._view = view
        self._shards: dict[str, _Shard] = {}
        self._keys: dict[str, set[str]] = {}  # service -> its shards' keys

    def control(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic: new settings and templates reach the parsers at once."""
        kind, _, rest = key.partition("/")
        service = rest.split("/", 1)[0]
        old = self._view.settings.get(service)
        record = self._view.apply(key, value)
        if kind == "settings" and self._view.settings.get(service) != old:
            for shard in self._keys.pop(service, set()):
                del self._shards[shard]  # made anew with the new settings; the catalogue keeps its ids
        elif isinstance(record, Template):
            for shard in self._keys.get(service, ()):
                self._shards[shard].parser.adopt([record])

    def parse(self, key: str, frame: bytes, saved: Callable[[], bytes | None]) -> ParseOutput:
        """Parse a frame; ``saved`` gives the state last saved under this key and is called only if it is new here."""
        began = time.perf_counter()
        topic = key.rpartition("/")[0]
        service = service_of_topic(self._settings, topic)
        lines = unpack(frame, service)
        shard = self._shard(key, service, saved)
        parts = [parse_safely(shard.parser, piece) for piece in pieces(lines, self._settings.flink.batch_lines)]
        events = [
            (bucket_key(service, bucket), chunk.to_bytes())
            for part in parts
            for bucket, chunk in part.events.by_bucket(self._settings.flink.buckets)
        ]
        dead = [letter for part in parts for letter in part.dead]
        templates = [template for part in parts for template in part.new_templates]
        statistic = Statistic(
            stage="parse",
            service=service,
            topic=topic,
            partition=lines.partition,
            first_offset=int(lines.offsets.min()),
            last_offset=int(lines.offsets.max()),
            lines=len(lines),
            bytes=int(np.maximum(_original_lengths(lines), 0).sum()),
            newest_arrival_ms=int(lines.arrivals.max()),
            newest_event_ms=max((_newest(part.events) for part in parts), default=0),
            emitted_ms=now_ms(),
            seconds=time.perf_counter() - began,
            dead=_counted(letter.reason for letter in dead),
            cut=sum(part.cut for part in parts),
            templates=shard.parser.template_count,
            new_templates=len(templates),
        )
        return ParseOutput(events, dead, statistic, templates, self._state(shard))

    def _shard(self, key: str, service: str, saved: Callable[[], bytes | None]) -> _Shard:
        shard = self._shards.get(key)
        if shard is None:
            parser = Parser(self._view.settings_of(service), self._settings.flink.max_line_bytes)
            if state := saved():
                parser.load(state)
            parser.adopt(self._view.templates.get(service, {}).values())
            shard = self._shards[key] = _Shard(parser)
            self._keys.setdefault(service, set()).add(key)
        return shard

    @staticmethod
    def _state(shard: _Shard) -> bytes | None:
        began = time.monotonic()
        if not shard.parser.dirty or began < shard.save_after:
            return None
        state = shard.parser.dump()
        took = time.monotonic() - began
        shard.save_after = began + max(SAVE_SECONDS, took / SAVE_SHARE)
        return state


def parse_safely(parser: Parser, lines: Lines) -> Parsed:
    """Parse lines; where the parser raises, halve them until the line it fails on is alone, and make it a dead letter.

    No line may stop the stream, not even one that meets a fault of ours.
    """
    try:
        return parser.parse(lines)
    except Exception as error:
        if len(lines) > 1:
            half = len(lines) // 2
            halves = lines.slice(0, half), lines.slice(half, len(lines))
            return _join(*(parse_safely(parser, part) for part in halves))
        return Parsed(Events.empty(lines.service, lines.topic), [_dead_letter(lines, error)], [], 0)


def _join(one: Parsed, other: Parsed) -> Parsed:
    events = [part for part in (one.events, other.events) if len(part)]
    return Parsed(
        Events.concat(events) if events else one.events,
        [*one.dead, *other.dead],
        [*one.new_templates, *other.new_templates],
        one.cut + other.cut,
    )


def _dead_letter(line: Lines, error: Exception) -> DeadLetter:
    return DeadLetter(
        service=line.service,
        topic=line.topic,
        partition=line.partition,
        offset=int(line.offsets[0]),
        arrival_ms=int(line.arrivals[0]),
        reason="error",
        detail=f"{type(error).__name__}: {error}"[:HEAD_BYTES],
        head=line.blob[:HEAD_BYTES].decode("utf-8", "backslashreplace"),
    )


def _original_lengths(lines: Lines) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return lines.lengths if lines.original_lengths is None else lines.original_lengths


def _newest(events: Events) -> int:
    return int(events.column("time").max()) if len(events) else 0


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


# -- events to detections ----------------------------------------------------------------------------------------


class BundleSource(Protocol):
    """Where bundles come from: ``models.registry.Registry`` is one."""

    def load(self, service: str, version: str) -> Bundle:
        """The bundle of this service and version; raises where it cannot be had or fails its checks."""


@dataclass(slots=True)
class Live:
    """What a service is scored with."""

    scorer: Scorer | None = None
    version: str = ""
    window: int = 0
    """Events of history the bundle's model looks at."""
    refused: str = ""
    """Why the bundle that the pointer names is not in force."""
    refused_version: str = ""
    retry_at: float = 0.0


class Bundles:
    """The scorers in force, by service: loaded when their pointer moves, kept when the new one fails its checks."""

    def __init__(self, source: BundleSource) -> None:
        self._source = source
        self._live: dict[str, Live] = {}

    def of(self, service: str, pointer: BundlePointer | None, catalogue: Mapping[str, Template]) -> Live:
        """What is in force for a service with this pointer (None: nothing is scored).

        Where the named bundle is refused, the one in force stays; after a restart that is the pointer's ``previous``.
        A new scorer learns the texts of the ``catalogue``, so that it can name the events before a finding.
        """
        live = self._live.setdefault(service, Live())
        version = pointer.version if pointer else ""
        if version == live.version and not live.refused:
            return live
        if not pointer:
            self._live[service] = live = Live()
        elif version == live.version:
            live.refused = live.refused_version = ""  # the pointer went back to what is in force
        elif version != live.refused_version or time.monotonic() >= live.retry_at:
            self._take_up(live, pointer, catalogue)
        return live

    def _take_up(self, live: Live, pointer: BundlePointer, catalogue: Mapping[str, Template]) -> None:
        version = pointer.version
        try:
            self._load(live, pointer.service, version, catalogue)
        except Exception as error:  # whatever is wrong with a bundle, the stream and the old bundle go on
            live.refused, live.refused_version = f"{version}: {error}", version
            live.retry_at = time.monotonic() + RETRY_SECONDS
            if live.scorer is None and pointer.previous:
                with contextlib.suppress(Exception):  # the pointer's own bundle is what is complained about
                    self._load(live, pointer.service, pointer.previous, catalogue)
        else:
            live.refused = live.refused_version = ""

    def _load(self, live: Live, service: str, version: str, catalogue: Mapping[str, Template]) -> None:
        bundle = self._source.load(service, version)
        scorer = Scorer(bundle)
        scorer.adopt({int(template, 16): entry.text for template, entry in catalogue.items()})
        live.scorer, live.version, live.window = scorer, version, bundle.manifest.window

    def refuse(self, service: str, error: Exception) -> None:
        """Take a scorer that raised out of force."""
        live = self._live[service]
        self._live[service] = Live(
            refused=f"{live.version}: scoring failed: {type(error).__name__}: {error}",
            refused_version=live.version,
            retry_at=time.monotonic() + RETRY_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """A bucket's saved sessions: a whole table (empty: none) and the changes since, oldest first."""

    whole: bytes
    changes: list[bytes]


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """What came of one batch of events, or of a look for quiet sessions."""

    detections: list[Detection]
    statistic: Statistic | None
    whole: bytes | None
    """The table to be saved in place of all before ..."""
    change: bytes | None
    """... or what is to be added to it."""
    look_again_ms: int
    """When to look for sessions that have gone quiet; 0: no session is open."""


@dataclass(slots=True)
class _Bucket:
    table: SessionTable
    changes: int
    """Saved since the last whole table."""
    topic: str = ""
    partition: int = 0
    last_offset: int = 0
    newest: tuple[int, int] = field(default=(0, 0))  # arrival, event time (ms)


class ScoreStage:
    """The session tables of the buckets that one operator instance has."""

    def __init__(self, settings: AppSettings, view: ControlView, bundles: Bundles) -> None:
        self._settings = settings
        self._view = view
        self._bundles = bundles
        self._buckets: dict[str, _Bucket] = {}

    def control(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic; it is in force from the next batch on."""
        self._view.apply(key, value)

    def score(self, key: str, data: bytes, saved: Callable[[], Saved]) -> ScoreOutput:
        """Score encoded events; ``saved`` gives the bucket's saved sessions and is called only if it is new here."""
        began = time.perf_counter()
        service, _, number = key.rpartition(SERVICE_BUCKET)
        events = Events.from_bytes(data)
        live = self._in_force(service)
        bucket, resized = self._bucket(key, service, live, saved)
        windows = bucket.table.extend(events)
        scored = self._judge(service, live, events, windows)
        offsets = events.column("offset")
        bucket.topic, bucket.partition = events.topic, int(events.column("partition")[0])
        bucket.newest = int(events.column("arrival").max()), int(events.column("time").max())
        bucket.last_offset = int(offsets.max())
        statistic = Statistic(
            stage="score",
            service=service,
            topic=events.topic,
            partition=bucket.partition,
            bucket=int(number),
            first_offset=int(offsets.min()),
            last_offset=bucket.last_offset,
            lines=len(events),
            newest_arrival_ms=bucket.newest[0],
            newest_event_ms=bucket.newest[1],
            emitted_ms=now_ms(),
            seconds=time.perf_counter() - began,
            **self._counts(service, scored, windows, bucket),
        )
        return self._output(service, bucket, scored, statistic, resized)

    def expire(self, key: str, saved: Callable[[], Saved]) -> ScoreOutput:
        """End the sessions that have been quiet for the gap by the wall clock."""
        began = time.perf_counter()
        service, _, number = key.rpartition(SERVICE_BUCKET)
        live = self._in_force(service)
        bucket, resized = self._bucket(key, service, live, saved)
        windows = bucket.table.expire(now_ms())
        if not len(windows):
            return self._output(service, bucket, None, None, resized, saving=resized)
        topic = bucket.topic or f"{self._settings.kafka.log_prefix}{service}"
        scored = self._judge(service, live, Events.empty(service, topic), windows)
        statistic = Statistic(
            stage="score",
            service=service,
            topic=topic,
            partition=bucket.partition,
            bucket=int(number),
            first_offset=bucket.last_offset,
            last_offset=bucket.last_offset,
            lines=0,
            newest_arrival_ms=bucket.newest[0],
            newest_event_ms=bucket.newest[1],
            emitted_ms=now_ms(),
            seconds=time.perf_counter() - began,
            **self._counts(service, scored, windows, bucket),
        )
        return self._output(service, bucket, scored, statistic, resized)

    def _in_force(self, service: str) -> Live:
        return self._bundles.of(service, self._view.pointers.get(service), self._view.templates.get(service, {}))

    def _bucket(self, key: str, service: str, live: Live, saved: Callable[[], Saved]) -> tuple[_Bucket, bool]:
        """The bucket, and whether its table was made anew for another length of history."""
        window = live.window if live.scorer else 0
        options = self._view.settings_of(service)
        bucket = self._buckets.get(key)
        if bucket is None:
            table = SessionTable(
                window or options.detector.window, options.session.gap_seconds, options.session.max_open
            )
            state = saved()
            if state.whole:
                table.load(state.whole)
            for change in state.changes:
                table.apply(change)
            bucket = self._buckets[key] = _Bucket(table, len(state.changes))
            return bucket, False
        if not window or window == bucket.table.window:
            return bucket, False
        table = SessionTable(window, options.session.gap_seconds, options.session.max_open)
        table.load(bucket.table.dump())
        bucket.table = table
        return bucket, True

    def _judge(self, service: str, live: Live, events: Events, windows: Windows) -> Scored | None:
        if live.scorer is None:
            return None
        try:
            return live.scorer.score(events, windows, self._view.suppressed(service))
        except Exception as error:  # a broken bundle costs its service the scores, and nobody the stream
            self._bundles.refuse(service, error)
            return None

    def _counts(self, service: str, scored: Scored | None, windows: Windows, bucket: _Bucket) -> dict[str, object]:
        live = self._in_force(service)
        counts: dict[str, object] = {
            "sessions": len(bucket.table),
            "windows": len(windows),
            "bundle": live.version if scored else "",
            "bundle_refused": live.refused,
        }
        if scored:
            counts |= {
                "windows_remembered": scored.windows_remembered,
                "unknown": scored.unknown,
                "suppressed": scored.suppressed,
                "detections": _counted(detection.detector for detection in scored.detections),
            }
        return counts

    def _output(
        self,
        service: str,
        bucket: _Bucket,
        scored: Scored | None,
        statistic: Statistic | None,
        resized: bool,
        saving: bool = True,
    ) -> ScoreOutput:
        whole = change = None
        if saving and (resized or bucket.changes + 1 >= WHOLE_EVERY):
            whole, bucket.changes = bucket.table.dump(), 0
        elif saving:
            change = bucket.table.delta()
            bucket.changes += 1
        again = 0
        if len(bucket.table):
            gap = self._view.settings_of(service).session.gap_seconds
            shortest, longest = EXPIRY_SECONDS
            period = int(min(max(gap / 4, shortest), longest) * 1000)
            again = (now_ms() // period + 1) * period
        return ScoreOutput(list(scored.detections) if scored else [], statistic, whole, change, again)
