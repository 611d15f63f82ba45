"""Keeps, for each service, what ``models.drift`` needs to say whether the bundle in force still fits.

    fits = Fits()
    fits.scored(statistic)
    fits.alarm(detection.service, now_ms)
    fits.control(view)
    signs = fits.signs(now_ms)["pay"]

Shares are of the last hour, by the minutes in which lines were scored, and of one bundle: another one begins anew.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Gauge

from contracts.records import Statistic, Verdict
from models import drift
from models.drift import SERIES, Signs, advise
from storage.control import ControlView

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
KEPT_MINUTES = 60
REVIEWED_MS = 30 * DAY_MS
"""Verdicts that are older say nothing about this bundle's time."""


@dataclass(slots=True)
class _Minute:
    """What was scored within a minute (of the clock on the wall)."""

    start_ms: int
    events: int = 0
    unknown: int = 0
    units: int = 0
    """Ended sessions judged whole; windows where there are no such."""
    windows: int = 0
    alarms: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * (len(drift.EDGES) + 1))


@dataclass(slots=True)
class _Service:
    """A service since its bundle is in force."""

    bundle: str = ""
    minutes: deque[_Minute] = field(default_factory=deque)
    strange_since_ms: int = 0
    learnt: tuple[float, ...] = ()
    rate: float = 0.0
    reviewed: int = 0
    confirmed: int = 0
    bundle_ms: int = 0

    def begin(self, bundle: str) -> None:
        """Another bundle is in force: what was seen of the one before says nothing about it."""
        self.bundle, self.strange_since_ms = bundle, 0
        self.minutes.clear()

    def minute(self, at_ms: int) -> _Minute:
        """The minute of a moment; a moment before the newest minute counts for that."""
        start = at_ms // MINUTE_MS * MINUTE_MS
        if not self.minutes or start > self.minutes[-1].start_ms:
            if self.minutes:
                self._judge(self.minutes[-1])
            self.minutes.append(_Minute(start))
            while self.minutes[0].start_ms <= start - HOUR_MS:
                self.minutes.popleft()
        return self.minutes[-1]

    def _judge(self, over: _Minute) -> None:
        """Take note of since when minutes, one after another, have had too many unknown events."""
        if over.events and over.unknown <= drift.UNKNOWN * over.events:
            self.strange_since_ms = 0
        elif over.events and not self.strange_since_ms:
            self.strange_since_ms = over.start_ms


class Fits:
    """All services."""

    def __init__(self) -> None:
        self._services: dict[str, _Service] = {}

    def scored(self, record: Statistic) -> None:
        """Take in what the scoring operator did with a micro-batch."""
        if record.stage != "score" or not record.bundle:
            return
        service = self._services.setdefault(record.service, _Service())
        if record.bundle > service.bundle or not service.bundle:  # versions begin with the time they were made
            service.begin(record.bundle)
        minute = service.minute(record.emitted_ms)
        minute.events += record.lines
        minute.unknown += record.unknown - record.reworded
        minute.units += record.sessions_judged
        minute.windows += record.windows
        for number, count in enumerate(record.surprises[: len(minute.bins)]):
            minute.bins[number] += count

    def alarm(self, service: str, at_ms: int) -> None:
        """Take in a detection that pages."""
        self._services.setdefault(service, _Service()).minute(at_ms).alarms += 1

    def control(self, view: ControlView, now_ms: int) -> None:
        """Take in what engineers said, the live pointers and the agreed rates."""
        for name in {*view.pointers, *view.verdicts}:
            service = self._services.setdefault(name, _Service())
            service.rate = view.settings_of(name).budget.false_alarm_rate
            service.reviewed, service.confirmed = _reviewed(view.verdicts.get(name, {}), now_ms - REVIEWED_MS)
            if (pointer := view.pointers.get(name)) is not None:
                if pointer.version < service.bundle:  # rolled back: what is in force now is older
                    service.bundle = ""
                service.learnt, service.bundle_ms = pointer.surprises, pointer.made_ms or pointer.moved_ms

    def signs(self, now_ms: int) -> dict[str, Signs]:
        """How each service gets along with its bundle."""
        return {name: _signs(service, now_ms) for name, service in self._services.items()}


class FitGauges:
    """The signs as metrics, and whether learning again is advised.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            field: Gauge(name, help_, ("service",), registry=registry) for field, (name, help_) in SERIES.items()
        }
        self._advised = Gauge(
            "logcanary_retraining_advised",
            "1 where learning again is advised (`logcanary advice` says why).",
            ("service",),
            registry=registry,
        )

    def show(self, service: str, signs: Signs, now_ms: int) -> None:
        """Show those of a service."""
        for field_, gauge in self._gauges.items():
            if (number := getattr(signs, field_)) is not None:
                gauge.labels(service).set(number / 1000 if field_.endswith("_ms") else number)
        self._advised.labels(service).set(advise(signs, now_ms).retrain)


def _signs(service: _Service, now_ms: int) -> Signs:
    recent = [one for one in service.minutes if one.start_ms > now_ms - HOUR_MS - MINUTE_MS]
    events = sum(one.events for one in recent)
    unknown = sum(one.unknown for one in recent) / events if events else 0.0
    units = sum(one.units for one in recent) or sum(one.windows for one in recent)
    alarms = sum(one.alarms for one in recent)
    # As much a day as in this hour; a service that began within it has had less of one.
    days = max(len(recent), 1) * MINUTE_MS / DAY_MS if len(recent) < KEPT_MINUTES else HOUR_MS / DAY_MS
    first = recent[0].start_ms if recent else 0
    bins = [sum(counts) for counts in zip(*(one.bins for one in recent), strict=True)]
    return Signs(
        events=events,
        unknown=unknown,
        unknown_since_ms=(service.strange_since_ms or first) if unknown > drift.UNKNOWN else 0,
        distance=drift.distance(bins, service.learnt),
        alarms_per_day=alarms / days,
        budget_per_day=service.rate * units / days,
        alarms=alarms,
        reviewed=service.reviewed,
        confirmed=service.confirmed,
        bundle_ms=service.bundle_ms,
    )


def _reviewed(verdicts: Mapping[tuple[str, str], Verdict], since_ms: int) -> tuple[int, int]:
    """Verdicts in force that say whether it was a fault, and how many say so."""
    clear = [
        one for one in verdicts.values() if one.value != "unsure" and not one.undone_ms and one.given_ms >= since_ms
    ]
    return len(clear), sum(one.value == "confirmed" for one in clear)
