"""Groups detections into alerts and incidents, and finds the detection that an id, a prefix or a signature means.

Whoever reads the detections topic groups them here: what an alert is follows from the detections alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from contracts.records import Detection, Verdict
from models.incidents import Incident, Incidents, place_in_time
from models.verdicts import SETTLED, Accepted, Place

ALIKE = 0.5
"""Share of words (Jaccard) that two alerts' templates have in common to be similar."""


NARROW = ("alert", "shape")
"""Scopes that cover sessions, not what an alert is made of."""


class DetectionNotFoundError(LookupError):
    """No detection, or more than one, is meant by what was given; the sentence says which."""


@dataclass(frozen=True)
class Alert:
    """The detections of one service with one signature.

    ``first_ms`` and ``last_ms`` are event times, milliseconds since 1970 UTC; ``newest`` is the detection whose line is
    the latest, ``worst`` the one with the greatest surprise.
    """

    service: str
    signature: str
    count: int
    first_ms: int
    last_ms: int
    newest: Detection
    worst: Detection
    incident: Incident
    """What it is part of."""
    verdict: Verdict | None = None
    """The one that decides about it (``models.verdicts``)."""
    said: tuple[Verdict, ...] = ()
    """All that cover its newest detection, the oldest first; expired and undone ones too."""
    is_escalated: bool = False
    """More came than the verdict in force accepts."""

    @property
    def state(self) -> str:
        """``open``; ``escalated``: more came than was accepted; or the value of the verdict that decides."""
        if self.is_escalated:
            return "escalated"
        if self.verdict is None:
            standing = [one for one in self.said if not one.undone_ms]
            return "unsure" if standing and standing[-1].value == "unsure" else "open"
        return self.verdict.value

    @property
    def headline(self) -> str:
        """The worst finding as a sentence."""
        return self.worst.headline


def group(
    detections: Iterable[Detection],
    verdicts: Iterable[Verdict] = (),
    resolve: Callable[[str, str], str] = lambda service, template: template,
) -> list[Alert]:
    """Group detections by service and signature, the alert with the latest line first.

    A detection that comes twice counts once; the more surprising copy holds (its line may be in several sessions), and
    of equal ones (delivery is at least once) the later.

    Args:
        detections: in any order.
        verdicts: all there are; ``models.verdicts`` says what they cover.
        resolve: service and template id to the id in use for it (aliases).
    """
    distinct = worst_by_id(detections)
    groups: dict[tuple[str, str], list[Detection]] = {}
    for found in distinct.values():
        groups.setdefault((found.service, found.signature), []).append(found)
    of_service: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        of_service.setdefault(verdict.service, []).append(verdict)
    accepted = {service: Accepted(some, partial(resolve, service)) for service, some in of_service.items()}
    nothing = Accepted(())
    incidents = Incidents()
    for found in sorted(distinct.values(), key=place_in_time):
        incidents.take(found)
    alerts = [_alert(members, incidents.of(*key), accepted.get(key[0], nothing)) for key, members in groups.items()]
    return sorted(alerts, key=lambda alert: (-alert.last_ms, alert.service, alert.signature))


def by_incident(alerts: Iterable[Alert]) -> list[Alert]:
    """Put the alerts of an incident one after another, its probable origin first; the newest incident comes first."""
    listed = list(alerts)
    newest: dict[str, int] = {}
    for alert in listed:
        newest[alert.incident.id] = max(newest.get(alert.incident.id, alert.last_ms), alert.last_ms)
    places = {key: place for alert in listed for place, key in enumerate(alert.incident.alerts)}
    return sorted(
        listed,
        key=lambda alert: (
            -newest[alert.incident.id],
            alert.incident.id,
            places[alert.service, alert.signature],
        ),
    )


def event_clocks(alerts: Iterable[Alert], now_ms: int) -> dict[str, int]:
    """Event time in each service at a wall clock's time, ms: as far past its newest finding as that arrived ago."""
    newest: dict[str, Detection] = {}
    for alert in alerts:
        known = newest.get(alert.service)
        if known is None or alert.newest.event_ms > known.event_ms:
            newest[alert.service] = alert.newest
    return {service: found.event_ms + max(0, now_ms - found.arrival_ms) for service, found in newest.items()}


