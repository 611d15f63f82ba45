"""Parameters: what the masks and the template took out of a message, by type, name and place; and the way back.

Computed on demand from messages and the templates they got, never while lines are parsed. A message is laid out as its
template says: constant text, parameter, constant text, parameter, ... and constant text at the end::

    Received 42  bytes from -1,-2     the message
    Received <NUM> bytes from <NUM>   its template
    Received |42|  bytes from |-1,-2| constants and parameters

A parameter's ``gap`` is the constant text in front of it. It is kept only where it is not the template's own, as the
two blanks here: words of a template have one blank between them. So template, parameters and tail are the whole
message, whatever the template is: one that does not fit leaves what the masks found, with every gap.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.masks import MAX_MESSAGE, Masks
from parsing.words import REST, WILDCARD

ANY = "*"
"""Type of a parameter that no mask found: a word that differs within its template, or a list of several things."""

PARAMETER_SCHEMA: dict[str, pl.DataType] = {
    "row": pl.UInt32(),
    "slot": pl.Int32(),
    "word": pl.Int32(),
    "type": pl.String(),
    "text": pl.String(),
    "start": pl.Int64(),
    "gap": pl.String(),
}
"""Columns of ``Parameters.frame``, one row a parameter, in the order of the messages and of the places in them.

``row`` is the message's row; ``slot`` the number of the template's variable from 0, ``word`` that of the template's
word it stands in (both null for what the template does not show); ``type`` a mask's name or ``ANY``; ``start`` the
place in the message, in characters (Unicode code points, as Python and polars count); ``gap`` the constant text in
front, null where it is what the template has there.
"""

SLOT = re.compile(r"<(?:[A-Z][A-Z0-9_]*|\*|\.\.\.)>")
"""A variable in the text of a template."""
_LIST = 8  # words in a row that ``parsing.words`` takes for a list
_FIRST_SEPARATOR = 0xE000  # the private use area: neither a blank nor a digit nor likely in a log


@dataclass(frozen=True, eq=False, slots=True)
class Parameters:
    """The parameters of [n] messages."""

    frame: pl.DataFrame
    """See ``PARAMETER_SCHEMA``."""
    tails: pl.Series
    """[n] constant text behind the last parameter; null where it is what the template has there."""

    def lists(self) -> pl.Series:
        """Return what stands for the variables of each message's template, as a list of texts: [n]."""
        shown = self.frame.filter(pl.col("slot").is_not_null())
        listed = shown.group_by("row", maintain_order=True).agg("text")
        rows = pl.DataFrame({"row": pl.Series(range(len(self.tails)), dtype=pl.UInt32)})
        joined = rows.join(listed, on="row", how="left", maintain_order="left")
        return joined["text"].fill_null(pl.Series([[]], dtype=pl.List(pl.String)))


def parameters(messages: pl.Series, templates: pl.Series, masks: Masks) -> Parameters:
    """Find the parameters of messages.

    Args:
        messages: [n] texts without their headers; of longer ones, the first ``MAX_MESSAGE`` characters have parameters.
        templates: [n] texts of their templates as they are shown.
        masks: those of the service.
    """
    found = _Found.of(messages.str.slice(0, MAX_MESSAGE), templates, masks)
    layouts = [_layout(shape, template, found.separator) for shape, template in found.distinct]
    slots = pl.DataFrame([slot for layout in layouts for slot in layout.slots], schema=_SLOTS, orient="row")
    of_layout = np.array([len(layout.slots) for layout in layouts], dtype=np.int64)
    of_row = of_layout[found.code]
    row = np.repeat(np.arange(len(messages)), of_row)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(of_row) - of_row, of_row)
    own = slots[pl.Series((np.cumsum(of_layout) - of_layout)[found.code[row]] + nth)]
    before, inside, typed = (own[name].to_numpy() for name in ("parts_before", "parts_inside", "typed"))
    first = found.first[row] + before
    frame = own.with_columns(
        pl.Series("row", row),
        found.types[pl.Series(np.where(typed, first, len(found.types) - 1))].alias("type"),
        messages[pl.Series(row)].alias("text"),
        start=pl.col("text_before") + pl.Series(found.ends[first] - found.ends[found.first[row]]),
        length=pl.col("text_inside") + pl.Series(found.ends[first + inside] - found.ends[first]),
    ).with_columns(pl.col("text").str.slice("start", "length"))
    tails = pl.Series("tail", [layout.tail for layout in layouts], dtype=pl.String)[pl.Series(found.code)]
    parts = [pl.col(name).cast(dtype) for name, dtype in PARAMETER_SCHEMA.items()]
    return Parameters(frame.select(parts), _with_rest(tails, messages, templates))


