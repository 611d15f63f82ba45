"""Masked text to template: drain3's Drain tree for texts not seen before, a memory for all others.

A template's id is a hash of its service and its text at birth, so that it is the same on every shard and after every
restart; when a template generalises it keeps its id and is announced again. Drain: He et al., *Drain: An Online Log
Parsing Approach with Fixed Depth Tree*, ICWS 2017; drain3's persistence and its own ids are not used.
"""

import re
from dataclasses import dataclass, field
from hashlib import blake2b

from drain3.drain import LogCluster

from parsing.masks import MARK
from parsing.tree import IndexedDrain

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
MAX_TOKENS = 128
"""Words of a text that are compared; what follows makes no template of its own."""

# He et al. 2017, section IV: depth 4, 100 children a node. The paper's similarity of 0.4 merges events that differ in
# the word that matters; 0.6 keeps them apart, and still finds the variable word in a message of three.
_SIMILARITY = 0.6
_DEPTH = 4
_CHILDREN = 100
_WILDCARD = "<*>"
_REST = "<...>"
_NAMED = re.compile(r"<[A-Z][A-Z0-9_]*>")  # a mask's type, as ``Masks.name`` writes it


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
        self._drain = IndexedDrain(depth=_DEPTH, sim_th=_SIMILARITY, max_children=_CHILDREN, param_str=_WILDCARD)
        self._by_cluster: dict[int, Mined] = {}
        self._by_id: dict[int, Mined] = {}
        self._clusters: dict[int, LogCluster] = {}  # of those in _by_id
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
        shown, masked = _words(named), template.masked.split(" ")
        if len(shown) != len(masked):  # the line itself holds a mark
            shown = template.masked.replace(MARK, _WILDCARD).split(" ")
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
        """Put a known template into the tree: at the place of its birth, with its newest words."""
        drain = self._drain
        drain.clusters_counter += 1
        cluster = LogCluster(entry.birth.split(), drain.clusters_counter)
        drain.id_to_cluster[cluster.cluster_id] = cluster
        drain.add_seq_to_prefix_tree(drain.root_node, cluster)
        cluster.log_template_tokens = tuple(entry.masked.split())
        self._enter(entry, cluster)

    def _enter(self, entry: Mined, cluster: LogCluster) -> None:
        self._by_cluster[cluster.cluster_id] = entry
        self._by_id.setdefault(entry.id, entry)
        self._clusters.setdefault(entry.id, cluster)
        self.entries.append(entry)
        self._characters += len(entry.birth)

    def _mine(self, text: str) -> tuple[int, Mined | None]:
        """Return the template of one text, and the entry if the text made or generalised it."""
        joined = " ".join(_words(text))
        drain = self._drain
        if self.full:
            words = drain.get_content_as_tokens(joined)
            if drain.tree_search(drain.root_node, words, drain.sim_th, False) is None:
                return OVERFLOW_TEMPLATE, None
        cluster, update = drain.add_log_message(joined)
        if update == "cluster_created":
            entry = Mined(template_id(self.service, joined), joined, joined, joined.replace(MARK, _WILDCARD))
            self._enter(entry, cluster)
            return self.resolve(entry.id), entry
        entry = self._by_cluster[cluster.cluster_id]
        if update == "none":
            return self.resolve(entry.id), None
        words = list(cluster.log_template_tokens)
        entry.masked = " ".join(words)
        entry.named = _widened(entry.named.split(" "), words)
        return self.resolve(entry.id), entry

    def _generalise(self, entry: Mined, text: str) -> Mined | None:
        """Take over the words that another shard has generalised in a template known here."""
        theirs, ours, shown = text.split(" "), entry.masked.split(" "), entry.named.split(" ")
        if not len(theirs) == len(ours) == len(shown):
            return None
        words = [_WILDCARD if theirs[at] == _WILDCARD else word for at, word in enumerate(ours)]
        if sum(word != _WILDCARD for word in words) < _SIMILARITY * len(words):
            return None  # nothing new would be similar to so few words: both shards keep what they have
        if words != ours:
            entry.masked, entry.named = " ".join(words), _widened(shown, words)
            self._clusters[entry.id].log_template_tokens = tuple(words)
        more_than_theirs = any(a == _WILDCARD != b for a, b in zip(words, theirs, strict=True))
        return entry if more_than_theirs and any(b == _WILDCARD for b in theirs) else None

    def _redirect(self) -> None:
        """Let remembered texts point past aliases."""
        for key, template in self.remembered.items():
            if template in self.aliases:
                self.remembered[key] = self.resolve(template)

    def _forget(self) -> None:
        """Forget the oldest quarter of the remembered texts at once: one by one would rescan the table each time."""
        keep = self.max_remembered * 3 // 4
        self.remembered = dict(list(self.remembered.items())[-keep:])


def _words(text: str) -> list[str]:
    """Cut a text into the words that are compared."""
    words = text.split()
    return words if len(words) <= MAX_TOKENS else [*words[:MAX_TOKENS], _REST]


def _widened(shown: list[str], words: list[str]) -> str:
    """Return the shown text with a wildcard wherever ``words`` has one."""
    return " ".join(_WILDCARD if new == _WILDCARD else old for old, new in zip(shown, words, strict=True))
