r"""Secrets out of lines, before anything else reads them: what is found becomes ``<redacted:password>``.

Usage::

    redaction = Redaction.build(settings.redact)  # no rules, and no cost, where nothing is wanted
    lines = redaction.lines(lines)  # the very same object where no line holds a secret

A line that holds none of the words in ``hint`` costs one search for all of them at once, and the whole expressions look
at the others only. A line stays one line, JSON stays JSON, and what was redacted stays as it is when it is redacted
again. The expressions have no look-around and no back-reference and run in time linear in the line (Rust's ``regex``);
each looks at one line alone, so that no match goes over a line's end.

In doubt more is taken out, not less: a password that is not in quotes goes up to the next blank.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.service import RedactKind, RedactOptions
from parsing.decode import column_of
from parsing.events import Lines

Replace = Callable[[pl.Series], pl.Series]


def mark(name: str) -> str:
    """Return what stands for a secret.

    >>> mark("password")
    '<redacted:password>'
    """
    return f"<redacted:{name}>"


class RedactSettingsError(ValueError):
    """A service's own expression cannot be used; the message names it and the reason."""


# -- how a value is written ------------------------------------------------------------------------------------------

_DEPTHS = (0, 1, 2)
"""How often JSON lies in a string of JSON: at depth d there are 2^d - 1 backslashes before a quote."""
_COLOUR = r"(?:(?:\x1b|\\u001[bB]|\\x1b)\[[0-9;]*m)*"
_BLANKS = r"[ \t]*"
_EQUALS = rf"{_COLOUR}{_BLANKS}(?:=>|:=|[=:]|\\u003[dD]){_BLANKS}{_COLOUR}"
_NUMBER = "-?[0-9][0-9.eE+-]*"
_BARE = r"(?:[^ \t\r\n\"\\']|\\[^ \t\r\n\"])(?:[^ \t\r\n\"\\]|\\[^ \t\r\n\"])*"
"""A value without quotes: up to a blank, or to a quote that ends the JSON around it."""
# A quote behind "password:" may also end the JSON string that says so: a comma and a key follow then, or a brace.
_NO_END = r'[^,}\]"\\]|,[^" \\]|[}\]][^,}\] "\\\r\n]'
_SINGLE = r"(?:[^'\\\r\n]|\\[^\r\n])+"


def _quote(depth: int) -> str:
    return rf'\\{{{(1 << depth) - 1}}}"'


def _escape(depth: int) -> str:
    """Return what a backslash begins within a string: an escaped backslash or quote, or anything but the end."""
    most = 2 << depth
    return rf'\\{{{most}}}|\\{{{most - 1}}}"|\\{{1,{most - 1}}}[^"\\]'


def _inside(depth: int) -> str:
    return rf'(?:[^"\\]|{_escape(depth)})'


_STRING = "(?:" + "|".join(f"{_quote(depth)}{_inside(depth)}*(?:{_quote(depth)})?" for depth in _DEPTHS) + ")"
_LIST = rf"\[{_BLANKS}(?:{_STRING}{_BLANKS},?{_BLANKS})+\]?"


def _said(key: str, bare: str = _BARE) -> tuple[str, str]:
    """Return an expression for all ways in which a value is said of a key, and what a match becomes.

    The quotes stay; a list or number of JSON becomes a string, with the quotes of its key.
    """
    in_json = rf'\\{{0,7}}"{_BLANKS}:{_BLANKS}'
    in_text = rf"(?:\\{{0,7}}\"{_BLANKS}=>|'?\]?{_EQUALS}){_BLANKS}"
    ways = [(f"{in_json}{_quote(depth)}", f"{_inside(depth)}+") for depth in _DEPTHS]
    ways.append((rf'(?P<quote>\\{{0,7}}"){_BLANKS}:{_BLANKS}', f"(?:{_LIST}|{_NUMBER})"))
    ways += [(f"{in_text}{_quote(depth)}", f"(?:{_NO_END}|{_escape(depth)}){_inside(depth)}*") for depth in _DEPTHS]
    ways += [(f"{in_text}'", f"{_SINGLE}(?P<end>')"), (f"{in_text}'", r"(?:[^'\\\"]|\\[^\"])+"), (in_text, bare)]
    return _any(f"(?P<key>{key})", ways)


