"""``make demo``: the main job on real parts, from an empty folder to an alert that fires and resolves.

Phases: start the stack; let HDFS work on files under ``/demo``; send the logs that HDFS and Kafka write to
``logs.hdfs`` and ``logs.kafka``; train from the archive; watch a quiet minute; damage replicas of ``/demo`` files on
the DataNodes' disks and read them; show the detection, and the Prometheus alert that fires and resolves.
"""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from cli import show
from cli.follow import ship
from cli.workload import NotSeenError, Workload, blocks_of, damage, wait_until
from contracts.records import Detection, Settings, Statistic
from contracts.retraining import RetrainingRequest
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings
from deploy import stack
from storage.archive import list_files
from storage.broker import consumer, ensure_topics, producer
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import submit
from training.trainer import train

SERVICES = ("hdfs", "kafka")
"""Parts of the stack whose own logs are watched, each as the service of its name."""
RECORD_START = re.compile(rb"\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]")
TRAIN_LINES = 22_000
"""Archived lines of ``hdfs`` before training starts: about half a minute of hard work."""
LEARN_PAUSE, WATCH_PAUSE = 0.02, 0.25
"""Seconds a client of the workload rests between two operations: while learning, so that what HDFS logs only under load
is learnt too, and afterwards."""
QUIET_SECONDS = 60.0
DAMAGED_FILES = 4
ALERT = "LogCanaryAnomalyFound"


@dataclass
class Seen:
    """What LogCanary itself said on its topics since the demo began; filled by a thread."""

    detections: list[Detection] = field(default_factory=list)
    scored: dict[str, int] = field(default_factory=dict)
    bundle: dict[str, str] = field(default_factory=dict)

    def watch(self, settings: AppSettings, stop: threading.Event) -> None:
        """Read the detections and statistics topics until stopped."""
        with consumer(settings, settings.kafka.detections, settings.kafka.statistics) as topics:
            while not stop.is_set():
                for records in topics.poll(timeout_ms=300).values():
                    for record in records:
                        self._take(record.topic == settings.kafka.detections, record.value)

    def _take(self, is_detection: bool, value: bytes) -> None:
        if is_detection:
            self.detections.append(Detection.model_validate_json(value))
            return
        statistic = Statistic.model_validate_json(value)
        if statistic.stage == "score":
            self.scored[statistic.service] = self.scored.get(statistic.service, 0) + statistic.lines
            self.bundle[statistic.service] = statistic.bundle

    def of(self, service: str, since_ms: int = 0) -> list[Detection]:
        """Detections of a service on lines that arrived at ``since_ms`` or later."""
        return [d for d in list(self.detections) if d.service == service and d.arrival_ms >= since_ms]


