"""The one process that starts the stack's parts, starts them again when they die, and stops them in order.

``python -m deploy.supervisor HOME`` is started by ``deploy.stack.up`` in a session of its own. It holds a lock on
``<home>/supervisor.lock`` while it lives (which says better than a process id that it does), writes
``<home>/status.json`` at every change, and stops everything on SIGTERM.
"""

import contextlib
import fcntl
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import tomli_w

from contracts.settings import AppSettings
from deploy.broker import broker
from deploy.cluster import jobmanager, taskmanager
from deploy.dfs import dfs
from deploy.java import find_java
from deploy.monitoring import alertmanager, prometheus
from deploy.own import archiver, console, exporter, installed, keeper
from deploy.parts import Part, Plan
from deploy.paths import DeployError
from deploy.ports import Ports
from deploy.processes import marks, reap
from deploy.status import PartState, PartStatus, StackStatus, replace_text, write_status

log = logging.getLogger("supervisor")

READY_SECONDS = 90.0
"""A part that is not ready by then is killed and started again; the slowest takes 10 s on 2 busy cores."""
HOPELESS = 3
"""Deaths before a part was ready even once, after which the stack gives up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a part that died is started again: doubled each time, from the first again after a good minute."""
POLL_SECONDS = 0.1
"""Between two questions whether a part is ready."""
LOOK_SECONDS = 0.3
"""Between two looks whether a part that is ready should stop; its death is noticed at once."""


def parts_of(plan: Plan) -> list[Part]:
    """Return all parts, in the order they are shown."""
    parts = [broker(plan), dfs(plan), jobmanager(plan), taskmanager(plan), prometheus(plan), alertmanager(plan)]
    own = {
        "streaming.exporter": exporter,
        "streaming.archiver": archiver,
        "deploy.keeper": keeper,
        "console.serving": console,
    }
    return parts + [make(plan) for module, make in own.items() if installed(module)]


