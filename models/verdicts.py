"""Which findings engineers have called normal: by scope, until a time, and up to a rate.

    accepted = Accepted(view.verdicts["web"].values(), lambda template: view.resolve("web", template))
    accepted.deciding(Place.of(found))              # None: nobody has said anything that is in force
    suppressions = Suppressions(view, buckets=4)    # of all services, as one operator instance has them
    kept = suppressions.of("web", "web#0").judge(detections)

A verdict covers one finding's session, sessions of one shape, a detector's findings on a template, or all findings on a
template (``contracts.records.VerdictScope``). The narrower scope decides before the wider one, and within a scope the
newest that is in force. Whether one has expired is asked of a line's arrival, and how often something comes of event
time, so that lines that are read again meet what they met before, however they are cut into batches.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from contracts.records import Detection, Escalation, Said, Verdict, VerdictScope, VerdictValue
from parsing.events import template_hex

if TYPE_CHECKING:  # the quick way in loads no Kafka client
    from storage.control import ControlView

HOUR_MS = 3_600_000
BEYOND = 10.0
"""Times the accepted rate at which what was accepted is raised again,"""
LEAST = 3
"""and not before so many findings in the hour: a bucket's share of a small rate is no rate."""
FIRST_HOUR = 0.5
"""Of that is enough in the hour in which counting begins: what came in it before a restart is not known."""
MAX_COUNTS = 10_000
"""Verdicts whose findings one bucket counts; of more, those not met for longest begin anew."""
MAX_EARLIER = 16
"""Earlier verdicts on one detection that the newest one carries."""
SETTLED = ("false-positive", "expected")
"""Verdicts under which nothing is raised."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a finding is about."""

    template: str
    """16 hex digits, as the line had it; aliases are followed."""
    detector: str
    session: str
    """Empty for the endless session of a partition: the line itself is meant then."""
    partition: int
    offset: int
    arrival_ms: int
    event_ms: int
    before: tuple[str, ...] = ()
    """Templates of the session's events that are shown with it."""

    @classmethod
    def of(cls, found: Detection) -> "Place":
        """That of a detection."""
        before = tuple(one.template for one in found.before)
        where = found.session, found.partition, found.offset, found.arrival_ms, found.event_ms
        return cls(found.template, found.detector, *where, before)

    @classmethod
    def at(cls, template: int, detector: str, line: dict[str, str | int], before: Iterable[int]) -> "Place":
        """Of template numbers, a detector and a line as a row of the events' frame."""
        partition, offset, arrival, time = (int(line[name]) for name in ("partition", "offset", "arrival", "time"))
        names = tuple(template_hex(one) for one in before)
        return cls(template_hex(template), detector, str(line["session"]), partition, offset, arrival, time, names)

    @property
    def shape(self) -> tuple[str, ...]:
        """The templates of its session that are shown with it, itself among them, each once and in their order."""
        return tuple(sorted({self.template, *self.before}))


class Accepted:
    """The verdicts of one service.

    Args:
        verdicts: in any order.
        resolve: the template id in use for one that may be another one's alias (``storage.control``).
    """

    def __init__(self, verdicts: Iterable[Verdict], resolve: Callable[[str], str] = lambda template: template) -> None:
        self._resolve = resolve
        self._roots: dict[str, str] = {}
        self._verdicts: dict[tuple[str, ...], list[Verdict]] = {}  # newest first
        for verdict in sorted(verdicts, key=lambda one: one.given_ms, reverse=True):
            key = self._key(verdict.scope, verdict.template, verdict.detector, _session(verdict), verdict.shape)
            self._verdicts.setdefault(key, []).append(verdict)
        self._scopes = [scope for scope in SCOPES if any(key[0] == scope for key in self._verdicts)]

    def deciding(self, place: Place) -> Verdict | None:
        """The verdict that decides about a finding: the newest in force of the narrowest scope; *unsure* is none.

        *Confirmed* decides, too: what it covers is raised whatever a wider verdict says.
        """
        for verdict in self._about(place):
            if verdict.value != "unsure" and is_in_force(verdict, place.arrival_ms):
                return verdict
        return None

    def said(self, place: Place) -> list[Verdict]:
        """All that was said that covers a finding, the oldest first: *unsure*, expired and undone verdicts too."""
        return sorted(self._about(place), key=lambda one: one.given_ms)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._verdicts)

    def _about(self, place: Place) -> Iterable[Verdict]:
        """The verdicts that cover a finding, those of the narrowest scope first, the newest first within one."""
        session = _session(place)
        for scope in self._scopes:
            shape = place.shape if scope == "shape" else ()
            yield from self._verdicts.get(self._key(scope, place.template, place.detector, session, shape), ())

    def _key(self, scope: str, template: str, detector: str, session: str, shape: Iterable[str]) -> tuple[str, ...]:
        """What verdicts of a scope on such a finding are kept under."""
        match scope:
            case "alert":
                return scope, self._root(template), session
            case "shape":
                return scope, detector, *sorted({self._root(one) for one in shape})
            case "signature":
                return scope, self._root(template), detector
            case _:
                return scope, self._root(template)

    def _root(self, template: str) -> str:
        root = self._roots.get(template)
        if root is None:
            if len(self._roots) >= MAX_COUNTS:
                self._roots.clear()
            root = self._roots[template] = self._resolve(template)
        return root


