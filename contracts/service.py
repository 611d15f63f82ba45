"""The settings of one service: how its lines are read, grouped into sessions and judged."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from contracts.base import Options

ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$")]
"""A topic's name after its prefix (``logs.``): letters, digits, dot, dash and underscore."""


class MaskOptions(Options):
    """One mask of a service's own: what ``pattern`` matches becomes ``<NAME>``.

    The pattern has no look-around and no back-reference, so that it means the same in polars, RE2 and ``re``.
    """

    name: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    """What stands in the template in place of the match."""
    pattern: str = Field(min_length=1)
    """An expression."""


RedactKind = Literal["credentials", "private-key", "jwt", "bearer", "password", "aws-key", "api-key", "email", "card"]
"""What is known to be a secret by its looks (docs/redaction.md); ``credentials`` is all but ``email`` and ``card``."""


class RedactOptions(Options):
    """A secret of a service's own: what ``pattern`` matches becomes ``<redacted:name>``.

    The pattern has no look-around and no back-reference, and takes time in proportion to the line.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    pattern: str = Field(min_length=1)


class SplitOptions(Options):
    """A template told apart by what stands at one of its variable places: each value gets a template of its own.

    For lines that are parsed from now on. What has no such value there stays with the whole.
    """

    template: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Id of the whole."""
    text: str = Field(min_length=1, max_length=8192)
    """Its text as the catalogue has it: where its places are. A line that does not fit it stays with the whole."""
    place: int = Field(ge=0)
    """Which of the text's variables (``<NUM>``, ``<*>``), from 0."""
    values: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(min_length=1, max_length=50)
    """What is told apart, letter by letter as lines have it."""


class SessionOptions(Options):
    """How the lines of a service form sessions (``docs/sessions.md``).

    ``auto`` looks for the common identifiers (block, trace, request ids), then for anything that behaves like one;
    ``identifier`` uses ``pattern`` (its first group, or the whole match); ``field`` the value named ``field`` in a JSON
    record, a header or the text; ``host`` the machine that wrote the line. ``window`` treats each partition as one
    endless session, ``time`` cuts it into windows of ``window_seconds`` of event time, ``lines`` into windows of
    ``window_lines`` offsets.
    A line without an identifier belongs to the endless session of its partition (see ``unnamed``).
    """

    by: Literal["field", "host", "time", "lines", "auto", "identifier", "window"] = "auto"
    """What ties lines together; as above."""
    pattern: str | None = None
    """Where ``by`` is ``identifier``: an expression without look-around and back-reference."""
    field: str | None = None
    """Where ``by`` is ``field``: a JSON key (``trace.id`` also inside of ``trace``), a key=value or a header's name."""
    window_seconds: float = Field(default=60.0, ge=0.001, le=31_536_000)
    """Where ``by`` is ``time``: the windows begin at its multiples since 1970 UTC."""
    window_lines: int = Field(default=100, ge=1)
    """Where ``by`` is ``lines``: the windows begin at its multiples among a partition's offsets."""
    several: Literal["first", "last", "all"] = "first"
    """Which identifier counts where a line names several. With ``all`` the line is an event of each of their sessions;
    it is still one line, and of what they find in it the worse is kept."""
    unnamed: Literal["stream", "ignore"] = "stream"
    """Whether lines without an identifier are judged as one endless session a partition, or not at all. Where many
    threads write them at once, their order says little and rare housekeeping lines are most of what is raised."""
    gap_seconds: float = Field(default=3600.0, gt=0)
    """A session with no line for this long (event time) has ended."""
    max_seconds: float | None = Field(default=None, gt=0)
    """A session that would grow longer (event time) is cut: another begins under its identifier. A cut is no end."""
    max_events: int | None = Field(default=None, ge=1)
    """A session that would have more events is cut likewise."""
    max_open: int = Field(default=50_000, gt=0)
    """Open sessions kept per bucket; the one idle longest is closed first."""


class BudgetOptions(Options):
    """How many false alarms are acceptable; thresholds are calibrated to it on held-back normal time."""

    false_alarm_rate: float = Field(default=0.005, ge=0, lt=1)
    """Share of normal sessions (windows, where there are no sessions) that may be raised."""


class RetrainingOptions(Options):
    """Whether a service is trained again by itself; off until somebody wants it."""

    every_hours: float = Field(default=0.0, ge=0, le=8760)
    """So long after the last training, whoever asked for it; 0: never."""
    lookback_hours: float = Field(default=0.0, ge=0, le=87_600)
    """What is learnt from: the newest so many hours; 0: all that is archived."""


