"""Deep models that learn from labels, on the order of a session's templates: CNN, MLP, LogRobust.

    model = Cnn(seed=0)
    model.learn_labelled(lines, truth)
    model.strangeness(others)            # the chance that each is an anomaly; raised above 0.5

Each distinct session is learnt once, by how often it came, and judged once. The newest fifth of the learnt sessions
says how long to learn, and is then learnt with the rest; where the older ones are all of one kind it is every fifth.
Their networks: ``training.networks``.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.learning import HELD_BACK
from training.datasets import Flags
from training.simple import Line, Numbers, Reason, ranked
from training.supervised import Supervised
from training.words import TemplateVectors

if TYPE_CHECKING:
    from torch import nn

    from training.datasets import Side
    from training.networks import Rows

Ints = NDArray[np.int64]

LENGTH = 50
"""Events of a session that are read; shorter ones are padded at their end (Lu et al. 2018, III-A and Table I)."""
PADDING, UNSEEN, FIRST = 0, 1, 2
"""Positions in the networks' codebooks: templates come behind the other two."""


class Deep(Supervised):
    """A network from positions [n, LENGTH] to two classes."""

    draws = True

    def _learn_labelled(self, lines: Sequence[Line], truth: Flags) -> None:
        from training.networks import class_loss, fit_all  # noqa: PLC0415  (torch takes seconds to import)

        self._number(lines)
        events, late = padded(lines, self._position), later(truth)
        learnt, judged, whole = (_rows(events[which], truth[which]) for which in (~late, late, late | ~late))
        self._net = fit_all(self._make, learnt, judged, whole, class_loss, self.seed)

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """The chance that each session is an anomaly: [n]."""
        import torch  # noqa: PLC0415

        from training.networks import anomaly_chances  # noqa: PLC0415

        distinct, where = np.unique(padded(lines, self._position), axis=0, return_inverse=True)
        chances: Numbers = anomaly_chances(self._net, torch.from_numpy(distinct))[where.reshape(-1)]
        return chances

    def why(self, session: "Side") -> list[Reason]:
        """The events without which its chance were lower, by how much."""
        (line,) = session.lines
        read = line[:LENGTH]
        whole, *without = self.strangeness([read, *(read[:place] + read[place + 1 :] for place in range(len(read)))])
        return ranked(
            Reason(f"event {place + 1}: {self.called(event)}", float(whole - less))
            for place, (event, less) in enumerate(zip(read, without, strict=True))
        )

    def _number(self, lines: Sequence[Line]) -> None:
        self._position = numbered({one for line in lines for one in line})

    @abstractmethod
    def _make(self) -> "nn.Module":
        """A new network."""


class Cnn(Deep):
    """CNN with logkey2vec.

    Lu, Wei, Li, Wang: "Detecting Anomaly in Big Data System Logs Using Convolutional Neural Network", DASC 2018, III-B
    and Table I: 50 events, vectors of 128 learnt with the rest, convolutions of height 3, 4 and 5 with 128 filters
    each, leaky rectifier (0.1), the greatest over time, 384 features, dropout 0.5, softmax.
    """

    name = "cnn"

    def _make(self) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        return networks.Cnn(networks.Codebook(len(self._position)))


class CnnOnKeys(Deep):
    """The same without logkey2vec (Lu et al. 2018, V-C): the templates' numbers, as shares of the highest."""

    name = "cnn_keys"

    def _make(self) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        return networks.Cnn(networks.Keys(len(self._position)))


class Mlp(Deep):
    """Multilayer perceptron on logkey2vec.

    Lu et al. 2018, III-C and Table II: the mean of the 50 vectors of 128, layers of 128, 64, 32 and 2, leaky rectifier
    (0.1), dropout before the first two (0.5, as for the CNN: the table gives no share).
    """

    name = "mlp"

    def _make(self) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        return networks.Mlp(networks.Codebook(len(self._position)), LENGTH)


class MlpOnKeys(Deep):
    """The same without logkey2vec (Lu et al. 2018, IV-C): the first layer reads the 50 numbers."""

    name = "mlp_keys"

    def _make(self) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        return networks.Mlp(networks.Keys(len(self._position)), LENGTH)


class LogRobust(Deep):
    """Attentional bidirectional LSTM on vectors of templates.

    Zhang et al.: "Robust Log-Based Anomaly Detection on Unstable Log Data", ESEC/FSE 2019, 3.2 and 3.3: a template is
    the mean of its words' vectors, weighed by TF-IDF, so that one that was never learnt is known by its words. The word
    vectors are those of ``training.words``, not FastText's; 64 units each way, and 50 events are read.
    """

    name = "logrobust"

    def _number(self, lines: Sequence[Line]) -> None:
        self._position = numbered({one for line in lines for one in line} | set(self.texts))
        self._vectors = TemplateVectors.learn(lines, self.texts).of(list(self._position))

    def why(self, session: "Side") -> list[Reason]:
        """The events that its attention is on, by their share of it: what an anomaly's chance is made of."""
        import torch  # noqa: PLC0415

        from training import networks  # noqa: PLC0415

        assert isinstance(self._net, networks.AttentionalBiLstm)
        read = session.lines[0][:LENGTH]
        shares = self._net.attended(torch.from_numpy(padded([read], self._position)))[0].tolist()
        return ranked(
            Reason(f"attends to event {place + 1}: {self.called(event)}", share)
            for place, (event, share) in enumerate(zip(read, shares, strict=False))
        )

    def _make(self) -> "nn.Module":
        import torch  # noqa: PLC0415

        from training import networks  # noqa: PLC0415

        return networks.AttentionalBiLstm(torch.from_numpy(with_others(self._vectors)).float())


def numbered(templates: set[int]) -> dict[int, int]:
    """The positions of templates."""
    return {one: FIRST + i for i, one in enumerate(sorted(templates))}


def with_others(vectors: Numbers) -> Numbers:
    """Vectors of all positions: 0 for padding and for what is not known."""
    return np.concatenate([np.zeros((FIRST, vectors.shape[1])), vectors])


def padded(lines: Sequence[Line], position: dict[int, int]) -> Ints:
    """Positions of the first templates of each session: [n, LENGTH]."""
    events = np.full((len(lines), LENGTH), PADDING, dtype=np.int64)
    for row, line in enumerate(lines):
        events[row, : len(line)] = [position.get(one, UNSEEN) for one in line[:LENGTH]]
    return events


def later(truth: Flags) -> Flags:
    """Which of the learnt sessions say when to stop: the newest fifth, or every fifth. [n]."""
    row = np.arange(len(truth))
    newest: Flags = row >= int(len(truth) * (1 - HELD_BACK))
    older = truth[~newest]
    return newest if older.any() and not older.all() else row % round(1 / HELD_BACK) == 0


def _rows(events: Ints, truth: Flags) -> "Rows":
    """Distinct sessions of each kind."""
    import torch  # noqa: PLC0415

    from training.networks import Rows  # noqa: PLC0415

    distinct, counts = np.unique(np.column_stack([events, truth]), axis=0, return_counts=True)
    whole = torch.from_numpy(distinct)
    return Rows((whole[:, :-1],), whole[:, -1], torch.from_numpy(counts).float())
