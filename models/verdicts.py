"""Which findings engineers have called normal: by scope, until a time, and up to a rate.

    accepted = Accepted(view.verdicts["web"].values(), lambda template: view.resolve("web", template))
    verdict = accepted.deciding(place)              # None: nobody has said anything that is in force
    normal = Normal(accepted, Rates(share=1 / 4))
    kept, count = normal.judge(place)               # count above 0: raised because there are so many

A verdict covers a template in a service, its findings by one detector, or one session (``Verdict.scope``). The narrower
scope decides before the wider one, and within a scope the newest that is in force. Whether one has expired is asked of
a line's arrival, so that a line that is read again meets the verdicts it met before.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contracts.records import Detection, Verdict
from parsing.events import template_hex

HOUR_MS = 3_600_000
BEYOND = 10.0
"""Times the accepted rate at which what was accepted is raised again ..."""
LEAST = 10
"""... and not before so many findings in the hour: a bucket's share of a small rate is no rate."""
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

    @classmethod
    def of(cls, found: Detection) -> "Place":
        """That of a detection."""
        return cls(
            found.template,
            found.detector,
            found.session,
            found.partition,
            found.offset,
            found.arrival_ms,
            found.event_ms,
        )


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
            keys = self._keys(verdict.template, verdict.detector, _session(verdict))
            self._verdicts.setdefault(keys[verdict.scope], []).append(verdict)

    def deciding(self, place: Place) -> Verdict | None:
        """The verdict that decides about a finding: the newest in force of the narrowest scope; *unsure* is none.

        *Confirmed* decides, too: what it covers is raised whatever a wider verdict says.
        """
        for key in self._keys(place.template, place.detector, _session(place)).values():
            for verdict in self._verdicts.get(key, ()):
                if verdict.value != "unsure" and (not verdict.expires_ms or place.arrival_ms < verdict.expires_ms):
                    return verdict
        return None

    def said(self, place: Place) -> list[Verdict]:
        """All that was said that covers a finding, *unsure* and expired verdicts too, the oldest first."""
        keys = self._keys(place.template, place.detector, _session(place)).values()
        return sorted((one for key in keys for one in self._verdicts.get(key, ())), key=lambda one: one.given_ms)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._verdicts)

    def _keys(self, template: str, detector: str, session: str) -> dict[str, tuple[str, ...]]:
        """By scope, the narrowest first, what verdicts of that scope on such a finding are kept under."""
        root = self._roots.get(template)
        if root is None:
            root = self._roots[template] = self._resolve(template)
        return {"session": (root, "", session), "signature": (root, detector), "template": (root,)}


class Rates:
    """How often what was accepted comes, in hours of event time; those of one session bucket.

    Args:
        share: of a service's named sessions that the bucket has; those without a name are in one bucket a partition.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._counts: dict[str, tuple[int, int]] = {}  # detection judged -> hour, findings in it

    def beyond(self, verdict: Verdict, place: Place) -> int:
        """Count a finding; returns how many of this hour there are where that is too many, once an hour, else 0.

        A line of an hour that is over is not counted.
        """
        if not verdict.accepted_per_hour:
            return 0
        hour = place.event_ms // HOUR_MS
        last, count = self._counts.get(verdict.detection, (hour, 0))
        if hour < last:
            return 0
        count = count + 1 if hour == last else 1
        self._counts[verdict.detection] = hour, count
        share = self._share if place.session else 1.0
        return count if count == max(LEAST, math.ceil(BEYOND * verdict.accepted_per_hour * share)) else 0


class Normal:
    """What is not raised in one session bucket.

    Args:
        accepted: the verdicts of its service.
        rates: of the bucket.
    """

    def __init__(self, accepted: Accepted, rates: Rates) -> None:
        self._accepted, self._rates = accepted, rates

    def judge(self, place: Place) -> tuple[bool, int]:
        """Whether a finding is raised; and where it is for their number only, how many of its kind came this hour."""
        verdict = self._accepted.deciding(place)
        if verdict is None or verdict.value not in SETTLED:
            return True, 0
        count = self._rates.beyond(verdict, place)
        return bool(count), count


def place(template: int, detector: str, line: dict[str, str | int]) -> Place:
    """Of a template's number, a detector and a line as a row of the events' frame."""
    return Place(
        template_hex(template),
        detector,
        str(line["session"]),
        int(line["partition"]),
        int(line["offset"]),
        int(line["arrival"]),
        int(line["time"]),
    )


def _session(one: Verdict | Place) -> str:
    return one.session or f"{one.partition}/{one.offset}"
