"""Variable parts of a message: one ordered set of typed masks, matched as a single alternation over a whole column.

Masking replaces every match by ``MARK``; which type a match was of is looked up only where a template is new (one
alternation cannot tell its branches apart, and a pass per mask would be several times slower). The expressions have no
look-around and no back-reference, so that they mean the same in polars, RE2 and ``re``. One search is linear; for all
searches over a line to be so too, no expression may look further ahead than a few words before it fails: what another
mask found meanwhile would be found again and again (an address has few parts for that reason).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from contracts.service import MaskOptions

MAX_MESSAGE = 4_096
"""Characters of a message that are masked and mined; what follows makes no template of its own."""
MARK = "<_>"
"""Stands for a masked part in the text that the miner sees. It is no wildcard there: two masked parts are alike."""

_HEX4 = r"[0-9a-fA-F]{4}"
_TIME = r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,:][0-9]+)?"
_ZONE = r"(?: ?(?:Z|[+-][0-9]{2}:?[0-9]{2}))?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LABEL = r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+){0,4}"

KEPT = {"ID": "_", "URL": "://"}
"""What these masks match at their beginning, and show before their name: ``blk_<ID>``, ``hdfs://<URL>``."""

DEFAULT_MASKS: tuple[tuple[str, str], ...] = (
    # A stack frame, whatever its class: the depth and the way of a stack must not make templates.
    ("FRAME", r"^[ \t]*at [A-Za-z_$][A-Za-z0-9_$.<>/@-]*\([^()]*\)"),
    ("UUID", rf"\b[0-9a-fA-F]{{8}}-{_HEX4}-{_HEX4}-{_HEX4}-[0-9a-fA-F]{{12}}\b"),
    ("URL", r"://[!#-&(-;=?-Z\\^-z~]+"),
    ("EMAIL", r"\b[A-Za-z0-9_]+(?:[.+-][A-Za-z0-9_]+){0,3}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b"),
    ("TIME", rf"\b(?:{_DAY},? )?{_MONTH} {{1,2}}[0-9]{{1,2}},? {_TIME}(?: [A-Z]{{3,4}})?(?: [0-9]{{4}})?\b"),
    ("TIME", rf"\b(?:{_DAY}, )?[0-9]{{1,2}} {_MONTH} [0-9]{{4}} {_TIME}(?: [A-Z]{{3,4}}|{_ZONE})?\b"),
    ("TIME", rf"\b[0-9]{{4}}[-/.][0-9]{{1,2}}[-/.][0-9]{{1,2}}(?:[T :]{_TIME}{_ZONE})?\b"),
    ("TIME", rf"\b[0-9]{{1,2}}/(?:[A-Z][a-z]{{2}}|[0-9]{{1,2}})/[0-9]{{2,4}}(?:[: ]{_TIME}{_ZONE})?\b"),
    ("TIME", rf"\b{_TIME}\b"),
    ("MAC", r"\b(?:[0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}\b"),
    ("IP", r"\b(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}\b"),
    ("IP", r"\b(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}\b"),
    ("IP", r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?::[0-9]{1,5})?\b"),
    ("HOST", rf"\b(?:{_LABEL}\.){{2,8}}[A-Za-z]+:[0-9]{{1,5}}\b"),
    ("HOST", rf"\b{_LABEL}\.(?:com|net|org|edu|gov|io|cn|de|uk|local):[0-9]{{1,5}}\b"),
    # What a client asked for, with the protocol it speaks: as variable as a path.
    ("PATH", r"(?:/[A-Za-z0-9_.$@%+=~*-]+){2,}/?(?:\?[!#-&(-;=?-~]*)?(?: HTTP/[0-9.]+)?"),
    ("PATH", r"\b[A-Za-z]:\\[A-Za-z0-9_.$@%+=~\\-]*[A-Za-z0-9_]"),
    ("HEX", r"\b0[xX][0-9a-fA-F]+\b"),
    ("SIZE", r"\b[0-9]+(?:\.[0-9]+)?(?: ?[kKMGTP]i?B| B)\b"),
    ("TIME", r"\b[0-9]{1,2}:[0-9]{2}\b"),
    ("DURATION", r"<[0-9]+ ?(?:ms|s|sec|min)\b"),
    ("NUM", r"\b[0-9]+(?:[.,_][0-9]+)*\b"),
    ("SIZE", r"\b[0-9]+(?:\.[0-9]+)?(?:[kKMGTP]i?[bB]?|[bB])\b"),
    ("DURATION", r"\b[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|s|sec|min|m|h|d)\b"),
    ("ID", r"_-?[0-9]+(?:_[A-Za-z0-9]+)*\b"),
    ("HEX", r"\b[a-f]*[0-9][0-9a-f]{6,}\b"),
    ("HEX", r"\b[A-F]*[0-9][0-9A-F]{6,}\b"),
)
"""The masks of every service, in order: of two that match at one place, the first wins."""


