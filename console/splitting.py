"""What stands at the variable places of a template in its newest lines, and which lines would go where if it is split.

shown = look(settings, view.settings_of("pay"), view.templates["pay"].values(), whole, place=1, values=("full",))
shown.parts[0].lines, shown.rest
"""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import itemgetter

import numpy as np
import polars as pl

from contracts.base import Record
from contracts.records import Template, TemplateId
from contracts.service import ServiceSettings, SplitOptions
from contracts.settings import AppSettings
from parsing.apart import part_id, part_text, places
from parsing.events import Lines, template_hex
from parsing.masks import Masks
from parsing.params import parameters
from parsing.parser import Parser
from parsing.tree import SIMILARITY
from storage.broker import newest_records

NEWEST_LINES = 2_000
"""Of the service's topic that are looked through."""
MOST_RIVALS = 1_000
"""Templates that a line may be instead of the one that is split."""
SHOWN_VALUES = 20
SHOWN_CHARACTERS = 300
"""Of an example line."""
LONGEST_VALUE = 200


class Standing(Record):
    """A value at a place, and how many lines have it."""

    value: str
    lines: int
    example: str


class Place(Record):
    """A variable place of a template."""

    place: int
    """From 0."""
    variable: str
    distinct: int
    """Values there."""
    values: tuple[Standing, ...]
    """The most frequent first, 20 at most."""


class Part(Record):
    """What a chosen value would become."""

    template: TemplateId
    text: str
    lines: int
    example: str


class SplitPreview(Record):
    """Where the newest lines of a template would go."""

    template: TemplateId
    text: str
    lines: int
    """Of the template among the newest of its service, its example included."""
    places: tuple[Place, ...]
    parts: tuple[Part, ...] = ()
    rest: int = 0
    """Lines that would stay with the whole."""


def look(
    settings: AppSettings,
    options: ServiceSettings,
    catalogue: Iterable[Template],
    whole: Template,
    place: int = 0,
    values: Sequence[str] = (),
) -> SplitPreview:
    """Read the newest lines of a service, and see what those of one template have at its places.

    Args:
        settings: where Kafka is.
        options: of the service.
        catalogue: its templates.
        whole: the template.
        place: which variable is looked at for ``values``.
        values: that are to be told apart; none: nothing yet.

    Raises:
        BrokerUnreachableError: Kafka does not answer.
    """
    lines, messages = _lines_of(settings, options, catalogue, whole)
    masks = Masks.build(options.masks)
    texts = pl.Series([whole.text], dtype=pl.String).new_from_index(0, len(messages))
    found = parameters(messages, texts, masks).frame.filter(pl.col("slot").is_not_null()).select("row", "slot", "text")
    seen = [_place(number, name, found, lines) for number, name in enumerate(places(whole.text))]
    here = found.filter(pl.col("slot") == place)
    parts = []
    if values and place < len(seen):
        wanted = SplitOptions(template=whole.id, text=whole.text, place=place, values=tuple(values))
        for value in wanted.values:
            rows = here.filter(pl.col("text") == value)["row"]
            text, name = part_text(wanted, value), template_hex(part_id(options.service, wanted, value))
            parts.append(Part(template=name, text=text, lines=len(rows), example=lines[rows[0]] if len(rows) else ""))
    rest = len(lines) - sum(one.lines for one in parts)
    return SplitPreview(
        template=whole.id, text=whole.text, lines=len(lines), places=tuple(seen), parts=tuple(parts), rest=rest
    )


def _place(number: int, variable: str, found: pl.DataFrame, lines: Sequence[str]) -> Place:
    here = found.filter((pl.col("slot") == number) & (pl.col("text").str.len_chars().is_between(1, LONGEST_VALUE)))
    counts = here.group_by("text").agg(pl.len().alias("lines"), pl.col("row").min())
    counts = counts.sort(["lines", "text"], descending=[True, False])
    values = [
        Standing(value=value, lines=many, example=lines[row])
        for value, many, row in counts.head(SHOWN_VALUES).iter_rows()
    ]
    return Place(place=number, variable=variable, distinct=len(counts), values=tuple(values))


def _rivals(catalogue: Iterable[Template], whole: Template) -> list[Template]:
    """Templates that a line of the whole may be instead: both share with it more words than they can differ in.

    Of very many the most alike: a service whose templates are all alike must not hold up the page.
    """
    words = whole.text.split()
    constant = [place for place, word in enumerate(words) if "<" not in word]
    enough = SIMILARITY * len(words) - (len(words) - len(constant))
    aliases, found = list[Template](), list[tuple[int, Template]]()
    for one in catalogue:
        if one.alias_of:
            aliases.append(one)
            continue
        theirs = one.text.split()
        shared = sum(theirs[place] == words[place] for place in constant) if len(theirs) == len(words) else -1
        if shared >= enough and shared >= 0:
            found.append((shared, one))
    return aliases + [one for _, one in nlargest(MOST_RIVALS, found, key=itemgetter(0))]


def _lines_of(
    settings: AppSettings, options: ServiceSettings, catalogue: Iterable[Template], whole: Template
) -> tuple[list[str], pl.Series]:
    """The newest lines of a template, cut, with what is redacted left out; and their messages."""
    topic = f"{settings.kafka.log_prefix}{options.service}"
    values = [record.value for record in newest_records(settings, topic, NEWEST_LINES)]
    values.append(whole.example.encode())
    parser = Parser(
        options.model_copy(update={"splits": tuple(one for one in options.splits if one.template != whole.id)}),
        fields=True,
    )
    parser.adopt(_rivals(catalogue, whole))
    n = len(values)
    parsed = parser.parse(Lines.from_list(options.service, topic, 0, np.arange(n), np.zeros(n, np.int64), values))
    rows = pl.Series(np.flatnonzero(parsed.events.template_ids() == np.uint64(int(whole.id, 16))))
    assert parsed.fields is not None
    lines = [line[:SHOWN_CHARACTERS] for line in parsed.events.frame["line"][rows].to_list()]
    return lines, parsed.fields["message"][rows]
