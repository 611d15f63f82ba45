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
    """Lines left out of the training, by reason (``confirmed``, ``unsure``)."""
    calibration: tuple[Calibration, ...]
    metrics: dict[str, float] = Field(default_factory=dict)
    files: tuple[FileEntry, ...]
