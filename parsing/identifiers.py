r"""Finds what ties lines together by how it behaves: an identifier comes, recurs on lines of several kinds, and ends.

Usage::

    pattern = discover(first_lines)  # r"\border=([0-9]+)\b", or None

Every place where a value stands behind a word (``order=12``, ``session 9f3a``, ``[req:ab12]``), behind a prefix
(``blk_-12``, ``tx#12``) or in brackets (``[ab12cd]``) is a candidate. Its expression is written, and what the
expression finds is judged by the lines alone. Levels, hosts, ports and status codes do not pass, because they do not
come and end; counters, because they do not recur; amounts, because chance brings them back on lines of one kind or
at any time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

LINE_CHARACTERS = 1_024
"""Of each first line this much is looked at."""

_LEAST_SHARE = 0.2
"""Of the lines must carry the identifier, as for the known shapes (``parsing.sessions``)."""
_LEAST_IDS = 10
"""Distinct identifiers; fewer may be places, kinds or states."""
_MOST_OF_ONE = 0.25
"""Of the carrying lines may name one identifier: more, and it is a default, a status, a size of everything."""
_LEAST_TIED = 0.6
"""Of the carrying lines must belong to identifiers that are seen on lines of two kinds or more."""
_LEAST_COMING = 0.3
"""Of the identifiers must come after the first quarter of the lines."""
_LEAST_GONE = 0.5
"""Of the identifiers of the first half must be gone in the last quarter."""
_LONGEST_STAY = 0.4
"""How far the lines of an identifier may lie apart, as a share of what chance would make of as many lines. The blocks
of HDFS are at .17, OpenStack's instances at .10, traces at .02; the nodes of a cluster (HPC) at .87, amounts at .3 to
1 (first 1,000 lines each)."""
_LONGEST_VALUE = 64
_MOST_WORDS = 30
"""Words that are tried, those on most lines: whatever comes, the search takes a fraction of a second."""
_MOST_SEPARATORS = 6
_RARE_SEPARATOR = 0.02
"""Of a word's lines: what stands between word and value less often than this is not written into the expression."""
_MOST_BROKEN = 0.05
"""Of a word's values may be parts of addresses, times or fractions."""
_CLOCK_DIGITS = 9
"""Numbers of as many digits that never fall are times, however often they recur."""
_CALENDAR = (
    r"(?i)^(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|april|june|july|august"
    r"|september|october|november|december|mon|tue|wed|thu|fri|sat|sun|date|time|timestamp|ts|epoch|year|month|day|hour"
    r"|min|minute|sec|second|uptime)$"
)
"""What stands behind these words comes, recurs and ends as an identifier does, and is the time."""

_WORD = r"[A-Za-z]+(?:[_.-][A-Za-z]+)*"
_VALUE = r"-?[A-Za-z_-]*[0-9][0-9A-Za-z_-]*"
_TAIL = r"(?P<tail>(?:[.:/,][0-9])?)"  # what makes a number an address, a time, a fraction
_LABELLED = rf"(?P<word>(?:{_WORD})?)(?P<between>[ =:#/\[\](){{}}<>\"'\\|@]{{1,5}})(?P<value>{_VALUE}){_TAIL}"
_PREFIXED = rf"(?P<word>[A-Za-z]{{2,24}})(?P<between>[_#-]{{0,2}})(?P<value>[0-9a-fA-F]*[0-9][0-9A-Za-z_-]*){_TAIL}"
_VARIES = r"[0-9A-Za-z_.:/-]*[0-9][0-9A-Za-z_.:/-]*"
_SHAPES = (
    "[0-9]+",
    "-?[0-9]+",
    *(f"{one}{{8}}-{one}{{4}}-{one}{{4}}-{one}{{4}}-{one}{{12}}" for one in ("[0-9a-f]", "[0-9A-F]", "[0-9a-fA-F]")),
)
"""Shapes of values, the narrowest first."""
_SHORTEST_HEX = 4
"""Characters from which on values of one length are taken for hexadecimal numbers, with or without a digit."""

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class _Place:
    """Where values stand: behind a word and what lies between."""

    prefixed: bool
    word: str
    betweens: tuple[str, ...]
    values: tuple[str, ...]

    def pattern(self) -> str:
        """Write the expression that finds the value; of a prefixed one, with its prefix."""
        between = "|".join(escaped(one) for one in self.betweens)
        between = f"(?:{between})" if len(self.betweens) > 1 else between
        word = escaped(self.word)
        if self.prefixed:
            return rf"\b({word}{between}{_shape(self.values, '[0-9a-fA-F]*[0-9][0-9A-Za-z_-]*')})\b"
        # Behind a mere blank any word may stand: there the value must have a digit.
        loose = _VALUE if any(not one.strip() for one in self.betweens) else "-?[0-9A-Za-z][0-9A-Za-z_-]*"
        edge = r"\b" if word else ""
        return rf"{edge}{word}{between}({_shape(self.values, loose)})\b"


def discover(lines: Sequence[str]) -> str | None:
    """Return an expression whose first group is the identifier of most lines; None where nothing behaves like one.

    Args:
        lines: the first of a log in their order, each cut to ``LINE_CHARACTERS``.
    """
    texts = pl.Series("line", lines, dtype=pl.String)
    kinds = _codes(texts.str.replace_all(_VARIES, "#"))
    best, most = None, (0.0, 0, False)
    for place in (*_places(texts, _LABELLED, prefixed=False), *_places(texts, _PREFIXED, prefixed=True)):
        pattern = place.pattern()
        tied, distinct = _judged(texts.str.extract(pattern, 1), kinds)
        # Of two that tie as many lines, the one with fewer values ties them to larger wholes: a trace, not its spans.
        rank = (round(tied, 2), -distinct, "span" not in place.word.lower())
        if tied and rank > most:
            best, most = pattern, rank
    return best


