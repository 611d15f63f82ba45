"""What the operator of traces does, free of Flink: lines of all services that name a trace to detections.

Usage::

    data = packed(events)                                     # models.tracing.reading; None: no line names a trace
    stage = TraceStage(settings, view)
    out = stage.watch(data, saved=lambda: Saved(b"", []))     # out.detections, out.whole, out.change

Traces run through all services, so one instance sees them all, under one key. Event time is that of the partition that
is furthest behind, of those that were heard lately: then what is found does not depend on which partition is read
first. What is saved is what came since a whole: what is known follows from it, because nothing else goes into it.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import astuple, dataclass, field

import numpy as np

from contracts.records import Detection
from contracts.settings import AppSettings
from contracts.state import TRACE_STATE
from models.encoding import StateError, pack, unpack
from models.tracing.across import Across, Raised
from models.tracing.reading import unpacked
from models.tracing.telling import KIND, Where, detection
from models.verdicts import Place, Suppressions, escalated
from parsing.events import template_hex
from storage.control import ControlView
from streaming.buckets import Saved, Written
from streaming.stages import SERVICE_BUCKET, fitting, now_ms

IDLE_MS = 5_000
"""A partition that was not heard for so long (processing time) holds event time back no longer; and nothing is over
before so long was listened. While the job is behind, for so much longer as lines take to get here: ..."""
MOST_LAG_MS = 300_000
"""... this long at most. Of services read at different speeds one would else be blamed for what was not read yet."""
LOOK_MS = 5_000
"""While traces are open, it is looked this often whether they are over."""

_STATE = "trace_stage"
_TIME = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class TraceOutput:
    """What came of one batch of lines, or of a look for traces that are over."""

    detections: list[Detection]
    whole: bytes | None
    """The state, to be saved in place of all before ..."""
    change: bytes | None
    """... or what is to be added to it."""
    look_again_ms: int
    """When to look again; 0: no trace is open."""


@dataclass(slots=True)
class _Known:
    """All traces, and what is known of where they come from."""

    across: Across = field(default_factory=Across)
    newest: dict[str, Where] = field(default_factory=dict)  # service ->
    clocks: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)  # partition -> event time, heard (ms)
    began_ms: int = 0
    """Processing time of the first lines that were heard here: others may only just be read."""
    behind: tuple[int, int] = (0, 0)
    """How old lines were when they were heard, at most, and when that was (ms)."""

    def take(self, data: bytes, heard_ms: int) -> None:
        """Take in what ``packed`` made.

        Raises:
            StateError: The bytes are something else.
        """
        batch = unpacked(data)
        topic, partition = batch.topic, batch.partition
        self.across.add(batch.service, batch.lines, batch.names)
        self.newest[batch.service] = Where(topic, partition, batch.offset, batch.arrival_ms)
        before = self.clocks.get((topic, partition), (0, 0))[0]
        self.began_ms = self.began_ms or heard_ms
        if heard_ms - batch.arrival_ms > self.lag_ms(heard_ms):
            self.behind = heard_ms - batch.arrival_ms, heard_ms
        if heard_ms - max((heard for _, heard in self.clocks.values()), default=heard_ms) > IDLE_MS:
            # Nobody was heard: that says nothing about any of them.
            self.clocks = {partition: (at, heard_ms) for partition, (at, _) in self.clocks.items()}
        self.clocks[topic, partition] = max(before, int(batch.lines.times.max())), heard_ms

    def lag_ms(self, now: int) -> int:
        """How far behind the job is: as old as lines were when they came, less what was made up for since."""
        lag, heard_ms = self.behind
        return min(MOST_LAG_MS, max(0, lag - (now - heard_ms)))

    def event_ms(self, now: int) -> int:
        """Event time: that of the partition furthest behind; where none is heard, it goes on as the clock does."""
        idle = IDLE_MS + self.lag_ms(now)
        if not self.clocks or now - self.began_ms < idle:
            return 0
        heard = [at for at, heard in self.clocks.values() if now - heard < idle]
        if heard:
            return min(heard)
        return max(at for at, _ in self.clocks.values()) + now - max(heard for _, heard in self.clocks.values())

    def dump(self) -> bytes:
        """Encode everything but when partitions were heard."""
        clocks = [(*partition, at) for partition, (at, _) in self.clocks.items()]
        told = {service: astuple(where) for service, where in self.newest.items()}
        return pack(
            _STATE,
            TRACE_STATE,
            {
                "across": np.frombuffer(self.across.dump(), dtype=np.uint8),
                "newest": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
                "clocks": np.frombuffer(json.dumps(clocks).encode(), dtype=np.uint8),
            },
        )

    @classmethod
    def restored(cls, saved: Saved, now: int) -> "_Known":
        """What was saved; all partitions count as heard now (processing time, ms).

        Raises:
            StateError: The bytes are damaged, or of another format.
        """
        known = cls()
        if saved.whole:
            columns = unpack(saved.whole, _STATE, TRACE_STATE)
            known.across.load(columns["across"].tobytes())
            told = json.loads(columns["newest"].tobytes())
            known.newest = {str(service): Where(*where) for service, where in told.items()}
            for topic, partition, at in json.loads(columns["clocks"].tobytes()):
                known.clocks[str(topic), int(partition)] = int(at), now
            known.began_ms = now
        for change in saved.changes:
            if len(change) < _TIME.size:
                raise StateError("saved traces are damaged: a change without its time")
            if data := change[_TIME.size :]:
                known.take(data, now)
            known.across.until(_TIME.unpack_from(change)[0])
        return known


class TraceStage:
    """Watches the traces of all services of a job.

    Args:
        settings: of the job.
        view: of the control topic: verdicts, and the texts of templates.
        clock: processing time, ms.
    """

    def __init__(self, settings: AppSettings, view: ControlView, clock: Callable[[], int] = now_ms) -> None:
        self._settings, self._view, self._clock = settings, view, clock
        self._suppressions = Suppressions(view)
        self._known: _Known | None = None
        self._written = Written()

    def control(self, key: str, value: bytes | None) -> None:
        """Take in a record of the control topic."""
        self._view.apply(key, value)

    def watch(self, data: bytes, saved: Callable[[], Saved]) -> TraceOutput:
        """Take in what ``packed`` made; ``saved`` gives the saved state and is called only if it is not known here."""
        known = self._restored(saved)
        now = self._clock()
        known.take(data, now)
        return self._told(known, data, now)

    def look(self, saved: Callable[[], Saved]) -> TraceOutput:
        """Say what is over, though no line came."""
        return self._told(self._restored(saved), b"", self._clock())

    def _restored(self, saved: Callable[[], Saved]) -> _Known:
        if self._known is None:
            state = saved()
            self._known = _Known.restored(state, self._clock())
            self._written = Written.of(state)
        return self._known

    def _told(self, known: _Known, data: bytes, now: int) -> TraceOutput:
        at = known.event_ms(now)
        raised = known.across.until(at)
        whole, change = self._saved(known, _TIME.pack(at) + data)
        detections = [one for one in (self._detection(known, each) for each in raised) if one is not None]
        return TraceOutput(detections, whole, change, now + LOOK_MS if len(known.across) else 0)

    def _saved(self, known: _Known, change: bytes) -> tuple[bytes | None, bytes | None]:
        """A whole in place of all before once the changes are as large, or the change."""
        if not self._written.is_due(len(change)):
            self._written.change(len(change))
            return None, change
        whole = known.dump()
        self._written = Written(len(whole))
        return whole, None

    def _detection(self, known: _Known, raised: Raised) -> Detection | None:
        """The detection as it goes out; None where an engineer has accepted it."""
        across, found_ms = known.across, now_ms()
        where = known.newest[across.services[raised.finding.blamed]]
        made = detection(raised.finding, across.services, across.names, self._text, where, found_ms)
        late = found_ms - where.arrival_ms > self._settings.flink.late_seconds * 1000 + LOOK_MS
        made = made.model_copy(update={"late": True}) if late else made
        suppression = self._suppressions.of(made.service, f"{made.service}{SERVICE_BUCKET}{KIND}")
        is_raised, why = suppression.ask(Place.of(made)) if suppression else (True, None)
        return fitting(escalated(made, why)) if is_raised else None

    def _text(self, service: str, template: int) -> str:
        known = self._view.templates.get(service, {}).get(self._view.resolve(service, template_hex(template)))
        return known.text if known is not None else ""
