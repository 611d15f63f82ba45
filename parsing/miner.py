"""Masked text to template: a tree for texts not seen before, a memory for all others.

A template's id is a hash of its service and its text at birth, so that it is the same on every shard and after every
restart; when a template generalises it keeps its id and is announced again.
"""

import re
from dataclasses import dataclass, field
from hashlib import blake2b

from parsing.masks import KEPT, MARK
from parsing.tree import SIMILARITY, Tree
from parsing.words import WILDCARD, merged, words_of

OVERFLOW_TEMPLATE = 2
"""Template id of lines that came when the service had as many templates as it may have (0 is padding, 1 the end)."""
OVERFLOW_TEXT = "<TOO MANY TEMPLATES>"
RESERVED = 16
"""Template ids below this are never a hash."""

MAX_TEMPLATES = 20_000
MAX_CHARACTERS = 4_000_000
"""Characters of all templates at birth: 200 a template, where there are as many as there may be. A template is held,
and saved, as three texts; long ones fill the memory before their number does."""
MAX_ALIASES = 100_000
"""Beyond it the oldest is forgotten: its template is then another one here, as it is where no alias came."""
MAX_REMEMBERED = 200_000
"""Masked texts whose template is remembered; at about 150 bytes each. Beyond it the oldest quarter is forgotten."""
# A mask's type as ``Masks.name`` writes it, with what some masks show before their name.
_NAMED = re.compile(
    "(?:" + "|".join(f"{re.escape(kept)}(?=<{name}>)" for name, kept in KEPT.items()) + r")?<[A-Z][A-Z0-9_]*>"
)


