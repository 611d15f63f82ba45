"""Processes of a stack, known by a mark in their environment that their children inherit.

The mark finds what process groups and parents do not: Python workers of a TaskManager killed with -9, and everything
left by a supervisor killed with -9.
"""

import contextlib
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

STACK = "LOGCANARY_STACK"
"""Environment variable with the home of the stack a process belongs to."""
PART = "LOGCANARY_PART"
"""Environment variable with the name of its part."""
KILLED_SECONDS = 5.0
"""A process that cannot be killed for this long hangs in the kernel; nobody can end it."""


def marks(home: Path, part: str) -> dict[str, str]:
    """Return the environment that marks a process."""
    return {STACK: str(home), PART: part}


def marked(home: Path, part: str | None = None) -> list[psutil.Process]:
    """Return the living processes of a stack (of one part of it), this process left out."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(STACK) != str(home) or process.status() == psutil.STATUS_ZOMBIE:
                continue
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # gone, or another user's
        if process.pid != psutil.Process().pid and (part is None or environment.get(PART) == part):
            found.append(process)
    return found


def reap(home: Path, part: str | None = None, grace_seconds: float = 0.0) -> int:
    """End every marked process and return how many there were; they have ``grace_seconds`` to end by themselves."""
    ended: set[int] = set()
    # A dying process may still start another: look again until there is none.
    for _ in range(20):
        found = marked(home, part)
        if not found:
            break
        ended |= {process.pid for process in found}
        end(found, grace_seconds)
    return len(ended)


def end(processes: Iterable[psutil.Process], grace_seconds: float) -> None:
    """Ask processes to end, and kill those that have not within ``grace_seconds``."""
    alive = list(processes)
    if grace_seconds > 0:
        _signal(alive, signal.SIGTERM)
        alive = _still_alive(alive, grace_seconds)
    _signal(alive, signal.SIGKILL)
    _still_alive(alive, KILLED_SECONDS)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _still_alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that live on after ``seconds``; a zombie is dead, whoever should have collected it."""
    deadline = time.monotonic() + seconds
    alive = processes
    while (alive := [process for process in alive if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_bytes(home: Path, part: str) -> int:
    """Return the memory of a part with its children in bytes (proportional set size where the system tells it)."""
    total = 0
    for process in marked(home, part):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
            continue
    return total
