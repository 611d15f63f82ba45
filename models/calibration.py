"""From surprise to score: how rare is this among held-back normal sessions?

A score is one minus the share of held-back normal sessions (windows, in a service without sessions) whose worst
surprise was at least as high. The threshold is the score that the accepted rate of false alarms leaves:
``1 - false_alarm_rate``. Above the worst held-back surprise there is nothing to count; there the share is taken to
fall to 1/e with each nat, which is what a surprise means where the model is right.
"""

import math

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