class Guard(threading.Thread):
    """Looks after one part from its start to its stop."""

    def __init__(self, part: Part, supervisor: "Supervisor") -> None:
        super().__init__(name=part.name, daemon=True)
        self.part = part
        self.supervisor = supervisor
        self.process: subprocess.Popen[bytes] | None = None
        self.status = PartStatus(name=part.name, port=part.port, address=part.address, log=str(part.log))
        self.ready = threading.Event()
        self.stop_asked = threading.Event()
        self.was_ready = False
        self.deaths = 0

    def run(self) -> None:
        """Start, watch, start again, until told to stop."""
        try:
            while not self.stop_asked.is_set() and not self._may_start():
                self.stop_asked.wait(POLL_SECONDS / 2)
            while not self.stop_asked.is_set():
                self._live_once()
        except Exception as error:
            log.exception("%s cannot be looked after", self.part.name)
            self.supervisor.fail(f"{self.part.name}: {error}")
        self._shut_down()

    def _may_start(self) -> bool:
        return all(self.supervisor.guards[name].ready.is_set() for name in self.part.waits_for)

    def _live_once(self) -> None:
        started = time.monotonic()
        self.part.prepare()
        self._start()
        assert self.process is not None
        while self.process.poll() is None and not self.stop_asked.is_set():
            if not self.ready.is_set():
                self._look(started)
            wait_for_death(self.process.pid, LOOK_SECONDS if self.ready.is_set() else POLL_SECONDS)
        if not self.stop_asked.is_set():
            self._died(time.monotonic() - started)

    def _start(self) -> None:
        home = self.supervisor.home
        temporary = home / "tmp" / self.part.name
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        environment = {**os.environ, **self.part.environment, **marks(home, self.part.name), "TMPDIR": str(temporary)}
        with (home / "logs" / f"{self.part.name}.out").open("ab") as output:
            self.process = subprocess.Popen(
                self.part.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=environment,
                start_new_session=True,
            )
        self._set("starting", pid=self.process.pid)

    def _look(self, started: float) -> None:
        try:
            ready = self.part.ready()
        except (OSError, ValueError, KeyError):
            ready = False
        if ready and self.process is not None and self.process.poll() is None:
            self.was_ready = True
            self.ready.set()
            self._set("ready")
            log.info("%s is ready after %.1f s", self.part.name, time.monotonic() - started)
        elif time.monotonic() - started > READY_SECONDS and self.process is not None:
            log.warning("%s is not ready after %.0f s: killed", self.part.name, READY_SECONDS)
            self.process.kill()

    def _died(self, lived: float) -> None:
        assert self.process is not None
        self.ready.clear()
        self.deaths = 1 if lived > 60 else self.deaths + 1
        how = describe_exit(self.process.returncode)
        pause = min(FIRST_PAUSE * 2 ** (self.deaths - 1), LONGEST_PAUSE)
        log.warning("%s died (%s) after %.1f s, starts again in %.1f s", self.part.name, how, lived, pause)
        self._set("restarting", pid=None, last_exit=how, restarts=self.status.restarts + 1)
        self.supervisor.reaped += reap(self.supervisor.home, self.part.name)
        if self.deaths >= HOPELESS and not self.was_ready:
            self.supervisor.fail(
                f"{self.part.name} does not start ({how}): {last_words(self.supervisor.home, self.part)}"
            )
        self.supervisor.part_died(self.part.name)
        self.stop_asked.wait(pause)

    def kill(self) -> None:
        """End the process and its children at once, as a crash would; the part is started again."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def _shut_down(self) -> None:
        self.ready.clear()
        if self.process is not None and self.process.poll() is None:
            self._set("stopping")
            self.process.send_signal(self.part.stop_signal)
            try:
                self.process.wait(self.part.stop_seconds)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop within %.0f s: killed", self.part.name, self.part.stop_seconds)
                self.process.kill()
                self.process.wait()
        reap(self.supervisor.home, self.part.name)
        self._set("stopped", pid=None)

    def _set(self, state: PartState, **changes: object) -> None:
        changes |= {"state": state, "since_ms": time.time_ns() // 1_000_000}
        self.status = self.status.model_copy(update=changes)
        self.supervisor.publish()


class Supervisor:
    """All guards, and what they tell the world."""

    def __init__(self, home: Path, settings: AppSettings) -> None:
        self.home = home
        self.settings = settings
        self.guards: dict[str, Guard] = {}
        self.reaped = 0
        self.error = ""
        self.stopping = threading.Event()
        self._writing = threading.Lock()
        self._stopped = False

    def run(self) -> int:
        """Start everything, wait for the end, stop everything; return the exit status."""
        self.publish()
        self.reaped += reap(self.home, grace_seconds=3.0)
        with Ports() as held:
            try:
                plan = self._plan(held)
                self.guards = {part.name: Guard(part, self) for part in parts_of(plan)}
            except (DeployError, OSError) as error:
                self.error = str(error)
            else:
                write_stack_settings(plan)
                for guard in self.guards.values():
                    guard.start()
                self.stopping.wait()
                self._stop_in_order()
        (self.home / "stack.toml").unlink(missing_ok=True)
        self.reaped += reap(self.home)
        self._stopped = True
        self.publish()
        return 1 if self.error else 0

    def _plan(self, held: Ports) -> Plan:
        chosen = held.choose(self.home / "ports.json", preferred_ports(self.settings))
        return Plan(home=self.home, ports=chosen, java=find_java(), settings=self.settings)

    def part_died(self, name: str) -> None:
        """Take down the parts that are useless without ``name``."""
        for guard in self.guards.values():
            if name in guard.part.dies_with:
                log.warning("%s goes down with %s", guard.part.name, name)
                guard.kill()

    def fail(self, error: str) -> None:
        """Give up: everything is stopped, ``error`` says why."""
        self.error = self.error or error
        self.stopping.set()

    def _stop_in_order(self) -> None:
        """Stop each part once all that use it have stopped."""
        waiting = dict(self.guards)
        while waiting:
            used = {name for guard in waiting.values() for name in (*guard.part.waits_for, *guard.part.uses)}
            for name, guard in list(waiting.items()):
                if name not in used:
                    guard.stop_asked.set()
                if not guard.is_alive():
                    del waiting[name]
            time.sleep(0.02)

    def publish(self) -> None:
        """Write the status for everybody to read."""
        with self._writing:
            parts = tuple(guard.status for guard in self.guards.values())
            once_ready = [guard.was_ready for guard in self.guards.values()]
            state = "running" if once_ready and all(once_ready) else "starting"
            if self.stopping.is_set():
                state = "stopping"
            if self._stopped:
                state = "failed" if self.error else "stopped"
            status = {"state": state, "supervisor": os.getpid(), "error": self.error, "home": str(self.home)}
            write_status(self.home, StackStatus(**status, parts=parts, reaped=self.reaped))


def preferred_ports(settings: AppSettings) -> dict[str, int]:
    """Return the ports that the settings ask for."""
    urls = {"hdfs": settings.hdfs.url, "flink": settings.flink.rest, "kafka": settings.kafka.bootstrap}
    web = settings.web
    wished = {"exporter": web.exporter_port, "prometheus": web.prometheus_port, "console": web.console_port}
    for name, url in urls.items():
        port = url.split(",")[0].rstrip("/").rpartition(":")[2]
        if port.isdigit():
            wished[name] = int(port)
    return wished


def write_stack_settings(plan: Plan) -> None:
    """Write ``stack.toml``, through which every command finds the running stack."""
    settings = {
        "kafka": {"bootstrap": plan.address("kafka")},
        "hdfs": {"url": plan.url("hdfs")},
        "flink": {"rest": plan.url("flink")},
        "archive": {"roll_seconds": plan.settings.archive.roll_seconds},
        "web": {f"{name}_port": plan.ports[name] for name in ("exporter", "prometheus", "console")},
    }
    replace_text(plan.home / "stack.toml", tomli_w.dumps(settings))


def wait_for_death(pid: int, seconds: float) -> None:
    """Return when a child dies, or after ``seconds``; unlike ``Popen.wait`` it sleeps meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([handle], [], [], seconds)
    finally:
        os.close(handle)


