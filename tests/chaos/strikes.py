"""How each part of a running stack is killed, and how one can tell that it is back."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from contracts.settings import AppSettings
from deploy.parts import get_json
from deploy.paths import PROJECT, DeployError
from deploy.stack import is_up, up
from deploy.status import PartStatus, read_status
from storage.broker import BrokerUnreachableError, KafkaError
from streaming.stages import now_ms
from streaming.submit import list_jobs
from tests.machine import patience

TARGETS = (
    "taskmanager", "jobmanager", "kafka", "hdfs", "archiver", "exporter", "jobs", "worker", "trainer", "supervisor",
)  # fmt: skip
"""``worker`` is a Python worker of the TaskManager, ``jobs`` the keeper of jobs, ``hdfs`` the NameNode with its
DataNodes, ``trainer`` a ``logcanary train`` at work."""
GIVE_UP_SECONDS = 180.0
TRAINER_SECONDS = (0.5, 6.0)
"""How long a trainer may work before it is killed, at random; it needs about that long."""


class ChaosError(Exception):
    """The run cannot go on; the message says what was waited for in vain."""


@dataclass
class Struck:
    """Somebody who was killed."""

    target: str
    killed_ms: int
    is_back: Callable[[], bool]
    """Asked until it is true; may raise what a server that is away makes clients raise."""


class Strikes:
    """Kills parts of one stack.

    Args:
        settings: of the stack.
        job: the job whose workers are killed.
        trained: a service that can be trained.
        chance: decides what is left open.
    """

    def __init__(self, settings: AppSettings, job: str, trained: str, chance: random.Random) -> None:
        self.settings, self.job, self.trained, self._chance = settings, job, trained, chance
        self._trainer: subprocess.Popen[bytes] | None = None

    def strike(self, target: str) -> Struck:
        """Kill one of ``TARGETS``, once it is there.

        Raises:
            ChaosError: it is not there and does not come.
        """
        match target:
            case "trainer":
                return self._kill_trainer()
            case "supervisor":
                return self._kill_supervisor()
            case "worker":
                return self._kill_worker()
        part = self._running(target)
        assert part.pid is not None
        os.kill(part.pid, signal.SIGKILL)
        pid = part.pid
        return Struck(target, now_ms(), lambda: is_back(self._part(target), pid))

    @contextlib.contextmanager
    def asleep(self, name: str) -> Iterator[None]:
        """Stop a part of the stack for a while, as on a machine that is suspended, and let it go on."""
        pid = self._running(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # it was given up meanwhile, and started again
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End what this object has started."""
        if self._trainer is not None:
            self._trainer.kill()
            self._trainer.wait()

    def _kill_worker(self) -> Struck:
        workers: list[psutil.Process] = []

        def found() -> bool:
            pid = self._running("taskmanager").pid
            children = psutil.Process(pid).children(recursive=True)
            workers[:] = sorted((one for one in children if "python" in one.name()), key=lambda one: one.pid)
            return bool(workers)

        until(found, "Python workers")
        job = next(job.id for job in list_jobs(self.settings) if job.name == self.job)
        self._chance.choice(workers).kill()
        killed = now_ms()

        def restarted() -> bool:
            # Until Flink has noticed, other workers may go on for a moment.
            if not any(map(lives, workers)):
                return True
            return bool(get_json(f"{self.settings.flink.rest}/jobs/{job}")["timestamps"]["RESTARTING"] > killed)

        return Struck("worker", killed, restarted)

    def _kill_supervisor(self) -> Struck:
        until(lambda: is_up(self.settings.home), "the supervisor")
        pid = read_status(self.settings.home).supervisor
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed = now_ms()
        until(lambda: not is_up(self.settings.home), "the supervisor's lock to be free")
        found = up(self.settings)
        if (found.kafka, found.hdfs, found.flink) != (self.settings.kafka, self.settings.hdfs, self.settings.flink):
            raise ChaosError(f"the stack came back at other addresses: {found}")
        return Struck("supervisor", killed, lambda: True)

    def _kill_trainer(self) -> Struck:
        self.close()
        environment = {**os.environ, "LOGCANARY_HOME": str(self.settings.home)}
        words = [sys.executable, "-m", "cli.main", "train", "--service", self.trained]
        self._trainer = subprocess.Popen(
            words, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(self._chance.uniform(*TRAINER_SECONDS))
        self.close()
        return Struck("trainer", now_ms(), lambda: True)

    def _running(self, name: str) -> PartStatus:
        until(lambda: self._part(name).pid is not None, f"{name} to be started")
        return self._part(name)

    def _part(self, name: str) -> PartStatus:
        parts = {part.name: part for part in read_status(self.settings.home).parts}
        return parts.get(name, PartStatus(name=name))


def is_back(part: PartStatus, pid: int) -> bool:
    """Whether a part that was killed as ``pid`` is ready again."""
    return part.state == "ready" and part.pid not in (None, pid)


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], what: str, check: Callable[[], None] = lambda: None) -> None:
    """Wait; servers that do not answer meanwhile are what is being waited for.

    Args:
        true: asked until it is.
        what: for the message.
        check: called between; raises where waiting makes no sense any more.

    Raises:
        ChaosError: it was not within ``GIVE_UP_SECONDS``, as long as those are on this machine.
    """
    limit = patience(GIVE_UP_SECONDS)
    deadline = time.monotonic() + limit
    while True:
        try:
            if true():
                return
            why = ""
        except (DeployError, BrokerUnreachableError, KafkaError, OSError, ValueError, psutil.Error) as error:
            why = f" ({error})"
        if time.monotonic() > deadline:
            raise ChaosError(f"waited {limit:.0f} s for {what}{why}")
        check()
        time.sleep(0.1)
