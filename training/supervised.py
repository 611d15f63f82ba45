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

BAR = 0.5
"""Chance above which a session is raised: nothing is chosen, on any side."""


class Supervised(Model):
    """What learns from labelled sessions; nothing is chosen, on any side."""

    needs = "labels"

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
        self._model.fit(self._counts(lines), truth)

    def _learn(self, counts: Numbers) -> None:
        raise NotImplementedError

    def _strangeness(self, counts: Numbers) -> Numbers:
        chances: Numbers = self._model.predict_proba(counts)[:, 1]
        return chances

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
    """Logistic regression on standardised counts (He et al. 2016, 3.3.1).

    Keeping weights small is fair only to columns of one scale; its strength is the library's.
    """

    name = "logistic_regression"

    def _make(self) -> Any:  # noqa: ANN401
        from sklearn.linear_model import LogisticRegression as Linear  # noqa: PLC0415

        return _standardised(Linear(max_iter=5_000, random_state=self.seed))


class Svm(Classifier):
    """A linear support vector machine on standardised counts (He et al. 2016, 3.3.3): how far on which side."""

    name = "svm"

    def _strangeness(self, counts: Numbers) -> Numbers:
        side: Numbers = 1 / (1 + np.exp(-self._model.decision_function(counts)))
        return side

    def _make(self) -> Any:  # noqa: ANN401
        from sklearn.svm import LinearSVC  # noqa: PLC0415

        return _standardised(LinearSVC(max_iter=50_000, random_state=self.seed))


def _standardised(model: Any) -> Any:  # noqa: ANN401
    """A model of columns of mean 0 and spread 1."""
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    return make_pipeline(StandardScaler(), model)
