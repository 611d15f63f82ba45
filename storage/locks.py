"""One at a time, across machines: a file that only one can make.

    with lock(files, "/logcanary/registry/pay/training.lock", who="ada") as mine:
        ...

Who is killed leaves its file behind. It no longer counts when its process is gone (asked of the machine it ran on), or
after ``STALE_MS``.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from storage.files import Files

STALE_MS = 12 * 3_600_000
"""Longer than anything that is locked takes."""
TRIES = 5
"""Locks of the dead that are cleared away in a row; more than one is rare."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    who: str
    host: str
    pid: int
    since_ms: int
    token: str
    """No two are the same."""


class LockedError(Exception):
    """Somebody else holds the lock; ``holder`` says who."""

    def __init__(self, path: str, holder: Holder) -> None:
        super().__init__(f"{path} is held by {holder.who} (process {holder.pid} on {holder.host})")
        self.path, self.holder = path, holder


@contextlib.contextmanager
def lock(files: Files, path: str, who: str) -> Iterator[Holder]:
    """Hold a lock while the block runs.

    Args:
        files: the store.
        path: of the lock's file.
        who: said to whoever wants it meanwhile.

    Raises:
        LockedError: somebody else has it.
        StorageError: the store does not answer.
    """
    mine = Holder(who, socket.gethostname(), os.getpid(), time.time_ns() // 1_000_000, secrets.token_hex(8))
    _take(files, path, mine)
    try:
        yield mine
    finally:
        with contextlib.suppress(OSError):  # it is found to be of a process that is gone
            if _holder(files, path) == mine:
                files.delete(path)


def _take(files: Files, path: str, mine: Holder) -> None:
    theirs = mine
    for _ in range(TRIES):
        try:
            files.write(path, json.dumps(asdict(mine)).encode())
        except FileExistsError:
            found = _holder(files, path)
            if found is None:  # given back just now
                continue
            theirs = found
            if not _is_gone(theirs, mine):
                raise LockedError(path, theirs) from None
            # Only one can move it away; whoever comes second finds nothing, or the new lock.
            aside = f"{path}.{mine.token}"
            with contextlib.suppress(FileNotFoundError):
                files.move(path, aside)
                files.delete(aside)
        else:
            return
    raise LockedError(path, theirs)


def _is_gone(theirs: Holder, mine: Holder) -> bool:
    if theirs.since_ms < mine.since_ms - STALE_MS:
        return True
    return theirs.host == mine.host and theirs.pid != mine.pid and not is_alive(theirs.pid)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _holder(files: Files, path: str) -> Holder | None:
    """Who holds the lock; None: nobody."""
    try:
        data = files.read(path)
    except FileNotFoundError:
        return None
    return Holder(**json.loads(data))
