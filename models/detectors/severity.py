"""Levels and words that speak of trouble, where a service has not been normal with them.

An ERROR rule alone raises 164 groups an hour on Train Ticket: services are normal with their errors. What is counted is
how many normal sessions hold each level and each word, and only what few of them hold is strange.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts
from models.detector import Detector, Evidence, Numbers, Part
from models.finished import LEVELS, WARN, Sessions
from models.sessions import Ints
from models.wording import TROUBLE, trouble_in

_FEATURES = (*LEVELS[WARN:], *TROUBLE)


class Severity(Detector[Sessions]):
    """Strangeness: minus the logarithm of the share of normal sessions that hold the rarest of what this one holds."""

    name = "severity"
    aspect = "content"
    is_share = True
    is_trouble = True

    def __init__(self) -> None:
        super().__init__()
        self._bags = Counts()  # of the sessions learnt
        self._holding: Ints = np.zeros(len(_FEATURES), dtype=np.int64)
        self._sessions = 0

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        self._bags.add(items.bags())
        self._holding += _held(items).sum(axis=0)
        self._sessions += len(items)

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        strange: Numbers = np.max(_held(items) * self._surprises(), axis=1, initial=0.0)
        strange[self._bags.of(items.bags()) > 0] = 0.0
        return strange

    def explain(self, items: Sessions, row: int) -> Evidence:
        """The rarest level or word, and the first line that has it."""
        one = items.take(np.array([row]))
        held = _held(one)[0]
        if not held.any():
            return Evidence(self.name, "severe", "chance", ())
        rarest = int((held * self._surprises()).argmax())
        event = int(_has(one)[:, rarest].argmax())
        usual = float(np.exp(-self._surprises()[rarest]))
        part = Part(int(one.templates[event]), 1.0, usual, subject=_FEATURES[rarest])
        return Evidence(self.name, "severe", "chance", (part,), event=event)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        self._holding += other._holding
        self._sessions += other._sessions
        self._bags.merge(other._bags)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        return {"holding": self._holding, "sessions": np.array([self._sessions]), **self._bags.columns("bags")}

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        if len(columns["holding"]) != len(_FEATURES):
            raise ValueError(f"{len(columns['holding'])} levels and words, this code knows {len(_FEATURES)}")
        self._bags.restore("bags", columns)
        self._holding = columns["holding"].astype(np.int64)
        self._sessions = int(columns["sessions"][0])

    def _surprises(self) -> Numbers:
        surprises: Numbers = -np.log((self._holding + 0.5) / (self._sessions + 1))
        return np.maximum(surprises, 0.0)


def _has(items: Sessions) -> NDArray[np.bool_]:
    """[e, features] Which levels and words each event has."""
    ids, where = np.unique(items.templates, return_inverse=True)
    words = np.zeros((len(ids), len(TROUBLE)), dtype=np.bool_)
    for i, template in enumerate(ids.tolist()):
        words[i, list(trouble_in(items.texts.get(template, "")))] = True
    levels = items.levels[:, None] == np.arange(WARN, len(LEVELS))
    return np.hstack([levels, words[where.reshape(-1)]])


def _held(items: Sessions) -> NDArray[np.bool_]:
    """[n, features] Which of them each session holds."""
    if not len(items):
        return np.zeros((0, len(_FEATURES)), dtype=np.bool_)
    return np.logical_or.reduceat(_has(items), items.starts[:-1], axis=0)