def template_id(service: str, birth: str) -> int:
    """Hash a service and a template's text at birth to 64 bits (BLAKE2b), never one of the reserved ids."""
    digest = blake2b(f"{service}\0{birth}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return number if number >= RESERVED else number + RESERVED


def text_key(masked: str) -> int:
    """Hash a masked text to the 64-bit key under which its template is remembered."""
    return int.from_bytes(blake2b(masked.encode(), digest_size=8).digest(), "big")


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


@dataclass(slots=True)
class Change:
    """A template that was born or generalised, to be announced; ``row`` is the text that did it."""

    template: Mined
    row: int
    born: bool


@dataclass(eq=False)
class Miner:
    """Finds the template of masked texts of one service.

    The state is ``entries`` in order of birth (the tree follows from them), ``remembered`` (key of a masked text to
    template id, oldest first) and ``aliases`` (id to the id to use instead).
    """

    service: str
    max_templates: int = MAX_TEMPLATES
    max_remembered: int = MAX_REMEMBERED
    entries: list[Mined] = field(default_factory=list)
    remembered: dict[int, int] = field(default_factory=dict)
    aliases: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tree = Tree()
        self._by_id: dict[int, Mined] = {}
        self._numbers: dict[int, int] = {}  # of those in _by_id, their place among the entries
        self._characters = 0
        entries, self.entries = self.entries, []
        for entry in entries:
            self._plant(entry)

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def full(self) -> bool:
        """Whether the service has as many templates as it may have; what matches none is ``OVERFLOW_TEMPLATE``."""
        return len(self.entries) >= self.max_templates or self._characters >= MAX_CHARACTERS

    def resolve(self, template: int) -> int:
        """Follow aliases to the template id in use."""
        seen: set[int] = set()
        while template in self.aliases and template not in seen:
            seen.add(template)
            template = self.aliases[template]
        return template

    def text(self, template: int) -> str:
        """Return a template's newest text as it is shown; empty for one that is only known as an alias."""
        if template == OVERFLOW_TEMPLATE:
            return OVERFLOW_TEXT
        known = self._by_id.get(template)
        return known.named if known else ""

    def learn(self, masked: list[str]) -> tuple[list[int], list[Change]]:
        """Find or make the templates of texts not remembered, in order: ([n] ids, what was born or generalised).

        What was born shows its masked text until ``show`` is given the types of its masks.
        """
        ids: list[int] = []
        changes: dict[int, Change] = {}
        for row, text in enumerate(masked):
            template, change = self._mine(text)
            self.remembered[text_key(text)] = template
            ids.append(template)
            if change is not None:
                changes.setdefault(change.id, Change(change, row, born=change.masked == change.birth))
        if len(self.remembered) > self.max_remembered:
            self._forget()
        return ids, list(changes.values())

    def show(self, template: Mined, named: str) -> None:
        """Set how a newborn template is shown: the text it was made from with its masks' types."""
        shown, masked = words_of(named), template.masked.split(" ")
        if len(shown) != len(masked):  # the line itself holds a mark
            shown = template.masked.replace(MARK, WILDCARD).split(" ")
        template.named = _widened(shown, masked)

    def adopt(self, template: int, text: str, alias_of: int | None) -> Mined | None:
        """Take a template over from the catalogue, so that the same line gets the same id here.

        Returns:
            The template, if what this shard knew and what the catalogue knew made a text that neither had.
        """
        if alias_of is not None and self.resolve(alias_of) != template:
            self.aliases[template] = alias_of
            if len(self.aliases) > MAX_ALIASES:
                del self.aliases[next(iter(self.aliases))]
            self._redirect()
        known = self._by_id.get(template)
        if known is not None:
            return self._generalise(known, text)
        if template < RESERVED or self.full:
            return None
        masked = _NAMED.sub(MARK, text)
        self._plant(Mined(template, masked, masked, text))
        # A text that equals the template is this template, whatever the tree would prefer.
        self.remembered.setdefault(text_key(masked), self.resolve(template))
        return None

    def _plant(self, entry: Mined) -> None:
        """Put a known template into the tree: found by the words of its birth, compared by its newest ones."""
        self._enter(entry, entry.birth.split(), entry.masked.split())

    def _enter(self, entry: Mined, birth: list[str], words: list[str]) -> None:
        self._tree.add(birth, words)
        self._by_id.setdefault(entry.id, entry)
        self._numbers.setdefault(entry.id, len(self.entries))
        self.entries.append(entry)
        self._characters += len(entry.birth)

    def _mine(self, text: str) -> tuple[int, Mined | None]:
        """Return the template of one text, and the entry if the text made or generalised it."""
        words = words_of(text)
        found = self._tree.find(words)
        if found is None:
            if self.full:
                return OVERFLOW_TEMPLATE, None
            birth = " ".join(words)
            entry = Mined(template_id(self.service, birth), birth, birth, birth.replace(MARK, WILDCARD))
            self._enter(entry, words, words)
            return self.resolve(entry.id), entry
        number, common = found
        entry = self.entries[number]
        if common == self._tree.words[number]:
            return self.resolve(entry.id), None
        self._widen(entry, number, common)
        return self.resolve(entry.id), entry

    def _widen(self, entry: Mined, number: int, words: list[str]) -> None:
        """Give a template new words, with a wildcard where it had none."""
        self._tree.words[number] = words
        entry.masked = " ".join(words)
        entry.named = _widened(entry.named.split(" "), words)

    def _generalise(self, entry: Mined, text: str) -> Mined | None:
        """Take over the words that another shard has generalised in a template known here."""
        theirs, ours, shown = text.split(" "), entry.masked.split(" "), entry.named.split(" ")
        if not len(theirs) == len(ours) == len(shown):
            return None
        words = [
            merged(own, word) if WILDCARD in word and own != word else own
            for own, word in zip(ours, theirs, strict=True)
        ]
        if sum(WILDCARD not in word for word in words) < SIMILARITY * len(words):
            return None  # nothing new would be similar to so few words: both shards keep what they have
        if words != ours:
            self._widen(entry, self._numbers[entry.id], words)
        more_than_theirs = any(WILDCARD in a and a != b for a, b in zip(words, theirs, strict=True))
        return entry if more_than_theirs and any(WILDCARD in b for b in theirs) else None

    def _redirect(self) -> None:
        """Let remembered texts point past aliases."""
        for key, template in self.remembered.items():
            if template in self.aliases:
                self.remembered[key] = self.resolve(template)

    def _forget(self) -> None:
        """Forget the oldest quarter of the remembered texts at once: one by one would rescan the table each time."""
        keep = self.max_remembered * 3 // 4
        self.remembered = dict(list(self.remembered.items())[-keep:])


def _widened(shown: list[str], words: list[str]) -> str:
    """Return the shown text with a wildcard wherever ``words`` has one."""
    return " ".join(new if WILDCARD in new else old for old, new in zip(shown, words, strict=True))
