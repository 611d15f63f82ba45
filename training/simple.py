"""The simple models of the field on sessions of template numbers: what every deeper model has to beat.

Two verbs, as everywhere: ``learn`` normal sessions, then ``strangeness`` of others, [n], at least 0, higher = stranger,
in a unit of the model's own. Nothing here is drawn at random, and nothing is learnt from what is asked. All models by
their names: ``training.field``.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Line = tuple[int, ...]
Numbers = NDArray[np.float64]

PCA_VARIANCE = 0.95
"""Of the normal subspace: Xu et al., "Detecting Large-Scale System Problems by Mining Console Logs", SOSP 2009, 4.2."""
CHUNK = 256
"""Sessions compared with all learnt ones at once: bounds the memory."""
UNSEEN_LETTER, FIRST_LETTER = "\x00", 1
"""Letters of templates that were never learnt, and of the first that was."""


class Model(ABC):
    """What learns from normal sessions and says how strange others are.

    Args:
        seed: of what is drawn at random, where anything is (``draws``).
        texts: of templates, by number; a template without one is a word of its own.
    """

    name: ClassVar[str]
    draws: ClassVar[bool] = False

    def __init__(self, seed: int = 0, texts: Mapping[int, str] | None = None) -> None:
        self.seed = seed
        self.texts = texts or {}

    @abstractmethod
    def learn(self, lines: Sequence[Line]) -> None:
        """Take in normal sessions, the newest last; what was learnt before is replaced."""

    @abstractmethod
    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """How strange each session is: [n]."""

    def read_until(self, lines: Sequence[Line], bar: float) -> Numbers:
        """Events that are read before each session is raised, of sessions that are: [n]; all, where it has to end."""
        return np.array([len(line) for line in lines], dtype=np.float64)


class NewTemplate(Model):
    """Templates of a session that no learnt session has, each counted once."""

    name = "new_template"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the templates."""
        self._known = {template for line in lines for template in line}

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Unseen templates: [n]."""
        return np.array([len(set(line) - self._known) for line in lines], dtype=np.float64)


class Length(Model):
    """Events by which a session is shorter than the shortest learnt one, or longer than the longest."""

    name = "length"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the bounds."""
        self._low, self._high = min(map(len, lines)), max(map(len, lines))

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Events outside of the bounds: [n]."""
        return np.array([max(self._low - len(line), len(line) - self._high, 0) for line in lines], dtype=np.float64)


class Ngram(Model):
    """Pairs of neighbours, both ends among them, that no learnt session has, each counted once."""

    name = "ngram"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the pairs."""
        self._known = {pair for line in lines for pair in _pairs(line)}

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Unseen pairs: [n]."""
        return np.array([len(_pairs(line) - self._known) for line in lines], dtype=np.float64)


class Counts(Model):
    """Models of how often each learnt template comes; unseen templates share one more column, which was always 0."""

    def learn(self, lines: Sequence[Line]) -> None:
        """Number the templates and learn the count vectors."""
        self._number(lines)
        self._learn(self._counts(lines))

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Ask each distinct count vector once: [n]."""
        distinct, where = np.unique(self._counts(lines), axis=0, return_inverse=True)
        figures: Numbers = self._strangeness(distinct)[where.reshape(-1)]
        return figures

    @abstractmethod
    def _learn(self, counts: Numbers) -> None:
        """Learn from [n, templates + 1]."""

    @abstractmethod
    def _strangeness(self, counts: Numbers) -> Numbers:
        """Judge [n, templates + 1]: [n]."""

    def _number(self, lines: Sequence[Line]) -> None:
        self._column = {template: i for i, template in enumerate(sorted({one for line in lines for one in line}))}

    def _counts(self, lines: Sequence[Line]) -> Numbers:
        unseen = len(self._column)
        counts = np.zeros((len(lines), unseen + 1))
        for row, line in enumerate(lines):
            for template, count in Counter(line).items():
                counts[row, self._column.get(template, unseen)] += count
        return counts


class CountVector(Counts):
    """Distance to the nearest learnt count vector: events to add or take away, as a share of both sessions' events."""

    name = "count_vector"

    def _learn(self, counts: Numbers) -> None:
        self._known = np.unique(counts, axis=0)

    def _strangeness(self, counts: Numbers) -> Numbers:
        sizes = self._known.sum(axis=1)
        nearest = [
            (np.abs(chunk[:, None, :] - self._known).sum(axis=2) / (chunk.sum(axis=1)[:, None] + sizes)).min(axis=1)
            for chunk in np.array_split(counts, max(1, len(counts) // CHUNK))
        ]
        return np.concatenate(nearest)


class EditDistance(Model):
    """Events to put in, take out or replace to get the nearest learnt session, as a share of the longer one's."""

    name = "edit_distance"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the distinct sessions, each template as a letter."""
        self._letter = {template: chr(FIRST_LETTER + i) for i, template in enumerate({e: 0 for x in lines for e in x})}
        self._known = sorted({self._spelt(line) for line in lines})

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Share of the nearest learnt session that differs: [n]."""
        from rapidfuzz import process  # noqa: PLC0415  (an extra)
        from rapidfuzz.distance import Levenshtein  # noqa: PLC0415

        number: dict[str, int] = {}
        which = [number.setdefault(self._spelt(line), len(number)) for line in lines]
        asked = list(number)
        nearest = [
            process.cdist(asked[start : start + CHUNK], self._known, scorer=Levenshtein.normalized_distance).min(axis=1)
            for start in range(0, len(asked), CHUNK)
        ]
        distances: Numbers = np.concatenate(nearest)[which].astype(np.float64)
        return distances

    def _spelt(self, line: Line) -> str:
        return "".join(self._letter.get(one, UNSEEN_LETTER) for one in line)


class Pca(Counts):
    """Squared distance from the subspace that holds 95 % of the learnt sessions' variance (Xu et al., 4.2).

    Counts are weighed by the logarithm of how rare a template is among sessions (TF-IDF, their section 4.2) and
    centred; a template that was never learnt weighs as one of one session.
    """

    name = "pca"

    def _learn(self, counts: Numbers) -> None:
        self._weights = np.log(len(counts) / np.maximum(np.count_nonzero(counts, axis=0), 1))
        weighed = counts * self._weights
        self._mean = weighed.mean(axis=0)
        _, sizes, axes = np.linalg.svd(weighed - self._mean, full_matrices=False)
        variance = np.cumsum(sizes**2)
        kept = int(np.searchsorted(variance, PCA_VARIANCE * variance[-1])) + 1
        self._axes = axes[:kept]

    def _strangeness(self, counts: Numbers) -> Numbers:
        centred = counts * self._weights - self._mean
        rest = centred - centred @ self._axes.T @ self._axes
        distances: Numbers = (rest**2).sum(axis=1)
        return distances


def _pairs(line: Line) -> set[tuple[int, int]]:
    return set(zip((-1, *line), (*line, -2), strict=True))
