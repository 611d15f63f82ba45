"""The records of trainings: who asked, how far each is, what came of it; and the way to cancel one.

    runs = Runs(files, settings.hdfs.root)
    run = runs.begin(request)
    with Tracker(settings, run) as track:
        track.say("Read 2,000 lines")          # CancelledError where somebody has cancelled it
    runs.cancel("pay", run.id, "ada")

    <root>/registry/<service>/runs/<id>/<number>.json, cancelled

A record is never changed: the next one is written beside it, then the one before deleted. So a reader finds one whole
record at any moment, whoever is killed meanwhile.
"""

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from types import TracebackType

from contracts.retraining import RetrainingRequest, Run, Stage
from contracts.settings import AppSettings
from models.learning import Passed, Say
from storage.files import Files, StorageError, open_files
from storage.locks import is_alive
from training.learner import TrainingError

BEAT_SECONDS = 1.0
"""Between two looks at whether it is cancelled, and two records while it moves."""
LOST_MS = 120_000
"""Without a record for so long its process is gone, or hangs."""
BEGUN_MS = 600_000
"""So long its process may take to begin: a busy machine imports libraries for minutes, a cluster pulls an image."""
SHOWN = 50
"""Runs listed of a service: the newest; the older ones are deleted when another begins."""
READ_TRIES = 20

_id = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


class CancelledError(TrainingError):
    """Somebody cancelled the training; nothing was published."""


class UnknownRunError(LookupError):
    """There is no such training; the message says where to look."""


class Runs:
    """The trainings below ``<root>/registry``."""

    def __init__(self, files: Files, root: str) -> None:
        self._files = files
        self._root = f"{root.rstrip('/')}/registry"

    @classmethod
    def of(cls, settings: AppSettings) -> "Runs":
        """Those that the settings name."""
        return cls(open_files(settings.hdfs), settings.hdfs.root)

    def begin(self, request: RetrainingRequest) -> Run:
        """Write down that a training is asked for.

        Raises:
            StorageError: the store does not answer.
        """
        now = time.time_ns() // 1_000_000
        moment = datetime.fromtimestamp(now / 1000, tz=UTC)
        run = Run(id=f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}", request=request, asked_ms=now, updated_ms=now)
        self._files.write(self._record(run, 0), run.model_dump_json().encode())
        for old in self._ids(request.service)[SHOWN:]:
            self._files.delete(self._folder(request.service, old), recursive=True)
        return run

    def put(self, run: Run) -> None:
        """Write the newest state of a training.

        Raises:
            StorageError: the store does not answer; the state before stands.
        """
        numbers = self._numbers(run.request.service, run.id)
        self._files.write(self._record(run, max(numbers, default=-1) + 1), run.model_dump_json().encode())
        for number in numbers:
            self._files.delete(self._record(run, number))

    def get(self, service: str, run: str) -> Run:
        """The newest state of a training.

        Raises:
            UnknownRunError: there is no such training.
            StorageError: the store does not answer.
        """
        if _id.fullmatch(run):
            for _ in range(READ_TRIES):  # what was listed may have been replaced by the next, or be missed by the list
                if not (numbers := self._numbers(service, run)):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    data = self._files.read(f"{self._folder(service, run)}/{max(numbers):09d}.json")
                    return _seen(Run.model_validate_json(data))
        raise UnknownRunError(f"{service} has no training {run}: `logcanary trainings list -s {service}` shows them")

    def newest(self, service: str, most: int = SHOWN) -> list[Run]:
        """The trainings of a service, the newest first; ``most`` of them.

        Raises:
            StorageError: the store does not answer.
        """
        return list(islice(self._each(service), most))

    def active(self, service: str) -> Run | None:
        """The training that waits or runs, if one does."""
        return next((run for run in self._each(service) if run.is_active), None)

    def _each(self, service: str) -> Iterator[Run]:
        """One after another, the newest first, each read when it is asked for."""
        for one in self._ids(service)[:SHOWN]:
            with contextlib.suppress(UnknownRunError):
                yield self.get(service, one)

    def cancel(self, service: str, run: str, author: str) -> Run:
        """Ask a training to stop; it does so within seconds, and publishes nothing.

        Raises:
            UnknownRunError: there is no such training.
            TrainingError: it is over.
            StorageError: the store does not answer.
        """
        found = self.get(service, run)
        if not found.is_active:
            raise TrainingError(f"training {run} of {service} is {found.state} already")
        with contextlib.suppress(FileExistsError):  # somebody else had the same thought
            self._files.write(f"{self._folder(service, run)}/cancelled", author.encode())
        if found.state == "queued":  # its process may be gone before it began; if it is not, it does not begin
            now = time.time_ns() // 1_000_000
            self.put(
                found.model_copy(update={"state": "cancelled", "error": f"cancelled by {author}", "ended_ms": now})
            )
        return found

    def cancelled_by(self, run: Run) -> str | None:
        """Who cancelled a training; None: nobody."""
        try:
            return self._files.read(f"{self._folder(run.request.service, run.id)}/cancelled").decode()
        except FileNotFoundError:
            return None

    def _ids(self, service: str) -> list[str]:
        entries = self._files.list(f"{self._root}/{service}/runs")
        return sorted((one.name for one in entries if one.is_dir and _id.fullmatch(one.name)), reverse=True)

    def _numbers(self, service: str, run: str) -> list[int]:
        names = [one.name for one in self._files.list(self._folder(service, run))]
        return [int(name.removesuffix(".json")) for name in names if name.endswith(".json")]

    def _folder(self, service: str, run: str) -> str:
        return f"{self._root}/{service}/runs/{run}"

    def _record(self, run: Run, number: int) -> str:
        return f"{self._folder(run.request.service, run.id)}/{number:09d}.json"


