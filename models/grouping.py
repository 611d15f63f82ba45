"""Findings of several services to alerts and incidents, driven by event time.

    alerts = Alerts(graph)
    touched = alerts.take(findings, now_ms)        # every tick, with or without findings

An alert is a group of findings on one service that are about the same thing, or come from the same traces. Its state
follows event time: *new*, *ongoing*, *escalating* (far less likely than when it began), *quiet*, *resolved*; one that
comes back after that is a new alert that is *regressed*. Findings that pass on what broke further down make no alert
of their own: they are listed with the one that explains them. Alerts that begin together, and of which one's service
calls the other's or which share traces, are one incident; its probable origin is the alert furthest down.

A budget is kept by raising the bar: a service that has begun as many alerts in a day as it may begins another only for
a finding less likely than the least of those. Where more alerts begin at once than a person can read, they become one
that says so.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.tracing.blame import SHARED, CallGraph, blame
from models.tracing.findings import MAX_TRACES, Finding, finding_of
from models.tracing.watch import BUDGET_A_DAY, DAY_MS, WINDOW_MS

State = Literal["new", "ongoing", "escalating", "quiet", "resolved", "regressed"]
NEW_MS = 300_000
"""An alert is new for five minutes."""
QUIET_MS = 300_000
"""Without a finding for as long, it is quiet,"""
RESOLVED_MS = 1_800_000
"""and for half an hour, resolved."""
ESCALATING = 2.0
"""Times the nats of its first finding at which an alert escalates."""
MEMORY_MS = 7 * DAY_MS
"""Resolved alerts that are remembered, to know one that comes back."""
MAX_ALERTS = 10_000
MAX_SIGNATURES = 64
FLOOD = 10
"""Alerts that may begin within a window on different services; what comes beyond is one alert of all of them."""
EVERYWHERE = -1
"""Service of the alert that stands for a flood."""


@dataclass(eq=False)
class Alert:
    """Findings of one service that belong together; times are event times, ms."""

    number: int
    service: int
    """Number of the service, or ``EVERYWHERE``."""
    first_ms: int
    last_ms: int
    incident: int
    first: Finding
    worst: Finding
    count: int = 0
    regressed: bool = False
    signatures: dict[tuple[str, int], None] = field(default_factory=dict)
    traces: frozenset[int] = frozenset()
    """Of its newest findings."""
    evidence: dict[str, Finding] = field(default_factory=dict)
    """The worst finding of each detector that fired."""
    passed_on: dict[int, None] = field(default_factory=dict)
    """Services that pass it on."""

    def state(self, now_ms: int) -> State:
        """Where the alert stands at an event time."""
        idle = now_ms - self.last_ms
        if idle > RESOLVED_MS:
            return "resolved"
        if idle > QUIET_MS:
            return "quiet"
        if self.worst.nats >= ESCALATING * self.first.nats:
            return "escalating"
        if now_ms - self.first_ms <= NEW_MS:
            return "regressed" if self.regressed else "new"
        return "ongoing"


@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts that began together and hang together, the probable origin first."""

    number: int
    alerts: tuple[Alert, ...]

    @property
    def origin(self) -> Alert:
        """Where it probably began."""
        return self.alerts[0]


