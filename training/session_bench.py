"""Session detectors and their ensemble on labelled sessions: frozen, and learning while they run.

Sessions are known in every state in which they rested for longer than the gap, as the job would see them; a session is
raised if one of its states is. Learnt and calibrated as everywhere: the fifth of the learnt sessions that ended last is
held back, how strange it is before and after it is learnt makes the thresholds, and nothing is chosen on the tested
side. Learning while running, a state is judged by what was over before it, and no label is seen.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.service import DetectorOptions, SessionDetector
from models.bundle import Bundle
from models.detectors import session_detectors
from models.detectors.sequence import Sequence
from models.ensemble import Ensemble, Judged, doubtful
from models.finished import Sessions
from models.learning import newest
from models.running import Running
from models.sessions import Ints

Flags = NDArray[np.bool_]
KINDS = ("premature_end", "odd_event", "other")
RARE = 0.01
"""Of normal sessions: an event that fewer hold is an odd one, an end before that of fewer is premature."""


@dataclass(frozen=True, eq=False, slots=True)
class Learnt:
    """The learnt side: states of sessions that are learnt first, and of the newest ones, that calibrate."""

    older: Sessions
    newer: Sessions

    @classmethod
    def of(cls, whole: Sessions, gap_ms: int) -> "Learnt":
        """Divide whole sessions as training does (``models.learning.newest``)."""
        states = whole.resting(gap_ms)
        newer = newest(states)
        return cls(states.take(np.flatnonzero(~newer)), states.take(np.flatnonzero(newer)))

    def doubting(self) -> "Learnt":
        """Without what nobody should learn from unseen (``models.ensemble.doubtful``)."""
        groups = np.concatenate([self.older.groups(), self.newer.groups()])
        keep = ~doubtful(groups, np.concatenate([self.older.kinds(), self.newer.kinds()]))
        older, newer = np.split(keep, [len(self.older)])
        return Learnt(self.older.take(np.flatnonzero(older)), self.newer.take(np.flatnonzero(newer)))


def ensemble_of(
    learnt: Learnt, budget: float, bundle: Bundle | None = None, more: Many[SessionDetector] = ()
) -> Ensemble[Sessions]:
    """An ensemble of the default detectors, of ``more``, and of a bundle's model if one is given; all calibrated."""
    detectors = session_detectors((*DetectorOptions().session_detectors, *more))
    if bundle is not None:
        detectors.append(Sequence(bundle))
    ensemble = Ensemble(detectors, budget)
    ensemble.learn(learnt.older)
    ensemble.calibrate_and_learn(learnt.newer)
    return ensemble


def judge(ensemble: Ensemble[Sessions], tested: Sessions, learning: bool) -> Judged:
    """Judge the states of tested sessions, in the order in which they were over."""
    return Running(ensemble).judge(tested) if learning else ensemble.judge(tested)


def flags_of(ensemble: Ensemble[Sessions], tested: Sessions, judged: Judged, names: Many[str]) -> dict[str, Flags]:
    """Which sessions each detector by itself raises, and the ensemble: [names] each."""
    number = {name: i for i, name in enumerate(names)}
    owners = np.array([number[name] for name in tested.names], dtype=np.int64)
    raised = {detector.name: judged.rarity[:, i] > ensemble.bar for i, detector in enumerate(ensemble.detectors)} | {
        "ensemble": judged.raised
    }
    return {name: np.bincount(owners[rows], minlength=len(names)) > 0 for name, rows in raised.items()}


def kinds_of(whole: Sessions, names: Many[str], truth: Flags) -> dict[str, Flags]:
    """What is wrong with each anomalous session: [names] each. Labels are used, for these words only.

    An *odd event* is one that under ``RARE`` of the normal sessions hold; else an end is *premature* where the session
    is shorter than all but ``RARE`` of the normal ones; what is neither is *other*.
    """
    number = {name: i for i, name in enumerate(whole.names)}
    order = np.array([number[name] for name in names], dtype=np.int64)
    sessions = whole.take(order)
    templates, where = np.unique(sessions.templates, return_inverse=True)
    holds = np.zeros((len(names), len(templates)), dtype=np.bool_)
    holds[sessions.owners, where.reshape(-1)] = True
    odd = (holds & (holds[~truth].mean(axis=0) < RARE)).any(axis=1) if (~truth).any() else np.zeros_like(truth)
    short = sessions.lengths < (np.quantile(sessions.lengths[~truth], RARE) if (~truth).any() else 0)
    return {"premature_end": truth & short & ~odd, "odd_event": truth & odd, "other": truth & ~short & ~odd}


def sequences_of(whole: Sessions, names: Many[str]) -> Ints:
    """[names] The number of each session's distinct sequence, in the order in which they come."""
    hashes = dict(zip(whole.names, whole.hashes().tolist(), strict=True))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(hashes[name], len(numbers)) for name in names], dtype=np.int64)
