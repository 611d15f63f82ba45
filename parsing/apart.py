"""Templates told apart by what stands at one of their variable places, as an engineer chose (``SplitOptions``).

    apart = Apart.build(settings, masks)
    first = apart.tell(templates, message_of, miner.resolve)   # changes [n] ids in place

The miner knows nothing of it and goes on with the whole: to take a split back is to leave it out. Which part a line is
of follows from the line, the id of the whole and the split's own text, never from how far the whole has generalised on
this shard: so it is the same on every shard, after every restart, and whatever the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.service import ServiceSettings, SplitOptions
from parsing.masks import Masks
from parsing.miner import template_id
from parsing.params import SLOT, parameters


@lru_cache(maxsize=256)
def parts_of(service: str, splits: tuple[SplitOptions, ...]) -> dict[int, int]:
    """The ids of all parts, each with that of its whole."""
    return {part_id(service, split, value): int(split.template, 16) for split in splits for value in split.values}


def part_id(service: str, split: SplitOptions, value: str) -> int:
    """The id of one part: a hash of the whole's id and the part's text.

    The text alone would not do: the whole may have been born of the very text that is now a part of it.
    """
    return template_id(service, f"{split.template}\0{part_text(split, value)}")


def part_text(split: SplitOptions, value: str) -> str:
    """The text of one part: that of the whole with the value in its place.

    >>> part_text(SplitOptions(template="0" * 16, text="disk <NUM> is <*>", place=1, values=("full",)), "full")
    'disk <NUM> is full'
    """
    found = list(SLOT.finditer(split.text))[split.place]
    return split.text[: found.start()] + value + split.text[found.end() :]


@dataclass(frozen=True, eq=False, slots=True)
class Apart:
    """The splits of one service."""

    splits: tuple[SplitOptions, ...]
    whole: dict[int, int]
    """Of each part."""
    texts: dict[int, str]
    """Of the parts."""
    known: set[int]
    """Parts that the catalogue has, or was told of."""
    _masks: Masks
    _service: str

    @classmethod
    def build(cls, settings: ServiceSettings, masks: Masks) -> "Apart":
        """Put the splits of a service together.

        Raises:
            ValueError: a text has no variable at the chosen place.
        """
        for split in settings.splits:
            if len(SLOT.findall(split.text)) <= split.place:
                raise ValueError(f"splits: {split.text!r} has no variable number {split.place}, counted from 0")
        name, splits = settings.service, settings.splits
        texts = {part_id(name, split, value): part_text(split, value) for split in splits for value in split.values}
        return cls(splits, parts_of(name, splits), texts, set(), masks, name)

    def __bool__(self) -> bool:
        return bool(self.splits)

    def tell(
        self,
        templates: NDArray[np.uint64],
        messages: Callable[[NDArray[np.int64]], pl.Series],
        resolve: Callable[[int], int],
    ) -> dict[int, int]:
        """Give lines that have a chosen value at the chosen place the template of their part.

        Args:
            templates: [n] ids in use, changed in place.
            messages: returns those of some rows.
            resolve: from an id to the one in use.

        Returns:
            The first row of each part that came.
        """
        first: dict[int, int] = {}
        for split in self.splits:
            rows = np.flatnonzero(templates == np.uint64(resolve(int(split.template, 16))))
            if not len(rows):
                continue
            found = values_at(messages(rows), split.text, split.place, self._masks)
            ids = {value: part_id(self._service, split, value) for value in split.values}
            for value, part in ids.items():
                here = rows[(found == value).fill_null(value=False).to_numpy()]
                if len(here):
                    templates[here] = resolve(part)
                    first.setdefault(part, int(here[0]))
        return first


def values_at(messages: pl.Series, text: str, place: int, masks: Masks) -> pl.Series:
    """What stands at a place of a template in messages: [n], null where one does not fit the text."""
    found = parameters(messages, pl.Series([text], dtype=pl.String).new_from_index(0, len(messages)), masks).frame
    here = found.filter(pl.col("slot") == place).select("row", "text")
    rows = pl.DataFrame({"row": pl.Series(range(len(messages)), dtype=pl.UInt32)})
    return rows.join(here, on="row", how="left", maintain_order="left")["text"]


def places(text: str) -> Sequence[str]:
    """The variables of a template's text, in order.

    >>> places("disk <NUM> is <*>")
    ['<NUM>', '<*>']
    """
    return SLOT.findall(text)
