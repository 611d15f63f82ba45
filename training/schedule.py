"""Trainings that nobody asks for: a service's own interval, off by default.

    with Schedule(settings): ...            # in a process that runs anyway; looks once a minute

A training that failed or was not promoted is not tried again before the interval is over: the engineers were told.
"""

import logging
import threading
import time

from contracts.retraining import RetrainingRequest, Run
from contracts.service import RetrainingOptions
from contracts.settings import AppSettings
from storage.broker import BrokerUnreachableError, KafkaError
from storage.control import read_control
from storage.files import StorageError, open_files
from training.background import BusyError, start
from training.runs import Runs

LOOK_SECONDS = 60.0
HOUR_MS = 3_600_000
AUTHOR = "schedule"

log = logging.getLogger("logcanary.schedule")


def due(service: str, options: RetrainingOptions, newest: Run | None, now_ms: int) -> RetrainingRequest | None:
    """What is to be trained now, if anything is.

    Args:
        service: whose settings they are.
        options: how often, and from how much of the past.
        newest: the service's newest training, whoever asked for it.
        now_ms: milliseconds since 1970 UTC.
    """
    if not options.every_hours:
        return None
    if newest is not None and (newest.is_active or now_ms - newest.asked_ms < options.every_hours * HOUR_MS):
        return None
    from_ms = now_ms - round(options.lookback_hours * HOUR_MS) if options.lookback_hours else None
    why = f"every {options.every_hours:g} hours"
    return RetrainingRequest(service=service, author=AUTHOR, reason=why, from_ms=from_ms)


class Schedule:
    """Starts what is due, from a thread of its own.

    Args:
        settings: where everything is.
    """

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def __enter__(self) -> "Schedule":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more; what was started goes on."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except (StorageError, BrokerUnreachableError, KafkaError) as error:
                log.warning("what is due cannot be looked up, trying again: %s", error)

    def look(self) -> list[Run]:
        """Start what is due.

        Raises:
            StorageError, BrokerUnreachableError: a store does not answer.
        """
        runs = Runs(open_files(self._settings.hdfs), self._settings.hdfs.root)
        started = []
        for service, options in read_control(self._settings).settings.items():
            newest = next(iter(runs.newest(service)), None) if options.retraining.every_hours else None
            request = due(service, options.retraining, newest, time.time_ns() // 1_000_000)
            if request is not None:
                try:
                    started.append(start(self._settings, request))
                except BusyError as error:
                    log.info("%s", error)
        return started
