"""What the two operators do with a batch, free of Flink: lines to events, events to detections.

Usage::

    stage = ParseStage(settings, view)
    out = stage.parse(shard_key("logs.pay", 0), frame, saved=None)   # out.events, out.dead, out.statistic, ...

    stage = ScoreStage(settings, view, Bundles(registry))
    out = stage.score("pay#0", data, saved=lambda: Saved(b"", []))   # out.detections, out.statistics, out.whole

Both keep their tables in memory, ask for saved state only when a key is new to them, and say what is to be saved.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from contracts.records import DeadLetter, Detection, Statistic, Template
from contracts.settings import AppSettings
from models.session_scorer import ScoredSessions, SessionScorer
from models.sessions import Windows, gap_of
from models.tracing.reading import packed
from models.verdicts import Suppression, Suppressions
from parsing.apart import parts_of
from parsing.events import Events, Lines
from parsing.parser import Parsed, Parser, added
from parsing.redaction import Redaction
from parsing.sessions import lines_in, spread
from storage.control import ControlView
from streaming.buckets import Bucket, Saved
from streaming.bundles import Bundles, Live, portions, versions_at
from streaming.frames import pieces, unpack
from streaming.placing import number_of, placed

RECORD_BYTES = 256 * 1024
"""No detection is larger: a broker that takes 1 MB a record must not stop a job."""
CUT_CHARACTERS = 1024
"""Of each text of a detection that is too large; 16 times that of its line. A character is 6 bytes of JSON at most."""
HEAD_BYTES = 1024
"""Of a dead letter's line this much is shown (``contracts.records.DeadLetter.head``)."""
SAVE_SECONDS = 5.0
"""A parser's state is saved at most this often: what is lost in between comes back from the catalogue."""
SAVE_SHARE = 0.02
"""... and saving takes at most this share of the time."""
EXPIRY_SECONDS = (1.0, 60.0)
"""Quiet sessions are looked for every quarter of the gap, within these bounds."""

SERVICE_BUCKET = "#"
"""Between service and number in a bucket's key; no service has it in its name."""


