"""Autoencoders of the count vectors of normal sessions: what they cannot give back is strange.

Farzad, Gulliver: "Unsupervised Log Message Anomaly Detection", ICT Express 6(3), 2020; Chen et al.:
"Experience Report: Deep Learning-based System Log Analysis for Anomaly Detection", 2021, section 3. Counts enter as
logarithms, each column on the scale of the learnt sessions; distinct vectors are learnt by how often they came, and the
newest fifth says when to stop.
"""

from typing import TYPE_CHECKING

import numpy as np

from models.learning import HELD_BACK
from training.classical import forest
from training.simple import ByColumn, Numbers

if TYPE_CHECKING:
    from torch import Tensor

    from training.networks import Rows

FEWEST = 10
"""Sessions of which a fifth is held back; fewer are learnt, and judged, all."""


class Autoencoder(ByColumn):
    """The mean square, over the columns, of what the autoencoder did not give back."""

    name = "autoencoder"
    draws = True

    def _learn(self, counts: Numbers) -> None:
        from training import networks  # noqa: PLC0415  (torch takes seconds to import)

        logarithms = np.log1p(counts)
        spread = logarithms.std(axis=0)
        self._mean, self._spread = logarithms.mean(axis=0), np.where(spread > 0, spread, 1)
        cut = int(len(counts) * (1 - HELD_BACK)) if len(counts) >= FEWEST else 0
        learnt, later = (self._rows(some) for some in ((counts[:cut], counts[cut:]) if cut else (counts, counts)))
        columns = counts.shape[1]
        self._net = networks.fit(lambda: networks.Autoencoder(columns), learnt, later, networks.square_loss, self.seed)

    def _strangeness(self, counts: Numbers) -> Numbers:
        from training import networks  # noqa: PLC0415

        scaled = self._scaled(counts)
        return networks.square_loss(networks.answers(self._net, scaled), scaled).double().numpy()

    def _parts(self, counts: Numbers) -> Numbers:
        from training import networks  # noqa: PLC0415

        scaled = self._scaled(counts)
        off: Numbers = (networks.answers(self._net, scaled) - scaled).double().numpy()
        return off**2 / scaled.shape[1]

    def _scaled(self, counts: Numbers) -> "Tensor":
        import torch  # noqa: PLC0415

        return torch.from_numpy((np.log1p(counts) - self._mean) / self._spread).float()

    def _rows(self, counts: Numbers) -> "Rows":
        import torch  # noqa: PLC0415

        from training.networks import Rows  # noqa: PLC0415

        distinct, times = np.unique(counts, axis=0, return_counts=True)
        scaled = self._scaled(distinct)
        return Rows((scaled,), scaled, torch.from_numpy(times).float())


class AutoencoderIforest(Autoencoder):
    """An isolation forest on what the autoencoder has learnt to see: its code and its error (Farzad and Gulliver)."""

    name = "autoencoder_iforest"

    def _learn(self, counts: Numbers) -> None:
        super()._learn(counts)
        self._forest = forest(self._features(counts), self.seed)

    def _strangeness(self, counts: Numbers) -> Numbers:
        return -np.asarray(self._forest.score_samples(self._features(counts)), dtype=np.float64)

    def _features(self, counts: Numbers) -> Numbers:
        """The code and the logarithm of the error: [n, code + 1]."""
        from training import networks  # noqa: PLC0415

        code = networks.answers(self._net.into, self._scaled(counts)).double().numpy()
        return np.column_stack([code, np.log1p(super()._strangeness(counts))])