HASH = r"^(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})$"
"""What ``HEX`` matched is shown as ``HASH`` where it is as long as a digest (MD5 to SHA-512) or a container's id. A
mask of its own would find nothing more, and cost 3 % of parsing on HDFS."""


class MaskSettingsError(ValueError):
    """A service's own mask cannot be used; the message names the mask and the reason."""


@dataclass(frozen=True)
class Masks:
    """The masks of one service: its own first, then the default ones."""

    named: tuple[tuple[str, str], ...]
    alternation: str
    kinds: str
    """The same for the whole of a text, each mask as a group: which of them found it."""

    @classmethod
    def build(cls, own: Iterable[MaskOptions] = ()) -> "Masks":
        """Put the masks of a service together.

        Raises:
            MaskSettingsError: A mask is no expression that polars can run, or matches the empty text.
        """
        named = [(mask.name, _checked(mask)) for mask in own]
        # Word boundaries by ASCII: Unicode's would throw polars' fast engine out at the first letter beyond ASCII.
        named += [(name, pattern.replace(r"\b", r"(?-u:\b)")) for name, pattern in DEFAULT_MASKS]
        groups = "|".join(f"(?P<{_group(number)}>{pattern})" for number, (_, pattern) in enumerate(named))
        return cls(tuple(named), "|".join(f"(?:{pattern})" for _, pattern in named), f"^(?:{groups})$")

    def masked(self, message: pl.Expr) -> pl.Expr:
        """Replace what varies in a column of messages by ``MARK``."""
        return message.str.replace_all(self.alternation, MARK)

    def types(self, parts: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Return the names of the masks that found these texts, ``*`` for none, and what is kept of each: [k] both.

        What is kept is the beginning of the text that is shown before the name, see ``KEPT``.
        """
        distinct = parts.unique()
        names = pl.Series("name", ["*"]).new_from_index(0, len(distinct))
        shown = pl.Series("kept", [""]).new_from_index(0, len(distinct))
        # In one go: polars keeps 32 expressions compiled, and there are as many masks.
        found = distinct.str.extract_groups(self.kinds).struct.unnest()
        for number, (name, pattern) in enumerate(self.named):
            which = found[_group(number)].is_not_null()
            if not which.any():
                continue
            kept = KEPT.get(name, "")
            names = names.set(which, name)
            if kept and pattern.startswith(kept):
                shown = shown.set(which & distinct.str.starts_with(kept), kept)
        names = names.set((names == "HEX") & distinct.str.contains(HASH), "HASH")
        return parts.replace_strict(distinct, names), parts.replace_strict(distinct, shown)

    def name(self, messages: pl.Series, masked: list[str]) -> list[str]:
        """Write masked texts with the types of their masks, as in ``Receiving <NUM> from <IP>``: [n].

        ``messages`` are the same texts unmasked. For new templates only, not for every line.
        """
        pieces = messages.str.extract_all(self.alternation)
        counts = pieces.list.len().to_list()
        names, kept = self.types(pieces.explode().drop_nulls())
        every = (kept + "<" + names + ">").to_list()
        named, start = [], 0
        for text, count in zip(masked, counts, strict=True):
            parts = text.split(MARK)
            if len(parts) != count + 1:  # the line itself holds the mark: no telling which is which
                named.append("<*>".join(parts))
            else:
                types = every[start : start + count]
                named.append("".join(part + kind for part, kind in zip(parts, [*types, ""], strict=True)))
            start += count
        return named


def _group(number: int) -> str:
    """Return a group's name that no expression of a service has."""
    return f"logcanary_mask_{number}"


def _checked(mask: MaskOptions) -> str:
    """Return a service's own expression if polars can run it."""
    try:
        empty = pl.Series([""]).str.contains(mask.pattern).item()
    except pl.exceptions.PolarsError as error:
        raise MaskSettingsError(f"masks: {mask.name}: {mask.pattern!r} cannot be used: {error}") from error
    if empty:
        raise MaskSettingsError(f"masks: {mask.name}: {mask.pattern!r} matches the empty text; demand one character")
    return mask.pattern
