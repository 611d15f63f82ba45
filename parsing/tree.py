"""Templates found by their words: of all that share enough words with a text, the one that shares most.

Drain (He et al., *Drain: An Online Log Parsing Approach with Fixed Depth Tree*, ICWS 2017) sorts templates by their
length and compares a text with those of its length by the share of equal words. That is kept. Two things differ:

- Which words may differ at all is ``parsing.words.meet``'s to say. Words it holds for constants become a variable only
  where ``_ENUMERATED`` templates differ from a text in the very same places: a name, and no enumeration.
- Drain compares with every template of a leaf, one after another (drain3: 260 texts/s at 6,000 templates). Here, an
  index: a template of ``n`` words that is similar enough shares ``k = ceil(n * similarity)`` of them with the text,
  hence at least one of any ``n - k + 1`` places. Looking at the places whose words are in the fewest templates finds
  every template that may win, and nearly no other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from operator import eq

from parsing.words import meet, merged

SIMILARITY = 0.6
"""Share of words that a text and its template have in common at least."""
_ENUMERATED = 8
"""Templates that differ from a text in the same places from which on those places are variable. Fewer are states,
verbs or kinds, which are kept apart."""


@dataclass(eq=False, slots=True)
class Tree:
    """Templates by number, from 0 on in the order in which they came; a number is given once."""

    words: dict[int, list[str]] = field(default_factory=dict)
    """The newest words of each template."""
    _numbers: int = 0
    """Numbers given so far."""
    _having: defaultdict[int, dict[tuple[int, str], list[int]]] = field(default_factory=lambda: defaultdict(dict))
    """By length: the templates that had a word at a place when they were made."""

    def add(self, birth: list[str], words: list[str]) -> int:
        """Add a template that was made of the words ``birth``; returns its number."""
        number = self._numbers
        self._numbers += 1
        self.words[number] = words
        having = self._having[len(birth)]
        for place in _places(birth):
            having.setdefault(place, []).append(number)
        return number

    def remove(self, births: Mapping[int, list[str]]) -> None:
        """Take templates out, given by number with the words they were made of.

        Many at once cost little more than one: each list they stand in is written anew once.
        """
        places: defaultdict[int, set[tuple[int, str]]] = defaultdict(set)
        for number, birth in births.items():
            del self.words[number]
            places[len(birth)].update(_places(birth))
        for length, affected in places.items():
            having = self._having[length]
            for place in affected:
                left = [number for number in having[place] if number not in births]
                if left:
                    having[place] = left
                else:
                    del having[place]

    def find(self, words: list[str]) -> tuple[int, list[str]] | None:
        """Find the template of a text, and the words that both have in common; None if there is none."""
        best, most, common = -1, -1, words
        others: dict[tuple[int, ...], list[int]] = {}
        enough = ceil(len(words) * SIMILARITY - 1e-9)
        for number in self._candidates(words, enough):
            known = self.words[number]
            equal = sum(map(eq, known, words))
            if equal < enough:
                continue
            together, apart = _compare(known, words)
            if apart:
                others.setdefault(apart, []).append(number)
            elif equal > most:
                best, most, common = number, equal, together
        if best >= 0:
            return best, common
        for places, numbers in others.items():
            if len(numbers) >= _ENUMERATED:
                known = self.words[numbers[0]]
                common, _ = _compare(known, words)
                for place in places:
                    common[place] = merged(known[place], words[place])
                return numbers[0], common
        return None

    def _candidates(self, words: list[str], enough: int) -> list[int]:
        """Return every template that may share enough words, in the order in which they came."""
        having = self._having.get(len(words), {})
        lists = sorted((having.get(place, ()) for place in _places(words)), key=len)
        return sorted(set().union(*lists[: len(words) - enough + 1]))


def _places(words: list[str]) -> Iterable[tuple[int, str]]:
    return enumerate(words) if words else ((0, ""),)


def _compare(known: list[str], words: list[str]) -> tuple[list[str], tuple[int, ...]]:
    """Return what a template and a text of its length have in common, and the places that may not differ."""
    if known == words:
        return known, ()
    common, apart, before = [], [], ""
    for place, (old, new) in enumerate(zip(known, words, strict=True)):
        both = old if old == new else meet(old, new, before)
        if both is None:
            apart.append(place)
        common.append(old if both is None else both)
        before = new
    return common, tuple(apart)