def _any(key: str, ways: list[tuple[str, str]]) -> tuple[str, str]:
    """Return an expression for a key with (what stays, what goes) behind it, in any of these ways."""
    pattern = "|".join(f"(?P<head{number}>{stays}){goes}" for number, (stays, goes) in enumerate(ways))
    heads = "".join(f"${{head{number}}}" for number in range(len(ways)))
    return f"{key}(?:{pattern})", f"${{key}}{heads}${{quote}}{{}}${{quote}}${{end}}"


def _cases(*words: str) -> list[str]:
    """Return words of parts as keys write them: ``api-key``, ``API_KEY``, ``apiKey``; the longest first."""
    found = []
    for word in words:
        low = word.split("-")
        high = [part.capitalize() for part in low]
        for form in (low, high, [part.upper() for part in low], [low[0], *high[1:]]):
            found += [joint.join(form) for joint in ("", "_", "-")]
    return sorted(dict.fromkeys(found), key=lambda word: (-len(word), word))


_WORDS = _cases(
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "credentials"),
    *("api-key", "access-key", "private-key", "account-key"),
)
_SECRET = (
    rf"(?:{'|'.join(_WORDS)})"
    r"(?:[_.-]?(?:access|Access|ACCESS))?(?:[_.-]?(?:key|Key|KEY|hash|Hash|HASH|value|Value|VALUE))?[0-9]{0,2}"
)
_AUTHORIZATION = "(?:authorization|Authorization|AUTHORIZATION)"
_SCHEMES = "(?:Digest|AWS4-HMAC-SHA256|OAuth|Hawk|Signature)"
"""Their values have several parts: all up to a quote or the line's end goes."""
_SEVERAL = r"(?:=\"[^\"\\\r\n]*\"|=\\\"[^\"\\\r\n]*\\\"|[^\"\\\r\n]|\\[^\"\r\n])*"
_CREDENTIALS = rf"(?:{_SCHEMES}[ \t]{_SEVERAL}|\[?(?:[A-Za-z][A-Za-z0-9_-]*[ \t]+)?{_BARE})"
"""As in ``Basic dXNlcjpw``, ``[Bearer abc]``, ``abc``."""
_OPTIONS = [
    (r'[ \t]+"', f"(?:{_NO_END}|{_escape(0)}){_inside(0)}*"),
    (r"[ \t]+'", r"(?:[^'\\\"]|\\[^\"])+"),
    (r"[ \t]+", r"[^ \t\r\n\"'\\-](?:[^ \t\r\n\"\\]|\\[^ \t\r\n\"])*"),
]
"""As in ``--password abc``."""
_PEM = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_EDGE = r"(?-u:\b)"
_CARD = (
    rf"{_EDGE}(?:"
    r"(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|6(?:011|4[4-9][0-9]|5[0-9]{2}))(?:[ -]?[0-9]{4}){3}"
    r"|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}"
    rf"){_EDGE}"
)


@dataclass(frozen=True)
class _Rule:
    """How a kind of secret is found."""

    hint: str
    """Fits every line with a match, and is quickly looked for: words alone, where it can be."""
    pattern: str
    becomes: str = "{}"
    """What a match becomes, with ``{}`` for the mark."""
    check: Callable[[str], bool] | None = None
    """Whether a match is one, where the expression alone cannot say."""