def _seen(run: Run) -> Run:
    """A run as it stands: one whose process is gone does not run."""
    if not run.is_active:
        return run
    silent = time.time_ns() // 1_000_000 - run.updated_ms > (LOST_MS if run.state == "running" else BEGUN_MS)
    gone = run.pid and run.host == socket.gethostname() and not is_alive(run.pid)
    if not (silent or gone):
        return run
    return run.model_copy(update={"state": "lost", "error": f"process {run.pid or '?'} on {run.host or '?'} is gone"})


class Progress:
    """What a training tells of how far it is; nobody listens here."""

    def update(self, **changes: object) -> None:
        """Change fields of the record."""

    def stage(self, stage: Stage) -> None:
        """Another stage begins."""

    def say(self, words: str) -> None:
        """Take in what is being done."""

    def read(self, lines: int) -> None:
        """So many more lines are read."""


class Tracker(Progress):
    """Writes down how far a training is, from a thread of its own, and hears that it is cancelled.

    Args:
        settings: where the store is; the thread has a connection of its own.
        run: the training.
        say: told each sentence, too.
    """

    def __init__(self, settings: AppSettings, run: Run, say: Say = lambda words: None) -> None:
        self._runs = Runs.of(settings)
        self._say = say
        now = time.time_ns() // 1_000_000
        self.run = run.model_copy(
            update={"state": "running", "started_ms": now, "host": socket.gethostname(), "pid": os.getpid()}
        )
        self._began = time.monotonic()
        self._cancelled: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="training-record", daemon=True)

    def __enter__(self) -> "Tracker":
        """Write the first record, then one a second.

        Raises:
            CancelledError: somebody cancelled it before it began.
        """
        if (author := self._runs.cancelled_by(self.run)) is not None:
            raise CancelledError(f"cancelled by {author}")
        self._put()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write how it ended."""
        self._over.set()
        self._thread.join()
        if self.run.is_active:
            state = "cancelled" if isinstance(error, CancelledError | KeyboardInterrupt) else "failed"
            self.update(state=state, error=str(error) or kind.__name__ if kind else "it ended without a result")
        with contextlib.suppress(StorageError):  # what went wrong counts, not that it cannot be written down
            self.update(ended_ms=time.time_ns() // 1_000_000, seconds_left=None)
            self._put()

    def update(self, **changes: object) -> None:
        """Change fields of the record; it is written with the next beat."""
        self.run = self.run.model_copy(update=changes)

    def stage(self, stage: Stage) -> None:
        """Another stage begins.

        Raises:
            CancelledError: somebody cancelled the training.
        """
        self._began = time.monotonic()
        self.update(stage=stage, seconds_left=None)
        self._heed()

    def say(self, words: str) -> None:
        """Take in what is being done.

        Raises:
            CancelledError: somebody cancelled the training.
        """
        self._say(words)
        if isinstance(words, Passed):
            each = (time.monotonic() - self._began) / words.epoch
            self.update(epoch=words.epoch, epochs=words.epochs, loss=words.loss)
            self.update(seconds_left=each * (words.epochs - words.epoch))
        self.update(message=str(words))
        self._heed()

    def read(self, lines: int) -> None:
        """So many more lines are read.

        Raises:
            CancelledError: somebody cancelled the training.
        """
        done = self.run.done + lines
        each = (time.monotonic() - self._began) / max(1, done)
        self.update(done=done, seconds_left=each * max(0, self.run.total - done))
        self._heed()

    def _heed(self) -> None:
        if self._cancelled is not None:
            raise CancelledError(f"cancelled by {self._cancelled}")

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(StorageError):  # the training itself will meet it, or it passes
                self._cancelled = self._runs.cancelled_by(self.run)
                self._put()

    def _put(self) -> None:
        self.update(updated_ms=time.time_ns() // 1_000_000)
        self._runs.put(self.run)
