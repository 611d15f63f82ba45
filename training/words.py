"""Vectors of templates, made of vectors of their words, which are learnt from the logs alone: nothing is downloaded.

    vectors = TemplateVectors.learn(lines, texts)
    vectors.of([17, 4])            # [2, width]

A word's vector says beside which words it comes, in its own template and in the templates next to it in a session:
positive pointwise mutual information, cut to its strongest directions (Levy, Goldberg: "Neural Word Embedding as
Implicit Matrix Factorization", NIPS 2014, section 5). It stands in for the FastText vectors that LogRobust takes from
Common Crawl and the dLCE vectors, of synonyms and antonyms, of LogAnomaly's template2vec.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from training.simple import Line, Numbers

WIDTH = 64
"""Of a vector, at most: there are no more directions than words."""
MASK = re.compile(r"<[^<>]*>")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""Zhang et al. 2019, 3.2: letters only, compound words cut where the case changes, and in lower case."""
_STOP = "a an and are as at be by for from has have in is it its of on or that the this to was were with"
STOP = frozenset(_STOP.split())


@dataclass(frozen=True, eq=False, slots=True)
class TemplateVectors:
    """Word vectors, and how telling each word is."""

    texts: Mapping[int, str]
    vectors: Mapping[str, Numbers]  # [width] each
    rarity: Mapping[str, float]
    width: int

    @classmethod
    def learn(cls, lines: Sequence[Line], texts: Mapping[int, str]) -> "TemplateVectors":
        """Learn the words of the templates of sessions, as often as they come.

        Templates that no session has teach nothing, whatever ``texts`` says of them.
        """
        templates = sorted({one for line in lines for one in line})
        return cls.of_neighbours(templates, _met(lines, {one: row for row, one in enumerate(templates)}), texts)

    @classmethod
    def of_neighbours(cls, templates: Sequence[int], met: Numbers, texts: Mapping[int, str]) -> "TemplateVectors":
        """Learn the words of templates from how often each stands next to each: [templates, templates]."""
        words = {one: words_of(one, texts) for one in templates}
        number = {word: i for i, word in enumerate(sorted({word for some in words.values() for word in some}))}
        holds = np.zeros((len(templates), len(number)))  # [templates, words]
        for row, one in enumerate(templates):
            for word in words[one]:
                holds[row, number[word]] += 1
        vectors = _directions(holds.T @ met @ holds)
        rarity = np.log(len(templates) / (holds > 0).sum(axis=0)) + 1
        return cls(
            texts,
            {word: vectors[i] for word, i in number.items()},
            {word: float(rarity[i]) for word, i in number.items()},
            vectors.shape[1],
        )

    def of(self, templates: Sequence[int]) -> Numbers:
        """The mean of a template's word vectors, weighed by TF-IDF, of length 1; of no known word: 0. [n, width]."""
        rows = np.zeros((len(templates), self.width))
        for row, one in enumerate(templates):
            counts = Counter(word for word in words_of(one, self.texts) if word in self.vectors)
            for word, count in counts.items():
                rows[row] += count * self.rarity[word] * self.vectors[word]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        vectors: Numbers = rows / np.where(lengths > 0, lengths, 1)
        return vectors


def words_of(template: int, texts: Mapping[int, str]) -> list[str]:
    """Words of a template's text; of one without a text, or without a word, its number.

    >>> words_of(1, {1: "PacketResponder <NUM> for block blk_<ID> terminating"})
    ['packet', 'responder', 'block', 'blk', 'terminating']
    """
    found = [word.lower() for word in WORD.findall(MASK.sub(" ", texts.get(template, "")))]
    return [word for word in found if word not in STOP] or [str(template)]


def _met(lines: Sequence[Line], row: Mapping[int, int]) -> Numbers:
    """How often templates stand next to each other, and each with itself."""
    met = np.zeros((len(row), len(row)))
    for line, times in Counter(lines).items():
        rows = [row[one] for one in line]
        for one, other in pairwise(rows):
            met[one, other] += times
            met[other, one] += times
        for one in rows:
            met[one, one] += times
    return met


def _directions(met: Numbers) -> Numbers:
    """Vectors of words [words, width] from how often they met."""
    alone = met.sum(axis=1)
    with np.errstate(divide="ignore"):
        information = np.maximum(0, np.log(met * met.sum() / np.outer(alone, alone)))
    left, sizes, _ = np.linalg.svd(information)
    vectors: Numbers = left[:, :WIDTH] * np.sqrt(sizes[:WIDTH])
    return vectors