SCOPES = ("alert", "shape", "signature", "template")
"""The narrowest first."""


def is_in_force(verdict: Verdict, arrival_ms: int) -> bool:
    """Whether a verdict holds for a line that arrived at a time."""
    return not verdict.undone_ms and (not verdict.expires_ms or arrival_ms < verdict.expires_ms)


def verdict_on(
    found: Detection,
    value: VerdictValue,
    reason: str,
    author: str,
    given_ms: int,
    *,
    scope: VerdictScope = "template",
    expires_ms: int = 0,
    accepted_per_hour: float = 0.0,
    before: Verdict | None = None,
) -> Verdict:
    """Make the verdict on a detection; ``before`` is the one it replaces, which goes on being read as ``earlier``."""
    place = Place.of(found)
    return Verdict(
        service=found.service,
        detection=found.id,
        template=found.template,
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        session=found.session,
        event_ms=found.event_ms,
        arrival_ms=found.arrival_ms,
        value=value,
        reason=reason,
        author=author,
        given_ms=given_ms,
        scope=scope,
        detector=found.detector,
        shape=place.shape if scope == "shape" else (),
        expires_ms=expires_ms,
        accepted_per_hour=accepted_per_hour,
        earlier=(said_of(before), *before.earlier)[:MAX_EARLIER] if before is not None else (),
    )


def undone(verdict: Verdict, author: str, at_ms: int) -> Verdict:
    """The verdict taken back: it covers nothing any more, and is kept to be read."""
    return verdict.model_copy(update={"undone_ms": at_ms, "undone_by": author})


def said_of(verdict: Verdict) -> Said:
    """What a verdict says, without what it is about."""
    return Said.model_validate(verdict.model_dump(include=set(Said.model_fields)))


