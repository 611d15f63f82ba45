"""Watches traces as they finish: judges the last minutes, learns what is older, and never what was raised.

    watch = Watch([detector() for detector in TRACE_DETECTORS])
    findings = watch.tick(table.finished(now_ms), now_ms, services=27)     # every TICK_MS of event time

Event time is cut into ticks. What finished in the last ``window_ms`` is judged beside what was learnt; a tick that
leaves the window is learnt, but for services on which something was raised since: so learning lags by the window, and
neither a fault nor what lies close to it in time becomes normal. What is raised without a pause for ``ADOPTED_MS`` is a
release, not a fault (unless its detector finds trouble): from then on it is learnt.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.detector import Numbers
from models.finished import mix
from models.sessions import Ids
from models.tracing.findings import MAX_TRACES, Finding
from models.tracing.shares import Counted, Outcomes, Shares
from models.tracing.traces import Traces

TICK_MS = 10_000
WINDOW_MS = 90_000
"""Long enough for some requests of each kind where a service has a few a minute; half of what injected faults last."""
DAY_MS = 86_400_000
ADOPTED_MS = 1_800_000
"""Longer than an injected fault; what lasts for half an hour has been told, and is how things are now."""
PAUSE_WINDOWS = 2
"""Windows without a finding after which it is no longer the same stay."""
BUDGET_A_DAY = 5.0
"""Alerts that a service may begin in a day."""
BY_CHANCE = 0.1
"""Share of the budget that may go to what only chance made look odd; the rest is for what did happen."""
LEAST_KNOWN = 64
"""Outcomes a service is taken to have at least: in its first minutes it does not know them yet."""
MAX_ODD = 20_000
"""Pairs of signature and trace kept a tick and detector."""
MAX_STAYS = 10_000


@dataclass(frozen=True, eq=False, slots=True)
class _Slice:
    """One tick of one detector."""

    closed: int  # ms
    counted: Counted
    signatures: Ids  # [m] of odd outcomes,
    traces: Ids  # [m] and a trace that shows each


@dataclass(slots=True)
class _Stay:
    """How long a signature has been raised without a pause: from, to (ms)."""

    since: int
    last: int


@dataclass
class _Member:
    """A detector with the ticks of its window."""

    detector: Shares
    slices: deque[_Slice] = field(default_factory=deque)


class Watch:
    """Detectors of traces over a moving window.

    Args:
        detectors: What judges, and is taught.
        budget: Alerts a day and service.
        window_ms: What is judged; also by how much learning lags.
    """

    def __init__(self, detectors: Sequence[Shares], budget: float = BUDGET_A_DAY, window_ms: int = WINDOW_MS) -> None:
        self._members = [_Member(detector) for detector in detectors]
        self._budget, self._window = budget, window_ms
        self._raised: dict[int, int] = {}  # service -> end of the time that is not learnt, ms
        self._stays: dict[int, _Stay] = {}

    def tick(self, traces: Traces, now_ms: int, services: int) -> list[Finding]:
        """Take in the traces that finished since the last tick; returns what newly speaks against one of the services.

        Args:
            traces: whole ones, each given once.
            now_ms: the event time; the ticks' times rise.
            services: how many services there are; traces name them by their numbers from 0.
        """
        bars = self._bars(services)
        found: list[Finding] = []
        for member in self._members:
            self._pass(member, now_ms)
            outcomes = member.detector.outcomes(traces)
            member.slices.append(_cut(member.detector, outcomes, now_ms))
            if len(traces):
                found += self._judge(member, now_ms, bars)
        for finding in found:
            if not self._adopted(finding):
                for service in (finding.service, finding.blamed):
                    self._raised[service] = now_ms + self._window
        return found

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All that is known, as named columns of numbers: what was learnt, the window, what is kept from learning."""
        columns: dict[str, NDArray[np.generic]] = {
            "raised": np.array(list(self._raised.items()), dtype=np.int64).reshape(-1, 2),
            "stays": np.array(list(self._stays), dtype=np.uint64),
            "stayed": np.array([(one.since, one.last) for one in self._stays.values()], dtype=np.int64).reshape(-1, 2),
        }
        for member in self._members:
            name, slices = member.detector.name, member.slices
            columns[f"{name}/learnt"] = np.frombuffer(member.detector.dump(), dtype=np.uint8)
            columns[f"{name}/closed"] = np.array([part.closed for part in slices], dtype=np.int64)
            columns[f"{name}/sizes"] = np.array(
                [(len(part.counted), len(part.traces)) for part in slices], dtype=np.int64
            ).reshape(-1, 2)
            counted = Counted.joined(part.counted for part in slices)
            columns |= {f"{name}/counted/{key}": column for key, column in counted.columns().items()}
            none = np.zeros(0, dtype=np.uint64)
            columns[f"{name}/signatures"] = np.concatenate([none, *(part.signatures for part in slices)])
            columns[f"{name}/traces"] = np.concatenate([none, *(part.traces for part in slices)])
        return columns

    def restore(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace what is known by what ``columns`` gave, of the same detectors.

        Raises:
            ValueError, KeyError: They do not fit.
            StateError: What a detector learnt is damaged.
        """
        self._raised = dict(columns["raised"].astype(np.int64).tolist())
        stayed = columns["stayed"].astype(np.int64).tolist()
        self._stays = {
            signature: _Stay(since, last)
            for signature, (since, last) in zip(columns["stays"].astype(np.uint64).tolist(), stayed, strict=True)
        }
        for member in self._members:
            name = f"{member.detector.name}/"
            member.detector.load(columns[f"{name}learnt"].tobytes())
            counted = Counted.from_columns(columns, f"{name}counted/")
            signatures, traces = (columns[f"{name}{key}"].astype(np.uint64) for key in ("signatures", "traces"))
            sizes = columns[f"{name}sizes"].astype(np.int64)
            ends = np.cumsum(np.vstack([np.zeros((1, 2), dtype=np.int64), sizes]), axis=0).tolist()
            if ends[-1] != [len(counted), len(traces)] or len(signatures) != len(traces):
                raise ValueError(f"the window of {member.detector.name} is not as long as its ticks")
            member.slices = deque(
                _Slice(closed, counted.take(np.arange(start, end)), signatures[first:last], traces[first:last])
                for closed, (start, first), (end, last) in zip(
                    columns[f"{name}closed"].astype(np.int64).tolist(), ends[:-1], ends[1:], strict=True
                )
            )

    @property
    def detectors(self) -> list[Shares]:
        """Those that watch."""
        return [member.detector for member in self._members]

    def _bars(self, services: int) -> Numbers:
        """[services] nats that the budget leaves: so many outcomes are looked at in so many windows of a day."""
        known = sum((member.detector.known(services) for member in self._members), np.zeros(services, dtype=np.int64))
        looks = np.maximum(known, LEAST_KNOWN) * (DAY_MS / self._window)
        bars: Numbers = np.maximum(np.log(looks / (BY_CHANCE * self._budget)), 0.0)
        return bars

    def _pass(self, member: _Member, now_ms: int) -> None:
        """Learn what leaves the window."""
        while member.slices and member.slices[0].closed < now_ms - self._window:
            part = member.slices.popleft()
            left = part.counted
            kept = [self._raised.get(service, -1) < part.closed for service in left.services.tolist()]
            member.detector.learn(left.take(np.flatnonzero(kept)))

    def _judge(self, member: _Member, now_ms: int, bars: Numbers) -> list[Finding]:
        detector = member.detector
        total = Counted.total([part.counted for part in member.slices], now_ms)
        nats = detector.strangeness(total)
        signatures = detector.signatures(total)
        fresh = np.isin(signatures, member.slices[-1].signatures)
        rows = np.flatnonzero((nats >= bars[total.services]) & (nats > 0) & fresh)
        strongest: dict[int, int] = {}
        for row in rows[np.argsort(-nats[rows], kind="stable")].tolist():
            strongest.setdefault(int(signatures[row]), row)
        return [
            self._finding(member, total, row, signature, float(nats[row]), now_ms, bars)
            for signature, row in strongest.items()
        ]

    def _finding(
        self, member: _Member, total: Counted, row: int, signature: int, nats: float, now_ms: int, bars: Numbers
    ) -> Finding:
        compared = member.detector.compared(total)
        return Finding(
            detector=member.detector.name,
            service=int(total.services[row]),
            blamed=member.detector.blamed(total, row, len(bars)),
            signature=signature,
            at_ms=now_ms,
            nats=nats,
            bar=float(bars[total.services[row]]),
            hits=int(compared.hits[row]),
            trials=int(compared.trials[row]),
            usual=float(compared.learnt_hits[row] / compared.learnt_trials[row]),
            evidence=member.detector.explain(total, row),
            traces=self._traces(member, signature),
        )

    def _traces(self, member: _Member, signature: int) -> frozenset[int]:
        """The newest traces of a signature."""
        found: list[int] = []
        for part in reversed(member.slices):
            found += part.traces[part.signatures == np.uint64(signature)].tolist()
            if len(found) >= MAX_TRACES:
                break
        return frozenset(found[:MAX_TRACES])

    def _adopted(self, finding: Finding) -> bool:
        """Whether a finding has stayed so long that it is how things are now."""
        stay = self._stays.get(finding.signature)
        if stay is None or finding.at_ms - stay.last > PAUSE_WINDOWS * self._window:
            self._stays.pop(finding.signature, None)
            while len(self._stays) >= MAX_STAYS:
                self._stays.pop(next(iter(self._stays)))
            stay = self._stays[finding.signature] = _Stay(finding.at_ms, finding.at_ms)
        stay.last = finding.at_ms
        trouble = any(one.is_trouble for one in self.detectors if one.name == finding.detector)
        return not trouble and finding.at_ms - stay.since >= ADOPTED_MS


def _cut(detector: Shares, outcomes: Outcomes, now_ms: int) -> _Slice:
    """Count one tick's outcomes, and remember which traces show the odd ones."""
    counted = Counted.of(outcomes, now_ms)
    odd = np.flatnonzero(detector.odd(counted))
    odd = odd[np.argsort(counted.kinds()[odd])]
    keys, signatures = counted.kinds()[odd], detector.signatures(counted)[odd]
    if not len(keys):
        return _Slice(now_ms, counted, keys, keys)
    mine = mix(outcomes.contexts(), outcomes.outcomes)
    places = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    rows = np.flatnonzero(keys[places] == mine)[:MAX_ODD]
    signatures, traces = signatures[places[rows]], outcomes.traces[rows]
    _, first = np.unique(mix(signatures, traces), return_index=True)
    return _Slice(now_ms, counted, signatures[first], traces[first])
