"""The templates that a shard holds: by id, by the order in which they came, and by the words they match."""

from collections.abc import Iterable
from dataclasses import dataclass

from parsing.tree import Tree


@dataclass(slots=True)
class Mined:
    """A template as this shard knows it. Texts are words with one blank between."""

    id: int
    birth: str
    """The masked text it was made from; says where in the tree it is."""
    masked: str
    """The newest text: masked parts as ``MARK``, generalised words as ``<*>``."""
    named: str
    """The newest text as it is shown: masked parts by their types, generalised words as ``<*>``."""
    since: int = 0
    """The generation in which it came (``parsing.miner``)."""
    used: int = 0
    """The generation in which it was used last."""


class Stock:
    """Templates by number, in the order in which they came.

    Attributes:
        entries: the templates by number.
        characters: of all texts at birth together.
    """

    def __init__(self, entries: Iterable[Mined] = ()) -> None:
        self.entries: dict[int, Mined] = {}
        self.characters = 0
        self._tree = Tree()
        self._numbers: dict[int, int] = {}
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, template: int) -> bool:
        return template in self._numbers

    def get(self, template: int) -> Mined | None:
        """Return the template of an id, or None."""
        number = self._numbers.get(template)
        return None if number is None else self.entries[number]

    def number(self, template: int) -> int:
        """Return an id's number."""
        return self._numbers[template]

    def add(self, entry: Mined) -> None:
        """Take a template in: found by the words of its birth, compared by its newest ones."""
        birth = entry.birth.split()
        number = self._tree.add(birth, birth if entry.masked == entry.birth else entry.masked.split())
        self.entries[number] = entry
        self._numbers[entry.id] = number
        self.characters += len(entry.birth)

    def find(self, words: list[str]) -> tuple[Mined, list[str], bool] | None:
        """Find a text's template: (template, words both have in common, whether these are the template's own)."""
        found = self._tree.find(words)
        if found is None:
            return None
        number, common = found
        return self.entries[number], common, common == self._tree.words[number]

    def rewrite(self, entry: Mined, words: list[str]) -> None:
        """Give a template other words."""
        self._tree.words[self._numbers[entry.id]] = words
        entry.masked = " ".join(words)

    def remove(self, numbers: Iterable[int]) -> list[Mined]:
        """Take templates out, and return them."""
        gone = {number: self.entries.pop(number) for number in numbers}
        self._tree.remove({number: entry.birth.split() for number, entry in gone.items()})
        for entry in gone.values():
            del self._numbers[entry.id]
            self.characters -= len(entry.birth)
        return list(gone.values())
