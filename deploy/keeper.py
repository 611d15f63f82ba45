"""The keeper of jobs: submits a job again, from its newest checkpoint, when its JobManager or the job itself has died.

Flink's standalone JobManager forgets its jobs when it dies; high availability would need ZooKeeper or Kubernetes.
"""

import logging
import signal
import sys
import threading
import time

from contracts.settings import AppSettings
from deploy.jobs import GONE, JobSpec, current_state, list_jobs, read_spec, read_state, resubmit, write_state
from deploy.parts import get_json
from deploy.paths import DeployError

log = logging.getLogger("keeper")

LOOK_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two submissions of one job: doubled each time, from the first again once it has run for a minute."""


class Keeper:
    """Looks at every job once a second."""

    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self._pause: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._healthy_since: dict[str, float] = {}

    def look(self) -> None:
        """Compare what is wanted with what runs, and submit what is missing."""
        for job in list_jobs(self.settings):
            spec = read_spec(self.settings, job.name)
            if spec.wanted:
                try:
                    self._look_at(spec)
                except (DeployError, OSError) as error:
                    log.warning("%s: %s", spec.name, error)

    def _look_at(self, spec: JobSpec) -> None:
        now = time.monotonic()
        try:
            state = current_state(self.settings, spec.name)
        except DeployError:
            self._write(spec, "UNREACHABLE")
            return
        if state and state not in GONE:
            self._write(spec, state)
            since = self._healthy_since.setdefault(spec.name, now)
            if now - since > LONGEST_PAUSE:
                self._pause.pop(spec.name, None)
            return
        self._healthy_since.pop(spec.name, None)
        if now < self._next.get(spec.name, 0.0) or not state or not self._has_slots():
            return
        pause = self._pause.get(spec.name, FIRST_PAUSE)
        self._pause[spec.name] = min(pause * 2, LONGEST_PAUSE)
        log.warning("%s is %s: submitted again", spec.name, state)
        try:
            log.info("%s runs as %s", spec.name, resubmit(self.settings, spec))
        finally:
            self._next[spec.name] = time.monotonic() + pause

    def _has_slots(self) -> bool:
        """Submitted before the TaskManager is back, a job would only wait and fail."""
        return bool(get_json(f"{self.settings.flink.rest}/overview")["slots-available"])

    def _write(self, spec: JobSpec, state: str) -> None:
        known = read_state(self.settings, spec.name)
        if known.state != state:
            write_state(self.settings, spec.name, known.model_copy(update={"state": state, "problem": ""}))


def main() -> int:
    """Look until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    keeper = Keeper(AppSettings())
    while not done.wait(LOOK_SECONDS):
        keeper.look()
    return 0


if __name__ == "__main__":
    sys.exit(main())