def restored(templates: pl.Series, found: Parameters) -> pl.Series:
    """Put messages back together from the texts of their templates and their parameters: [n].

    It is the way back of ``parameters``: the same templates give the same messages.
    """
    n = len(templates)
    texts = templates.alias("template").to_frame()
    constants = pl.DataFrame(
        [
            (text, slot, constant, slot == len(parts) - 1)
            for text in templates.unique().to_list()
            for parts in (SLOT.split(text),)
            for slot, constant in enumerate(parts)
        ],
        schema={"template": pl.String, "slot": pl.Int32, "constant": pl.String, "last": pl.Boolean},
        orient="row",
    )
    pieces = found.frame.select("slot", "text", "gap", "row", template=templates[found.frame["row"]])
    pieces = pieces.join(constants, on=["template", "slot"], how="left", maintain_order="left")
    joined = (
        pieces.select("row", piece=pl.coalesce("gap", "constant") + pl.col("text"))
        .group_by("row")
        .agg(pl.col("piece").str.join(""))
    )
    last = constants.filter("last").select("template", "constant")
    return (
        texts.with_columns(pl.Series("row", range(n), dtype=pl.UInt32), found.tails.alias("tail"))
        .join(last, on="template", how="left", maintain_order="left")
        .join(joined, on="row", how="left", maintain_order="left")
        .select(message=pl.col("piece").fill_null("") + pl.coalesce("tail", "constant"))
        .to_series()
    )


def _with_rest(tails: pl.Series, messages: pl.Series, templates: pl.Series) -> pl.Series:
    """Add to the tails what lies behind ``MAX_MESSAGE``."""
    rows = (messages.str.len_chars() > MAX_MESSAGE).arg_true()
    if not len(rows):
        return tails
    rest = messages[rows].str.slice(MAX_MESSAGE)
    own = pl.Series([SLOT.split(text)[-1] for text in templates[rows]], dtype=pl.String)
    return tails.scatter(rows, tails[rows].fill_null(own) + rest)


# -- whole columns -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """What the masks found in [n] messages. Masked parts lie one after another, [k] in all."""

    separator: str
    """A character that is in none of the messages; stands for a masked part."""
    distinct: list[tuple[str, str]]
    """Messages with their masked parts replaced by the separator, and their templates."""
    code: NDArray[np.int64]  # [n] which of the distinct ones
    first: NDArray[np.int64]  # [n] the first masked part of each message
    ends: NDArray[np.int64]  # [k + 1] characters of all masked parts before each
    types: pl.Series
    """[k + 1] names of the masks, and ``ANY``."""

    @classmethod
    def of(cls, text: pl.Series, templates: pl.Series, masks: Masks) -> "_Found":
        separator = _absent(text)
        frame = pl.DataFrame([text.alias("text"), templates.alias("template")]).with_row_index("row")
        pieces = frame.select("row", piece=pl.col("text").str.extract_all(masks.alternation))
        counts = pieces["piece"].list.len().cast(pl.Int64).to_numpy()
        flat = pieces.explode("piece").drop_nulls("piece")
        names, kept = masks.types(flat["piece"])
        flat = flat.with_columns(kept=kept, length=pl.col("piece").str.len_chars() - kept.str.len_chars())
        # What a mask shows before its name (``blk_<ID>``) is constant text, so that shapes differ by it.
        shown = flat.group_by("row").agg(pl.col("kept").str.join(separator))
        keys = frame.join(shown, on="row", how="left", maintain_order="left").select(
            shape=pl.col("text").str.replace_all(masks.alternation, separator),
            kept=pl.col("kept").fill_null(""),
            template="template",
        )
        distinct = keys.unique(maintain_order=True).with_row_index("code")
        code = keys.join(distinct, on=["shape", "kept", "template"], how="left", maintain_order="left")["code"]
        return cls(
            separator,
            [(_with_kept(shape, kept, separator), template) for _, shape, kept, template in distinct.iter_rows()],
            code.to_numpy().astype(np.int64),
            np.cumsum(counts) - counts,
            np.concatenate([[0], np.cumsum(flat["length"].to_numpy().astype(np.int64))]),
            pl.concat([names, pl.Series([ANY])]),
        )


def _absent(text: pl.Series) -> str:
    """Return a character that is in none of the texts."""
    separator = _FIRST_SEPARATOR
    while text.str.contains(chr(separator), literal=True).any():
        separator += 1
    return chr(separator)


def _with_kept(shape: str, kept: str, separator: str) -> str:
    """Write before each separator what its mask shows of the part it stands for."""
    *parts, last = shape.split(separator)
    before = kept.split(separator)
    return "".join(part + shown + separator for part, shown in zip(parts, before, strict=False)) + last


