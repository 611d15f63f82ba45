"""Traces of many services watched as one: lines in, alerts out; all that is known in between can be saved.

    across = Across()
    across.add("order", lines, names)           # of one service, in the order in which they came
    for raised in across.until(now_ms):         # what the ticks of event time say that are over
        raised.alert, raised.finding
    across.load(other.dump())                   # goes on exactly as the other one would

What comes out depends on the lines and their times, and of lines with one time on their order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.encoding import StateError, pack, unpack
from models.grouping import Alert, Alerts
from models.tracing import TRACE_DETECTORS
from models.tracing.blame import CallGraph
from models.tracing.findings import Finding
from models.tracing.rates import Rates
from models.tracing.shares import Shares
from models.tracing.ticks import Tick, Ticks
from models.tracing.traces import TraceLines
from models.tracing.watch import BUDGET_A_DAY, WINDOW_MS, Watch

_STATE, _FORMAT = "across", 1
MAX_NAMES = 200_000
"""Traces whose identifiers are remembered, to be shown with a finding: of more those first met go."""

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Raised:
    """A finding that stands, and the alert that it began or goes on with."""

    alert: Alert
    finding: Finding


class Across:
    """All services of a job.

    Args:
        kinds: Detectors of traces.
        rates: Whether lines are counted, too.
        budget: Alerts a day and service.
        services: Those known already; others are met as they come.
    """

    def __init__(
        self,
        kinds: Sequence[type[Shares]] = TRACE_DETECTORS,
        *,
        rates: bool = True,
        budget: float = BUDGET_A_DAY,
        services: Sequence[str] = (),
    ) -> None:
        self.services = list(services)
        """By their numbers in findings."""
        self.names: dict[int, str] = {}
        """Identifiers of the newest traces by their hash."""
        self.graph = CallGraph()
        self._numbers = {service: number for number, service in enumerate(services)}
        self._ticks = Ticks()
        self._watch = Watch([kind() for kind in kinds], budget)
        self._rates = Rates(budget) if rates else None
        self._alerts = Alerts(self.graph, budget)

    def __len__(self) -> int:
        """Lines that are kept: of open traces, and of ticks that are not over."""
        return len(self._ticks)

    def add(self, service: str, lines: TraceLines, names: dict[int, str]) -> None:
        """Take in lines of one service; those of a tick that is over count to the next one."""
        number = self._numbers.setdefault(service, len(self.services))
        if number == len(self.services):
            self.services.append(service)
        self._ticks.add(replace(lines, services=np.full(len(lines), number, dtype=np.int64)))
        self.names |= names
        while len(self.names) > MAX_NAMES:
            del self.names[next(iter(self.names))]

    def until(self, now_ms: int) -> list[Raised]:
        """Say what the ticks that are over at an event time bring; stretches without any line are passed over."""
        return [raised for tick in self._ticks.until(now_ms) for raised in self.tick(tick)]

    def tick(self, tick: Tick) -> list[Raised]:
        """Take in what a tick brings."""
        self.graph.learn(tick.traces)
        known = len(self.services)
        found = self._watch.tick(tick.traces, tick.now_ms, known)
        if self._rates is not None:
            found += self._rates.add(tick.services, tick.times, known)
        return [Raised(alert, finding) for alert, finding in self._alerts.standing(found, tick.now_ms)]

    # -- state -----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Encode everything."""
        told = {
            "services": self.services,
            "names": {str(trace): name for trace, name in self.names.items()},
            "alerts": self._alerts.dump(self._ticks.now_ms - WINDOW_MS),
        }
        columns: Columns = {
            "told": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
            **_named("ticks", self._ticks.columns()),
            **_named("graph", self.graph.columns()),
            **_named("watch", self._watch.columns()),
        }
        if self._rates is not None:
            columns |= _named("rates", self._rates.columns())
        return pack(_STATE, _FORMAT, columns)

    def load(self, data: bytes) -> None:
        """Replace everything by what ``dump`` wrote; the detectors must be the same.

        Raises:
            StateError: The bytes are damaged, or of another format.
        """
        columns = unpack(data, _STATE, _FORMAT)
        try:
            told = json.loads(columns["told"].tobytes())
            self.services = [str(one) for one in told["services"]]
            self._numbers = {service: number for number, service in enumerate(self.services)}
            self.names = {int(trace): str(name) for trace, name in told["names"].items()}
            self._ticks.restore(_under("ticks", columns))
            self.graph.restore(_under("graph", columns))
            self._watch.restore(_under("watch", columns))
            if self._rates is not None:
                self._rates.restore(_under("rates", columns))
            self._alerts.restore(told["alerts"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise StateError(f"saved traces do not fit: {error}") from error


def _named(prefix: str, columns: Columns) -> Columns:
    return {f"{prefix}.{name}": column for name, column in columns.items()}


def _under(prefix: str, columns: Columns) -> Columns:
    return {name[len(prefix) + 1 :]: column for name, column in columns.items() if name.startswith(f"{prefix}.")}
