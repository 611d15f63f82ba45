"""From surprise to score: how rare is this among held-back normal sessions?

A score is one minus the share of held-back normal sessions (windows, in a service without sessions) whose worst
surprise was at least as high. The threshold is the score that the accepted rate of false alarms leaves:
``1 - false_alarm_rate``. Above the worst held-back surprise there is nothing to count; there the share is taken to
fall to 1/e with each nat, which is what a surprise means where the model is right.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Calibration

QUANTILES = 1001
"""At most this many held-back surprises are kept; the highest ones all, the lower ones ever more sparsely."""
NO_ALARMS = 1e-3
"""With an accepted rate of 0 the threshold lies this far (as a share, times 1/n) past the worst held-back session."""
MARGIN = 1e-4
"""Nats added to the threshold: one model gives one window surprises that differ by up to 1e-5 with the windows asked
beside it, and the session that marks the threshold is likely to be seen again."""


def kept_ranks(n: int) -> NDArray[np.int64]:
    """Which of ``n`` surprises are kept, as ranks from the highest (1), the lowest surprise first."""
    if n <= QUANTILES:
        return np.arange(n, 0, -1, dtype=np.int64)
    ranks: NDArray[np.int64] = np.unique(np.rint(np.geomspace(1, n, QUANTILES)).astype(np.int64))[::-1]
    return ranks


def calibrate(kind: str, worst: NDArray[np.float32]) -> Calibration:
    """Keep the distribution of held-back surprises: [n] nats, the worst of each session (or of each window)."""
    rising = np.sort(worst)
    ranks = kept_ranks(len(rising))
    kept = rising[len(rising) - ranks]
    return Calibration.model_validate({"kind": kind, "held_back": len(rising), "worst": tuple(map(float, kept))})


class Calibrated:
    """A calibration at an accepted rate of false alarms.

    Args:
        calibration: Surprises of held-back normal time.
        false_alarm_rate: Share of normal sessions (windows) that may be raised.
        ceiling: Surprise of an event never seen, nats: the rarest there is. Where no held-back session was as
            surprising, the bar is not taken to lie past it, however few the sessions and however small the rate.

    Raises:
        ValueError: The calibration does not have the surprises that its number of sessions says.
    """

    def __init__(self, calibration: Calibration, false_alarm_rate: float, ceiling: float = math.inf) -> None:
        ranks = kept_ranks(calibration.held_back)
        if len(ranks) != len(calibration.worst) or not len(ranks):
            raise ValueError(f"calibration: {len(calibration.worst)} surprises of {calibration.held_back} held back")
        self._worst = np.array(calibration.worst)
        self._log_share = np.log(ranks / calibration.held_back)  # of sessions at least as surprising
        share = false_alarm_rate or NO_ALARMS / calibration.held_back
        self.threshold = 1.0 - share
        """Scores above are raised."""
        self.bar = self._surprise(math.log(share)) + MARGIN
        if self._worst[-1] + MARGIN < ceiling:
            self.bar = min(self.bar, max(ceiling - MARGIN, float(self._worst[-1]) + MARGIN))
        """Surprises above are raised: the threshold in nats."""

    def set_bar(self, nats: float) -> None:
        """Raise what is more surprising than this, whatever the rate comes to."""
        self.bar = nats
        self.threshold = self.score(nats)

    def score(self, surprise: float) -> float:
        """The score of a surprise: in [0, 1], high = anomalous."""
        worst = self._worst
        at = int(np.searchsorted(worst, surprise, side="left"))
        if at == len(worst):
            log_share = self._log_share[-1] - (surprise - worst[-1])
        elif at == 0 or worst[at] == surprise:
            log_share = self._log_share[at]
        else:
            part = (surprise - worst[at - 1]) / (worst[at] - worst[at - 1])
            log_share = self._log_share[at - 1] + part * (self._log_share[at] - self._log_share[at - 1])
        return min(1.0, max(0.0, 1.0 - math.exp(log_share)))

    def _surprise(self, log_share: float) -> float:
        """The surprise that is as rare as this."""
        if log_share <= self._log_share[-1]:
            return float(self._worst[-1] + self._log_share[-1] - log_share)
        return float(np.interp(-log_share, -self._log_share, self._worst))


WINDOW = 8192
"""Newest held-back figures a tail is made of: 40 above a budget of 0.5 %; 64 KiB a detector."""
TAIL_SHARE = 0.05
"""The mean excess over the figure that this share of them passes says how fast the share falls beyond the highest."""
SMALLEST = 1e-6
"""Figures are not told apart below that."""
ALIKE = 0.05
"""A figure is no stranger than one that is lower by less than this share of it: what was never seen looks a little
stranger with everything that is learnt, and must not be raised for that alone."""


class Tail:
    """How strange normal items are: the newest ``WINDOW`` figures of held-back time, and what lies beyond them.

    Figures are counted. Beyond the highest the share of normal items falls by 1/e with each mean excess over the bar
    that ``TAIL_SHARE`` of them pass (peaks over threshold with exponential excesses: Pickands 1975, Balkema and de Haan
    1974, shape 0): detectors whose highest figure is passed stay comparable.
    """

    def __init__(self) -> None:
        self._figures = np.zeros(0)
        self._rising = np.zeros(0)

    def __len__(self) -> int:
        return len(self._figures)

    def add(self, figures: NDArray[np.float64]) -> None:
        """Take in figures of normal items, the newest last; the oldest make room."""
        self._figures = np.concatenate([self._figures, figures])[-WINDOW:]
        self._rising = np.sort(self._figures)

    def merge(self, other: "Tail") -> None:
        """Take over the figures of another shard; where both are full, the newest half of each."""
        mine, theirs = self._figures, other._figures
        room = max(WINDOW // 2, WINDOW - len(theirs))
        self._figures = np.zeros(0)
        self.add(np.concatenate([mine[-room:], theirs[-(WINDOW - min(room, len(mine))) :]]))

    def rarity(self, figures: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minus the logarithm of the share of normal items that are at least as strange: [n] nats, at least 0."""
        n = len(self._rising)
        if not n:
            return np.zeros(len(figures))
        least = figures * (1 - ALIKE)
        # One more than were counted: what was never passed is not impossible.
        above = n - np.searchsorted(self._rising, least, side="left")
        counted = np.log((n + 1) / (above + 1))
        tail = int(n * TAIL_SHARE)
        bar = float(self._rising[n - 1 - tail])
        excess = self._rising[n - tail :] - bar
        scale = max(SMALLEST, float(excess.mean()) if tail and excess[-1] > 0 else _scale(self._rising))
        reached = np.log((n + 1) / (n - np.searchsorted(self._rising, bar, side="right") + 1))
        beyond = np.maximum(counted, reached + (least - bar) / scale)
        rarity: NDArray[np.float64] = np.where(least > self._rising[-1], beyond, counted)
        return rarity

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All there is to save."""
        return {"figures": self._figures}

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[np.generic]]) -> "Tail":
        """Make one of what ``columns`` gave.

        Raises:
            ValueError, KeyError: They do not fit.
        """
        tail = cls()
        tail.add(columns["figures"].astype(np.float64))
        return tail


def _scale(rising: NDArray[np.float64]) -> float:
    """The mean of all figures where the tail has no spread of its own; 1 where all are 0."""
    return float(rising.mean()) or 1.0
