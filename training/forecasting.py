"""Models that foretell the next template, and how unlikely it was what came: DeepLog, LogAnomaly, Transformer.

A session is as strange as its most surprising event, in nats, given the ten before it; there is no end event (see
``docs/benchmarks.md``: one costs more than it finds). An event of a template that was never learnt is as surprising as
one of all that were learnt and one more, and any other at most half as surprising in odds (``models.base.judge``).
Distinct windows are learnt by how often they came, and judged once; the newest fifth of the sessions says when to stop.
"""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from contracts.service import DetectorOptions
from models.base import KNOWN_ODDS
from models.learning import HELD_BACK, Counted
from training.deep import FIRST, PADDING, UNSEEN, Ints, numbered, with_others
from training.reconstructing import FEWEST
from training.simple import Line, Model, Numbers, Reason, ranked, strangest, until_raised
from training.words import TemplateVectors

if TYPE_CHECKING:
    from torch import nn

    from training.datasets import Side
    from training.networks import Rows

WINDOW = 10
"""Events before the one that is foretold: Du et al. 2017, 5.1; the same for all, so that they can be compared."""
FORETOLD = 3
"""Events named as what was due."""
NEAR = 0.9
"""Cosine of two templates' vectors from which an unseen one is taken for the other."""


class Forecast(Model):
    """What foretells from the positions of ten events [n, WINDOW] what comes next."""

    draws = True
    window = WINDOW
    """Events before the one that is foretold."""

    def learn(self, lines: Sequence[Line]) -> None:
        """Learn windows of all but the newest fifth, until that gets no likelier."""
        self._position = numbered({one for line in lines for one in line})
        self._prepare(lines)
        cut = int(len(lines) * (1 - HELD_BACK)) if len(lines) >= FEWEST else 0
        learnt, later = (self._rows(some) for some in ((lines[:cut], lines[cut:]) if cut else (lines, lines)))
        self._fit(learnt, later)
        self._most = math.log(1 + sum(map(len, lines)))

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """The surprise of the most surprising event of each session, in nats: [n]."""
        number: dict[Line, int] = {}
        which = np.array([number.setdefault(line, len(number)) for line in lines], dtype=np.int64)
        owners, each = self._events(number)
        surprises: Numbers = strangest(len(number), owners, each)[which]
        return surprises

    def read_until(self, lines: Sequence[Line], bar: float) -> Numbers:
        """Up to the first event that is more surprising than the bar: [n]."""
        owners, each = self._events(lines)
        return until_raised(lines, owners, each > bar)

    def why(self, session: "Side") -> list[Reason]:
        """The events that were not foretold, by their surprise in nats, and what was in their place."""
        (line,) = session.lines
        _, windows = self._windows([line])
        surprises, told = self._surprises(windows), self._told(windows[:, :-1])
        templates = list(self._position)
        said = []
        for place, (event, surprise) in enumerate(zip(line, surprises.tolist(), strict=True)):
            foretold = ", ".join(self.called(templates[one]) for one in np.argsort(-told[place])[:FORETOLD])
            words = f"event {place + 1}: {self.called(event)}, where one of these was due: {foretold}"
            said.append(Reason(words, surprise))
        return ranked(said)

    def _events(self, lines: Iterable[Line]) -> tuple[Ints, Numbers]:
        """Which line each event is of, and how surprising it is, in nats: [n]; distinct windows are asked once."""
        owners, windows = self._windows(lines)
        distinct, where = np.unique(windows, axis=0, return_inverse=True)
        return owners, self._surprises(distinct)[where.reshape(-1)]

    def _surprises(self, windows: Ints) -> Numbers:
        """Of the last events of windows [n, WINDOW + 1], in nats: [n]."""
        wanted = windows[:, -1] - FIRST
        told = self._told(windows[:, :-1])[np.arange(len(windows)), np.maximum(wanted, 0)]
        surprises: Numbers = np.where(wanted < 0, self._most, np.minimum(-told, self._most - KNOWN_ODDS))
        return surprises

    @abstractmethod
    def _fit(self, learnt: "Rows", later: "Rows") -> None:
        """Learn windows until the later ones get no likelier."""

    @abstractmethod
    def _told(self, contexts: Ints) -> Numbers:
        """Logarithms of the chances of what comes next: [n, WINDOW] to [n, templates]."""

    def _windows(self, lines: Iterable[Line]) -> tuple[Ints, Ints]:
        """Windows [n, WINDOW + 1] that end with each event, padded before the first, and which line each is of: [n]."""
        owners, windows = [], []
        for row, line in enumerate(lines):
            positions = [PADDING] * self.window + [self._place(one) for one in line]
            windows.append(np.lib.stride_tricks.sliding_window_view(np.array(positions), self.window + 1)[: len(line)])
            owners.append(np.full(len(line), row))
        return np.concatenate(owners), np.concatenate(windows)

    def _rows(self, lines: Sequence[Line]) -> "Rows":
        """Distinct windows of sessions."""
        import torch  # noqa: PLC0415

        from training.networks import Rows  # noqa: PLC0415

        counts = Counter(lines)
        owners, windows = self._windows(counts)
        distinct, where = np.unique(windows, axis=0, return_inverse=True)
        times = np.bincount(where.reshape(-1), np.array(list(counts.values()))[owners])
        whole = torch.from_numpy(distinct)
        return Rows((whole[:, :-1],), whole[:, -1] - FIRST, torch.from_numpy(times).float())

    def _prepare(self, lines: Sequence[Line]) -> None:
        """Get ready what the network is made of."""

    def _place(self, template: int) -> int:
        """The position of a template."""
        return self._position.get(template, UNSEEN)