def describe_exit(code: int) -> str:
    """Return how a process ended: ``exit 1`` or ``SIGKILL``."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def last_words(home: Path, part: Part) -> str:
    """Return the end of what a part wrote, for the message that it does not start."""
    for path in (home / "logs" / f"{part.name}.out", part.log):
        lines = path.read_text(errors="replace").split("\n")[-30:] if path.exists() else []
        lines = [line.strip() for line in lines if line.strip()]
        telling = [line for line in lines if "Exception" in line or "rror" in line] or lines
        if telling:
            return f"{telling[-1][:300]} (see {path})"
    return f"see {part.log}"


@contextlib.contextmanager
def only_one(home: Path, patience_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the lock of the one supervisor of a home; gives False where another has it."""
    with (home / "supervisor.lock").open("a+") as file:
        # Those who ask whether a supervisor lives hold the lock for a moment too.
        deadline = time.monotonic() + patience_seconds
        while not (mine := _locked(file)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield mine


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main() -> int:
    """Run until SIGTERM or SIGINT; the argument is the stack's home."""
    home = Path(sys.argv[1]).absolute()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with only_one(home, patience_seconds=1.0) as alone:
        if not alone:
            log.error("another supervisor runs for %s", home)
            return 2
        # The file names every setting, so that neither the environment nor another file adds to it.
        settings = AppSettings.model_validate_json((home / "settings.json").read_bytes())
        supervisor = Supervisor(home, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
