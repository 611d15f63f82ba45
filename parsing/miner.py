"""Masked text to template: a tree for texts not seen before, a memory for all others.

A template's id is a hash of its service and its text at birth, so that it is the same on every shard and after every
restart; when a template generalises it keeps its id and is announced again.

What is known is bounded. Lines are counted, and every ``GENERATION`` of them make a generation; whatever takes
something away happens where one ends, so that it does not depend on how lines were cut into batches:

- Of more templates than a service may have, those go whose last use is the most generations ago. One that comes again
  has the same id: the hash of its text, or, where it had generalised, because it was put on a shelf.
- Where most of what was added goes again at once, as in a flood of lines that all differ, nothing is added until what
  is refused would have room: the flood would push out what is in use, and fill the catalogue of all shards.

Shards of a service learn on their own and tell each other (``adopt``). Templates that two of them made of one kind of
line become aliases of the one with the smallest id; the same pairs give the same aliases in any order.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice

from contracts.records import TemplateReason
from parsing.aliases import Aliases
from parsing.masks import KEPT, MARK
from parsing.stock import Mined, Stock
from parsing.tree import SIMILARITY
from parsing.words import WILDCARD, merged, words_of

UNKNOWN = 0
"""Id of no template (padding, to a model)."""
OVERFLOW_TEMPLATE = 2
"""Template id of lines for whose template the service had no room (0 is padding, 1 the end)."""
OVERFLOW_TEXT = "<TOO MANY TEMPLATES>"
RESERVED = 16
"""Template ids below this are never a hash."""

MAX_TEMPLATES = 20_000
"""Kept from one generation to the next."""
MAX_CHARACTERS = 4_000_000
"""Characters of all templates at birth: 200 a template, where there are as many as there may be. A template is held,
and saved, as three texts; long ones fill the memory before their number does."""
ROOM = 8
"""Within a generation there may be an eighth more of both: what is new does not wait for what is old to go."""
SHELF = 4
"""A quarter as many generalised templates that went are kept apart, the oldest of them forgotten."""
GENERATION = 20_000
"""Lines; with 2,500 new templates among them a full service has an eighth of lines like no other, and is in trouble."""
AT_ONCE = 10
"""Generations: a template that was not used after the one it came in, and goes within this many, went at once."""
RESUME = 4
"""Learning goes on after a generation that refused a quarter of the room at most: less would be on and off."""
MAX_REMEMBERED = 200_000
"""Masked texts whose template is remembered; at about 150 bytes each. Beyond it the oldest are forgotten."""
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
class Change:
    """A template that came or generalised, to be announced; ``row`` is the text that did it."""

    template: Mined
    row: int
    reason: TemplateReason


@dataclass(slots=True)
class Generation:
    """How far the running generation is."""

    number: int = 0
    lines: int = 0
    added: int = 0
    """Templates, born or adopted."""
    refused: int = 0
    """Texts that matched no template and got none."""
    widened: bool = False
    """A template was generalised."""
    paused: bool = False
    """What matches no template gets none, for the whole of it."""


@dataclass(eq=False)
class Miner:
    """Finds the template of masked texts of one service.

    Behind its limits, the state is what the constructor takes, all of it in the order in which it came. ``stock`` are
    the templates, ``shelf`` the generalised ones that went; ``remembered`` has the template id of masked texts by their
    key; ``seen`` the ids used in the running generation; ``told`` is what the catalogue does not know yet: reason and
    text by id.
    """

    service: str
    max_templates: int = MAX_TEMPLATES
    max_remembered: int = MAX_REMEMBERED
    generation_lines: int = GENERATION
    stock: Stock = field(default_factory=Stock)
    shelf: Stock = field(default_factory=Stock)
    remembered: dict[int, int] = field(default_factory=dict)
    aliases: Aliases = field(default_factory=Aliases)
    generation: Generation = field(default_factory=Generation)
    seen: set[int] = field(default_factory=set)
    told: dict[int, tuple[TemplateReason, str]] = field(default_factory=dict)
    forgotten: int = 0
    """Texts forgotten since somebody set this back to 0."""
    ended: bool = False
    """Whether a generation ended while the last lines were cut into spans."""

    def __post_init__(self) -> None:
        self._stand_ins: dict[int, int] = {}  # ids in use whose template is not here -> an alias of it that is
        self._stale = True

    def __len__(self) -> int:
        return len(self.stock)

    @property
    def full(self) -> bool:
        """Whether nothing can be added in this generation; what matches no template is ``OVERFLOW_TEMPLATE``."""
        templates = self.max_templates + max(1, self.max_templates // ROOM)
        return len(self.stock) >= templates or self.stock.characters >= MAX_CHARACTERS + MAX_CHARACTERS // ROOM

    def resolve(self, template: int) -> int:
        """Follow aliases to the template id in use."""
        return self.aliases.resolve(template)

    def text(self, template: int) -> str:
        """Return a template's newest text as it is shown; empty for one that is only known as an alias."""
        if template == OVERFLOW_TEMPLATE:
            return OVERFLOW_TEXT
        known = self._standing_for(template)
        return known.named if known else ""

    # -- learning ------------------------------------------------------------------------------------------------

    def spans(self, lines: int) -> Iterator[tuple[int, int]]:
        """Cut that many further lines where a generation ends: (start, stop).

        Within a span nothing is forgotten, and an id stays what it is. Its texts must have been learnt when the next is
        asked for.
        """
        self._settle()
        start, self.ended = 0, False
        while start < lines:
            stop = min(lines, start + self.generation_lines - self.generation.lines)
            yield start, stop
            self.generation.lines += stop - start
            if self.generation.lines >= self.generation_lines:
                self._turn()
                self._settle()
                self.ended = True
            start = stop

    def learn(self, masked: list[str]) -> tuple[list[int], list[Change]]:
        """Find or make the templates of texts, in order: ([n] ids, what came or was generalised).

        What was born shows its masked text until ``show`` is given the types of its masks.
        """
        keys = list(map(text_key, masked))
        ids = [self.remembered.get(key, UNKNOWN) for key in keys]
        changes: dict[int, Change] = {}
        for row, template in enumerate(ids):
            if template == UNKNOWN:
                self.remembered[keys[row]] = ids[row] = self._mine(masked[row], row, changes)
        self.seen.update(ids)
        return ids, list(changes.values())

    def show(self, template: Mined, named: str) -> None:
        """Set how a newborn template is shown: the text it was made from with its masks' types."""
        shown, masked = words_of(named), template.masked.split(" ")
        if len(shown) != len(masked):  # the line itself holds a mark
            shown = template.masked.replace(MARK, WILDCARD).split(" ")
        template.named = _widened(shown, masked)

    def _mine(self, text: str, row: int, changes: dict[int, Change]) -> int:
        """Return the template of one text, and note what the text made or generalised."""
        words = words_of(text)
        found = self.stock.find(words)
        if found is None:
            return self._take_in(words, row, changes)
        entry, common, same = found
        if not same:
            self._widen(entry, common)
            changes.setdefault(entry.id, Change(entry, row, "generalised"))
        return self.resolve(entry.id)

    def _take_in(self, words: list[str], row: int, changes: dict[int, Change]) -> int:
        """Make a template of a text that matches none, or fetch the one it had from the shelf."""
        birth = " ".join(words)
        own = template_id(self.service, birth)
        if own in self.stock:  # it has generalised away from the text it was made of
            return self.resolve(own)
        if self.generation.paused or self.full:
            self.generation.refused += 1
            return OVERFLOW_TEMPLATE
        shelved = self.shelf.find(words)
        if shelved is None:
            entry = Mined(own, birth, birth, birth.replace(MARK, WILDCARD))
            self._add(entry)
            changes[own] = Change(entry, row, "born")
            return self.resolve(own)
        entry, common, same = shelved
        self.shelf.remove([self.shelf.number(entry.id)])
        self._add(entry)
        if not same:
            self._widen(entry, common)
        changes[entry.id] = Change(entry, row, "returned")
        return self.resolve(entry.id)

    def _add(self, entry: Mined) -> None:
        self.stock.add(entry)
        entry.since = entry.used = self.generation.number
        self.generation.added += 1
        root = self.resolve(entry.id)
        if root not in self.stock:
            self._stand_ins[root] = min(self._stand_ins.get(root, entry.id), entry.id)

    def _widen(self, entry: Mined, words: list[str]) -> None:
        """Give a template new words, with a wildcard where it had none."""
        self.stock.rewrite(entry, words)
        entry.named = _widened(entry.named.split(" "), words)
        self.generation.widened = True

    # -- generations ---------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """End a generation: let go what is too much, and decide whether the next one learns."""
        ended = self.generation
        for template in self.seen:
            used = self._standing_for(template)
            if used is not None:
                used.used = ended.number
        evicted = self._evict()
        if ended.widened:
            self._unite_equals(self.stock.entries.values())
        if ended.paused:
            paused = ended.refused > self.max_templates // ROOM // RESUME
        else:
            at_once = (one.used == one.since and ended.number - one.since <= AT_ONCE for one in evicted)
            paused = 2 * sum(at_once) > ended.added
        if evicted or ended.refused:
            self._forget_those_without_template()
        self._forget_oldest()
        self.generation, self.seen = Generation(ended.number + 1, paused=paused), set()

    def _evict(self) -> list[Mined]:
        """Let the least recently used templates go, first come first."""
        entries, gone = self.stock.entries, list[int]()
        many, long = len(entries) - self.max_templates, self.stock.characters - MAX_CHARACTERS
        if many <= 0 and long <= 0:
            return []
        for number in nsmallest(
            len(entries) if long > 0 else many, entries, key=lambda number: (entries[number].used, number)
        ):
            if len(gone) >= many and long <= 0:
                break
            gone.append(number)
            long -= len(entries[number].birth)
        evicted = self.stock.remove(gone)
        for entry in evicted:
            self.told[entry.id] = "evicted", entry.named
        self._shelve(evicted)
        self._stale = True
        return evicted

    def _shelve(self, entries: Iterable[Mined]) -> None:
        """Keep the templates whose id would not follow from the text of a line."""
        for entry in entries:
            by_hash = entry.masked == entry.birth and template_id(self.service, entry.birth) == entry.id
            if not by_hash and entry.id not in self.shelf:
                self.shelf.add(entry)
        many = len(self.shelf) - max(1, self.max_templates // SHELF)
        if many > 0:
            self.shelf.remove(list(islice(self.shelf.entries, many)))

    def _forget_those_without_template(self) -> None:
        """Forget the texts whose template went, and those that were refused: they may have one now."""
        self._settle()
        gone = {one for one in set(self.remembered.values()) if self._standing_for(one) is None}
        self.remembered = {key: one for key, one in self.remembered.items() if one not in gone}

    def _forget_oldest(self) -> None:
        """Forget texts at the end of a generation, so that the next one's have room."""
        many = len(self.remembered) - self.max_remembered + min(self.generation_lines, self.max_remembered // 4)
        if many > 0:
            self.forgotten += many
            self.remembered = dict(islice(self.remembered.items(), many, None))

    # -- the catalogue -------------------------------------------------------------------------------------------

    def adopt(
        self, template: int, text: str, alias_of: int | None = None, *, evicted: bool = False, raced: bool = False
    ) -> None:
        """Take a template over from the catalogue, so that the same line gets the same id here.

        Args:
            template: its id.
            text: its newest text as it is shown.
            alias_of: another id of the same template.
            evicted: some shard had no use for it.
            raced: it was born elsewhere just now: where it would have got a template of ours, the two are one.
        """
        if template < RESERVED:
            return
        if alias_of is not None:
            self._unite(template, alias_of, told=True)
        elif template in self.aliases and not evicted:
            self._tell(template, "merged")  # whoever wrote this does not know the alias, and has overwritten it
        known = self.stock.get(template)
        if known is not None:
            self._generalise(known, text)
            return
        masked = _NAMED.sub(MARK, text)
        entry = Mined(template, masked, masked, text)
        if evicted:
            self._shelve([entry])
        elif text or alias_of is None:
            self._plant(entry, raced=raced)

    def _plant(self, entry: Mined, *, raced: bool) -> None:
        """Take in a template that another shard has made."""
        found = self.stock.find(entry.masked.split()) if raced or entry.id in self.aliases else None
        if found is not None and (raced or self.resolve(found[0].id) == self.resolve(entry.id)):
            ours, common, same = found
            self._unite(entry.id, ours.id)
            if not same and _enough(common):
                self._widen(ours, common)
                self._tell(ours.id, "generalised")
                same = True
            if same:
                self._remember(entry)
                return
        if self.full:
            return
        if entry.id in self.shelf:
            self.shelf.remove([self.shelf.number(entry.id)])
        self._add(entry)
        self.generation.widened |= WILDCARD in entry.masked
        self._remember(entry)

    def _remember(self, entry: Mined) -> None:
        """A text that equals the template is this template, whatever the tree would prefer."""
        if len(self.remembered) < self.max_remembered:
            self.remembered.setdefault(text_key(entry.masked), self.resolve(entry.id))

    def _generalise(self, entry: Mined, text: str) -> None:
        """Take over the words that another shard has generalised in a template known here."""
        theirs, ours, shown = text.split(" "), entry.masked.split(" "), entry.named.split(" ")
        if not len(theirs) == len(ours) == len(shown):
            return
        words = [
            merged(own, word) if WILDCARD in word and own != word else own
            for own, word in zip(ours, theirs, strict=True)
        ]
        if not _enough(words):
            return  # nothing new would be similar to so few words: both shards keep what they have
        if words != ours:
            self._widen(entry, words)
            self._unite_equals([entry])
        more_than_theirs = any(WILDCARD in a and a != b for a, b in zip(words, theirs, strict=True))
        if more_than_theirs and any(WILDCARD in b for b in theirs):
            self._tell(entry.id, "generalised")

    def _unite_equals(self, entries: Iterable[Mined]) -> None:
        """Make templates of one text one: which of them a line gets would be chance."""
        wanted = {entry.masked for entry in entries}
        first: dict[str, Mined] = {}
        for entry in self.stock.entries.values():
            if entry.masked in wanted:
                self._unite(first.setdefault(entry.masked, entry).id, entry.id)

    def _unite(self, one: int, other: int, *, told: bool = False) -> None:
        """Make two ids one template, and tell it, unless the catalogue has told so itself."""
        link = self.aliases.unite(one, other)
        if link is None:
            return
        self._stale = True
        if not (told and link == (one, other)):
            self._tell(link[0], "merged")

    def _tell(self, template: int, reason: TemplateReason) -> None:
        """Note what the catalogue is to be told; that a template is more general is less than any other news of it."""
        entry = self.stock.get(template)
        before, _ = self.told.pop(template, (reason, ""))
        self.told[template] = before if reason == "generalised" else reason, entry.named if entry else ""

    # -- aliases -------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let what is remembered point past new aliases, and find who stands for ids whose template is not here."""
        if not self._stale:
            return
        self._stale = False
        links = self.aliases.links
        if links and not links.keys().isdisjoint(self.remembered.values()):
            self.remembered = {key: self.resolve(one) for key, one in self.remembered.items()}
        self._stand_ins = {}
        for alias in links:
            root = self.resolve(alias)
            if alias in self.stock and root not in self.stock:
                self._stand_ins[root] = min(self._stand_ins.get(root, alias), alias)

    def _standing_for(self, template: int) -> Mined | None:
        return self.stock.get(template) or self.stock.get(self._stand_ins.get(template, OVERFLOW_TEMPLATE))


def _enough(words: list[str]) -> bool:
    """Whether a text can be similar to a template of these words."""
    return sum(WILDCARD not in word for word in words) >= SIMILARITY * len(words)


def _widened(shown: list[str], words: list[str]) -> str:
    """Return the shown text with a wildcard wherever ``words`` has one."""
    return " ".join(new if WILDCARD in new else old for old, new in zip(shown, words, strict=True))
