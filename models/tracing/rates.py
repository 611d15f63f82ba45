"""How much a service writes: bursts, drops and silences against its own last hours.

Lines are counted in minutes of event time. The square root of a count moves by the same amount whatever its size
(Anscombe 1948), so its mean and variance over past minutes, forgotten slowly, say what is usual; the variance is never
taken to be below a quarter, which is what chance alone makes of it. How unusual a minute is, after ``m`` minutes, is
the likelihood ratio of Student's test: ``(m + 1) / 2 ln(1 + z^2 / m)`` nats. After few minutes nothing is unusual.

A minute in which nothing came from any service says nothing of any one of them: the logs are not being read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detector import Evidence, Numbers, Part
from models.sessions import Flags, Ints
from models.tracing.findings import Finding
from models.tracing.watch import ADOPTED_MS, BUDGET_A_DAY, BY_CHANCE, DAY_MS

MINUTE_MS = 60_000
MEMORY = 120.0
"""Minutes that weigh: two hours."""
TIMES = 3.0
"""A burst or a drop is by at least this factor: less is how traffic moves."""
LEAST_LINES = 20.0
"""Lines that must be more or fewer than usual in a minute."""


@dataclass
class _Past:
    """Of each service: minutes that weigh, mean and variance of the square roots."""

    weight: Numbers
    mean: Numbers
    variance: Numbers


class Rates:
    """Counts lines of services by minutes; minutes are judged when they are over, and learnt if nothing was found."""

    name = "rate"

    def __init__(self, budget: float = BUDGET_A_DAY) -> None:
        self._bar = float(np.log(2 * DAY_MS / MINUTE_MS / (BY_CHANCE * budget)))
        self._past = _Past(np.zeros(0), np.zeros(0), np.zeros(0))
        self._counts: Ints = np.zeros(0, dtype=np.int64)
        self._minute = -1
        self._stays: dict[int, int] = {}  # service -> since when without a pause, ms

    def add(self, services: Ints, times: Ints, known: int) -> list[Finding]:
        """Count lines of a batch that lies within few minutes; returns what the minutes that are over say.

        Args:
            services: [n] numbers from 0.
            times: [n] event times, ms; late ones count to the minute that is open.
            known: how many services there are.
        """
        self._grow(known)
        found: list[Finding] = []
        minutes = np.maximum(times // MINUTE_MS, self._minute)
        for minute in np.unique(minutes).tolist():
            if minute > self._minute and self._minute >= 0:
                found += self._close()
            self._minute = minute
            self._counts += np.bincount(services[minutes == minute], minlength=len(self._counts))
        return found

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All that is known, as named columns of numbers."""
        past = self._past
        return {
            "weight": past.weight,
            "mean": past.mean,
            "variance": past.variance,
            "counts": self._counts,
            "minute": np.array([self._minute]),
            "stays": np.array(list(self._stays.items()), dtype=np.int64).reshape(-1, 2),
        }

    def restore(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace what is known by what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """
        past = [columns[name].astype(np.float64) for name in ("weight", "mean", "variance")]
        self._past, self._counts = _Past(*past), columns["counts"].astype(np.int64)
        if {len(part) for part in past} != {len(self._counts)}:
            raise ValueError("rates of different numbers of services")
        self._minute = int(columns["minute"].astype(np.int64)[0])
        self._stays = dict(columns["stays"].astype(np.int64).tolist())

    def _close(self) -> list[Finding]:
        counts, past = self._counts.astype(np.float64), self._past
        self._counts = np.zeros_like(self._counts)
        roots = np.sqrt(counts)
        spread = np.sqrt(np.maximum(past.variance, 0.25))
        z = (roots - past.mean) / spread
        nats = np.where(past.weight > 0, (past.weight + 1) / 2 * np.log1p(z**2 / np.maximum(past.weight, 1.0)), 0.0)
        usual = past.mean**2
        factor = np.maximum(counts, usual) / np.maximum(np.minimum(counts, usual), 1.0)
        odd = (nats >= self._bar) & (factor >= TIMES) & (np.abs(counts - usual) >= LEAST_LINES)
        at = (self._minute + 1) * MINUTE_MS
        found = [self._finding(service, at, nats, counts, usual) for service in np.flatnonzero(odd).tolist()]
        self._learn(roots, ~odd | self._adopted(odd, at))
        return found

    def _learn(self, roots: Numbers, normal: Flags) -> None:
        past = self._past
        weight = np.minimum(past.weight + 1, MEMORY)
        delta = roots - past.mean
        mean = past.mean + delta / weight
        variance = past.variance + (delta * (roots - mean) - past.variance) / weight
        self._past = _Past(
            np.where(normal, weight, past.weight),
            np.where(normal, mean, past.mean),
            np.where(normal, variance, past.variance),
        )

    def _adopted(self, odd: Flags, at: int) -> Flags:
        """[services] Whether a service has been odd for so long that it is how things are now."""
        self._stays = {service: self._stays.get(service, at) for service in np.flatnonzero(odd).tolist()}
        since = np.array([self._stays.get(service, at) for service in range(len(odd))], dtype=np.int64)
        stayed: Flags = at - since >= ADOPTED_MS
        return stayed

    def _finding(self, service: int, at: int, nats: Numbers, counts: Numbers, usual: Numbers) -> Finding:
        observed, expected = float(counts[service]), float(usual[service])
        reason = "burst" if observed > expected else "silence" if observed == 0 else "drop"
        return Finding(
            detector=self.name,
            service=service,
            blamed=service,
            signature={"burst": 1, "drop": 2, "silence": 2}[reason],
            at_ms=at,
            nats=float(nats[service]),
            bar=self._bar,
            hits=int(observed),
            trials=1,
            usual=expected,
            evidence=Evidence(self.name, reason, "events", (Part(0, observed, expected),)),
        )

    def _grow(self, known: int) -> None:
        new = known - len(self._counts)
        if new > 0:
            none = np.zeros(new)
            past = self._past
            self._past = _Past(*(np.concatenate([part, none]) for part in (past.weight, past.mean, past.variance)))
            self._counts = np.concatenate([self._counts, np.zeros(new, dtype=np.int64)])
