"""What the supervisor writes about the stack, and everybody else reads: ``<home>/status.json``."""

import json
import os
import threading
from pathlib import Path
from typing import Literal

from pydantic import Field

from contracts.base import Record

PartState = Literal["waiting", "starting", "ready", "restarting", "stopping", "stopped"]


class PartStatus(Record):
    """One part of the stack."""

    name: str
    state: PartState = "waiting"
    pid: int | None = None
    port: int = 0
    address: str = ""
    restarts: int = 0
    """Times it died and was started again since ``up``."""
    last_exit: str = ""
    """How it ended the last time it died; empty while it never has."""
    since_ms: int = 0
    """When it took its state, milliseconds since 1970 UTC."""
    log: str = ""
    """The file that says what happens in it."""
    memory_mb: float | None = None
    """Memory with its children; only where it was asked for."""


class JobStatus(Record):
    """One job the keeper looks after."""

    name: str
    topics: str
    state: str
    """Flink's word (``RUNNING``, ``RESTARTING``, ...), or ``SUBMITTING``."""
    job_id: str = ""
    resubmissions: int = 0
    """Times it was submitted again because its JobManager or the job itself had died."""
    restored_from: str = ""
    problem: str = ""


class StackStatus(Record):
    """The whole stack."""

    state: Literal["starting", "running", "stopping", "stopped", "failed"] = "stopped"
    supervisor: int | None = None
    """Its process id."""
    error: str = ""
    """Why it failed, one sentence."""
    home: str = ""
    parts: tuple[PartStatus, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    reaped: int = Field(default=0, ge=0)
    """Processes without a parent that were ended since ``up``."""


def status_file(home: Path) -> Path:
    """Return where the status is."""
    return home / "status.json"


def read_status(home: Path) -> StackStatus:
    """Return what was written last; a stack that never was is stopped."""
    try:
        return StackStatus.model_validate_json(status_file(home).read_bytes())
    except FileNotFoundError:
        return StackStatus(home=str(home))


def write_status(home: Path, status: StackStatus) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    replace_text(status_file(home), json.dumps(status.model_dump(), indent=1))


def replace_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(text)
    temporary.replace(path)