SequenceKind = Literal["deeplog", "loganomaly", "ngram"]
"""A model of the next event (``docs/detectors.md``)."""
SessionDetector = Literal[
    "new_template", "count_vector", "pca", "order", "missing", "timing", "severity", "autoencoder"
]
"""A detector of whole sessions (``docs/detectors.md``)."""


def _each_once(names: tuple[SessionDetector, ...]) -> tuple[SessionDetector, ...]:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        choices = ", ".join(get_args(SessionDetector))
        raise ValueError(f"{twice[0]} is named more than once: name each of {choices} once at most")
    return names


class DetectorOptions(Options):
    """Which sequence model and which detectors of whole sessions are trained for a service, and how they judge.

    What is trained is the bundle's: other models or detectors are in force with the next training.
    """

    kind: SequenceKind = "deeplog"
    """``deeplog``: an LSTM. ``loganomaly``: one over what templates say, and one over their counts; both need torch to
    be trained. ``ngram``: counts of what followed what."""
    window: int = Field(default=10, ge=1, le=100)
    """Events of history before the one that is judged (DeepLog, section 3.1: h = 10)."""
    rule: Literal["likelihood", "top_g"] = "likelihood"
    """``likelihood``: surprise over a calibrated threshold. ``top_g``: the event is not among the g likeliest."""
    top_g: int = Field(default=9, ge=1)
    """DeepLog, section 5.1: g = 9."""
    end_event: Literal["auto", "on", "off"] = "auto"
    """Whether the end of a session is an event too; ``auto`` lets held-back training time decide."""
    epochs: int = Field(default=30, ge=1)
    """At most this many passes; training stops sooner when held-back likelihood no longer improves."""
    seed: int = 0
    """Of what is drawn at random while a model is trained."""
    sessions: Literal["on", "off"] = "on"
    """Whether whole sessions are judged too once they are over, by several detectors (``docs/detectors.md``)."""
    session_detectors: Annotated[tuple[SessionDetector, ...], Field(min_length=1), AfterValidator(_each_once)] = (
        *("new_template", "count_vector", "pca", "order", "missing", "timing", "severity"),
    )
    """Which those are, each once: they share one budget (``docs/detectors.md`` says what each looks at)."""
    traces: Literal["on", "off"] = "on"
    """Whether lines that name a trace are watched together with those of other services that name it."""
    learning: Literal["on", "off"] = "on"
    """Whether these detectors go on learning while they run: late, and never from what was raised."""
    doubt: float = Field(default=0.0, ge=0.0, le=0.1)
    """Kinds of sessions that a smaller share of the past is of are not learnt, and so raised until an engineer says
    that they are normal; 0: all of the past is taken to be normal. For a past that nobody has looked through, 0.01."""


class ServiceSettings(Options):
    """All settings of one service; the control topic holds the newest under ``settings/<service>``."""

    service: ServiceName
    """Whose they are; a file may leave it out, because the command says it."""
    format: str = "auto"
    """Name of a header format of ``parsing.formats``, or ``auto``: found from the first lines and then fixed."""
    format_pattern: str | None = None
    """An expression for the header of this service's lines, used in place of ``format``: its named groups ``time``,
    ``level``, ``host``, ``component``, ``session``, ``trace``, ``span`` and ``request`` are read, what follows it is
    the message. No look-around and no back-reference."""
    format_time: str | None = None
    """How the time in ``format_pattern`` is written, as ``dd.MM.yyyy HH:mm:ss.f`` (``parsing.times``); None: any common
    form, which takes longer."""
    masks: tuple[MaskOptions, ...] = ()
    """Tried before the default masks, in this order."""
    redact: tuple[RedactKind | RedactOptions, ...] = ()
    """What is taken out of a line before anything else reads it, in this order (docs/redaction.md). In force for lines
    that are read from now on: what is on a topic or in the archive already stays as it is."""
    redact_archive: bool = False
    """Whether it is taken out of the archive's lines too, which are kept byte for byte else. For good: Kafka's own
    retention ends, and nothing brings the bytes back."""
    splits: tuple[SplitOptions, ...] = Field(default=(), max_length=100)
    """Templates that are told apart, in this order: a part can be told apart further by a later one."""
    session: SessionOptions = SessionOptions()
    detector: DetectorOptions = DetectorOptions()
    budget: BudgetOptions = BudgetOptions()
    retraining: RetrainingOptions = RetrainingOptions()
