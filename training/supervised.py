"""Classical models that learn from labels, on count vectors of sessions: what labels are worth where somebody has them.

    model = Svm(seed=0)
    model.learn_labelled(lines, truth)
    model.strangeness(others)            # the chance that each is an anomaly; raised above 0.5, or by a threshold

They are scikit-learn's; the models are those of He et al., "Experience Report: System Log Analysis for Anomaly
Detection", ISSRE 2016, section 3.3.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.datasets import Flags
from training.learner import TrainingError
from training.simple import Counts, Line, Model, Numbers

STRENGTH = 100.0
"""Of the fit against keeping weights small, for both linear models."""
BAR = 0.5
"""Chance above which a session is raised: nothing is chosen, on any side."""


class Supervised(Model):
    """What learns from labelled sessions; nothing is chosen, on any side."""

    def learn(self, lines: Sequence[Line]) -> None:
        """Refuse: normal sessions alone say nothing of anomalies.

        Raises:
            TrainingError: always.
        """
        raise TrainingError(f"{self.name} learns from labelled sessions: give it both kinds (learn_labelled)")

    def learn_labelled(self, lines: Sequence[Line], truth: Flags) -> None:
        """Take in sessions, the newest last, and which of them are anomalies.

        Raises:
            TrainingError: they are all of one kind.
        """
        if not truth.any() or truth.all():
            kind = "normal" if not truth.any() else "anomalies"
            raise TrainingError(f"{self.name} learns from both kinds, and all {len(truth)} learnt sessions are {kind}")
        self._learn_labelled(lines, truth)

    @abstractmethod
    def _learn_labelled(self, lines: Sequence[Line], truth: Flags) -> None:
        """Learn from sessions of both kinds, and [n] which are anomalies."""


class Classifier(Supervised, Counts):
    """A classifier of count vectors."""

    def _learn_labelled(self, lines: Sequence[Line], truth: Flags) -> None:
        self._number(lines)
        self._model = self._make()
        self._model.fit(self._shaped(self._counts(lines)), truth)

    def _learn(self, counts: Numbers) -> None:
        raise NotImplementedError

    def _strangeness(self, counts: Numbers) -> Numbers:
        chances: Numbers = self._model.predict_proba(self._shaped(counts))[:, 1]
        return chances

    def _shaped(self, counts: Numbers) -> Numbers:
        return counts

    @abstractmethod
    def _make(self) -> Any:  # noqa: ANN401  (scikit-learn ships no types)
        """A new classifier."""


class DecisionTree(Classifier):
    """A decision tree, grown until its leaves are pure (Quinlan 1986; He et al. 2016, 3.3.2)."""

    name = "decision_tree"

    def _make(self) -> Any:  # noqa: ANN401
        from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415  (a second to import)

        return DecisionTreeClassifier(random_state=self.seed)


class LogisticRegression(Classifier):
    """Logistic regression on logarithms of counts (He et al. 2016, 3.3.1)."""

    name = "logistic_regression"

    def _shaped(self, counts: Numbers) -> Numbers:
        return np.log1p(counts)

    def _make(self) -> Any:  # noqa: ANN401
        from sklearn.linear_model import LogisticRegression as Linear  # noqa: PLC0415

        return Linear(C=STRENGTH, max_iter=5_000, random_state=self.seed)


class Svm(Classifier):
    """A linear support vector machine on logarithms of counts (He et al. 2016, 3.3.3): how far on which side."""

    name = "svm"

    def _shaped(self, counts: Numbers) -> Numbers:
        return np.log1p(counts)

    def _strangeness(self, counts: Numbers) -> Numbers:
        side: Numbers = 1 / (1 + np.exp(-self._model.decision_function(self._shaped(counts))))
        return side

    def _make(self) -> Any:  # noqa: ANN401
        from sklearn.svm import LinearSVC  # noqa: PLC0415

        return LinearSVC(C=STRENGTH, max_iter=50_000, random_state=self.seed)