def _places(texts: pl.Series, expression: str, *, prefixed: bool) -> Iterator[_Place]:
    """The words that many lines have a value behind, in the order of the alphabet."""
    least = _LEAST_SHARE * len(texts)
    matches = texts.str.extract_all(expression).to_frame().with_row_index("at").explode("line").drop_nulls()
    found = matches.select("at", pl.col("line").str.extract_groups(expression)).unnest("line")
    found = found.filter(pl.col("value").str.len_chars() <= _LONGEST_VALUE)
    if not prefixed:
        found = found.filter((pl.col("word") != "") | pl.col("between").str.contains(r"[\[({<]$"))
    found = found.filter(~pl.col("word").str.contains(_CALENDAR))
    common = found.group_by("word").agg(pl.col("at").n_unique()).filter(pl.col("at") >= least)
    words = common.sort("at", "word", descending=[True, False])["word"].head(_MOST_WORDS)
    found = found.filter(pl.col("word").is_in(words.to_list()))
    for (word,), rows in sorted(found.group_by("word", maintain_order=True)):
        whole = rows.filter(pl.col("tail") == "").unique("at", keep="first", maintain_order=True)
        if whole.height < max(least, (1 - _MOST_BROKEN) * rows["at"].n_unique()):
            continue
        seen = whole["between"].value_counts().filter(pl.col("count") >= _RARE_SEPARATOR * whole.height)
        often = seen.sort("count", "between", descending=True)["between"].head(_MOST_SEPARATORS).to_list()
        betweens = tuple(sorted(often, key=lambda one: (-len(one), one)))
        yield _Place(prefixed, str(word), betweens, tuple(whole["value"].to_list()))


def _judged(values: pl.Series, kinds: Codes) -> tuple[float, int]:
    """Share of the lines that the values tie to others, and how many values there are; 0 where they do not behave.

    ``kinds`` says which lines read alike but for what varies: [n].
    """
    at = values.is_not_null().arg_true().to_numpy().astype(np.int64)
    n = len(values)
    if len(at) < _LEAST_SHARE * n:
        return 0.0, 0
    codes = _codes(values.drop_nulls())
    first, last, counts = _spans(codes, at)
    distinct = len(counts)
    if distinct < _LEAST_IDS or counts.max() > _MOST_OF_ONE * len(at):
        return 0.0, 0
    early = last[first < n / 2]
    gone = np.mean(early < n * 3 / 4) if len(early) else 0.0
    if np.mean(first > n / 4) < _LEAST_COMING or gone < _LEAST_GONE or _clock(values.drop_nulls()):
        return 0.0, 0
    # As many lines scattered by chance lie (lines - 1) / (lines + 1) of the whole apart.
    if np.sum(last - first) > _LONGEST_STAY * n * np.sum((counts - 1) / (counts + 1)):
        return 0.0, 0
    tied = _kinds_of(codes, kinds[at]) >= 2
    lines = int(counts[tied].sum())
    return (lines / n, distinct) if lines >= _LEAST_TIED * len(at) else (0.0, 0)


def _spans(codes: Codes, at: Codes) -> tuple[Codes, Codes, Codes]:
    """Of each value its first line, its last line and how many lines it has: [values] each."""
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    _, last = np.unique(codes[::-1], return_index=True)
    return at[first], at[len(codes) - 1 - last], counts


def _kinds_of(codes: Codes, kinds: Codes) -> Codes:
    """On how many kinds of lines each value is seen, of the kinds that several values are seen on: [values]."""
    pairs = np.unique(np.stack([codes, kinds]), axis=1)
    several = np.bincount(pairs[1], minlength=int(kinds.max()) + 1) >= 2
    return np.bincount(pairs[0][several[pairs[1]]], minlength=int(codes.max()) + 1)


def _clock(values: pl.Series) -> bool:
    """Whether the values are times: long numbers that never fall."""
    long = values.str.contains(rf"^[0-9]{{{_CLOCK_DIGITS},19}}$")
    if long.mean() != 1.0:
        return False
    numbers = values.cast(pl.UInt64, strict=False).fill_null(0).to_numpy()
    return bool(np.mean(numbers[1:] >= numbers[:-1]) > 0.95)


def _codes(values: pl.Series) -> Codes:
    """Number the distinct values in the order in which they come: [n]."""
    numbered: Codes = values.rank("dense").to_numpy().astype(np.int64) - 1
    return numbered


def _shape(values: tuple[str, ...], loose: str) -> str:
    """An expression for all of the values: their common shape, else ``loose``."""
    for shape in _SHAPES:
        if all(re.fullmatch(shape, one) for one in values):
            return shape
    for digit in ("[0-9a-f]", "[0-9A-F]"):
        lengths = {len(one) for one in values if re.fullmatch(f"{digit}+", one)}
        if (
            len(lengths) == 1
            and min(lengths) >= _SHORTEST_HEX
            and all(re.fullmatch(f"{digit}+", one) for one in values)
        ):
            return f"{digit}{{{min(lengths)}}}"
    return loose


def escaped(text: str) -> str:
    """Write a text as an expression that finds it, in polars, RE2 and ``re`` alike."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
