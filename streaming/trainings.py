"""Trainings by what came of them, as a metric: the control topic has each, a start of the exporter changes nothing.

counted = Trainings(registry)
counted.control(view)
"""

from collections import Counter as Counts
from typing import get_args

from prometheus_client import CollectorRegistry, Counter

from contracts.records import TrainingOutcome
from storage.control import ControlView

OUTCOMES: tuple[str, ...] = get_args(TrainingOutcome)


class Trainings:
    """The counter.

    Args:
        registry: where it is registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metric = Counter(
            "logcanary_trainings",
            "Trainings, by what came of them; asked: all that began.",
            ("service", "outcome"),
            registry=registry,
        )
        self._shown = Counts[tuple[str, str]]()

    def know(self, service: str) -> None:
        """Show a service's as 0 before anything happens."""
        for outcome in OUTCOMES:
            self._metric.labels(service, outcome)

    def control(self, view: ControlView) -> None:
        """Count what the control topic has by now; a record that is gone is not counted back."""
        found = Counts[tuple[str, str]]()
        for service, trainings in view.trainings.items():
            found[service, "asked"] = len(trainings)
            found.update((service, outcome) for outcome in trainings.values() if outcome != "asked")
        for (service, outcome), number in found.items():
            self._metric.labels(service, outcome).inc(max(0, number - self._shown[service, outcome]))
        self._shown |= found
