"""Templates by the words of their texts: which known one says nearly the same as a new one, as after a release.

Usage::

    known = Wordings(["Starting thread to transfer block <ID>"])
    known.nearest("StartingNow thread to transfer block <ID>")        # (0, 0.66): number and likeness
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from models.finished import WARN

ALIKE = 0.6
"""Share of words in common (Jaccard 1901) from which on a template is another one reworded: two of eight may differ."""
MAX_CHARACTERS = 256
"""Of a template's text kept to compare its words."""
COMMON = 64
"""A word of more templates than that says little of which one a line is: it is not looked up, only counted."""
TROUBLE = (
    *("abort", "assert", "cannot", "corrupt", "crash", "critical", "denied", "died", "error", "exception", "exceeded"),
    *("exhausted", "fail", "fatal", "fault", "forbidden", "illegal", "invalid", "kill", "lost", "missing", "not found"),
    *("overflow", "panic", "refuse", "reject", "reset", "timeout", "timed out", "unable", "unauthor", "unavailable"),
    *("unexpected", "unreachable", "violat", "warn"),
)
"""Beginnings of words, in lower case, that speak of trouble."""
_PUNCTUATION = "()[]{}\"',;:.!?"
_TROUBLE = re.compile(r"(?<![a-z])(" + "|".join(map(re.escape, TROUBLE)) + ")")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Wordings:
    """Texts by their number, and which of them have a word."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts: list[str] = []
        self._by_word: dict[str, list[int]] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take in another text; its number is how many there were."""
        text = " ".join(text[:MAX_CHARACTERS].split())
        for word in words(text):
            self._by_word.setdefault(word, []).append(len(self.texts))
        self.texts.append(text)

    def nearest(self, text: str) -> tuple[int, float]:
        """Number and likeness of the text with most words in common; -1 where none has any."""
        mine = words(" ".join(text[:MAX_CHARACTERS].split()))
        listed = [self._by_word.get(word, []) for word in mine]
        likeness = {}
        for number in {number for numbers in listed if len(numbers) <= COMMON for number in numbers}:
            others = words(self.texts[number])
            likeness[number] = len(mine & others) / len(mine | others)
        nearest = max(likeness, key=lambda number: (likeness[number], -number), default=-1)
        return nearest, likeness.get(nearest, 0.0)


@lru_cache(maxsize=1 << 14)
def words(text: str) -> frozenset[str]:
    """Words of a template's text, without its variable parts."""
    found = (word.strip(_PUNCTUATION) for word in text.lower().split() if "<" not in word)
    return frozenset(word for word in found if word)


@lru_cache(maxsize=1 << 14)
def trouble_in(text: str) -> tuple[int, ...]:
    """Numbers of the words of ``TROUBLE`` that a template's text has."""
    return tuple(TROUBLE.index(found) for found in _TROUBLE.findall(_HUMPS.sub(" ", text).lower()))


def is_calm(level: int, text: str) -> bool:
    """Whether a line speaks of no trouble: neither its level (``models.finished.LEVELS``) nor its template's words."""
    return level < WARN and not trouble_in(text)


def is_rewording(text: str, known: str, alike: float) -> bool:
    """Whether a new text may be a known one in other words: alike, and with no word of trouble that the other lacks."""
    return alike >= ALIKE and set(trouble_in(text)) <= set(trouble_in(known))
