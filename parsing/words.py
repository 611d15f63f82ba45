"""Words of a masked text: which of them are compared, and which may differ between two lines of one template.

Two words at one place may differ where one of them cannot be the name of what happened: it holds a number or a masked
part (``node-17``), or the word before it says that a name follows (``user anna``). Two plain words (``started``,
``stopped``) or two names of programs (``a.b.Open``, ``a.b.Close``) may not, whatever else the lines share: merging such
events is Drain's commonest mistake. A word with a label (``state=up``, ``index:7``) only meets one with the same label.
"""

import re
from functools import lru_cache

from parsing.masks import MARK

WILDCARD = "<*>"
REST = "<...>"
MAX_WORDS = 128
"""Words of a text that are compared; what follows makes no template of its own."""
_LIST = 8
"""Numbers or masked parts in a row from which on they are a list, whose length varies: one wildcard stands for all."""

_PART = r"<(?:_|[A-Z][A-Z0-9_]*)>"  # a masked part: with its type where the text is shown
_LISTED = re.compile(rf"({_PART})(?:[,;]{_PART})+")
_SIGNED = re.compile(rf"(?<![\w)>\]/.-])[+-](?={_PART})")
_SAID_TWICE = re.compile(rf"\b(bytes) \({_PART}\)")  # 18846 bytes (18.4 KB): the second is left out for small sizes
_VARIES = re.compile(r"[0-9]|<_>|<\*>")
_LABEL = re.compile(r"[(\[{\"']*[A-Za-z_][A-Za-z_.-]*(?:[=:(\[{]+|\.{3,})")
_NUMBERED = re.compile(r"([A-Z]{1,8}|[a-z]{1,8})[0-9]{1,2}")
_NAMING = frozenset(("user", "username", "login", "account", "host", "hostname"))
_PUNCTUATION = "()[]{}<>\"'`,;:.!?*#-=|/\\@&%$~^+"
_PAIRS = ("()", "[]", "{}", '""', "''")
_WHOLE = re.compile(r"[(\[{\"']*<(?:_|\*)>[)\]}\"',;:.]*")  # nothing but what is masked
_CLOSING = ",;:.)]}\"'>!?"


def words_of(text: str) -> list[str]:
    """Cut a masked text, or one that shows its masks' types, into the words that are compared.

    Lists of masked parts become one; so do signs and the parts they are before.

    >>> words_of("send <_>,<_>,<_> to node-<_> at offset -<_>")
    ['send', '<_>', 'to', 'node-<_>', 'at', 'offset', '<_>']
    """
    if ">," in text or ">;" in text:
        text = _LISTED.sub(r"\1", text)
    if "-<" in text or "+<" in text:
        text = _SIGNED.sub("", text)
    if "bytes (" in text:
        text = _SAID_TWICE.sub(r"\1", text)
    words = text.split()
    if len(words) >= _LIST:
        words = _without_lists(words)
    return words if len(words) <= MAX_WORDS else [*words[:MAX_WORDS], REST]


def _without_lists(words: list[str]) -> list[str]:
    kept: list[str] = []
    run = 0
    for word in words:
        run = run + 1 if _listed(word) else 0
        kept.append(word)
        if run == _LIST:
            kept[-_LIST:] = [WILDCARD]
        elif run > _LIST:
            kept.pop()
    return kept


@lru_cache(maxsize=1 << 16)
def _listed(word: str) -> bool:
    varies = _VARIES.search(word) is not None or re.search(_PART, word) is not None
    return varies and "=" not in word


@lru_cache(maxsize=1 << 16)
def meet(known: str, word: str, before: str) -> str | None:
    """Return what a template's word and a line's word have in common, as ``uid=<*>,``; None if they may not differ.

    ``before`` is the word before them.
    """
    if known == word:
        return known
    start, wild, end = known.partition(WILDCARD)
    if wild and len(word) > len(start) + len(end) and word.startswith(start) and word.endswith(end):
        return known if _kind(word) != "." else None
    return merged(known, word) if _may_differ(known, word, before) else None


def merged(known: str, word: str) -> str:
    """Return two words as one with a wildcard between their common label and the punctuation that ends both."""
    label = _label(known)
    start = label if label == _label(word) and MARK not in label else ""
    if not start:
        while len(start) < min(len(known), len(word)) and known[len(start)] == word[len(start)] in "([{\"'":
            start += known[len(start)]
    end = 0
    while end < min(len(known), len(word)) - len(start) and known[-1 - end] == word[-1 - end] in _CLOSING:
        end += 1
    tail = known[len(known) - end :]
    # A mask's own bracket is no punctuation of the line.
    if known.endswith((MARK, WILDCARD)) or word.endswith((MARK, WILDCARD)):
        tail = ""
    elif ">" in tail:
        tail = tail[tail.rindex(">") + 1 :]
    return start + WILDCARD + tail


def _may_differ(one: str, other: str, before: str) -> bool:
    label = _label(one)
    if label != _label(other):
        return _WHOLE.fullmatch(one) is not None or _WHOLE.fullmatch(other) is not None
    if _name_of(label or before) in _NAMING or _is_emptied(one, other) or _is_emptied(other, one):
        return True
    one, other = one[len(label) :], other[len(label) :]
    kinds = {_kind(one), _kind(other)}
    if "." in kinds:
        return False
    if "number" in kinds:
        return True
    if kinds == {"numbered"}:
        return _stem(one) == _stem(other)
    return kinds == {"name"} and label.endswith("=")


def _name_of(word: str) -> str:
    return word.strip(_PUNCTUATION).lower()


def _is_emptied(one: str, other: str) -> bool:
    """Say whether the first is the second with nothing between its brackets or quotes, as ``()`` and ``(a.b)``."""
    return len(one) >= 2 and one[:2] in _PAIRS and other[0] == one[0] and other.endswith(one[1:])


@lru_cache(maxsize=1 << 16)
def _kind(word: str) -> str:
    """Say what a word looks like: ``number``, ``numbered`` (eth0), ``word``, ``name`` (a.b.C), ``.`` (punctuation)."""
    if MARK in word or WILDCARD in word:
        return "number"
    core = word.strip(_PUNCTUATION)
    if not core:
        return "."
    if _NUMBERED.fullmatch(core):
        return "numbered"
    if any(map(str.isdigit, core)):
        return "number"
    return "word" if core.replace("'", "").isalpha() else "name"


def _stem(word: str) -> str:
    found = _NUMBERED.search(word)
    return found[1] if found else word


@lru_cache(maxsize=1 << 16)
def _label(word: str) -> str:
    found = _LABEL.match(word)
    return found[0] if found and len(found[0]) < len(word) else ""