class Alerts:
    """All alerts that may still go on or come back.

    Args:
        graph: who calls whom; goes on learning elsewhere.
        budget: alerts that a service may begin in a day before the bar rises.
    """

    def __init__(self, graph: CallGraph, budget: float = BUDGET_A_DAY) -> None:
        self._graph, self._budget = graph, budget
        self._alerts: deque[Alert] = deque()
        self._begun: dict[int, deque[tuple[int, float]]] = {}  # service -> (time, nats) of the alerts of a day
        self._recent: list[tuple[Finding, Alert]] = []  # what stood within the last window
        self._count = 0

    def take(self, findings: Sequence[Finding], now_ms: int) -> list[Alert]:
        """Put what a tick found into alerts; returns the alerts that began or went on, each once."""
        return list({alert.number: alert for alert, _ in self.standing(findings, now_ms)}.values())

    def standing(self, findings: Sequence[Finding], now_ms: int) -> list[tuple[Alert, Finding]]:
        """Put what a tick found into alerts; returns the findings that stand, each with its alert."""
        while self._alerts and (self._alerts[0].last_ms < now_ms - MEMORY_MS or len(self._alerts) > MAX_ALERTS):
            self._alerts.popleft()
        self._recent = [pair for pair in self._recent if pair[0].at_ms >= now_ms - WINDOW_MS]
        standing, passed = blame(findings, self._graph, [finding for finding, _ in self._recent])
        kept: list[tuple[Alert, Finding]] = []
        for finding in standing:
            alert = self._open(finding, now_ms) or self._begin(finding, now_ms)
            if alert is not None:
                _extend(alert, finding)
                kept.append((alert, finding))
                self._recent.append((finding, alert))
        for finding, deeper in passed:
            for cause, alert in self._recent:
                if cause is deeper:
                    alert.passed_on.setdefault(finding.blamed)
        return kept

    def incidents(self) -> list[Incident]:
        """The alerts by incident, the newest incident last."""
        members: dict[int, list[Alert]] = {}
        for alert in self._alerts:
            members.setdefault(alert.incident, []).append(alert)
        return [Incident(number, tuple(self._by_depth(alerts))) for number, alerts in sorted(members.items())]

    def dump(self, since_ms: int) -> dict[str, Any]:
        """All that is known, as plain values; traces only of what was found since then, which alone is compared."""

        def saved(finding: Finding) -> dict[str, Any]:
            fresh = finding.at_ms >= since_ms
            return asdict(finding) | {"traces": sorted(finding.traces) if fresh else []}

        alerts = []
        for alert in self._alerts:
            plain = {name: getattr(alert, name) for name in _PLAIN}
            plain |= {"first": saved(alert.first), "worst": saved(alert.worst)}
            plain["signatures"] = list(alert.signatures)
            plain["traces"] = sorted(alert.traces) if alert.last_ms >= since_ms else []
            plain["evidence"] = {name: saved(finding) for name, finding in alert.evidence.items()}
            plain["passed_on"] = list(alert.passed_on)
            alerts.append(plain)
        return {
            "alerts": alerts,
            "begun": [(service, list(begun)) for service, begun in self._begun.items()],
            "recent": [(saved(finding), alert.number) for finding, alert in self._recent],
            "count": self._count,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Replace what is known by what ``dump`` gave.

        Raises:
            ValueError, KeyError, TypeError: It does not fit.
        """
        self._alerts = deque(_restored(plain) for plain in saved["alerts"])
        by_number = {alert.number: alert for alert in self._alerts}
        self._begun = {
            int(service): deque((int(at), float(nats)) for at, nats in some) for service, some in saved["begun"]
        }
        self._recent = [(finding_of(plain), by_number[number]) for plain, number in saved["recent"]]
        self._count = int(saved["count"])

    def _by_depth(self, alerts: list[Alert]) -> list[Alert]:
        """What is called by most of the others first; of equals what began first."""
        services = {alert.service for alert in alerts}
        depth = {service: len(self._graph.above(service) & services) for service in services}
        return sorted(alerts, key=lambda alert: (-depth[alert.service], alert.first_ms, alert.number))

    def _open(self, finding: Finding, now_ms: int) -> Alert | None:
        """The open alert that a finding belongs to, the one with its signature before one with its traces."""
        key = (finding.detector, finding.signature)
        mine = [
            alert
            for alert in reversed(self._alerts)
            if alert.service in (finding.blamed, EVERYWHERE) and now_ms - alert.last_ms <= RESOLVED_MS
        ]
        for alert in mine:
            if key in alert.signatures:
                return alert
        for alert in mine:
            if now_ms - alert.last_ms <= WINDOW_MS and _shared(finding.traces, alert.traces):
                return alert
        return None

    def _begin(self, finding: Finding, now_ms: int) -> Alert | None:
        """A new alert, if the budget has room or the finding is strong enough; in a flood, the alert of the flood."""
        begun = self._begun.setdefault(finding.blamed, deque())
        while begun and begun[0][0] < now_ms - DAY_MS:
            begun.popleft()
        strongest = sorted((nats for _, nats in begun), reverse=True)
        room = max(1, int(self._budget))
        if len(strongest) >= room and finding.nats <= strongest[room - 1]:
            return None
        fresh = [alert for alert in self._alerts if now_ms - alert.first_ms <= WINDOW_MS]
        flooded = len(fresh) >= FLOOD
        for alert in reversed(self._alerts):
            if flooded and alert.service == EVERYWHERE and now_ms - alert.last_ms <= WINDOW_MS:
                return alert
        service = EVERYWHERE if flooded else finding.blamed
        key = (finding.detector, finding.signature)
        regressed = any(alert.service == finding.blamed and key in alert.signatures for alert in self._alerts)
        incident = next((alert.incident for alert in fresh if self._hangs_together(alert, finding)), self._count)
        alert = Alert(self._count, service, now_ms, now_ms, incident, finding, finding, regressed=regressed)
        self._count += 1
        self._alerts.append(alert)
        begun.append((now_ms, finding.nats))
        return alert

    def _hangs_together(self, alert: Alert, finding: Finding) -> bool:
        if alert.service in (EVERYWHERE, finding.blamed) or _shared(finding.traces, alert.traces):
            return True
        above = self._graph.above
        return alert.service in above(finding.blamed) or finding.blamed in above(alert.service)


_PLAIN = ("number", "service", "first_ms", "last_ms", "incident", "count", "regressed")


def _restored(plain: Mapping[str, Any]) -> Alert:
    return Alert(
        **{name: plain[name] for name in _PLAIN},
        first=finding_of(plain["first"]),
        worst=finding_of(plain["worst"]),
        signatures=dict.fromkeys((str(name), int(signature)) for name, signature in plain["signatures"]),
        traces=frozenset(plain["traces"]),
        evidence={name: finding_of(finding) for name, finding in plain["evidence"].items()},
        passed_on=dict.fromkeys(plain["passed_on"]),
    )


def _extend(alert: Alert, finding: Finding) -> None:
    alert.count += 1
    alert.last_ms = finding.at_ms
    alert.signatures.setdefault((finding.detector, finding.signature))
    while len(alert.signatures) > MAX_SIGNATURES:
        alert.signatures.pop(next(iter(alert.signatures)))
    alert.traces = frozenset(sorted(alert.traces | finding.traces)[-MAX_TRACES:])
    if finding.nats > alert.worst.nats:
        alert.worst = finding
    held = alert.evidence.get(finding.detector)
    if held is None or finding.nats > held.nats:
        alert.evidence[finding.detector] = finding


def _shared(one: frozenset[int], other: frozenset[int]) -> bool:
    """Whether the smaller one lies in the other by half."""
    return bool(one and other) and len(one & other) >= SHARED * min(len(one), len(other))