def bucket_key(service: str, bucket: int) -> str:
    """The key under which a bucket's events are scored: service, number, and maybe a salt.

    >>> bucket_key("pay", 3)
    'pay#3~3'
    """
    return placed(f"{service}{SERVICE_BUCKET}", bucket)


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
    traces: list[bytes]
    """Encoded lines that name a trace (``models.tracing.reading.packed``)."""
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
        self._on_their_way: dict[tuple[str, str], Template] = {}  # announced, and not yet back from the control topic

    def control(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic: new settings and templates reach the parsers at once."""
        kind, _, rest = key.partition("/")
        service = rest.split("/", 1)[0]
        old = self._view.settings.get(service)
        known = self._view.templates.get(service, {}).keys()
        news = key.rpartition("/")[2] not in known
        record = self._view.apply(key, value)
        if kind == "settings" and self._view.settings.get(service) != old:
            for shard in self._keys.pop(service, set()):
                del self._shards[shard]  # made anew with the new settings; the catalogue keeps its ids
        elif isinstance(record, Template):
            self._on_their_way.pop((service, record.id), None)
            for shard in self._keys.get(service, ()):
                self._shards[shard].parser.adopt([record], news=news)

    def parse(self, key: str, frame: bytes, saved: Callable[[], bytes | None]) -> ParseOutput:
        """Parse a frame; ``saved`` gives the state last saved under this key and is called only if it is new here."""
        began = time.perf_counter()
        topic = key.rpartition("/")[0]
        service = service_of_topic(self._settings, topic)
        lines = unpack(frame, service)
        shard = self._shard(key, service, saved)
        parts = [parse_safely(shard.parser, piece) for piece in pieces(lines, self._settings.flink.batch_lines)]
        options = shard.parser.settings.session
        events = [
            (bucket_key(service, bucket), chunk.to_bytes())
            for part in parts
            for bucket, chunk in spread(part.events, options).by_bucket(self._settings.flink.buckets)
        ]
        dead = [letter for part in parts for letter in part.dead]
        templates = [self._completed(template) for part in parts for template in part.new_templates]
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
            odd=reduce(added, (part.odd for part in parts)),
            templates=shard.parser.template_count,
            new_templates=sum(template.reason == "born" for template in templates),
            changes=_counted(template.reason for template in templates),
            overflow=reduce(added, (part.overflow for part in parts)),
            paused=shard.parser.learning_paused,
            forgotten=sum(part.forgotten for part in parts),
        )
        watched = parts if shard.parser.settings.detector.traces == "on" else ()
        traces = [data for part in watched if (data := packed(part.events)) is not None]
        return ParseOutput(events, dead, statistic, templates, traces, self._state(shard))

    def _completed(self, template: Template) -> Template:
        """A template's record with what the catalogue knows of it and the parser does not keep: its example, its text.

        One that was evicted by some shard and is born again has returned.
        """
        key = template.service, template.id
        before = self._on_their_way.get(key) or self._view.templates.get(template.service, {}).get(template.id)
        if before is not None:
            update: dict[str, object] = {}
            if not template.example:
                update |= {"example": before.example, "partition": before.partition, "offset": before.offset}
            if not template.text:
                update["text"] = before.text
            if template.reason == "born" and before.reason == "evicted":
                update["reason"] = "returned"
            template = template.model_copy(update=update)
        self._on_their_way[key] = template
        return template

    def _shard(self, key: str, service: str, saved: Callable[[], bytes | None]) -> _Shard:
        shard = self._shards.get(key)
        if shard is None:
            parser = Parser(self._view.settings_of(service), self._settings.flink.max_line_bytes)
            if state := saved():
                parser.load(state)
            partition, known = number_of(key.rpartition("/")[2]), self._view.templates.get(service, {}).values()
            parser.adopt(one for one in known if one.partition == partition)
            # What a saved state does not know came while nobody read: at the same time as what it knows, maybe.
            parser.adopt((one for one in known if one.partition != partition), news=bool(state))
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
        return Parsed(Events.empty(lines.service, lines.topic), [_dead_letter(parser.redaction, lines, error)], [], 0)


def _join(one: Parsed, other: Parsed) -> Parsed:
    events = [part for part in (one.events, other.events) if len(part)]
    return Parsed(
        Events.concat(events) if events else one.events,
        [*one.dead, *other.dead],
        [*one.new_templates, *other.new_templates],
        one.cut + other.cut,
        added(one.overflow, other.overflow),
        added(one.odd, other.odd),
        one.forgotten + other.forgotten,
    )


def _dead_letter(redaction: Redaction, line: Lines, error: Exception) -> DeadLetter:
    try:  # what failed may have been this; and an error may quote the line
        head = redaction.lines(line).blob[:HEAD_BYTES].decode("utf-8", "backslashreplace")
        detail = redaction.text(f"{type(error).__name__}: {error}")
    except Exception:
        head, detail = "", type(error).__name__
    return DeadLetter(
        service=line.service,
        topic=line.topic,
        partition=line.partition,
        offset=int(line.offsets[0]),
        arrival_ms=int(line.arrivals[0]),
        reason="error",
        detail=detail[:HEAD_BYTES],
        head=head,
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


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """What came of one batch of events, or of a look for quiet sessions."""

    detections: list[Detection]
    statistics: list[Statistic]
    """One for each bundle that judged lines of the batch, so mostly one."""
    whole: bytes | None
    """The bucket's state, to be saved in place of all before ..."""
    change: bytes | None
    """... or what is to be added to it."""
    look_again_ms: int
    """When to look for sessions that have gone quiet; 0: no session is open."""


@dataclass(slots=True)
class _Known:
    """A bucket, and what its lines have said of themselves."""

    bucket: Bucket
    topic: str = ""
    partition: int = 0
    last_offset: int = 0
    newest: tuple[int, int] = field(default=(0, 0))  # arrival, event time (ms)
    heard: dict[int, int] = field(default_factory=dict)  # partition -> when its last lines came here (ms)


class ScoreStage:
    """The session tables of the buckets that one operator instance has."""

    def __init__(
        self, settings: AppSettings, view: ControlView, bundles: Bundles, clock: Callable[[], int] = now_ms
    ) -> None:
        self._settings = settings
        self._view = view
        self._bundles = bundles
        self._suppressions = Suppressions(view, settings.flink.buckets)
        self._clock = clock
        self._buckets: dict[str, _Known] = {}
        self._began = clock()

    def control(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic; verdicts, settings and aliases are in force from the next batch on."""
        record = self._view.apply(key, value)
        if isinstance(record, Template):
            self._bundles.alias(record)

    def score(self, key: str, data: bytes, saved: Callable[[], Saved]) -> ScoreOutput:
        """Score encoded events; ``saved`` gives the bucket's saved sessions and is called only if it is new here."""
        service = key.rpartition(SERVICE_BUCKET)[0]
        events = Events.from_bytes(data)
        parts = []
        for part, versions in portions(events, self._view.pointers.get(service)):
            began = time.perf_counter()
            live = self._in_force(service, versions)
            known = self._known(key, service, live, saved)
            parts.append(self._judge(key, known, live, part, known.bucket.table.extend(part), began))
        known.heard |= dict.fromkeys(np.unique(events.column("partition")).tolist(), self._clock())
        return self._output(known.bucket, parts)

    def expire(self, key: str, saved: Callable[[], Saved]) -> ScoreOutput:
        """End the sessions that have been quiet for the gap."""
        began = time.perf_counter()
        service = key.rpartition(SERVICE_BUCKET)[0]
        now = self._clock()
        live = self._in_force(service, versions_at(self._view.pointers.get(service), now))
        known = self._known(key, service, live, saved)
        bucket = known.bucket
        windows = bucket.table.expire(lambda partition: now - known.heard.get(partition, self._began))
        if not len(windows):
            return self._output(bucket, [], saving=bucket.rewritten)
        nothing = Events.empty(service, known.topic or f"{self._settings.kafka.log_prefix}{service}")
        return self._output(bucket, [self._judge(key, known, live, nothing, windows, began)])

    def _in_force(self, service: str, versions: Sequence[str]) -> Live:
        live = self._bundles.of(service, versions, self._view.templates.get(service, {}))
        splits = self._view.settings_of(service).splits
        if splits and live.scorer is not None:
            live.scorer.tell_apart(parts_of(service, splits))
        return live

    def _known(self, key: str, service: str, live: Live, saved: Callable[[], Saved]) -> _Known:
        """The bucket, with a table of the length of history that the bundle looks at."""
        settings = self._view.settings_of(service)
        known = self._buckets.get(key)
        if known is None:
            bucket = Bucket.restored(saved(), live.window or settings.detector.window, settings.session)
            return self._buckets.setdefault(key, _Known(bucket))
        window = live.window or known.bucket.table.window
        if (window, settings.session) != (known.bucket.table.window, known.bucket.options):
            known.bucket.resize(window, settings.session)
        return known

    def _judge(
        self, key: str, known: _Known, live: Live, events: Events, windows: Windows, began: float
    ) -> tuple[list[Detection], Statistic]:
        """Judge the windows of some events, or of none, and the sessions that ended; returns findings and the count."""
        service, _, number = key.rpartition(SERVICE_BUCKET)
        first = known.last_offset
        if len(events):
            offsets = events.column("offset")
            first, known.last_offset = int(offsets.min()), int(offsets.max())
            known.topic, known.partition = events.topic, int(events.column("partition")[0])
            known.newest = int(events.column("arrival").max()), int(events.column("time").max())
        scored = whole = None
        if live.scorer is not None:
            try:
                suppression = self._suppressions.of(service, key)
                judge = known.bucket.judge(live.scorer)
                scored = live.scorer.score(events, windows, suppression, judge.adopted if judge else frozenset())
                whole = self._judge_whole(known, judge, events, windows, suppression)
            except Exception as error:  # a broken bundle costs its service the scores, and nobody the stream
                live, scored = self._bundles.refuse(service, live.version, error), None
        found = [self._finished(one) for one in (*scored.detections, *whole.detections)] if scored and whole else []
        statistic = Statistic(
            stage="score",
            service=service,
            topic=events.topic,
            partition=known.partition,
            bucket=number_of(number),
            first_offset=first,
            last_offset=known.last_offset,
            lines=lines_in(events),
            newest_arrival_ms=known.newest[0],
            newest_event_ms=known.newest[1],
            emitted_ms=now_ms(),
            seconds=time.perf_counter() - began,
            sessions=len(known.bucket.table),
            windows=len(windows),
            windows_remembered=scored.windows_remembered if scored else 0,
            unknown=scored.unknown if scored else 0,
            reworded=scored.reworded if scored else 0,
            surprises=scored.surprises if scored else (),
            suppressed=(scored.suppressed if scored else 0) + (whole.suppressed if whole else 0),
            sessions_judged=whole.judged if whole else 0,
            sessions_passed=whole.passed if whole else 0,
            sessions_learnt=whole.learnt if whole else 0,
            detections=_counted(detection.detector for detection in found),
            bundle=live.version if scored else "",
            bundle_refused=live.refused,
        )
        return found, statistic

    @staticmethod
    def _judge_whole(
        known: _Known, judge: SessionScorer | None, events: Events, windows: Windows, suppression: Suppression | None
    ) -> ScoredSessions:
        """Judge the whole sessions that are over, where the bundle has detectors of them."""
        if judge is None:
            return ScoredSessions()
        sessions, rows = known.bucket.finished(events, windows)
        return judge.score(sessions, windows.ends, rows, known.topic, suppression)

    def _finished(self, found: Detection) -> Detection:
        """The detection as it goes out: marked where it comes late, and never too large for a broker."""
        gap = gap_of(self._view.settings_of(found.service).session) if found.kind != "event" else 0.0
        late = found.detected_ms - found.arrival_ms > (self._settings.flink.late_seconds + gap) * 1000
        return fitting(found.model_copy(update={"late": True}) if late else found)

    def _output(
        self, bucket: Bucket, parts: list[tuple[list[Detection], Statistic]], saving: bool = True
    ) -> ScoreOutput:
        whole, change = bucket.save() if saving else (None, None)
        again = 0
        if len(bucket.table):
            gap = gap_of(bucket.options)
            shortest, longest = EXPIRY_SECONDS
            period = int(min(max(gap / 4, shortest), longest) * 1000)
            again = (self._clock() // period + 1) * period
        detections = [one for found, _ in parts for one in found]
        return ScoreOutput(detections, [statistic for _, statistic in parts], whole, change, again)


def fitting(found: Detection) -> Detection:
    """The detection itself, or with its texts cut where its JSON would be larger than ``RECORD_BYTES``."""
    if len(found.model_dump_json().encode()) <= RECORD_BYTES:
        return found
    return found.model_copy(
        update={
            "cut": True,
            "line": found.line[: CUT_CHARACTERS * 16],
            "headline": found.headline[:CUT_CHARACTERS],
            "session": found.session[:CUT_CHARACTERS],
            "template_text": found.template_text[:CUT_CHARACTERS],
            "expected": tuple(one.model_copy(update={"text": one.text[:CUT_CHARACTERS]}) for one in found.expected),
            "before": tuple(one.model_copy(update={"text": one.text[:CUT_CHARACTERS]}) for one in found.before),
        }
    )
