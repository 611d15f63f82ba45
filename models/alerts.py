"""Groups detections into alerts, and finds the detection that an id, a prefix or a signature means.

Until the group stage of the pipeline lands, readers of the detections topic group them here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from contracts.records import Detection, Verdict


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
    verdict: Verdict | None = None

    @property
    def state(self) -> str:
        """``open``, or the value of the newest verdict on it."""
        return self.verdict.value if self.verdict else "open"

    @property
    def headline(self) -> str:
        """The worst finding as a sentence."""
        return self.worst.headline


def group(detections: Iterable[Detection], verdicts: Iterable[Verdict] = ()) -> list[Alert]:
    """Group detections by service and signature, the alert with the latest line first.

    A detection that comes twice counts once; the more surprising copy holds (its line may be in several sessions), and
    of equal ones (delivery is at least once) the later.

    Args:
        detections: in any order.
        verdicts: those in force; one covers its template in its service, the newest wins.
    """
    distinct = worst_by_id(detections)
    groups: dict[tuple[str, str], list[Detection]] = {}
    for found in distinct.values():
        groups.setdefault((found.service, found.signature), []).append(found)
    judged = newest_verdicts(verdicts)
    alerts = [_alert(members, judged) for members in groups.values()]
    return sorted(alerts, key=lambda alert: (-alert.last_ms, alert.service, alert.signature))


def worst_by_id(detections: Iterable[Detection]) -> dict[str, Detection]:
    """Of the detections with one id the most surprising, of equals the later: one line may be in several sessions."""
    worst: dict[str, Detection] = {}
    for found in detections:
        known = worst.get(found.id)
        if known is None or found.surprise >= known.surprise:
            worst[found.id] = found
    return worst


def newest_verdicts(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], Verdict]:
    """Return the newest verdict of each (service, template)."""
    newest: dict[tuple[str, str], Verdict] = {}
    for verdict in verdicts:
        key = (verdict.service, verdict.template)
        if key not in newest or verdict.given_ms >= newest[key].given_ms:
            newest[key] = verdict
    return newest


def _alert(members: Sequence[Detection], judged: Mapping[tuple[str, str], Verdict]) -> Alert:
    newest = max(members, key=lambda found: (found.event_ms, found.partition, found.offset))
    return Alert(
        service=newest.service,
        signature=newest.signature,
        count=len(members),
        first_ms=min(found.event_ms for found in members),
        last_ms=newest.event_ms,
        newest=newest,
        worst=max(members, key=lambda found: (found.surprise, found.event_ms)),
        verdict=judged.get((newest.service, newest.template)),
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
        return _alert(signatures[wanted], {}).newest
    ids = sorted(found for found in distinct if found.startswith(wanted))
    alerts = sorted(found for found in signatures if found.startswith(wanted))
    if len(ids) + len(alerts) > 1:
        some = ", ".join((ids + alerts)[:5])
        raise DetectionNotFoundError(f"{name} fits {len(ids) + len(alerts)} of them ({some}); give more of its digits")
    if ids:
        return distinct[ids[0]]
    if alerts:
        return _alert(signatures[alerts[0]], {}).newest
    raise DetectionNotFoundError(
        f"no detection and no alert has an id that begins with {name}; `logcanary alerts` lists those there are"
    )
