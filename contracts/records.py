"""The records on LogCanary's own topics: detections, statistics, dead letters and control."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.base import SCHEMA_VERSION, Record
from contracts.service import ServiceName, ServiceSettings

Score = Annotated[float, Field(ge=0, le=1)]
"""0 = normal, 1 = anomalous; one minus the share of held-back normal sessions that score higher."""
TemplateId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""Hash of service and template text at birth, 16 hex digits."""

END_TEMPLATE = "0000000000000001"
"""Template id of the event *end of session*."""


class Expected(Record):
    """An event the model expected, with its probability."""

    template: TemplateId
    text: str
    probability: float = Field(ge=0, le=1)


class Before(Record):
    """An event of the same session before the one detected, oldest first."""

    template: TemplateId
    text: str


class ReasonPart(Record):
    """One thing about a session: what there was of it, and what there usually is, in the reason's unit."""

    template: TemplateId | Literal[""]
    """Empty where it is not about a template."""
    text: str
    subject: str
    """What it is about where that is no template: a level, a word."""
    observed: float
    usual: float


class Reason(Record):
    """Why one detector finds a whole session rare."""

    detector: str
    reason: str
    """A word of the detector's own list (``docs/detectors.md``)."""
    sentence: str
    unit: str
    """Of the parts: ``events``, ``ms``, ``chance``, ``nats``."""
    parts: tuple[ReasonPart, ...]
    """What weighed most first."""


class Escalation(Record):
    """More findings of a kind that a verdict accepts than it accepts of them."""

    per_hour: int = Field(ge=0)
    """So many had come in the service in this hour of event time; where its sessions are in several buckets, reckoned
    from the one bucket that says so."""
    accepted_per_hour: float = Field(ge=0)


class Detection(Record):
    """One detector's finding on one event, with its evidence (topic ``logcanary.detections``).

    ``id`` is a hash of service, topic, partition, offset and detector, never of template, score or bundle: a line
    that is scored twice after a crash gives the same id.
    """

    schema_version: int = SCHEMA_VERSION
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    signature: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Detections of one service with one signature (service, detector, template) form one alert."""
    service: ServiceName
    detector: str
    """Its name: the sequence model's (``deeplog``; ``deeplog.end`` of an end), or one of ``docs/detectors.md``."""
    kind: Literal["event", "end", "session", "trace"]
    """``event``: this line does not belong. ``end``: the session ended here and should have gone on. ``session``: the
    session as a whole is rare, say the detectors of whole sessions; the line is its last one. ``trace``: what the
    service did in the traces of the last minutes is unusual (``docs/detectors-faults.md``); ``session`` is one of these
    traces, there is no line, and the offset is where the service was read by then."""
    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    arrival_ms: int
    """Kafka's timestamp of the line, milliseconds since 1970 UTC."""
    late: bool = False
    """The line was scored more than ``flink.late_seconds`` after its arrival: news to the archive, not to a pager."""
    cut: bool = False
    """Texts in here were cut, so that the record stays below 256 KiB; the archive has the line whole."""
    event_ms: int
    """The time inside the line, or its arrival where it has none."""
    detected_ms: int
    """When the line was scored."""
    session: str
    """The session's identifier; empty for the endless session of a partition."""
    line: str
    level: str
    template: TemplateId
    template_text: str
    unseen: bool = False
    """The bundle does not know the template, nor a like one of which it is another wording."""
    score: Score
    threshold: Score
    surprise: float
    """Minus the natural logarithm of the model's probability for what came, in nats."""
    rank: int = Field(ge=1)
    """Rank of what came among all events the model knows, 1 = likeliest."""
    expected: tuple[Expected, ...]
    before: tuple[Before, ...]
    reasons: tuple[Reason, ...] = ()
    """Of ``session``: what each detector that fired has to say, the rarest first."""
    bundle: str
    """Version of the one bundle that scored the line."""
    escalated: Escalation | None = None
    """A verdict accepts such findings, and this one is raised because they came far more often than was accepted."""
    headline: str
    """The finding as a sentence."""


WHOLE_KINDS = ("session", "trace")
"""Kinds of detections that are about no single line."""

OddReason = Literal["no_time", "impossible_time", "broken_json", "many_lines", "many_records", "continuation", "long"]
"""What may be off about a line that is scored all the same. ``no_time``: it names no time that could be found;
``impossible_time``: it names one that is none, is before 1970 or more than a day ahead of its arrival (both: the
arrival counts); ``broken_json``: it begins with a brace and is no JSON (taken as text); ``many_lines``: it holds more
than one line, as a stack trace does (the first makes the template); ``many_records``: it holds more than one log record
of OpenTelemetry (the first is scored); ``continuation``: it goes on with the line before, as a line of a stack trace
does, and belongs to no session of its own; ``long``: it has more than 4,096 characters or 128 words (those make the
template)."""


