"""Whether a bundle still fits its service, and one advice with its reasons.

    counts(surprises)                       # in the job: windows by how surprising they were
    distance(seen, bundle.manifest.surprises)
    advise(signs, now_ms).words             # "retrain: 12 % of the events are of unknown templates since 14:05"

A bundle fits where events come as they came in held-back time. Three things say that they do not: templates it does not
know, another distribution of surprise, and more alarms than were agreed on; engineers' verdicts are the fourth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

EDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
"""Nats between the bins in which windows are counted: 9 bins, the first below the first edge."""
LEAST = 1e-4
"""Share that a bin is taken to have at least, so that one window in an empty bin is no infinite distance."""

UNKNOWN = 0.02
"""Share of events with unknown templates above which learning again is advised."""
DISTANT = 0.25
"""Population stability index above which two distributions are called different (a convention of credit scoring:
Siddiqi, Credit Risk Scorecards, 2006, ch. 8: below 0.1 no change, above 0.25 a major one)."""
TOO_MANY = 2.0
"""Alarms as a multiple of the budget,"""
LEAST_ALARMS = 10
"""and so many at least."""
PRECISE = 0.5
"""Share of confirmed alarms among the reviewed ones below which learning again is advised,"""
LEAST_REVIEWED = 10
"""where so many were reviewed."""
LEAST_EVENTS = 1_000
"""Events below which shares of them say nothing."""
OLD_DAYS = 90.0
"""Age of a bundle that is worth a mention. It is no reason of its own: a service that does not change needs no other
model."""


def counts(surprises: NDArray[np.float32]) -> tuple[int, ...]:
    """Windows in each bin: [n] nats in, ``len(EDGES) + 1`` counts out."""
    bins = np.searchsorted(np.array(EDGES, dtype=np.float32), surprises, side="right")
    return tuple(np.bincount(bins, minlength=len(EDGES) + 1).tolist())


def shares(surprises: NDArray[np.float32]) -> tuple[float, ...]:
    """Share of the windows in each bin; empty where there are none."""
    return tuple(one / len(surprises) for one in counts(surprises)) if len(surprises) else ()


def distance(seen: Sequence[float], learnt: Sequence[float]) -> float | None:
    """Population stability index of counts (or shares) against shares: 0 = the same; None: one of them is missing.

    The sum over bins of (p - q) ln(p / q), which is the divergence of Kullback and Leibler taken both ways.
    """
    total = sum(seen)
    if not total or len(seen) != len(learnt):
        return None
    pairs = [(max(LEAST, one / total), max(LEAST, other)) for one, other in zip(seen, learnt, strict=True)]
    return sum((p - q) * math.log(p / q) for p, q in pairs)


@dataclass(frozen=True, slots=True)
class Signs:
    """How a service and its bundle get along, over the time that the exporter looks back."""

    events: int = 0
    unknown: float = 0.0
    """Share of the events with unknown templates,"""
    unknown_since_ms: int = 0
    """above ``UNKNOWN`` without a break since then; 0: it is not above."""
    distance: float | None = None
    """Of the distribution of surprise from that of held-back time."""
    alarms_per_day: float = 0.0
    budget_per_day: float = 0.0
    """What the accepted rate of false alarms would come to for so many sessions; 0: not known."""
    alarms: int = 0
    """Counted for the above."""
    reviewed: int = 0
    confirmed: int = 0
    """Reviewed alarms, and those of them that were faults; *unsure* is in neither."""
    bundle_ms: int = 0
    """When the bundle was made; 0: there is none."""


SERIES = {
    "events": ("logcanary_fit_events", "Events of the last hour that the bundle in force judged."),
    "unknown": ("logcanary_fit_unknown_ratio", "Share of these whose templates it does not know."),
    "unknown_since_ms": ("logcanary_fit_unknown_since_timestamp_seconds", "Since when that is high; 0: it is not."),
    "distance": ("logcanary_fit_distance", "How far surprise is from held-back time; above 0.25 it has changed."),
    "alarms_per_day": ("logcanary_fit_alarms_per_day", "Alarms a day, at the last hour's pace."),
    "budget_per_day": ("logcanary_fit_budget_per_day", "Alarms a day that were agreed on, at that pace."),
    "alarms": ("logcanary_fit_alarms", "Alarms of the last hour."),
    "reviewed": ("logcanary_reviewed_alerts", "Alerts of the last 30 days that engineers called a fault or none."),
    "confirmed": ("logcanary_confirmed_alerts", "Those of them that were faults."),
    "bundle_ms": ("logcanary_fit_bundle_made_timestamp_seconds", "When the live pointer's bundle was made."),
}
"""Field of ``Signs`` -> its metric's name and help: the exporter writes them, who gives advice reads them."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and why."""

    retrain: bool
    reasons: tuple[str, ...]
    """What speaks for it, in words."""
    notes: tuple[str, ...] = ()
    """What is worth knowing beside it."""

    @property
    def words(self) -> str:
        """In one line."""
        what = "retrain: " + "; ".join(self.reasons) if self.retrain else "the bundle fits"
        return " · ".join((what, *self.notes))


def advise(signs: Signs, now_ms: int) -> Advice:
    """Put the signs into one advice."""
    if not signs.bundle_ms:
        return Advice(True, ("there is no bundle, nothing is scored",))
    reasons = [words for words in (_unknown(signs), _distant(signs), _alarms(signs), _reviewed(signs)) if words]
    days = (now_ms - signs.bundle_ms) / 86_400_000
    notes = (f"the bundle is {days:,.0f} days old",) if days > OLD_DAYS else ()
    return Advice(bool(reasons), tuple(reasons), notes)


def _unknown(signs: Signs) -> str:
    if signs.events < LEAST_EVENTS or signs.unknown <= UNKNOWN:
        return ""
    since = datetime.fromtimestamp(signs.unknown_since_ms / 1000, tz=UTC)
    when = f" since {since:%Y-%m-%d %H:%M} UTC" if signs.unknown_since_ms else ""
    return f"{signs.unknown:.1%} of the events are of templates that the bundle does not know{when}"


def _distant(signs: Signs) -> str:
    if signs.events < LEAST_EVENTS or signs.distance is None or signs.distance <= DISTANT:
        return ""
    return f"events are as surprising as they were not in training (stability index {signs.distance:.2f} > {DISTANT})"


def _alarms(signs: Signs) -> str:
    if not signs.budget_per_day or signs.alarms < LEAST_ALARMS:
        return ""
    if signs.alarms_per_day <= TOO_MANY * signs.budget_per_day:
        return ""
    return f"{signs.alarms_per_day:,.0f} alarms a day where the budget is {signs.budget_per_day:,.0f}"


def _reviewed(signs: Signs) -> str:
    if signs.reviewed < LEAST_REVIEWED or signs.confirmed >= PRECISE * signs.reviewed:
        return ""
    return f"only {signs.confirmed} of {signs.reviewed} reviewed alarms were faults"
