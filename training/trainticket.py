"""How many injected faults of Train Ticket are found, and at what price: 27 services, a cold start, no label seen.

The lines of a day are read in the order of the container's time and go through the very parser, trace table, detectors
and alerts that watch a running system; what the detectors know of a line is what the lines before it taught them.
Faults are looked at when all is over. A fault is found if an alert begins, or goes on with new findings, within
``FOUND_MS`` of its injection: *own* on the faulty service, *related* there or on a direct caller (read from the traces
of the file), *any* anywhere.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from contracts.service import ServiceSettings
from models.grouping import EVERYWHERE, Alert
from models.learning import Say
from models.tracing import TRACE_DETECTORS
from models.tracing.across import Across
from models.tracing.blame import CallGraph
from models.tracing.reading import trace_lines
from models.tracing.shares import Shares
from models.tracing.telling import headline
from models.tracing.ticks import Tick, Ticks
from models.tracing.traces import TraceLines
from models.tracing.watch import BUDGET_A_DAY, DAY_MS
from parsing.events import Events, Lines
from parsing.parser import Parser
from training.learner import TrainingError

FOUND_MS = 180_000
TOLERANCE_MS = 60_000
"""Fault times are good to about a minute: found from this long before is printed too."""
AFTER_MS = 300_000
"""A fault's window, in which its alerts are no false ones."""
MINUTE_MS = 60_000
DRAWS = 200
BATCH_LINES = 2_000
BUDGETS = (0.1, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0)
"""Of the curve: alerts a day and service."""
_TIME = re.compile(rb'"time": ?"([^"]+)"')
_POD_SUFFIXES = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """What was injected, where and when (ms since 1970 UTC)."""

    service: str
    kind: str
    at_ms: int


@dataclass(frozen=True)
class Day:
    """A recorded day: the services, all lines in the order of time, the texts of templates, the faults."""

    services: list[str]
    lines: TraceLines
    texts: dict[int, str]
    faults: list[Fault]

    @classmethod
    def read(cls, folder: Path, progress: Say = lambda words: None) -> "Day":
        """Read a folder's ``*.jsonl.gz`` and ``faults.json``.

        Raises:
            TrainingError: one of them is missing.
        """
        logs, labels = sorted(folder.glob("*.jsonl.gz")), folder / "faults.json"
        if not logs or not labels.exists():
            raise TrainingError(f"{folder} must hold *.jsonl.gz and faults.json: --data names a folder with both")
        by_service: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for log in logs:
            progress(f"Read {log.name}")
            for service, time, line in _records(log):
                by_service[service].append((time, line))
        services = sorted(by_service)
        parts: list[TraceLines] = []
        texts: dict[int, str] = {}
        for number, service in enumerate(services):
            for events in _parse(service, sorted(by_service[service], key=lambda pair: pair[0])):
                parts.append(trace_lines(events, number)[0])
                texts |= events.templates
        lines = TraceLines.joined(parts)
        progress(f"{len(lines):,} lines of {len(services)} services, {len(texts):,} templates")
        faults = [fault for hour in json.loads(labels.read_text()).values() for fault in map(_fault, hour)]
        order = np.argsort(lines.times, kind="stable")
        return cls(services, lines.take(order), texts, sorted(faults, key=lambda fault: fault.at_ms))


def _records(log: Path) -> Iterator[tuple[str, int, bytes]]:
    """Service, time (ms) and line of each record of a file."""
    with gzip.open(log) as stream:
        for text in stream:
            record = json.loads(text)
            line = record["log"].encode()
            found = _TIME.search(line)
            if found is not None:
                yield record["pod"].rsplit("-", _POD_SUFFIXES)[0], _milliseconds(found.group(1).decode()), line


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text[:23])
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _fault(record: dict[str, str]) -> Fault:
    service = record["inject_pod"].rsplit("-", _POD_SUFFIXES)[0]
    return Fault(service, record["inject_type"], _milliseconds(record["inject_time"]))


def _parse(service: str, rows: Sequence[tuple[int, bytes]]) -> Iterator[Events]:
    """Events of a service's lines, as its parser gives them from a cold start."""
    parser = Parser(ServiceSettings(service=service))
    for start in range(0, len(rows), BATCH_LINES):
        part = rows[start : start + BATCH_LINES]
        offsets = np.arange(start, start + len(part), dtype=np.int64)
        arrivals = np.array([time for time, _ in part], dtype=np.int64)
        lines = Lines.from_list(service, f"logs.{service}", 0, offsets, arrivals, [line for _, line in part])
        yield parser.parse(lines).events