class Demo:
    """One run. Raises ``NotSeenError`` where a phase does not show what it should."""

    def __init__(self, console: Console, fault: bool) -> None:
        self._console, self._fault = console, fault
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="demo")
        self._seen = Seen()
        self._background: list[Future[object]] = []

    def run(self, home: Path, stay: bool) -> None:
        """Go through all phases; with ``stay`` keep everything up until Ctrl-C."""
        os.environ["LOGCANARY_HOME"] = str(home)
        os.environ.setdefault("LOGCANARY_ARCHIVE__ROLL_SECONDS", "5")
        stack.down(AppSettings())
        shutil.rmtree(home, ignore_errors=True)
        try:
            self._phases()
            if stay:
                self._say("Everything stays up. Ctrl-C ends it.")
                threading.Event().wait()
        finally:
            self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
            stack.down(AppSettings())

    def _phases(self) -> None:
        with self._phase("Start Kafka, HDFS, Flink, Prometheus and LogCanary"):
            stack.up(AppSettings())
        settings = AppSettings()
        ensure_topics(settings)
        self._configure(settings)
        workload = Workload(settings.hdfs.url, settings.hdfs.user, pause_seconds=LEARN_PAUSE)
        workload.start()
        try:
            job = self._observe(settings)
            workload.pause_seconds = WATCH_PAUSE
            version = self._train(settings, job)
            self._quiet(settings, version)
            self._break(settings, workload)
        finally:
            workload.stop()

    def _configure(self, settings: AppSettings) -> None:
        """Ask for no false alarms, and judge blocks only: a demo has half a minute of normal time, not days.

        A few hundred held-back blocks cannot tell an event of one block in five thousand from one that never comes, so
        what is known at all is left alone. What HDFS writes without a block is housekeeping of many threads, and half a
        minute does not hold all of it.
        """
        with ControlWriter(settings) as control:
            control.put(
                Settings(
                    settings=ServiceSettings(
                        service="hdfs",
                        session=SessionOptions(
                            by="identifier", pattern=r"blk_-?\d+", unnamed="ignore", gap_seconds=600
                        ),
                        budget=BudgetOptions(false_alarm_rate=0),
                        detector=DetectorOptions(epochs=10, end_event="off"),  # no block is quiet for ten minutes
                    )
                )
            )

    def _observe(self, settings: AppSettings) -> Future[object]:
        with self._phase("Let HDFS work, and send what HDFS and Kafka log to logs.hdfs and logs.kafka"):
            self._spawn(lambda: self._seen.watch(settings, self._stop))
            for service in SERVICES:
                self._spawn(partial(self._ship, settings, service))
            job = self._spawn(lambda: submit(settings, name="demo", topics=r"logs\..*", start="earliest"))
            wait_until(lambda: self._archived(settings, "hdfs") >= TRAIN_LINES, 120, f"{TRAIN_LINES} archived lines")
        return job

    def _train(self, settings: AppSettings, job: Future[object]) -> str:
        with self._phase("Train DeepLog for hdfs from the archive in HDFS"):
            manifest = train(
                settings,
                RetrainingRequest(service="hdfs", author="demo", reason="first model"),
                progress=self._say,
            )
        with self._phase("The running job takes the bundle up"):
            job.result()
            wait_until(lambda: self._seen.bundle.get("hdfs") == manifest.version, 30, "the swap")
        return manifest.version

    def _quiet(self, settings: AppSettings, version: str) -> None:
        with self._phase("A quiet minute: normal work, nothing may be raised on hdfs"):
            since, before = _now_ms(), self._seen.scored.get("hdfs", 0)
            self._stop.wait(QUIET_SECONDS)
            found = self._seen.of("hdfs", since)
            scored = self._seen.scored.get("hdfs", 0) - before
            self._say(f"{scored:,} lines scored by bundle {version}, {len(found)} raised")
            for detection in found:
                self._console.print(show.detection(detection))
            if found or not scored:
                raise NotSeenError("the quiet minute was not quiet" if found else "no line was scored")

    def _break(self, settings: AppSettings, workload: Workload) -> None:
        files: list[str] = []
        since = _now_ms()
        if self._fault:
            with self._phase(f"Damage the replicas of {DAMAGED_FILES} files on the DataNodes' disks, and read them"):
                files = workload.pause()[-DAMAGED_FILES:]
                blocks = blocks_of(settings.hdfs.url, settings.hdfs.user)
                replicas = damage(settings.home / "hdfs", [b for f in files for b in blocks[f]])
                self._say(f"{replicas} replicas damaged")
                for file in files:
                    self._spawn(partial(workload.read, file))
        with self._phase("LogCanary raises what does not belong"):
            wait_until(lambda: bool(self._from_model(since)), 45, "a detection of the LSTM on hdfs")
            self._console.print(show.detection(self._from_model(since)[0]))
            self._say(f"First alert {time.monotonic() - self._start:.0f} s after the start")
        with self._phase(f"Prometheus fires {ALERT}"):
            wait_until(lambda: self._alert(settings) == "firing", 60, f"{ALERT} firing for hdfs")
        self._addresses(settings)
        with self._phase("The damaged files are deleted; the alert resolves"):
            workload.delete(files)
            wait_until(lambda: self._alert(settings) == "inactive", 240, f"{ALERT} resolved for hdfs")

    def _from_model(self, since_ms: int) -> list[Detection]:
        found = self._seen.of("hdfs", since_ms)
        return [d for d in found if d.detector.startswith("deeplog") and d.expected]

    def _ship(self, settings: AppSettings, service: str) -> None:
        topic = settings.kafka.log_prefix + service
        path = stack.log_path(settings, service)
        with producer(settings) as out:
            ship(path, lambda record: out.send(topic, value=record), self._stop, RECORD_START, from_end=True)
            out.flush()

    def _archived(self, settings: AppSettings, service: str) -> int:
        found = list_files(open_files(settings.hdfs), settings.hdfs.root, service)
        return sum(file.last - file.first + 1 for file in found)

    def _alert(self, settings: AppSettings) -> str:
        url = f"http://127.0.0.1:{settings.web.prometheus_port}/api/v1/alerts"
        with urlopen(url, timeout=10) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        states = [
            a["state"] for a in alerts if a["labels"]["alertname"] == ALERT and a["labels"].get("service") == "hdfs"
        ]
        return max(states, key=["inactive", "pending", "firing"].index, default="inactive")

    def _addresses(self, settings: AppSettings) -> None:
        prometheus = f"http://127.0.0.1:{settings.web.prometheus_port}"
        table = Table("what", "where", title="Look for yourself")
        query = quote('increase(logcanary_detections_total{service="hdfs"}[1m])')
        for what, where in {
            "Prometheus, alerts": f"{prometheus}/alerts",
            "Prometheus, detections": f"{prometheus}/graph?g0.expr={query}&g0.tab=0",
            "LogCanary's metrics": f"http://{settings.web.host}:{settings.web.exporter_port}/metrics",
            "alerts, services, trainings": f"http://127.0.0.1:{settings.web.console_port}/",
            "Flink": settings.flink.rest,
            "HDFS": f"{settings.hdfs.url}/explorer.html#{settings.hdfs.root}",
            "Kafka": settings.kafka.bootstrap,
            "command line": f"LOGCANARY_HOME={os.environ['LOGCANARY_HOME']} .venv/bin/logcanary alerts",
        }.items():
            table.add_row(what, where)
        self._console.print(table)

    def _spawn(self, work: Callable[[], object]) -> Future[object]:
        self._background.append(self._pool.submit(work))
        return self._background[-1]

    def _say(self, words: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._start:6.1f} s[/]   {words}", highlight=False)
        for work in self._background:
            if work.done() and not self._stop.is_set():
                work.result()

    @contextmanager
    def _phase(self, title: str) -> Iterator[None]:
        self._console.print(f"[dim]{time.monotonic() - self._start:6.1f} s[/] [bold]{title}[/]", highlight=False)
        yield


def _now_ms() -> int:
    return int(time.time() * 1000)
