"""Trainings that nobody asks for: a service's own interval, off by default.

    start_due(settings)             # once a minute, by a process that runs anyway

A training that failed or was not promoted is not tried again before the interval is over: the engineers were told.
"""

import contextlib
import logging
import time

from contracts.retraining import RetrainingRequest, Run
from contracts.service import RetrainingOptions
from contracts.settings import AppSettings
from storage.broker import BrokerUnreachableError, KafkaError
from storage.control import read_control
from storage.files import StorageError
from training.background import BusyError, start
from training.runs import Runs

LOOK_SECONDS = 60.0
"""Between two looks."""
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


def start_due(settings: AppSettings) -> list[Run]:
    """Start what is due, and return it; what cannot be looked up now is logged, and looked up the next time."""
    runs, started = Runs.of(settings), list[Run]()
    try:
        for service, options in read_control(settings).settings.items():
            newest = next(iter(runs.newest(service, 1)), None) if options.retraining.every_hours else None
            request = due(service, options.retraining, newest, time.time_ns() // 1_000_000)
            if request is not None:
                with contextlib.suppress(BusyError):  # somebody was faster
                    started.append(start(settings, request))
    except (StorageError, BrokerUnreachableError, KafkaError) as error:
        log.warning("what is due cannot be looked up, trying again: %s", error)
    return started