def ticks(lines: TraceLines) -> Iterator[Tick]:
    """Play a day: each line is there from its time on."""
    played = Ticks()
    played.add(lines)
    yield from played.until(int(lines.times[-1]) + DAY_MS)


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert that began, or went on with new findings."""

    at_ms: int
    service: int
    number: int
    began: bool


@dataclass(frozen=True)
class Watched:
    """What a set of detectors raised over a day."""

    raised: list[Raised]
    alerts: list[Alert]
    incidents: int


def watch(
    day: Day,
    played: Sequence[Tick],
    kinds: Sequence[type[Shares]],
    *,
    rates: bool = False,
    budget: float = BUDGET_A_DAY,
) -> Watched:
    """Run detectors over a day."""
    across = Across(kinds, rates=rates, budget=budget, services=day.services)
    raised: list[Raised] = []
    kept: dict[int, Alert] = {}
    for tick in played:
        found = across.tick(tick)
        for alert in {one.alert.number: one.alert for one in found}.values():
            raised.append(Raised(tick.now_ms, alert.service, alert.number, alert.number not in kept))
            kept[alert.number] = alert
    return Watched(raised, list(kept.values()), len({alert.incident for alert in kept.values()}))


def evaluate_trainticket(data: Path, *, curve: bool = True, progress: Say = lambda words: None) -> dict[str, Any]:
    """Measure each detector and the ensemble on injected faults.

    Returns:
        ``<detector>.{faults, found_any, found_related, found_own, groups_per_hour, groups, control, ...}`` for each
        detector and ``ensemble``; ``observed_hours``, ``lines``; ``curve``: the ensemble at other budgets; ``missed``,
        ``false_groups``: what it did not find, and what it raised for nothing.
    """
    day = Day.read(data, progress)
    if not day.faults or not len(day.lines):
        raise TrainingError(f"{data} has no faults, or no line that names a trace")
    played = list(ticks(day.lines))
    measure = Measure.of(day, played)
    report: dict[str, Any] = {}
    for kind in TRACE_DETECTORS:
        progress(f"Run {kind.name}")
        report[kind.name] = measure.figures(watch(day, played, [kind]))
    progress("Run rate and the ensemble")
    report["rate"] = measure.figures(watch(day, played, [], rates=True))
    ensemble = watch(day, played, TRACE_DETECTORS, rates=True)
    report["ensemble"] = measure.figures(ensemble)
    report |= {
        "budget_a_day_and_service": BUDGET_A_DAY,
        "observed_hours": measure.hours,
        "lines": len(day.lines),
        "services": len(day.services),
        "traces": sum(len(tick.traces) for tick in played),
        "incidents": ensemble.incidents,
        "missed": measure.missed(ensemble),
        "false_groups": measure.false_groups(ensemble),
        "curve": [],
    }
    for budget in BUDGETS if curve else ():
        progress(f"Run the ensemble at {budget:g} alerts a day and service")
        figures = measure.figures(watch(day, played, TRACE_DETECTORS, rates=True, budget=budget))
        report["curve"].append({"budget_a_day_and_service": budget, **figures})
    return report


@dataclass(frozen=True)
class Measure:
    """What is known of a day when all is over."""

    day: Day
    related: list[set[int]]
    """Of each service: itself and its direct callers."""
    observed: frozenset[int]
    """UTC minutes with a line that lie wholly outside of all faults' windows."""

    @classmethod
    def of(cls, day: Day, played: Sequence[Tick]) -> "Measure":
        """Read callers and observed minutes."""
        graph = CallGraph()
        for tick in played:
            graph.learn(tick.traces)
        minutes = np.unique(day.lines.times // MINUTE_MS) * MINUTE_MS
        free = np.ones(len(minutes), dtype=np.bool_)
        for fault in day.faults:
            free &= (minutes + MINUTE_MS <= fault.at_ms) | (minutes >= fault.at_ms + AFTER_MS)
        related = [{service} | graph.callers(service) for service in range(len(day.services))]
        return cls(day, related, frozenset((minutes[free] // MINUTE_MS).tolist()))

    @property
    def hours(self) -> float:
        """Observed time."""
        return len(self.observed) * MINUTE_MS / 3_600_000

    def figures(self, watched: Watched) -> dict[str, Any]:
        """The measures of the protocol for one run."""
        faults = self.day.faults
        hit = [self._services(watched, fault, 0) for fault in faults]
        tolerant = [self._services(watched, fault, TOLERANCE_MS) for fault in faults]
        groups = sum(one.began and one.at_ms // MINUTE_MS in self.observed for one in watched.raised)
        return {
            "faults": len(faults),
            "found_any": sum(map(bool, hit)),
            "found_related": self._found(hit, self._is_related),
            "found_own": self._found(hit, self._is_own),
            "found_related_tolerant": self._found(tolerant, self._is_related),
            "found_own_tolerant": self._found(tolerant, self._is_own),
            "groups_per_hour": groups / self.hours if self.hours else 0.0,
            "groups": groups,
            "groups_of_the_day": len(watched.alerts),
            **self._controls(hit),
            "median_delay_seconds": self._delay(watched),
        }

    def missed(self, watched: Watched) -> list[str]:
        """The faults not found on their service or a caller."""
        return [
            f"{_clock(fault.at_ms)} {fault.service} {fault.kind}"
            for fault in self.day.faults
            if not self._is_related(self._number(fault), self._services(watched, fault, 0))
        ]

    def false_groups(self, watched: Watched) -> list[str]:
        """The alerts that began in observed time, in words."""

        def text(service: str, template: int) -> str:
            del service
            return self.day.texts.get(template, "")

        began = [one for one in watched.alerts if one.first_ms // MINUTE_MS in self.observed]
        return [f"{_clock(alert.first_ms)} {headline(alert.first, self.day.services, text)}" for alert in began]

    def _services(self, watched: Watched, fault: Fault, tolerance: int) -> set[int]:
        """The services with an alert in time."""
        window = range(fault.at_ms - tolerance, fault.at_ms + FOUND_MS + 1)
        return {one.service for one in watched.raised if one.at_ms in window}

    def _number(self, fault: Fault) -> int:
        return self.day.services.index(fault.service) if fault.service in self.day.services else EVERYWHERE - 1

    def _is_own(self, service: int, hit: set[int]) -> bool:
        return service in hit

    def _is_related(self, service: int, hit: set[int]) -> bool:
        return service >= 0 and bool(self.related[service] & hit)

    def _found(self, hits: Sequence[set[int]], counts: Callable[[int, set[int]], bool]) -> int:
        return sum(counts(self._number(fault), hit) for fault, hit in zip(self.day.faults, hits, strict=True))

    def _controls(self, hits: Sequence[set[int]]) -> dict[str, float]:
        """Share of faults found when each is moved to a service, drawn at random, that is not related to it.

        ``control``: not the faulty service and none of its direct callers, and found as *related*. A faultless detector
        does not get 0 there: an alert on the faulty service counts as found for each of its callees
        (``control_of_faultless``). ``control_unlinked`` leaves the callees out of the draw, ``control_own`` counts
        alerts on the drawn service alone.
        """
        truth = [{self._number(fault)} for fault in self.day.faults]
        return {
            "control": self._control(hits, self._is_related, linked=True),
            "control_unlinked": self._control(hits, self._is_related, linked=False),
            "control_own": self._control(hits, self._is_own, linked=True),
            "control_of_faultless": self._control(truth, self._is_related, linked=True),
        }

    def _control(self, hits: Sequence[set[int]], counts: Callable[[int, set[int]], bool], *, linked: bool) -> float:
        rng = np.random.default_rng(0)
        found = 0
        for fault, hit in zip(self.day.faults, hits, strict=True):
            service = self._number(fault)
            strange = [
                other
                for other in range(len(self.day.services))
                if other not in self.related[service] and (linked or service not in self.related[other])
            ]
            found += sum(counts(strange[draw], hit) for draw in rng.integers(0, len(strange), DRAWS).tolist())
        return found / (DRAWS * len(hits))

    def _delay(self, watched: Watched) -> float | None:
        """Median time from a fault's injection to the first related alert, of those found, in seconds."""
        delays = []
        for fault in self.day.faults:
            related = self.related[self._number(fault)] if fault.service in self.day.services else set()
            waited = [one.at_ms - fault.at_ms for one in watched.raised if one.service in related]
            delays += [min(found) / 1000] if (found := [ms for ms in waited if 0 <= ms <= FOUND_MS]) else []
        return median(delays) if delays else None


def _clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M:%S}"