def luhn(text: str) -> bool:
    """Tell whether digits end with their check digit (ISO/IEC 7812-1, annex B); what is no digit is passed over.

    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(one) for one in reversed(text) if "0" <= one <= "9"]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


_WORDS_HINT = (
    "passw|Passw|PASSW|passp|Passp|PASSP|pwd|Pwd|PWD|secret|Secret|SECRET|token|Token|TOKEN|redential|REDENTIAL"
    "|key|Key|KEY"
)
_RULES: dict[RedactKind, tuple[_Rule, ...]] = {
    "private-key": (_Rule("PRIVATE KEY", rf"-----BEGIN {_PEM}(?:[^\"-]|-[^\"-])*(?:-----END {_PEM})?"),),
    "jwt": (_Rule("eyJ", rf"{_EDGE}eyJ[A-Za-z0-9_-]{{10,}}(?:\.[A-Za-z0-9_-]+){{1,4}}"),),
    "bearer": (
        _Rule("uthoriz|UTHORIZ", *_said(_AUTHORIZATION, _CREDENTIALS)),
        _Rule(
            r"earer|EARER|Basic[ \t%\\]",
            r"(?P<key>(?:bearer|Bearer|BEARER|Basic)(?:[ \t]|%20|\\u0020)+)[A-Za-z0-9._~+/-]{16,}=*",
            "${key}{}",
        ),
    ),
    "password": (
        _Rule(_WORDS_HINT, *_said(_SECRET)),
        _Rule(rf"--?[A-Za-z-]*(?:{_WORDS_HINT})", *_any(f"(?P<key>--?[A-Za-z-]*{_SECRET})", _OPTIONS)),
        # In an address: up to the last @ before the path.
        _Rule(
            "://[^/?#@ ]*:",
            r"(?P<key>://[^/?#@ \t\r\n\"':\\<>]*:)[^/?# \t\r\n\"'\\<>]+(?P<end>@)",
            "${key}{}${end}",
        ),
    ),
    "aws-key": (_Rule("AKIA|ASIA", rf"{_EDGE}(?:AKIA|ASIA)[A-Z0-9]{{16}}{_EDGE}"),),
    "api-key": (
        _Rule(
            "gho_|ghp_|ghr_|ghs_|ghu_|github_pat_|glpat-|xox|k_live|k_test|AIza",
            rf"{_EDGE}(?:gh[oprsu]_[A-Za-z0-9]{{20,}}|github_pat_[A-Za-z0-9_]{{20,}}|glpat-[A-Za-z0-9_-]{{20,}}"
            r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{35})",
        ),
    ),
    "email": (
        _Rule(
            r"[A-Za-z0-9_%+-](?:@|%40)",
            r"[A-Za-z0-9._%+-]{1,64}(?:@|%40)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
        ),
    ),
    "card": (_Rule(_CARD, _CARD, check=luhn),),
}
CREDENTIALS: tuple[RedactKind, ...] = ("private-key", "jwt", "bearer", "password", "aws-key", "api-key")
"""In this order: what ``bearer`` and ``password`` find by its key may be one of those before them."""
_HINTS: dict[RedactKind, str] = {"password": f"{_WORDS_HINT}|://[^/?#@ ]*:"}
"""... where a rule's hint is part of another's."""
_TAIL = r"(?:[0-9]+[ -])*[^ \t\r\n]{1,512}$"
"""The end of a line that was cut: it may be the beginning of a secret that shows itself further on only."""


@dataclass(frozen=True)
class Redaction:
    """What is taken out of the lines of one service."""

    rules: tuple[tuple[str, _Rule], ...] = ()
    """With what stands for their matches."""
    hint: str = ""
    """Fits every line that any of them changes."""

    @classmethod
    def build(cls, wanted: Iterable[RedactKind | RedactOptions]) -> "Redaction":
        """Put the rules of a service together.

        Raises:
            RedactSettingsError: An own expression cannot be run, or matches the empty text.
        """
        rules: list[tuple[str, _Rule]] = []
        hints = []
        for one in wanted:
            if isinstance(one, RedactOptions):
                own = f"(?:{_checked(one)})"
                rules.append((mark(one.name), _Rule(own, own)))
                hints.append(own)
                continue
            for name in CREDENTIALS if one == "credentials" else (one,):
                rules += [(mark(name), rule) for rule in _RULES[name]]
                hints.append(_HINTS.get(name) or "|".join(rule.hint for rule in _RULES[name]))
        return cls(tuple(rules), _together(hints))

    def lines(self, lines: Lines) -> Lines:
        """Return the lines without their secrets; the very same object where there are none.

        Of a line that the source has cut, the last word goes too.
        """
        if not self.rules or not lines.blob:
            return lines
        column = column_of(lines)
        cut = _was_cut(lines)
        asked = column.str.contains(self.hint)
        known = asked.fill_null(False).to_numpy() | (cut & column.is_not_null().to_numpy())
        parts = [self._changed(np.flatnonzero(known), column.filter(pl.Series(known)), cut, "utf-8")]
        if asked.null_count():  # no text, and yet a secret may stand in it: byte by byte
            starts, rows = lines.starts(), np.flatnonzero(asked.is_null().to_numpy() & (lines.lengths > 0))
            texts = [lines.blob[starts[row] : starts[row + 1]].decode("latin-1") for row in rows.tolist()]
            parts.append(self._changed(rows, pl.Series(texts, dtype=pl.String), cut, "latin-1"))
        rows, values = np.concatenate([rows for rows, _ in parts]), [one for _, values in parts for one in values]
        return _with(lines, rows, values) if len(rows) else lines

    def text(self, text: str) -> str:
        """Return one text without its secrets."""
        return str(self.texts(pl.Series([text]))[0])

    def texts(self, texts: pl.Series) -> pl.Series:
        """Return a column of texts without their secrets: [n]."""
        for word, rule in self.rules:
            rows = texts.str.contains(rule.hint).arg_true()
            if len(rows):
                texts = texts.clone().scatter(rows, _replaced(texts[rows], rule, word))
        return texts

    def _changed(
        self, rows: NDArray[np.int64], before: pl.Series, cut: NDArray[np.bool_], encoding: str
    ) -> tuple[NDArray[np.int64], list[bytes]]:
        """Return which of these rows change, and their new bytes."""
        if not len(rows):
            return rows, []
        after = self.texts(before)
        if (ends := pl.Series(cut[rows])).any():
            after = after.str.replace(_TAIL, mark("cut")).zip_with(ends, after)
        changed = before != after
        return rows[changed.to_numpy()], [text.encode(encoding) for text in after.filter(changed)]


def _replaced(texts: pl.Series, rule: _Rule, word: str) -> pl.Series:
    """Put a word in place of what a rule finds; where it has to check that, Python looks at each text."""
    check = rule.check
    if check is None:
        return texts.str.replace_all(rule.pattern, rule.becomes.replace("{}", word))
    pattern = re.compile(rule.pattern.replace(_EDGE, r"(?a:\b)"))
    return pl.Series([pattern.sub(lambda found: word if check(found[0]) else found[0], text) for text in texts])


def _was_cut(lines: Lines) -> NDArray[np.bool_]:
    """Tell which lines the source has cut: [n]."""
    if lines.original_lengths is None:
        return np.zeros(len(lines), dtype=np.bool_)
    return lines.original_lengths > np.maximum(lines.lengths, 0)


def _with(lines: Lines, rows: NDArray[np.int64], values: list[bytes]) -> Lines:
    """Put other bytes in place of some lines."""
    starts, n = lines.starts(), len(lines)
    bytes_ = pa.Array.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(starts), pa.py_buffer(lines.blob)])
    order = np.argsort(rows)
    mask = np.zeros(n, dtype=np.bool_)
    mask[rows] = True
    done = pc.replace_with_mask(bytes_, pa.array(mask), pa.array([values[at] for at in order], pa.large_binary()))
    _, ends, data = done.buffers()
    bounds = np.frombuffer(ends, dtype=np.int64)[done.offset : done.offset + n + 1]
    lengths = np.where(lines.lengths < 0, -1, np.diff(bounds))
    original = lines.original_lengths
    if original is not None:  # by so much longer than what there is as before
        original = original + (lengths - lines.lengths)
    blob = data.to_pybytes()[int(bounds[0]) : int(bounds[-1])] if data is not None else b""
    return replace(lines, blob=blob, lengths=lengths, original_lengths=original)


def _together(hints: list[str]) -> str:
    """Return one expression for all hints; one that fits every line where they cannot be one."""
    try:
        pl.Series([""]).str.contains(hint := "|".join(hints))
    except pl.exceptions.PolarsError:  # two own expressions name a group alike, or are too large together
        return ""
    return hint


def _checked(own: RedactOptions) -> str:
    """Return a service's own expression if polars can run it."""
    try:
        empty = pl.Series([""]).str.contains(own.pattern).item()
    except pl.exceptions.PolarsError as error:
        said = str(error).partition("\n\nThis error occurred")[0]
        raise RedactSettingsError(
            f"redact: {own.name}: {own.pattern!r} cannot be used (no look-around, no back-reference): {said}"
        ) from error
    if empty:
        raise RedactSettingsError(f"redact: {own.name}: {own.pattern!r} matches the empty text; demand one character")
    return own.pattern
