"""A training as a process of its own, which outlives whoever asked for it.

    run = start(settings, request)          # returns at once; runs.get(service, run.id) says how far it is

The process is told what to do on standard input, and says what it does in its record and in
``<home>/logs/training-<id>.log``.
"""

import logging
import signal
import subprocess
import sys
import threading

from contracts.base import Record
from contracts.retraining import RetrainingRequest, Run
from contracts.settings import AppSettings
from models.learning import LearnError
from storage.files import StorageError
from training.learner import TrainingError
from training.runs import Runs
from training.trainer import train

log = logging.getLogger("logcanary.training")


class BusyError(TrainingError):
    """The service is being trained already; ``run`` is that training."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            f"{run.request.service} is being trained already, by {run.request.author}: wait for training {run.id}, or "
            f"cancel it (`logcanary trainings cancel -s {run.request.service} {run.id}`)"
        )
        self.run = run


class Order(Record):
    """What the process is told."""

    settings: AppSettings
    run: Run


def start(settings: AppSettings, request: RetrainingRequest) -> Run:
    """Begin a training in a process of its own.

    Raises:
        BusyError: the service is being trained.
        StorageError: the store does not answer.
    """
    runs = Runs.of(settings)
    if (active := runs.active(request.service)) is not None:
        raise BusyError(active)
    run = runs.begin(request)
    logs = settings.home.absolute() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for chatty in ("kafka", "hdfs"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    order = Order(settings=settings, run=run).model_dump_json()
    with (logs / f"training-{run.id}.log").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "training.background"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(order.encode())
    process.stdin.close()
    threading.Thread(target=process.wait, daemon=True).start()  # or it stays behind as a zombie
    return run


def main() -> int:
    """Do what standard input says; the exit status is 1 where nothing was made live."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    order = Order.model_validate_json(sys.stdin.read())
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # leaves as cancelled, lock and all
    try:
        train(order.settings, order.run.request, run=order.run, progress=log.info)
    except (TrainingError, LearnError, StorageError) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
