"""Which alerts hang together: incidents, each with its probable origin and a life driven by event time.

    incidents = Incidents()
    for found in sorted(detections, key=place_in_time):
        incident = incidents.take(found)
    incident.life(now_ms)                   # event time: "new", "ongoing", "quiet", ...

An alert (findings of one service with one signature) belongs to the incident in which it began:

1. that of another alert of the service about the same template: what one detector says of it and what another does;
2. that in which its session was raised before, in any service. A line that the bundle has never seen is a cause, not a
   consequence: it joins only an incident that began in this very session;
3. where it is such a line, and speaks of no trouble: the incident of other such lines of the service that still
   goes on, or began within a day. A release brings several;
4. where more incidents began in a few minutes than a person can read: the newest of them, which is a flood and says so;
5. else it begins one, and is its probable origin.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from contracts.records import END_TEMPLATE, Detection
from models.finished import level_number
from models.grouping import ESCALATING, FLOOD, NEW_MS, QUIET_MS, RESOLVED_MS, State
from models.tracing.watch import DAY_MS
from models.wording import is_calm

ACROSS = 8
"""Characters from which on an identifier means the same in all services: a request does, job number 7 does not."""
MAX_SESSIONS = 100_000
"""Raised sessions remembered, to know what hangs together."""

Key = tuple[str, str]
"""Service and signature of an alert."""


@dataclass(slots=True)
class Incident:
    """Alerts that hang together; times are event times, ms since 1970 UTC."""

    id: str
    """That of its first detection."""
    session: Key
    """Service and session in which it began; see ``_session``."""
    first_ms: int
    last_ms: int
    since_ms: int
    """When it came back last; else when it began."""
    surprise: float
    """Of its first detection, nats."""
    worst: float
    """The greatest since it came back, nats."""
    alerts: dict[Key, None] = field(default_factory=dict)
    """The probable origin first, the others as they began."""
    unseen: bool = False
    """It is about lines that the bundle had never seen, and that speak of no trouble."""
    flood: bool = False
    """It stands for more than a person can read."""

    @property
    def origin(self) -> Key:
        """The alert in which it probably began: the first one."""
        return next(iter(self.alerts))

    def life(self, now_ms: int) -> State:
        """Where it stands at an event time."""
        idle = now_ms - self.last_ms
        if idle > RESOLVED_MS:
            return "resolved"
        if idle > QUIET_MS:
            return "quiet"
        if self.worst >= ESCALATING * max(self.surprise, 1.0):
            return "escalating"
        if now_ms - self.since_ms <= NEW_MS:
            return "new" if self.since_ms == self.first_ms else "regressed"
        return "ongoing"


class Incidents:
    """All incidents of all services, as detections tell of them in the order of ``place_in_time``."""

    def __init__(self) -> None:
        self._of_alert: dict[Key, Incident] = {}
        self._of_template: dict[Key, Incident] = {}  # service, template
        self._of_session: OrderedDict[Key, Incident] = OrderedDict()
        self._unseen: dict[str, Incident] = {}  # service -> the newest of lines never seen
        self._recent: deque[Incident] = deque()  # begun within a few minutes

    def take(self, found: Detection) -> Incident:
        """The incident that a detection belongs to; take each detection once."""
        key = (found.service, found.signature)
        incident = self._of_alert.get(key)
        if incident is None:
            incident = self._joined(found) or self._begin(found)
            incident.alerts[key] = None
            self._of_alert[key] = incident
        if found.template != END_TEMPLATE:
            self._of_template.setdefault((found.service, found.template), incident)
        if found.event_ms - incident.last_ms > RESOLVED_MS:
            incident.since_ms, incident.worst = found.event_ms, 0.0
        incident.last_ms = max(incident.last_ms, found.event_ms)
        incident.worst = max(incident.worst, found.surprise)
        self._remember(_session(found), incident)
        return incident

    def of(self, service: str, signature: str) -> Incident:
        """The incident of an alert.

        Raises:
            KeyError: no detection of it was taken.
        """
        return self._of_alert[service, signature]

    def _joined(self, found: Detection) -> Incident | None:
        about = self._of_template.get((found.service, found.template))
        if about is not None and found.template != END_TEMPLATE:
            return about
        session = _session(found)
        raised = self._of_session.get(session)
        if raised is not None and (not found.unseen or raised.session == session):
            return raised
        news = self._unseen.get(found.service)
        if news is None or not _is_news(found):
            return None
        is_near = found.event_ms - news.first_ms <= DAY_MS or found.event_ms - news.last_ms <= RESOLVED_MS
        return news if is_near else None

    def _begin(self, found: Detection) -> Incident:
        """A new incident, or in a flood the newest one."""
        at = found.event_ms
        while self._recent and self._recent[0].first_ms < at - NEW_MS:
            self._recent.popleft()
        if len(self._recent) >= FLOOD:
            self._recent[-1].flood = True
            return self._recent[-1]
        made = Incident(found.id, _session(found), at, at, at, found.surprise, found.surprise, unseen=_is_news(found))
        self._recent.append(made)
        if made.unseen:
            self._unseen[found.service] = made
        return made

    def _remember(self, session: Key, incident: Incident) -> None:
        if not session[1]:
            return
        self._of_session.setdefault(session, incident)
        self._of_session.move_to_end(session)
        if len(self._of_session) > MAX_SESSIONS:
            self._of_session.popitem(last=False)


def place_in_time(found: Detection) -> tuple[int, str, str, int, int, str]:
    """Where a detection stands among those of all services: event time first."""
    return found.event_ms, found.service, found.topic, found.partition, found.offset, found.id


def _session(found: Detection) -> Key:
    return ("" if len(found.session) >= ACROSS else found.service), found.session


def _is_news(found: Detection) -> bool:
    """Whether it is about a line that the bundle had never seen, and that speaks of no trouble."""
    return found.unseen and is_calm(level_number(found.level), found.template_text)
