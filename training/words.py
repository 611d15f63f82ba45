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
from typing import Self

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from models.sessions import Ints
from training.simple import Line, Numbers

WIDTH = 64
"""Of a vector, at most: there are no more directions than words."""
FEW_WORDS = 500
"""Up to so many all directions are computed; of more the strongest alone, 5 times as fast at 3,000 words."""
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
    def of_neighbours(cls, templates: Sequence[int], met: sparse.csr_array, texts: Mapping[int, str]) -> Self:
        """Learn the words of templates from how often each stands next to each: [templates, templates]."""
        words = {one: words_of(one, texts) for one in templates}
        number = {word: i for i, word in enumerate(sorted({word for some in words.values() for word in some}))}
        pairs = [(row, number[word]) for row, one in enumerate(templates) for word in words[one]]
        rows, columns = np.array(pairs).T
        holds = counted(rows, columns, np.ones(len(pairs)), (len(templates), len(number)))
        vectors = _directions(holds.T @ met @ holds)
        rarity = np.log(len(templates) / np.bincount(holds.indices, minlength=len(number))) + 1
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


def _met(lines: Sequence[Line], row: Mapping[int, int]) -> sparse.csr_array:
    """How often templates stand next to each other, and each with itself."""
    pairs: Counter[tuple[int, int]] = Counter()
    for line, times in Counter(lines).items():
        rows = [row[one] for one in line]
        for one, other in pairwise(rows):
            pairs[one, other] += times
            pairs[other, one] += times
        for one in rows:
            pairs[one, one] += times
    rows, columns = np.array(list(pairs)).T
    return counted(rows, columns, np.array(list(pairs.values()), dtype=np.float64), (len(row), len(row)))


def counted(rows: Ints, columns: Ints, times: Numbers | Ints, shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix that is mostly 0, equal places added up."""
    added = sparse.csr_array((times.astype(np.float64), (rows, columns)), shape=shape)
    added.sum_duplicates()
    return added


def _directions(met: sparse.csr_array) -> Numbers:
    """Vectors of words [words, width] from how often they met: the strongest directions of what is above chance."""
    alone, pairs = np.asarray(met.sum(axis=1)), met.tocoo()
    information = np.maximum(0, np.log(pairs.data * met.sum() / (alone[pairs.row] * alone[pairs.col])))
    above = sparse.csr_array((information, (pairs.row, pairs.col)), shape=met.shape)
    if above.shape[0] <= FEW_WORDS:
        left, sizes, _ = np.linalg.svd(above.toarray())
    else:  # symmetric: its singular vectors are those of its eigenvalues, and few are wanted
        values, vectors = eigsh(above, k=WIDTH, which="LM", v0=np.ones(above.shape[0]))
        strongest = np.argsort(-np.abs(values))
        left, sizes = vectors[:, strongest], np.abs(values[strongest])
    directions: Numbers = left[:, :WIDTH] * np.sqrt(sizes[:WIDTH])
    return directions