def similar(alert: Alert, alerts: Iterable[Alert], most: int = 5) -> list[Alert]:
    """Return the alerts that began before this one's newest detection and are like it, the likest first.

    Two findings on lines are as alike as the words of their templates, two ended sessions as the templates before.
    """
    mine = alert.newest
    scored = [
        (likeness(mine, other.newest), other)
        for other in alerts
        if (other.service, other.signature) != (alert.service, alert.signature) and other.first_ms <= alert.last_ms
    ]
    close = [(share, other) for share, other in scored if share >= ALIKE]
    close.sort(key=lambda pair: (-pair[0], pair[1].service != alert.service, -pair[1].last_ms, pair[1].signature))
    return [other for _, other in close[:most]]


def likeness(one: Detection, other: Detection) -> float:
    """Return the share of what two findings are about that they have in common, in [0, 1]; 0 of two kinds."""
    if one.kind != other.kind:
        return 0.0
    mine, theirs = _about(one), _about(other)
    return len(mine & theirs) / max(1, len(mine | theirs))


def _about(found: Detection) -> frozenset[str]:
    by_words = found.kind in ("event", "trace")
    return frozenset(found.template_text.split() if by_words else (one.text for one in found.before))


def worst_by_id(detections: Iterable[Detection]) -> dict[str, Detection]:
    """Of the detections with one id the most surprising, of equals the later: one line may be in several sessions."""
    worst: dict[str, Detection] = {}
    for found in detections:
        known = worst.get(found.id)
        if known is None or found.surprise >= known.surprise:
            worst[found.id] = found
    return worst


def _newest(members: Iterable[Detection]) -> Detection:
    return max(members, key=lambda found: (found.event_ms, found.partition, found.offset))


def _alert(members: Sequence[Detection], incident: Incident, accepted: Accepted) -> Alert:
    newest = _newest(members)
    verdict = accepted.deciding(Place.of(newest))
    if verdict is not None and verdict.scope in NARROW:  # it says nothing of the others' sessions
        others = [accepted.deciding(Place.of(found)) for found in members]
        verdict = verdict if all(others) else None
    return Alert(
        service=newest.service,
        signature=newest.signature,
        count=len(members),
        first_ms=min(found.event_ms for found in members),
        last_ms=newest.event_ms,
        newest=newest,
        worst=max(members, key=lambda found: (found.surprise, found.event_ms)),
        incident=incident,
        verdict=verdict,
        said=tuple(accepted.said(Place.of(newest))),
        is_escalated=verdict is not None
        and verdict.value in SETTLED
        and any(found.escalated and found.detected_ms > verdict.given_ms for found in members),
    )


def resolve(detections: Iterable[Detection], name: str) -> Detection:
    """Find the detection meant by a name.

    The name is a detection's id, or an alert's signature (then the alert's newest detection is meant), or a beginning
    of either that fits only one of them.

    Raises:
        DetectionNotFoundError: nothing fits, or several do.
    """
    wanted = name.strip().lower()
    distinct = worst_by_id(detections)
    if not wanted:
        raise DetectionNotFoundError("an empty id means no detection; `logcanary alerts` lists those there are")
    if wanted in distinct:
        return distinct[wanted]
    signatures: dict[str, list[Detection]] = {}
    for found in distinct.values():
        signatures.setdefault(found.signature, []).append(found)
    if wanted in signatures:
        return _newest(signatures[wanted])
    ids = sorted(found for found in distinct if found.startswith(wanted))
    alerts = sorted(found for found in signatures if found.startswith(wanted))
    if len(ids) + len(alerts) > 1:
        some = ", ".join((ids + alerts)[:5])
        raise DetectionNotFoundError(f"{name} fits {len(ids) + len(alerts)} of them ({some}); give more of its digits")
    if ids:
        return distinct[ids[0]]
    if alerts:
        return _newest(signatures[alerts[0]])
    raise DetectionNotFoundError(
        f"no detection and no alert has an id that begins with {name}; `logcanary alerts` lists those there are"
    )