class _Slot(NamedTuple):
    """One parameter of all messages of one shape; lengths in characters of constant text and in masked parts."""

    slot: int | None
    word: int | None
    gap: str | None
    text_before: int
    parts_before: int
    text_inside: int
    parts_inside: int
    typed: bool


_LENGTHS = ("text_before", "parts_before", "text_inside", "parts_inside")
_SLOTS: dict[str, pl.DataType] = {
    **{name: PARAMETER_SCHEMA[name] for name in ("slot", "word", "gap")},
    **dict.fromkeys(_LENGTHS, pl.Int64()),
    "typed": pl.Boolean(),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parameters are in all messages of one shape, and the constant text behind them."""

    slots: list[_Slot]
    tail: str | None


# -- one shape -----------------------------------------------------------------------------------------------------

_Span = tuple[int, int, int | None, int | None]
"""Start and end in a shape, slot and word."""


def _layout(shape: str, template: str, separator: str) -> _Layout:
    """Lay a shape out as its template says; where it does not fit, as the masks say."""
    spans: list[_Span] = _spans(shape, template, separator) or []
    spans += [(at, at + 1, None, None) for at in _outside(shape, spans, separator)]
    spans.sort(key=lambda span: span[:2])
    constants = SLOT.split(template)
    typed = re.compile(rf"[+-]?{separator}(?:[,;]{separator})*")
    slots, end = [], 0
    for start, stop, slot, word in spans:
        gap, inside = shape[end:start], shape[start:stop]
        parts_before, parts_inside = shape.count(separator, 0, start), inside.count(separator)
        slots.append(
            _Slot(
                slot,
                word,
                None if slot is not None and gap == constants[slot] else gap,
                start - parts_before,
                parts_before,
                len(inside) - parts_inside,
                parts_inside,
                typed.fullmatch(inside) is not None,
            )
        )
        end = stop
    return _Layout(slots, None if shape[end:] == constants[-1] else shape[end:])


def _outside(shape: str, spans: list[_Span], separator: str) -> Iterator[int]:
    """Yield the masked parts of a shape that are in none of the spans."""
    at, left = shape.find(separator), iter([*spans, (len(shape), len(shape), None, None)])
    start, end, *_ = next(left)
    while at >= 0:
        while end <= at:
            start, end, *_ = next(left)
        if at < start:
            yield at
        at = shape.find(separator, at + 1)


def _spans(shape: str, template: str, separator: str) -> list[_Span] | None:
    """Find what stands for each variable of a template; None where the shape has other words than the template.

    Words are laid beside each other as ``parsing.words.words_of`` cut them: a list is one word, and so is a size said
    twice.
    """
    tokens = [found.span() for found in re.finditer(r"\S+", shape)]
    words = template.split()
    spans: list[_Span] = []
    at = 0
    for number, word in enumerate(words):
        if at == len(tokens):
            return None
        start, stop = tokens[at][0], at + 1
        if word == REST:
            stop = len(tokens)
        elif len(tokens) - at > len(words) - number:
            stop = _stretched(shape, tokens, at, word, separator)
        end = tokens[stop - 1][1]
        text = shape[start:end]
        inside = _inside(text, word, separator)
        if inside is None:
            if stop != at + 2 or text.replace(f" ({separator})", "", 1) != word:
                return None
            inside = []
        spans += [(start + a, start + b, len(spans) + nth, number) for nth, (a, b) in enumerate(inside)]
        at = stop
    return spans if at == len(tokens) else None


def _stretched(shape: str, tokens: list[tuple[int, int]], at: int, word: str, separator: str) -> int:
    """Return the token behind those that are one word of the template."""
    stop = at
    if word == WILDCARD:
        while stop < len(tokens) and _listed(shape[slice(*tokens[stop])], separator):
            stop += 1
        return stop if stop - at >= _LIST else at + 1
    if at + 1 < len(tokens):
        both = shape[tokens[at][0] : tokens[at + 1][1]]
        if re.search(rf"\bbytes \({separator}\)", both):
            return at + 2
    return at + 1


def _listed(token: str, separator: str) -> bool:
    return "=" not in token and (separator in token or re.search("[0-9]", token) is not None)


def _inside(text: str, word: str, separator: str) -> list[tuple[int, int]] | None:
    """Find the variables of one word of a template in a text; None where the constants between them differ."""
    constants = SLOT.split(word)
    if len(constants) == 1:
        return [] if text == word else None
    if text.split(separator) == constants:
        return [found.span() for found in re.finditer(separator, text)]
    first, *middle, last = constants
    stop = len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last) and len(first) <= stop):
        return None
    spans, at = [], len(first)
    for constant in middle:
        found = text.find(constant, at, stop) if constant else min(at + 1, stop)
        if found < 0:
            return None
        spans.append((at, found))
        at = found + len(constant)
    return [*spans, (at, stop)]
