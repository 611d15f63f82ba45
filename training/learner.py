"""A data set to a bundle, by the kind of model that the service's settings name."""

import time

from contracts.service import ServiceSettings
from models.bundle import Bundle
from models.learning import Fit, Say, fit_ngram
from models.learning import learn as learn_by
from training.dataset import Dataset


class TrainingError(Exception):
    """A training cannot begin; the message says why and what to do."""


def learn(data: Dataset, settings: ServiceSettings, say: Say = lambda words: None) -> Bundle:
    """Train on all but the newest fifth, choose and calibrate on that fifth, and seal a bundle.

    Raises:
        LearnError: there is too little to learn from.
    """
    return learn_by(
        data.material,
        settings,
        _fit(settings.detector.kind),
        created_ms=time.time_ns() // 1_000_000,
        sessions=data.sessions,
        say=say,
    )


def _fit(kind: str) -> Fit:
    if kind == "ngram":
        return fit_ngram
    from training import deeplog, loganomaly  # noqa: PLC0415  (torch takes seconds to import; counting does without)

    return loganomaly.fit if kind == "loganomaly" else deeplog.fit