TemplateReason = Literal["born", "generalised", "returned", "evicted", "merged"]
"""Why a template is announced. ``born``: a line matched none; ``generalised``: a line has another word where it had a
constant one; ``evicted``: a shard had to make room, and had not used it for longest; ``returned``: a line brought it
back, under its id; ``merged``: it is another one's alias."""

OverflowReason = Literal["full", "paused"]
"""Why a line has no template of its own. ``full``: more new templates came than there is room for; ``paused``: most of
those that came before went again unused, so that learning is paused."""


class Statistic(Record):
    """What one operator did with one micro-batch (topic ``logcanary.statistics``).

    ``parse`` records count what came out of one partition; ``score`` records what one session bucket judged.
    Replayed batches repeat ``first_offset`` and ``last_offset``.
    """

    schema_version: int = SCHEMA_VERSION
    stage: Literal["parse", "score"]
    service: ServiceName
    topic: str
    partition: int
    bucket: int = -1
    first_offset: int
    last_offset: int
    lines: int
    bytes: int = 0
    newest_arrival_ms: int
    newest_event_ms: int
    emitted_ms: int
    seconds: float
    """Time this batch took in the operator."""
    dead: dict[str, int] = Field(default_factory=dict)
    """Lines sent to the dead-letter topic, by reason."""
    cut: int = 0
    """Lines cut to the length limit for parsing; whole in the archive."""
    odd: dict[str, int] = Field(default_factory=dict)
    """Lines scored although something about them is off, by ``OddReason``."""
    templates: int = 0
    """Templates this shard knows."""
    new_templates: int = 0
    changes: dict[str, int] = Field(default_factory=dict)
    """Templates announced, by ``TemplateReason``; those that were born are ``new_templates`` too."""
    overflow: dict[str, int] = Field(default_factory=dict)
    """Lines that share one template because there was no room for theirs, by ``OverflowReason``."""
    paused: bool = False
    """Learning is paused."""
    forgotten: int = 0
    """Texts whose template is remembered no more, because others came."""
    sessions: int = 0
    """Open sessions of the bucket."""
    windows: int = 0
    windows_remembered: int = 0
    """Windows answered from memory, without a call of the model."""
    unknown: int = 0
    """Events whose template the bundle does not know,"""
    reworded: int = 0
    """and of these, those of one that it knows in other words, as after a release: they are judged as that one."""
    detections: dict[str, int] = Field(default_factory=dict)
    """By detector."""
    suppressed: int = 0
    """Findings not raised because of a verdict."""
    sessions_judged: int = 0
    """Ended sessions that the detectors of whole sessions judged."""
    sessions_passed: int = 0
    """Ended sessions that they did not judge: too long, or not seen from their beginning."""
    sessions_learnt: int = 0
    """Sessions they learnt meanwhile: older ones, that were normal."""
    surprises: tuple[int, ...] = ()
    """Windows judged, by how surprising they were (``models.drift.EDGES``)."""
    bundle: str = ""
    """Version in force; empty while the service has none."""
    bundle_refused: str = ""
    """Why the bundle that the pointer names is not in force."""


class DeadLetter(Record):
    """A line that could not be parsed (topic ``logcanary.deadletters``); the archive has it whole."""

    schema_version: int = SCHEMA_VERSION
    service: ServiceName
    topic: str
    partition: int
    offset: int
    arrival_ms: int
    reason: Literal["empty", "null", "invalid_utf8", "too_long", "error"]
    detail: str = ""
    head: str
    """The first 1,024 bytes, bytes that are not UTF-8 as ``\\xNN``."""
    replayed_ms: int = 0
    """When the line was sent to its topic again (``logcanary deadletters replay``); 0: never. Such a letter repeats one
    that is there already: of several with one topic, partition and offset the highest holds."""


class Template(Record):
    """A template of a service's catalogue (control key ``template/<service>/<id>``)."""

    type: Literal["template"] = "template"
    service: ServiceName
    id: TemplateId
    text: str
    """The newest, most general text; the id is the hash of the first."""
    reason: TemplateReason = "born"
    """Why it is announced."""
    example: str = ""
    """The line that made it, or that generalised it last; of 1,000 characters at most."""
    partition: int = -1
    offset: int = -1
    """Where the example stands in the service's topic; -1: nobody knows."""
    alias_of: TemplateId | None = None
    """Set when one template was given two ids, as by two shards at a time: the one to use, which is the smaller."""
    split_of: TemplateId | None = None
    """Set where an engineer had it told apart (``splits`` in the service's settings): the one whose lines these were,
    and as which a bundle judges them that was learnt before."""


