"""Who calls whom, as the traces say, and which findings only pass on what broke further down.

Usage::

    graph = CallGraph()
    graph.learn(traces)
    broken, passed_on = blame(findings, graph)
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.tracing.findings import Finding
from models.tracing.traces import NO_PARENT, Traces

LEAST_CALLS = 3
LEAST_SHARE = 0.01
"""Of a service's spans that a caller must hold: clocks of two machines differ, and now and then a span seems to lie in
one that did not call it."""
SHARED = 0.5
"""Of a finding's traces that must show the other one as well."""


class CallGraph:
    """Counted calls between services."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[int, int]] = Counter()  # (caller, callee)
        self._spans: Counter[int] = Counter()

    def learn(self, traces: Traces) -> None:
        """Count the calls of finished traces."""
        services = traces.span_services
        called = np.flatnonzero(traces.parents != NO_PARENT)
        pairs = np.stack([services[traces.parents[called]], services[called]])
        distinct, counts = np.unique(pairs, axis=1, return_counts=True)
        for caller, callee, count in zip(*distinct.tolist(), counts.tolist(), strict=True):
            self._calls[caller, callee] += count
        for service, count in zip(*(part.tolist() for part in np.unique(services, return_counts=True)), strict=True):
            self._spans[service] += count

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All that was counted, as named columns of numbers."""
        calls = [(caller, callee, count) for (caller, callee), count in self._calls.items()]
        return {
            "calls": np.array(calls, dtype=np.int64).reshape(-1, 3),
            "spans": np.array(list(self._spans.items()), dtype=np.int64).reshape(-1, 2),
        }

    def restore(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace what was counted by what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """
        calls, spans = columns["calls"].astype(np.int64).tolist(), columns["spans"].astype(np.int64).tolist()
        self._calls = Counter({(caller, callee): count for caller, callee, count in calls})
        self._spans = Counter(dict(spans))

    def callers(self, service: int) -> set[int]:
        """Direct callers."""
        least = max(LEAST_CALLS, LEAST_SHARE * self._spans[service])
        return {
            caller
            for (caller, callee), count in self._calls.items()
            if callee == service and caller != service and count >= least
        }

    def above(self, service: int) -> set[int]:
        """All services whose requests may run through this one: its callers, theirs, and so on."""
        found: set[int] = set()
        open_ = [service]
        while open_:
            new = self.callers(open_.pop()) - found
            found |= new
            open_ += new
        return found


def blame(
    findings: Sequence[Finding], graph: CallGraph, recent: Sequence[Finding] = ()
) -> tuple[list[Finding], list[tuple[Finding, Finding]]]:
    """Tell findings on services where something broke from those on services that pass it on.

    A finding is passed on if half of its traces show another one on a service further down, which does not call back.

    Args:
        findings: of one time.
        graph: who calls whom.
        recent: what was found shortly before, which may explain them.

    Returns:
        The findings that stand, the strongest first, and pairs of one that does not and the one that explains it.
    """
    by_strength = sorted(findings, key=lambda finding: -finding.nats)
    causes = [*by_strength, *recent]
    above = {service: graph.above(service) for service in {finding.blamed for finding in causes}}
    standing: list[Finding] = []
    passed: list[tuple[Finding, Finding]] = []
    for finding in by_strength:
        deeper = next((other for other in causes if _explains(other, finding, above)), None)
        if deeper is None:
            standing.append(finding)
        else:
            passed.append((finding, deeper))
    return standing, passed


def _explains(deeper: Finding, finding: Finding, above: dict[int, set[int]]) -> bool:
    if not finding.traces or finding.blamed not in above[deeper.blamed] or deeper.blamed in above[finding.blamed]:
        return False
    return len(finding.traces & deeper.traces) >= SHARED * len(finding.traces)
