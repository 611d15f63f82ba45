"""The local stack for the command line: ``up``, ``down``, ``status``, ``log_path``.

>>> from contracts.settings import AppSettings
>>> from deploy.stack import up, down, status
>>> settings = up(AppSettings(), print)     # doctest: +SKIP
>>> settings.kafka.bootstrap                # doctest: +SKIP
'127.0.0.1:9092'
>>> down(settings)                          # doctest: +SKIP
True
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from contracts.settings import AppSettings
from deploy.jobs import list_jobs
from deploy.paths import PROJECT, DeployError, check_disk
from deploy.processes import marked, marks, memory_bytes, reap
from deploy.status import PartStatus, StackStatus, read_status
from deploy.supervisor import only_one

UP_SECONDS = 180.0
"""The stack is up in a tenth of this; on a machine that is much slower, waiting longer would not help."""
DOWN_SECONDS = 90.0
DISK_MB = 1_000
"""Free space to start with; HDFS refuses blocks and Kafka dies on a full disk."""

ROLL_SECONDS = 30
"""``archive.roll_seconds`` of a local stack, where nobody asked for another: who tries things out is not to wait ten
minutes for what can be learnt from, and small files do no harm here."""

_CHILDREN: dict[Path, "subprocess.Popen[bytes]"] = {}
"""Supervisors this process has started, to be collected when they end."""

Progress = Callable[[PartStatus], None]
"""Called with a part whenever its state changes."""


def up(settings: AppSettings, progress: Progress = lambda part: None) -> AppSettings:
    """Start the stack of ``settings.home`` and return the settings that lead to it, once every part is ready.

    A stack that already runs is left as it is. What a killed supervisor left behind is ended first. Interrupted
    (Ctrl-C), it stops what it has started.

    Raises:
        DeployError: a part does not start; the message says which and why. Nothing is left running.
    """
    home = _home(settings)
    if "roll_seconds" not in settings.archive.model_fields_set:
        archive = settings.archive.model_copy(update={"roll_seconds": ROLL_SECONDS})
        settings = settings.model_copy(update={"archive": archive})
    if not is_up(home):
        check_disk(home, DISK_MB)
        _start_supervisor(home, settings)
    try:
        _wait_until_running(home, progress)
    except BaseException:
        down(settings)
        raise
    return stack_settings(settings)


def down(settings: AppSettings, progress: Progress = lambda part: None) -> bool:
    """Stop the stack and everything it left, and say whether there was anything; the data stay."""
    home = _home(settings)
    if not home.is_dir():
        return False
    was_up = is_up(home)
    if was_up:
        _stop_supervisor(home, progress)
    leftovers = reap(home, grace_seconds=3.0)
    if home in _CHILDREN:
        _CHILDREN.pop(home).wait()
    (home / "stack.toml").unlink(missing_ok=True)
    return was_up or leftovers > 0


def status(settings: AppSettings, memory: bool = False) -> StackStatus:
    """Return the state of every part; with ``memory``, also what each takes (a tenth of a second a part)."""
    home = _home(settings)
    found = read_status(home)
    if not is_up(home):
        left = len(marked(home)) if home.is_dir() else 0
        error = f"the supervisor is gone and left {left} processes: `logcanary up` or `down` ends them" if left else ""
        return StackStatus(state="failed" if left else "stopped", home=str(home), error=error or found.error)
    found = found.model_copy(update={"jobs": tuple(list_jobs(settings))})
    if memory:
        parts = tuple(
            part.model_copy(update={"memory_mb": memory_bytes(home, part.name) / 1e6}) for part in found.parts
        )
        found = found.model_copy(update={"parts": parts})
    return found


def log_path(settings: AppSettings, name: str) -> Path:
    """Return the file with the log of the part ``name`` (or ``supervisor``).

    Raises:
        DeployError: there is no such part; the message lists those there are.
    """
    home = _home(settings)
    logs = {part.name: Path(part.log) for part in read_status(home).parts}
    logs["supervisor"] = home / "logs" / "supervisor.log"
    if name not in logs:
        raise DeployError(f"There is no part {name!r}; there are {', '.join(sorted(logs))}.")
    return logs[name]


def stack_settings(settings: AppSettings) -> AppSettings:
    """Return ``settings`` with the addresses of the running stack of ``settings.home`` in them."""
    home = _home(settings)
    parts = {part.name: part for part in read_status(home).parts}
    web = settings.web.model_copy(
        update={f"{name}_port": _port(parts, name) for name in ("exporter", "prometheus", "console")}
    )
    return settings.model_copy(
        update={
            "home": home,
            "kafka": settings.kafka.model_copy(update={"bootstrap": parts["kafka"].address}),
            "hdfs": settings.hdfs.model_copy(update={"url": parts["hdfs"].address}),
            "flink": settings.flink.model_copy(update={"rest": parts["jobmanager"].address}),
            "web": web,
        }
    )


def is_up(home: Path) -> bool:
    """Say whether a supervisor lives for this home."""
    if not (home / "supervisor.lock").exists():
        return False
    with only_one(home) as alone:
        return not alone


def _port(parts: dict[str, PartStatus], name: str) -> int:
    return parts[name].port if name in parts else 1


def _home(settings: AppSettings) -> Path:
    return settings.home.expanduser().absolute()


def _start_supervisor(home: Path, settings: AppSettings) -> None:
    if home in _CHILDREN:  # one that was killed
        _CHILDREN.pop(home).wait()
    (home / "logs").mkdir(parents=True, exist_ok=True)
    (home / "status.json").unlink(missing_ok=True)
    (home / "settings.json").write_text(settings.model_dump_json())
    environment = {**os.environ, **marks(home, "supervisor"), "PYTHONPATH": _python_path()}
    with (home / "logs" / "supervisor.log").open("ab") as output:
        _CHILDREN[home] = subprocess.Popen(
            [sys.executable, "-m", "deploy.supervisor", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=environment,
            start_new_session=True,
        )


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))


def _wait_until_running(home: Path, progress: Progress) -> None:
    deadline = time.monotonic() + UP_SECONDS
    told: dict[str, PartStatus] = {}
    while time.monotonic() < deadline:
        found = read_status(home)
        _tell(found, told, progress)
        if found.state == "running":
            return
        if found.state in ("failed", "stopped", "stopping") and found.supervisor:
            _wait_for_end(home)
            raise DeployError(read_status(home).error or "The stack was stopped while it started.")
        if _CHILDREN[home].poll() is not None if home in _CHILDREN else not is_up(home):
            raise DeployError(f"The supervisor died: see {home / 'logs' / 'supervisor.log'}.")
        time.sleep(0.05)
    late = ", ".join(part.name for part in read_status(home).parts if part.state != "ready") or "the supervisor"
    raise DeployError(f"Not ready after {UP_SECONDS:.0f} s: {late}; see {home / 'logs'}.")


def _stop_supervisor(home: Path, progress: Progress) -> None:
    pid = read_status(home).supervisor
    if pid:
        os.kill(pid, signal.SIGTERM)
    told: dict[str, PartStatus] = {}
    deadline = time.monotonic() + DOWN_SECONDS
    while is_up(home) and time.monotonic() < deadline:
        _tell(read_status(home), told, progress)
        time.sleep(0.05)


def _wait_for_end(home: Path) -> None:
    deadline = time.monotonic() + DOWN_SECONDS
    while is_up(home) and time.monotonic() < deadline:
        time.sleep(0.05)


def _tell(found: StackStatus, told: dict[str, PartStatus], progress: Progress) -> None:
    for part in found.parts:
        if told.get(part.name) != part:
            told[part.name] = part
            progress(part)
