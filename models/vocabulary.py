"""The templates a model knows, and where each stands in it.

Positions: 0 is padding (before the session began), 1 any template the model does not know, the entries follow from 2.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from contracts.bundle import VocabularyEntry
from models.sessions import PADDING, Ids, Ints
from parsing.events import template_hex

UNKNOWN_INDEX = 1
FIRST_INDEX = 2


class Vocabulary:
    """Maps template ids to positions in the model; the order of the entries is theirs in the model.

    Raises:
        ValueError: A template is in it twice.
    """

    def __init__(self, entries: Iterable[VocabularyEntry]) -> None:
        self.entries = tuple(entries)
        self.templates: Ids = np.array([int(entry.template, 16) for entry in self.entries], dtype=np.uint64)
        self._indices = {template: FIRST_INDEX + i for i, template in enumerate(self.templates.tolist())}
        if len(self._indices) != len(self.entries):
            raise ValueError("vocabulary: a template is in it twice")
        # Aliases: templates that a shard knows under another id, recognised by their exact text.
        self._by_text = {entry.text: FIRST_INDEX + i for i, entry in enumerate(self.entries)}
        self._sort()

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, template: int) -> bool:
        return template in self._indices

    def indices(self, templates: Ids) -> Ints:
        """Return the position of each template, in the shape they come in."""
        places = np.searchsorted(self._sorted, templates)
        np.minimum(places, len(self._sorted) - 1, out=places)
        indices: Ints = np.where(self._sorted[places] == templates, self._positions[places], UNKNOWN_INDEX)
        return indices

    def index(self, template: int) -> int:
        """Return the position of one template."""
        return self._indices.get(template, UNKNOWN_INDEX)

    @property
    def texts(self) -> tuple[str, ...]:
        """Of the templates, in the order of the entries."""
        return tuple(entry.text for entry in self.entries)

    def text(self, index: int) -> str:
        """Return the text of the template at a position from 2."""
        return self.entries[index - FIRST_INDEX].text

    def template(self, index: int) -> int:
        """Return the template id at a position from 2."""
        return int(self.templates[index - FIRST_INDEX])

    def recognise(self, texts: Mapping[int, str]) -> bool:
        """Take over unknown ids whose text is exactly that of an entry; says whether there were any."""
        found = {
            template: self._by_text[text]
            for template, text in texts.items()
            if template not in self._indices and text in self._by_text
        }
        if found:
            self._indices |= found
            self._sort()
        return bool(found)

    def same(self, one: int, other: int) -> bool:
        """Take over that two ids stand for one template; says whether one of them was unknown until now."""
        if (one in self._indices) == (other in self._indices):
            return False
        known, new = (one, other) if one in self._indices else (other, one)
        self._indices[new] = self._indices[known]
        self._sort()
        return True

    def _sort(self) -> None:
        pairs = sorted([(PADDING, 0), *self._indices.items()])
        self._sorted: Ids = np.array([template for template, _ in pairs], dtype=np.uint64)
        self._positions: Ints = np.array([index for _, index in pairs], dtype=np.int64)


def entry(template: int, text: str, count: int) -> VocabularyEntry:
    """Make an entry from a template id as events carry it."""
    return VocabularyEntry(template=template_hex(template), text=text, count=count)