def busiest_hour(times_ms: Iterable[int]) -> int:
    """How many of these times lie in the hour that has most of them.

    >>> busiest_hour([0, 1, 3_600_000])
    2
    """
    counts: dict[int, int] = {}
    for at in times_ms:
        counts[at // HOUR_MS] = counts.get(at // HOUR_MS, 0) + 1
    return max(counts.values(), default=0)


def observed_rate(verdict: Verdict, found: Iterable[Detection], resolve: Callable[[str], str]) -> float:
    """How many findings an hour there were of what a verdict covers: those of the busiest hour, at least one.

    Where some of them escalated, what came is what they say: the others were suppressed, and are not among ``found``.
    Each detection is there once.
    """
    accepted = Accepted([verdict], resolve)
    mine = [one for one in found if accepted.said(Place.of(one))]
    escalated = [one.escalated.per_hour for one in mine if one.escalated is not None]
    return float(max(1, busiest_hour(one.event_ms for one in mine), *escalated))


class Rates:
    """How often what was accepted comes, in hours of event time; those of one session bucket.

    They are not saved: after a restart the hour's count begins anew, and less is enough in that hour.

    Args:
        share: of a service's named sessions that the bucket has; those without a name are in one bucket a partition.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._first: int | None = None  # hour in which counting began
        self._counts: dict[str, tuple[int, int]] = {}  # detection judged -> hour, findings in it

    def beyond(self, verdict: Verdict, place: Place) -> Escalation | None:
        """Count a finding; says so where it is the one too many of its hour, and so once an hour at most.

        A line of an hour that is over is not counted.
        """
        accepted = verdict.accepted_per_hour
        if not accepted:
            return None
        hour = place.event_ms // HOUR_MS
        last, count = self._counts.pop(verdict.detection, (hour, 0))
        if hour < last:
            self._counts[verdict.detection] = last, count
            return None
        count = count + 1 if hour == last else 1
        self._counts[verdict.detection] = hour, count
        if len(self._counts) > MAX_COUNTS:
            del self._counts[next(iter(self._counts))]
        self._first = hour if self._first is None else self._first
        share = self._share if place.session else 1.0
        if count != limit(accepted, share, is_first=hour == self._first):
            return None
        return Escalation(per_hour=max(count, math.floor(count / share)), accepted_per_hour=accepted)


def limit(accepted_per_hour: float, share: float, *, is_first: bool) -> int:
    """Findings of an hour at which a bucket with a share of the sessions says that they are too many.

    Never as few as twice what is accepted of all buckets together: it may all be of one session, and so of one bucket,
    and what came within an hour today may come within the same hour as the next lot tomorrow.

    >>> limit(4.0, 1.0, is_first=False), limit(4.0, 0.25, is_first=True), limit(100.0, 0.01, is_first=False)
    (40, 9, 201)
    """
    many = BEYOND * accepted_per_hour * share * (FIRST_HOUR if is_first else 1.0)
    return max(LEAST, math.ceil(many), math.floor(2 * accepted_per_hour) + 1)


class Suppression:
    """What is not raised of a service in one session bucket.

    Args:
        accepted: the verdicts of the service.
        rates: of the bucket.
    """

    def __init__(self, accepted: Accepted, rates: Rates) -> None:
        self._accepted, self._rates = accepted, rates

    def __bool__(self) -> bool:
        """Whether anybody has said anything; else all is kept."""
        return bool(self._accepted)

    def ask(self, place: Place) -> tuple[bool, Escalation | None]:
        """Whether a finding is raised, and the escalation where it is for their number only; counts it."""
        verdict = self._accepted.deciding(place)
        if verdict is None or verdict.value not in SETTLED:
            return True, None
        escalation = self._rates.beyond(verdict, place)
        return escalation is not None, escalation

    def judge(self, detections: Sequence[Detection]) -> list[Detection]:
        """Of detections those that are raised, in their order; the others are ``len(detections) - len(kept)``."""
        if not self:
            return list(detections)
        asked = [(found, *self.ask(Place.of(found))) for found in detections]
        return [escalated(found, escalation) for found, is_raised, escalation in asked if is_raised]


class Suppressions:
    """What is not raised in the session buckets that one operator instance has.

    Args:
        view: of the control topic; what changes in it is in force from the next call on.
        buckets: a service's sessions are spread over.
    """

    def __init__(self, view: "ControlView", buckets: int = 1) -> None:
        self._view, self._buckets = view, buckets
        self._accepted: dict[str, tuple[int, Accepted]] = {}  # service -> revision, verdicts
        self._rates: dict[str, Rates] = {}

    def of(self, service: str, bucket: str) -> Suppression:
        """That of a service in one of its buckets, whose name is any that no other bucket has."""
        revision = self._view.revisions.get(service, 0)
        known = self._accepted.get(service)
        if known is None or known[0] != revision:
            verdicts = self._view.verdicts.get(service, {}).values()
            known = revision, Accepted(verdicts, partial(self._view.resolve, service))
            self._accepted[service] = known
        return Suppression(known[1], self._rates.setdefault(bucket, Rates(1 / self._buckets)))


def escalated(found: Detection, escalation: Escalation | None) -> Detection:
    """The detection, saying that it is raised for the number of its kind, where it is."""
    if escalation is None:
        return found
    often = f"accepted at {escalation.accepted_per_hour:g} an hour, now {escalation.per_hour:,} and more"
    return found.model_copy(update={"escalated": escalation, "headline": f"{often}: {found.headline}"})


def _session(one: Verdict | Place) -> str:
    return one.session or f"{one.partition}/{one.offset}"
