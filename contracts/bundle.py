"""The bundle: everything a service needs to be scored, one immutable version."""

from typing import Literal

from pydantic import Field

from contracts.base import Record
from contracts.records import TemplateId
from contracts.service import ServiceName, ServiceSettings

BUNDLE_FORMAT = 1
"""Format of the bundle's files; a reader refuses a newer one."""


class VocabularyEntry(Record):
    """A template the model knows; its place in the list plus 2 is its index (0 = padding, 1 = unknown)."""

    template: TemplateId
    text: str
    count: int = Field(ge=0)


class Calibration(Record):
    """Surprises of held-back normal sessions, from which a surprise becomes a score.

    ``worst`` are the highest surprises of each held-back session (``kind`` *session*) or each held-back window
    (*stream*), as up to 1,001 quantiles in rising order (nats).
    """

    kind: Literal["session", "stream"]
    held_back: int = Field(ge=0)
    worst: tuple[float, ...]


class Sanity(Record):
    """What is noteworthy in the lines that a bundle was learnt from."""

    lines: int
    templates: int
    repeated: float
    """Share of the lines that are there twice or more, byte for byte."""
    longest_gap_seconds: float
    """Longest time in which no line of any partition arrived."""
    clock_jumps: int
    """Times at which lines of a partition went back by more than a minute."""
    loud: float
    """Share of the lines that are errors or worse."""
    conflicts: int
    """Confirmed sessions that look like sessions learnt as normal: the same templates in the same order."""
    warnings: tuple[str, ...] = ()
    """Why learning from them may be unwise; empty: nothing speaks against it."""


class Trial(Record):
    """What one bundle, frozen, makes of the newest lines, and of the sessions that engineers judged."""

    raised: int
    """Sessions (lines, where they belong to none) that it raises."""
    alarms_per_day: float
    """As many lines a day taken for granted as came in that time."""
    unknown: float
    """Share of the events whose templates it does not know."""
    confirmed_found: int
    """Sessions with a confirmed fault that it raises,"""
    accepted_raised: int
    """and of those that engineers called normal."""
    bytes: int
    """Of all its files."""
    windows_per_second: float

    @property
    def precision(self) -> float | None:
        """Share of confirmed ones among the judged sessions that it raises; None where it raises none."""
        raised = self.confirmed_found + self.accepted_raised
        return self.confirmed_found / raised if raised else None


class Gate(Record):
    """A candidate beside the bundle that is live: whether it may take its place."""

    live: str
    """Version that it was compared with; empty: the service had none."""
    windows: int
    """Of the newest held-back time, by which neither model was trained nor the candidate's thresholds were set here."""
    units: int
    """Sessions, whole sessions and single lines among them that could be raised."""
    confirmed: int
    """Sessions that engineers confirmed, within the training's time,"""
    accepted: int
    """and those that they called false positives or expected."""
    onnx_difference: float
    """Greatest difference in nats between the model as trained and as saved."""
    candidate: Trial
    before: Trial | None
    failed: tuple[str, ...] = ()
    """Why the candidate is worse; empty: it is not."""


class FileEntry(Record):
    """A file of the bundle with its size and hash."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_.]*$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Record):
    """``manifest.json`` of a bundle: what it was made of, how well it did, and the hashes of its other files."""

    format: int = BUNDLE_FORMAT
    service: ServiceName
    version: str = Field(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$")
    created_ms: int
    code_version: str
    settings: ServiceSettings
    window: int
    end_event: bool
    unseen_log_probability: float
    """Natural logarithm of the chance that the next event was never seen in training (Good-Turing)."""
    data_from_ms: int
    data_to_ms: int
    lines: int
    sessions: int
    windows: int
    unique_windows: int
    left_out: dict[str, int] = Field(default_factory=dict)
    """Lines left out of the training, by reason (``confirmed``, ``unsure``, ``expiring``, ``incident``)."""
    calibration: tuple[Calibration, ...]
    metrics: dict[str, float] = Field(default_factory=dict)
    surprises: tuple[float, ...] = ()
    """Shares of the held-back windows by how surprising they were (``models.drift.EDGES``); empty: not known."""
    bars: dict[Literal["session", "stream"], float] = Field(default_factory=dict)
    """Thresholds in nats that an engineer set by hand, in place of those that the budget comes to."""
    sanity: Sanity | None = None
    gate: Gate | None = None
    files: tuple[FileEntry, ...]