class TemplateName(Record):
    """What engineers call a template (control key ``name/<service>/<id>``); pages show it beside the text."""

    type: Literal["name"] = "name"
    service: ServiceName
    id: TemplateId
    name: str = Field(default="", max_length=80)
    """Empty: it has none any more."""


class Move(Record):
    """An earlier move of a bundle pointer."""

    version: str
    from_ms: int


class BundlePointer(Record):
    """Which bundle is live (control key ``bundle/<service>``), with the moves before, which old lines still need."""

    type: Literal["bundle"] = "bundle"
    service: ServiceName
    version: str
    author: str
    reason: str
    moved_ms: int
    from_ms: int = 0
    """Lines that arrived at Kafka from this time on are scored with it; in each partition that is an offset."""
    made_ms: int = 0
    """When the bundle was made; 0: not known."""
    surprises: tuple[float, ...] = ()
    """Of its held-back windows (``contracts.bundle.Manifest``), beside which the exporter puts those of today."""
    before: tuple[Move, ...] = ()
    """Newest first."""


class Deed(Record):
    """What somebody did, or tried to do, in the console: a record of ``logcanary.audit``."""

    at_ms: int
    who: str
    """Empty: somebody who could not say who they are."""
    role: str
    address: str
    """Where the request came from."""
    what: str
    """Method and path."""
    words: str = ""
    """What was said or set, in short; never a token or a line of a log."""
    status: int
    """Of the answer (HTTP)."""


VerdictValue = Literal["confirmed", "false-positive", "expected", "unsure"]
VerdictScope = Literal["alert", "shape", "signature", "template"]
"""What a verdict covers in its service, the narrowest first. ``alert``: findings on that template in that session
(where the line has none, that line); ``shape``: findings of that detector on sessions with the same set of templates,
as far as the finding shows them; ``signature``: those of that detector on that template; ``template``: all on it."""


class Said(Record):
    """What an engineer said of a detection before the newest verdict on it."""

    value: VerdictValue
    scope: VerdictScope
    reason: str
    author: str
    given_ms: int
    expires_ms: int = 0
    undone_ms: int = 0
    undone_by: str = ""


class Verdict(Record):
    """What an engineer says of a detection (control key ``verdict/<service>/<template>/<detection>``).

    *false-positive* and *expected* stop further detections in its scope and make its lines normal in the next training;
    *confirmed* takes the session out of the normal data; *unsure* does neither, and leaves the session out of both.
    """

    type: Literal["verdict"] = "verdict"
    service: ServiceName
    detection: str
    template: TemplateId
    topic: str
    partition: int
    offset: int
    session: str
    event_ms: int
    arrival_ms: int
    value: VerdictValue
    reason: str
    author: str
    given_ms: int
    scope: VerdictScope = "template"
    detector: str = ""
    """Of the detection; needed for ``signature`` and ``shape``."""
    shape: tuple[TemplateId, ...] = ()
    """The templates that the detection shows of its session, each once; needed for ``shape``."""
    expires_ms: int = 0
    """Lines that arrived at this time or later are not covered; 0: never."""
    accepted_per_hour: float = Field(default=0.0, ge=0)
    """So many findings an hour of event time are accepted; ten times that is raised again. 0: however many."""
    undone_ms: int = 0
    """When it was taken back; it is kept to be read. 0: it was not."""
    undone_by: str = ""
    earlier: tuple[Said, ...] = ()
    """What was said of the detection before, the newest first."""


TrainingOutcome = Literal["asked", "promoted", "refused", "failed", "cancelled"]
"""How far a training is. ``asked``: it runs; ``promoted``: its bundle is live; ``refused``: the gate found it worse
than the live one, and it is kept."""


class Training(Record):
    """A training, for whoever counts them (control key ``training/<service>/<id>``); the registry has all of it."""

    type: Literal["training"] = "training"
    service: ServiceName
    id: str = Field(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$")
    outcome: TrainingOutcome


class Settings(Record):
    """A service's settings (control key ``settings/<service>``)."""

    type: Literal["settings"] = "settings"
    settings: ServiceSettings


class Marker(Record):
    """Written at a job's submission (control key ``marker/<job>``): all control known by then lies before it."""

    type: Literal["marker"] = "marker"
    job: str
    submitted_ms: int


Control = Annotated[
    Template | TemplateName | BundlePointer | Verdict | Training | Settings | Marker, Field(discriminator="type")
]
"""Any record of the control topic; a record without a value (tombstone) takes its key back."""
