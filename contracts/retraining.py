"""A training that somebody asked for: what was asked, how far it is, what came of it."""

from typing import Literal

from pydantic import Field

from contracts.base import Record
from contracts.bundle import Gate, Sanity
from contracts.service import ServiceName

RunId = str
"""``YYYYMMDDTHHMMSS-xxxxxxxx``: when it was asked for, and a random part."""

RunState = Literal["queued", "running", "done", "kept", "failed", "cancelled", "lost"]
"""``done``: its bundle is live; ``kept``: its bundle is in the registry, and not live because it is worse than the one
that is; ``lost``: its process ended without a word."""

ACTIVE: tuple[RunState, ...] = ("queued", "running")

Stage = Literal["wait", "read", "learn", "compare", "publish"]
"""``wait``: for the archiver, or for the process; ``read``: archive to windows; ``learn``: model, thresholds, whole
sessions; ``compare``: the gate; ``publish``: bundle and pointer."""


class Wanted(Record):
    """What a training of a service is asked for with."""

    author: str = Field(min_length=1, max_length=100, examples=["ada"])
    reason: str = Field(default="asked for", max_length=500, examples=["after release 1.4"])
    from_ms: int | None = None
    """Lines that arrived at this time or later, ms since 1970 UTC; None: from the first."""
    to_ms: int | None = None
    """Lines that arrived before this time; None: to the last."""
    without: tuple[tuple[int, int], ...] = ()
    """Times of arrival that are left out, as those of incidents: from, and until before."""
    most_lines: int = Field(default=0, ge=0)
    """Of more archived lines whole hours are left out evenly, never of the newest fifth; 0: however many."""
    prepared: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    """Name under which a batch job prepared the lines of that time (``logcanary prepare``); empty: from the archive."""
    recalibrate: bool = False
    """Keep the live bundle's model, and set its thresholds by these lines."""
    insist: bool = False
    """Make the bundle live even where the gate finds it worse."""


class RetrainingRequest(Wanted):
    """... and of which service."""

    service: ServiceName


class Run(Record):
    """A training, from the request to what came of it (``<root>/registry/<service>/runs``)."""

    id: RunId
    request: RetrainingRequest
    state: RunState = "queued"
    stage: Stage = "wait"
    message: str = ""
    """What is being done, in words."""
    done: int = 0
    total: int = 0
    """Lines read, and lines to read."""
    epoch: int = 0
    epochs: int = 0
    """Passes made, and at most to be made."""
    loss: float | None = None
    """Surprise of held-back events after the last pass, nats."""
    seconds_left: float | None = None
    """Of this stage, where it can be told."""
    asked_ms: int
    started_ms: int = 0
    updated_ms: int = 0
    ended_ms: int = 0
    host: str = ""
    pid: int = 0
    version: str = ""
    """Of the bundle that was published."""
    sanity: Sanity | None = None
    gate: Gate | None = None
    error: str = ""
    """Why nothing was published, or who cancelled."""

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE
