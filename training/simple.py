"""The simple models of the field on sessions of template numbers: what every deeper model has to beat.

Two verbs, as everywhere: ``learn`` normal sessions, then ``strangeness`` of others, [n], at least 0, higher = stranger,
in a unit of the model's own. Nothing here is drawn at random, and nothing is learnt from what is asked. All models by
their names: ``training.field``.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.wording import trouble_in

if TYPE_CHECKING:
    from training.datasets import Side

Line = tuple[int, ...]
Numbers = NDArray[np.float64]
Needs = Literal["numbers", "texts", "values", "labels"]
"""What a model has to know of sessions: the numbers of their templates alone, or more."""

PCA_VARIANCE = 0.95
"""Of the normal subspace: Xu et al., "Detecting Large-Scale System Problems by Mining Console Logs", SOSP 2009, 4.2."""
CHUNK = 256
"""Sessions compared with all learnt ones at once: bounds the memory."""
BEGINNING, END = -1, -2
"""Of a session, where pairs of neighbours are looked at."""
UNSEEN_LETTER, FIRST_LETTER = "\x00", 1
"""Letters of templates that were never learnt, and of the first that was."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A part of why a session is strange: in words, and how much, in the unit of what is said."""

    words: str
    amount: float


class Model(ABC):
    """What learns from normal sessions and says how strange others are.

    Args:
        seed: of what is drawn at random, where anything is (``draws``).
        texts: of templates, by number; a template without one is a word of its own.
    """

    name: ClassVar[str]
    draws: ClassVar[bool] = False
    needs: ClassVar[Needs] = "numbers"

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

    def learn_side(self, side: "Side") -> None:
        """``learn`` with all that is known of sessions, which most models do not ask for."""
        self.learn(side.lines)

    def strangeness_of(self, side: "Side") -> Numbers:
        """``strangeness`` with all that is known of sessions: [n]."""
        return self.strangeness(side.lines)

    def read_until_of(self, side: "Side", bar: float) -> Numbers:
        """``read_until`` with all that is known of sessions: [n]."""
        return self.read_until(side.lines, bar)

    def why(self, session: "Side") -> list[Reason]:
        """Why a session (a side of one) is strange, the greatest part first; each model in the terms of its own kind.

        Here, for what has no better terms: by how much it were less strange without the events of each template.
        """
        (line,) = session.lines
        others = {one: tuple(event for event in line if event != one) for one in dict.fromkeys(line)}
        whole, *without = self.strangeness([line, *others.values()])
        return ranked(
            Reason(f"{line.count(one)} x {self.called(one)}", float(whole - less))
            for one, less in zip(others, without, strict=True)
        )

    def called(self, template: int) -> str:
        """The text of a template, or its number."""
        return self.texts.get(template, f"template {template}")


def ranked(reasons: Iterable[Reason]) -> list[Reason]:
    """Those that say anything, the greatest first."""
    return sorted((one for one in reasons if one.amount > 0), key=lambda one: -one.amount)


def strangest(sessions: int, owners: NDArray[np.int64], each: Numbers) -> Numbers:
    """Of each session the strangest of its events, which are of these sessions and so strange: [sessions], from 0."""
    most = np.zeros(sessions)
    np.maximum.at(most, owners, each)
    return most


def until_raised(lines: Sequence[Line], owners: NDArray[np.int64], raised: NDArray[np.bool_]) -> Numbers:
    """Events of each session up to its first that is raised, all where none is: [n]; owners are in order."""
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    until = np.array([len(line) for line in lines], dtype=np.float64)
    np.minimum.at(until, owners[raised], places[raised] + 1)
    return until


class Keywords(Model):
    """Events whose template speaks of trouble: what a search for "error" finds. Nothing is learnt.

    The words are those of ``models.wording``, gathered before any figure of this benchmark was seen.
    """

    name = "keywords"
    needs = "texts"

    def learn(self, lines: Sequence[Line]) -> None:
        """Learn nothing."""

    @cached_property
    def _trouble(self) -> set[int]:
        return {number for number, text in self.texts.items() if trouble_in(text)}

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Events of trouble: [n]."""
        return np.array([sum(one in self._trouble for one in line) for line in lines], dtype=np.float64)

    def read_until(self, lines: Sequence[Line], bar: float) -> Numbers:
        """Up to the event that is one too many: [n]."""
        counted = (np.cumsum([one in self._trouble for one in line]) for line in lines)
        return np.array([np.searchsorted(count, bar, "right") + 1 for count in counted], dtype=np.float64)

    def why(self, session: "Side") -> list[Reason]:
        """The templates of trouble, by their events."""
        (line,) = session.lines
        return ranked(
            Reason(f"speaks of trouble: {self.called(one)}", count)
            for one, count in Counter(line).items()
            if one in self._trouble
        )


class NewTemplate(Model):
    """Templates of a session that no learnt session has, each counted once."""

    name = "new_template"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the templates."""
        self._known = {template for line in lines for template in line}

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Unseen templates: [n]."""
        return np.array([len(set(line) - self._known) for line in lines], dtype=np.float64)

    def why(self, session: "Side") -> list[Reason]:
        """The unseen templates."""
        (line,) = session.lines
        return [Reason(f"never seen: {self.called(one)}", 1) for one in dict.fromkeys(line) if one not in self._known]


class Length(Model):
    """Events by which a session is shorter than the shortest learnt one, or longer than the longest."""

    name = "length"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the bounds."""
        self._low, self._high = min(map(len, lines)), max(map(len, lines))

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Events outside of the bounds: [n]."""
        return np.array([max(self._low - len(line), len(line) - self._high, 0) for line in lines], dtype=np.float64)

    def why(self, session: "Side") -> list[Reason]:
        """The length, and the bounds."""
        (line,) = session.lines
        outside = float(self.strangeness([line])[0])
        return ranked([Reason(f"{len(line)} events, where {self._low} to {self._high} are usual", outside)])


class Ngram(Model):
    """Pairs of neighbours, both ends among them, that no learnt session has, each counted once."""

    name = "ngram"

    def learn(self, lines: Sequence[Line]) -> None:
        """Remember the pairs."""
        self._known = {pair for line in lines for pair in _pairs(line)}

    def strangeness(self, lines: Sequence[Line]) -> Numbers:
        """Unseen pairs: [n]."""
        return np.array([len(_pairs(line) - self._known) for line in lines], dtype=np.float64)

    def why(self, session: "Side") -> list[Reason]:
        """The unseen pairs, in the order in which they came."""
        (line,) = session.lines
        ends = {BEGINNING: "the beginning", END: "the end"}
        unseen = dict.fromkeys(pair for pair in pairwise((BEGINNING, *line, END)) if pair not in self._known)
        said = [tuple(ends.get(one) or self.called(one) for one in pair) for pair in unseen]
        return [Reason(f"never came after {before}: {after}", 1) for before, after in said]


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

    def _names(self, line: Line) -> list[str]:
        """What the columns count, in words; of the last one those of this session."""
        unseen = [self.called(one) for one in dict.fromkeys(line) if one not in self._column]
        return [*(self.called(one) for one in self._column), f"never seen: {', '.join(unseen) or 'nothing'}"]

    def _counts(self, lines: Sequence[Line]) -> Numbers:
        unseen = len(self._column)
        counts = np.zeros((len(lines), unseen + 1))
        for row, line in enumerate(lines):
            for template, count in Counter(line).items():
                counts[row, self._column.get(template, unseen)] += count
        return counts


class ByColumn(Counts):
    """Models whose strangeness is made of a part for each column of counts."""

    @abstractmethod
    def _parts(self, counts: Numbers) -> Numbers:
        """What each column adds: [n, templates + 1] to the same."""

    def why(self, session: "Side") -> list[Reason]:
        """The templates whose counts are not what the others let expect, those that the session lacks among them."""
        counts = self._counts(session.lines)[0]
        names = self._names(session.lines[0])
        parts = self._parts(counts[None])[0]
        return ranked(
            Reason(f"{count:.0f} x {name}", float(part)) for name, count, part in zip(names, counts, parts, strict=True)
        )


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

    def why(self, session: "Side") -> list[Reason]:
        """What the nearest learnt session has more or less of, in events."""
        counts = self._counts(session.lines)[0]
        off = np.abs(self._known - counts).sum(axis=1) / (self._known.sum(axis=1) + counts.sum())
        nearest = self._known[int(off.argmin())]
        names = self._names(session.lines[0])
        return ranked(
            Reason(f"{count:.0f} x {name}, where the nearest has {usual:.0f}", abs(float(count - usual)))
            for name, count, usual in zip(names, counts, nearest, strict=True)
        )


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

    def why(self, session: "Side") -> list[Reason]:
        """The edits that make the nearest learnt session of it, in its order."""
        from rapidfuzz import process  # noqa: PLC0415
        from rapidfuzz.distance import Levenshtein  # noqa: PLC0415

        (line,) = session.lines
        spelt = self._spelt(line)
        off = process.cdist([spelt], self._known, scorer=Levenshtein.normalized_distance)[0]
        nearest = self._known[int(off.argmin())]
        templates = list(self._letter)
        said = []
        for edit in Levenshtein.editops(spelt, nearest):
            place = f"event {edit.src_pos + 1}"
            other = "" if edit.tag == "delete" else self.called(templates[ord(nearest[edit.dest_pos]) - FIRST_LETTER])
            match edit.tag:
                case "insert":
                    said.append(f"lacks before {place}: {other}")
                case "delete":
                    said.append(f"too much, {place}: {self.called(line[edit.src_pos])}")
                case _:
                    said.append(f"{place}: {self.called(line[edit.src_pos])}, in place of {other}")
        return [Reason(words, 1) for words in said]

    def _spelt(self, line: Line) -> str:
        return "".join(self._letter.get(one, UNSEEN_LETTER) for one in line)


class Pca(ByColumn):
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
        distances: Numbers = self._parts(counts).sum(axis=1)
        return distances

    def _parts(self, counts: Numbers) -> Numbers:
        centred = counts * self._weights - self._mean
        rest: Numbers = centred - centred @ self._axes.T @ self._axes
        return rest**2


def _pairs(line: Line) -> set[tuple[int, int]]:
    return set(pairwise((BEGINNING, *line, END)))
