"""How services and LogCanary itself are, as the exporter counts them: lines a second, what waits, templates, alarms.

    pulse = Pulse(settings)
    pulse.look().services["pay"].unscored        # lines in Kafka that wait to be scored
    pulse.look().trouble                         # {"pay": ("4,000 lines wait to be scored, ...",)}

What is called trouble here pages somebody through Prometheus (``deploy/prometheus/health.rules.yml``); the page only
says it where people look.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from console.advice import ExporterError, read_signs, samples, scrape
from console.rendering import ago
from contracts.settings import AppSettings
from models.drift import Advice, advise

KEPT_SECONDS = 5.0
"""A look is shown for so long before the exporter is asked again."""
MINUTES, MINUTE_MS = 120, 60_000
"""Looks that are kept, and the time between two of them."""
STALLED_MS = 120_000
UNARCHIVED = 10_000

_READ = {
    "logcanary_lines_total": "lines",
    "logcanary_templates": "templates",
    "logcanary_open_sessions": "sessions",
    "logcanary_scoring_lag_lines": "unscored",
    "logcanary_archive_lag_lines": "unarchived",
    "logcanary_fit_unknown_ratio": "unknown",
    "logcanary_fit_alarms_per_day": "alarms_per_day",
    "logcanary_fit_budget_per_day": "budget_per_day",
    "logcanary_bundle_refused": "refused",
    "logcanary_learning_paused": "paused",
}
"""A sample's name -> the field of ``Vitals`` that it is."""
_LAST = "logcanary_last_statistics_timestamp_seconds"
"""Of all services, by stage."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of one service."""

    lines: float = 0.0
    """Parsed since the exporter began."""
    lines_per_second: float | None = None
    """Between the last two looks; None: there was only one."""
    templates: float = 0.0
    sessions: float = 0.0
    """Open ones."""
    unscored: float = 0.0
    unarchived: float = 0.0
    """Lines in Kafka that wait."""
    unknown: float = 0.0
    """Share of the last hour's events whose template the bundle does not know."""
    alarms_per_day: float = 0.0
    budget_per_day: float = 0.0
    """0: not known."""
    refused: float = 0.0
    """1 where the live bundle failed its checks,"""
    paused: float = 0.0
    """or no template is learnt."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a service went, the oldest minute first; nothing of it outlives the console."""

    since_ms: int
    lines: list[float]
    """A second."""
    new_templates: list[float]
    unknown: list[float]
    """Percent of the hour's events."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the exporter said at one time."""

    at_ms: int = 0
    scored_ms: int = 0
    """When a batch of any service was scored last; 0: never."""
    services: Mapping[str, Vitals] = field(default_factory=dict)
    advice: Mapping[str, Advice] = field(default_factory=dict)
    trouble: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By service; of LogCanary itself under the empty name."""

    @property
    def words(self) -> str:
        """How it goes, in a line."""
        rate = sum(one.lines_per_second or 0.0 for one in self.services.values())
        last = f", the last scored {ago(self.scored_ms, self.at_ms)} ago" if self.scored_ms else ""
        many = len(self.services)
        return f"{many:,} service{'s' * (many != 1)}, {rate:,.0f} lines a second{last}"


class Pulse:
    """Looks at the exporter, seldom, however often pages ask.

    Args:
        settings: where it is.
        clock: milliseconds since 1970 UTC.
    """

    def __init__(self, settings: AppSettings, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._settings, self._clock, self._lock = settings, clock, threading.Lock()
        self.last = Look()
        """Without asking anybody."""
        self._minutes: deque[Look] = deque(maxlen=MINUTES)

    def look(self) -> Look:
        """A look that is a few seconds old at most; where the exporter is away, that is the trouble."""
        with self._lock:
            now = self._clock()
            if now - self.last.at_ms >= KEPT_SECONDS * 1000:
                try:
                    self.last = looked(scrape(self._settings), now, self.last)
                    if not self._minutes or now - self._minutes[-1].at_ms >= MINUTE_MS:
                        self._minutes.append(self.last)
                except ExporterError as error:
                    self.last = Look(at_ms=now, trouble={"": (str(error),)})
            return self.last

    def course(self, service: str) -> Course | None:
        """How a service went, a figure a minute; None where it was not seen twice."""
        with self._lock:
            seen = [(look.at_ms, look.services[service]) for look in self._minutes if service in look.services]
        if len(seen) < 2:
            return None
        pairs = list(pairwise(seen))
        seconds = [max(1.0, (later - sooner) / 1000) for (sooner, _), (later, _) in pairs]
        return Course(
            since_ms=seen[0][0],
            lines=[_more(one.lines, two.lines) / t for ((_, one), (_, two)), t in zip(pairs, seconds, strict=True)],
            new_templates=[_more(one.templates, two.templates) for (_, one), (_, two) in pairs],
            unknown=[100 * one.unknown for _, one in seen[1:]],
        )


def _more(before: float, now: float) -> float:
    """What a count grew by; where it fell its owner began anew."""
    return now - before if now >= before else now


def looked(text: str, now_ms: int, before: Look) -> Look:
    """Read the exporter's text.

    Args:
        text: as Prometheus reads it.
        now_ms: when that was.
        before: the look before, which rates are counted from.
    """
    found: dict[str, dict[str, float]] = {}
    for sample in samples(text, _READ):
        found.setdefault(sample.labels["service"], {})[_READ[sample.name]] = sample.value
    scored = [sample.value for sample in samples(text, [_LAST]) if sample.labels["stage"] == "score"]
    scored_ms = round(1000 * max(scored, default=0.0))
    services = {name: Vitals(**values) for name, values in sorted(found.items())}
    seconds = (now_ms - before.at_ms) / 1000
    for name, one in services.items():
        if (earlier := before.services.get(name)) and one.lines >= earlier.lines:  # less: the exporter began anew
            services[name] = replace(one, lines_per_second=(one.lines - earlier.lines) / seconds)
    advice = {name: advise(signs, now_ms) for name, signs in read_signs(text).items()}
    trouble = {name: said for name, one in services.items() if (said := _trouble(one, scored_ms, now_ms))}
    return Look(now_ms, scored_ms, services, advice, trouble)


def _trouble(one: Vitals, scored_ms: int, now_ms: int) -> tuple[str, ...]:
    stalled = one.unscored and scored_ms and now_ms - scored_ms > STALLED_MS
    said = (
        (stalled, f"{one.unscored:,.0f} lines wait to be scored; for {ago(scored_ms, now_ms)} none of any service was"),
        (one.unarchived > UNARCHIVED, f"{one.unarchived:,.0f} lines are not archived yet"),
        (one.refused, "its live bundle failed its checks, and the one before goes on"),
        (one.paused, "no template is learnt: most new ones went again"),
    )
    return tuple(words for holds, words in said if holds)