class DeepLog(Forecast):
    """The LSTM of services (``training.deeplog``): Du et al., "DeepLog", CCS 2017, sections 3.1 and 5.1.

    It raises by likelihood, not where the event is not among the nine likeliest.
    """

    name = "deeplog"

    def _fit(self, learnt: "Rows", later: "Rows") -> None:
        from training.deeplog import fit  # noqa: PLC0415

        options = DetectorOptions(seed=self.seed, window=self.window)
        sides = _counted(learnt), _counted(later)
        self._model, _ = fit(*sides, [""] * len(self._position), options, say=lambda words: None)

    def _told(self, contexts: Ints) -> Numbers:
        return self._model.log_probabilities(contexts).astype(np.float64)


def _counted(rows: "Rows") -> Counted:
    return Counted(rows.given[0].numpy(), rows.wanted.numpy() + FIRST, rows.weights.numpy().astype(np.int64))


class Fitted(Forecast):
    """A network of ``training.networks``."""

    def _fit(self, learnt: "Rows", later: "Rows") -> None:
        from training.networks import class_loss, fit  # noqa: PLC0415  (torch takes seconds to import)

        self._net = fit(self._make, learnt, later, class_loss, self.seed)

    def _told(self, contexts: Ints) -> Numbers:
        import torch  # noqa: PLC0415

        from training.networks import answers  # noqa: PLC0415

        told: Numbers = torch.log_softmax(answers(self._net, torch.from_numpy(contexts)), dim=1).double().numpy()
        return told

    @abstractmethod
    def _make(self) -> "nn.Module":
        """A new network."""


class LogAnomaly(Fitted):
    """LSTMs of template vectors and of counts; an unseen template is taken for a near one.

    Meng et al.: "LogAnomaly: Unsupervised Detection of Sequential and Quantitative Anomalies in Unstructured Logs",
    IJCAI 2019, section 3. The vectors are those of ``training.words``, for want of their dictionaries of synonyms and
    antonyms; the counts are those of the window up to each event; ours raises by likelihood, not by rank. One layer of
    64 units each.
    """

    name = "loganomaly"

    def _prepare(self, lines: Sequence[Line]) -> None:
        self._words = TemplateVectors.learn(lines, self.texts)
        self._vectors = self._words.of(list(self._position))
        self._taken_for = dict(self._position)

    def _place(self, template: int) -> int:
        if template not in self._taken_for:
            alike = self._vectors @ self._words.of([template])[0]
            nearest = int(alike.argmax())
            self._taken_for[template] = FIRST + nearest if alike[nearest] >= NEAR else UNSEEN
        return self._taken_for[template]

    def _make(self) -> "nn.Module":
        import torch  # noqa: PLC0415

        from training import networks  # noqa: PLC0415

        return networks.OrderAndCounts(torch.from_numpy(with_others(self._vectors)).float())


class Transformer(Fitted):
    """Self-attention over the last ten events, in place of an LSTM.

    Nedelkoski et al.: "Self-Attentive Classification-Based Anomaly Detection in Unstructured Logs" (Logsy), ICDM 2020,
    is the field's transformer; it tells lines of one system from lines of others, by their words. This is the one that
    Chen et al. 2021 (section 3) compare with, which foretells as DeepLog does. Two layers of 64 units, four heads.
    """

    name = "transformer"

    def _make(self) -> "nn.Module":
        from training import networks  # noqa: PLC0415

        return networks.Attention(len(self._position), self.window)
