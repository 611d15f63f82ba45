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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.encoding import StateError, pack, unpack
from models.grouping import Alert, Alerts
from models.sessions import Ints
from models.tracing import TRACE_DETECTORS
from models.tracing.blame import CallGraph
from models.tracing.findings import Finding
from models.tracing.rates import Rates
from models.tracing.shares import Shares
from models.tracing.traces import TraceLines, Traces, TraceTable
from models.tracing.watch import BUDGET_A_DAY, TICK_MS, WINDOW_MS, Watch

_STATE, _FORMAT = "across", 1
_NEVER = int(np.iinfo(np.int64).max)
MAX_NAMES = 200_000
"""Traces whose identifiers are remembered, to be shown with a finding: of more those first met go."""

MAX_PENDING = 500_000
"""Lines that wait for their tick; of more the older half is looked at, whatever is still to come from who is behind."""

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
        self._table, self._now = TraceTable(), 0
        self._parts: list[TraceLines] = []  # lines that wait for their tick, as they came
        self._waiting, self._earliest = 0, _NEVER  # how many these are, and the time of the first
        self._watch = Watch([kind() for kind in kinds], budget)
        self._rates = Rates(budget) if rates else None
        self._alerts = Alerts(self.graph, budget)

    def __len__(self) -> int:
        """Lines that are kept: of open traces, and of ticks that are not over."""
        return len(self._table) + self._waiting

    def add(self, service: str, lines: TraceLines, names: dict[int, str]) -> None:
        """Take in lines of one service; those of a tick that is over count to the next one."""
        number = self._numbers.setdefault(service, len(self.services))
        if number == len(self.services):
            self.services.append(service)
        lines.services[:] = number
        self._wait(lines)
        self.names |= names
        while len(self.names) > MAX_NAMES:
            del self.names[next(iter(self.names))]

    def until(self, now_ms: int) -> list[Raised]:
        """Say what the ticks that are over at an event time bring; stretches without any line are passed over."""
        if self._waiting > MAX_PENDING:
            times = np.concatenate([part.times for part in self._parts])
            now_ms = max(now_ms, int(np.median(times)) // TICK_MS * TICK_MS + TICK_MS)
        raised: list[Raised] = []
        while len(self):
            if not len(self._table):
                self._now = max(self._now, self._earliest // TICK_MS * TICK_MS)
            if self._now + TICK_MS > now_ms:
                break
            self._now += TICK_MS
            part = self._due()
            self._table.add(part)
            raised += self.tick(self._table.finished(self._now), self._now, part.services, part.times)
        return raised

    def _wait(self, lines: TraceLines) -> None:
        if len(lines):
            self._parts.append(lines)
            self._waiting += len(lines)
            self._earliest = min(self._earliest, int(lines.times.min()))

    def _due(self) -> TraceLines:
        """Take out the lines that lie before the end of the tick, in the order of their times, then as they came."""
        if self._earliest >= self._now:
            return TraceLines.none()
        pending = TraceLines.none().and_then(*self._parts)
        is_due = pending.times < self._now
        self._parts, self._waiting, self._earliest = [], 0, _NEVER
        self._wait(pending.take(np.flatnonzero(~is_due)))
        due = pending.take(np.flatnonzero(is_due))
        return due.take(np.argsort(due.times, kind="stable"))

    def tick(self, traces: Traces, now_ms: int, services: Ints, times: Ints) -> list[Raised]:
        """Take in what a tick brings: the traces that finished, and the services and times of its lines."""
        self.graph.learn(traces)
        known = len(self.services)
        found = self._watch.tick(traces, now_ms, known)
        if self._rates is not None:
            found += self._rates.add(services, times, known)
        return [Raised(alert, finding) for alert, finding in self._alerts.standing(found, now_ms)]

    # -- state -----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Encode everything."""
        told = {
            "services": self.services,
            "names": {str(trace): name for trace, name in self.names.items()},
            "alerts": self._alerts.dump(self._now - WINDOW_MS),
        }
        columns: Columns = {
            "now": np.array([self._now]),
            "told": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
            **_named("open", self._table.open.columns()),
            **_named("pending", TraceLines.none().and_then(*self._parts).columns()),
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
            self._now = int(columns["now"].astype(np.int64)[0])
            self._table.open = TraceLines.of(_under("open", columns))
            self._parts, self._waiting, self._earliest = [], 0, _NEVER
            self._wait(TraceLines.of(_under("pending", columns)))
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
