"""Templates that normal sessions hold seldom or never; a known line in other words is not one of them.

The nearest known template by words is looked for first (Jaccard 1901: words in common over words in all). Where the two
are alike and the session that holds it does not hold the known one as well, it is taken for the known one reworded, as
after a release, and from then on counts as it.
"""

from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts
from models.detector import Detector, Evidence, Numbers, Part
from models.finished import Sessions
from models.sessions import Ints
from models.templates import MAX_TEMPLATES, Templates, distinct, widened

ALIKE = 0.6
"""Share of words in common from which on a template is another one reworded: two of eight may differ."""
WARM_SESSIONS = 50
WARM_MS = 600_000
"""Below so many sessions, or so much time between the first and the last of them, nothing is new: all is."""
MAX_CHARACTERS = 256
"""Of a template's text kept to compare its words."""

COMMON = 64
"""A word of more templates than that says little of which one a line is: it is not looked up, only counted."""
_PUNCTUATION = "()[]{}\"',;:.!?"


class NewTemplate(Detector[Sessions]):
    """Strangeness: minus the logarithm of the share of normal sessions with the rarest template of this one, nats."""

    name = "new_template"
    aspect = "content"
    is_share = True

    def __init__(self) -> None:
        super().__init__()
        self._bags = Counts()  # of the sessions learnt
        self._templates = Templates()
        self._texts: list[str] = []  # [k]
        self._same: Ints = np.zeros(0, dtype=np.int64)  # [k] the column that each counts as: its own, or an older one
        self._holding: Ints = np.zeros(0, dtype=np.int64)  # [k] sessions that held each template, in any words
        self._by_word: dict[str, list[int]] = {}
        self._sessions = 0
        self._since = self._until = 0  # ms, ends of the first and last session learnt

    def learn(self, items: Sessions) -> None:
        """See ``Detector.learn``."""
        if not len(items):
            return
        if not self._sessions:
            self._since = int(items.closed[0])
        known = len(self._templates)
        width = self._templates.learn(items.templates)
        self._holding = widened(self._holding, width)
        self._same = np.concatenate([self._same, np.arange(known, width)])
        for column in range(known, width):
            self._meet(column, items)
        bags = items.bags()
        self._bags.add(bags)
        rows, _, times = distinct(bags)
        held = self._templates.counts(items.take(rows))[:, :width] > 0
        for column in np.flatnonzero(self._same != np.arange(width)).tolist():
            held[:, self._same[column]] |= held[:, column]
        self._holding += times @ held
        self._until = max(self._until, int(items.closed.max()))
        self._sessions += len(items)

    def strangeness(self, items: Sessions) -> Numbers:
        """See ``Detector.strangeness``."""
        if not len(items) or not self._warm():
            return np.zeros(len(items))
        bags = items.bags()
        rows, where, _ = distinct(bags)
        worst: Numbers = np.maximum.reduceat(self._surprises(items.take(rows)), items.take(rows).starts[:-1])
        worst[self._bags.of(bags[rows]) > 0] = 0.0
        return worst[where]

    def explain(self, items: Sessions, row: int) -> Evidence:
        """The rarest template, how many of the normal sessions hold it, and the nearest known one."""
        one = items.take(np.array([row]))
        surprises = self._surprises(one)
        event = int(surprises.argmax())
        template = int(one.templates[event])
        known = bool(self._templates.columns(one.templates[event : event + 1])[0] < len(self._templates))
        nearest, _ = (-1, 0.0) if known else self._nearest(_cut(one.texts.get(template, "")))
        related = (int(self._templates.ids[nearest]),) if nearest >= 0 else ()
        part = Part(template, 1.0, float(np.exp(-surprises[event])) if known else 0.0)
        return Evidence(self.name, "rare" if known else "new", "chance", (part,), event=event, related=related)

    def merge(self, other: Self) -> None:
        """See ``Detector.merge``."""
        known = len(self._templates)
        width = self._templates.learn(other._templates.ids)
        columns = self._templates.columns(other._templates.ids)
        self._same = np.concatenate([self._same, np.arange(known, width)])
        self._holding = widened(self._holding, width)
        for theirs, column in enumerate(columns.tolist()):
            if known <= column < width:
                self._add_text(column, other._texts[theirs])
                same = int(columns[other._same[theirs]])
                self._same[column] = same if same < width else column
        kept = columns < width
        np.add.at(self._holding, columns[kept], other._holding[kept])
        if other._sessions:
            self._since = min(self._since, other._since) if self._sessions else other._since
            self._until = max(self._until, other._until)
        self._sessions += other._sessions
        self._bags.merge(other._bags)
        self.tail.merge(other.tail)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """See ``Detector.columns``."""
        text = "\n".join(self._texts).encode(errors="replace")
        return {
            "templates": self._templates.ids,
            **self._bags.columns("bags"),
            "texts": np.frombuffer(text, dtype=np.uint8),
            "same": self._same,
            "holding": self._holding,
            "seen": np.array([self._sessions, self._since, self._until]),
        }

    def restore(self, columns: dict[str, NDArray[np.generic]]) -> None:
        """See ``Detector.restore``."""
        self._bags.restore("bags", columns)
        self._templates = Templates(columns["templates"].astype(np.uint64)[:MAX_TEMPLATES])
        texts = columns["texts"].tobytes().decode().split("\n") if len(self._templates) else []
        self._same = columns["same"].astype(np.int64)
        self._holding = columns["holding"].astype(np.int64)
        self._sessions, self._since, self._until = (int(one) for one in columns["seen"].astype(np.int64))
        if not len(texts) == len(self._templates) == len(self._holding) == len(self._same):
            raise ValueError(f"{len(texts)} texts and {len(self._holding)} counts of {len(self._templates)} templates")
        self._texts, self._by_word = [], {}
        for column, text in enumerate(texts):
            self._add_text(column, text)

    def _warm(self, sessions: int = 0, now: int = 0) -> bool:
        """Whether enough is known, with so many sessions more, up to a time (ms)."""
        return self._sessions + sessions >= WARM_SESSIONS and max(now, self._until) - self._since >= WARM_MS

    def _meet(self, column: int, items: Sessions) -> None:
        """Take in the text of a template that was first met in these items: is it an older one in other words?"""
        event = int((items.templates == self._templates.ids[column]).argmax())
        session = int(items.owners[event])
        text = _cut(items.texts.get(int(items.templates[event]), ""))
        if self._warm(session, int(items.closed[session])):
            held = self._templates.columns(items.templates[items.rows(session)])
            nearest, alike = self._nearest(text)
            if alike >= ALIKE and nearest not in held:
                self._same[column] = self._same[nearest]
        self._add_text(column, text)

    def _add_text(self, column: int, text: str) -> None:
        self._texts.append(text)
        for word in _words(text):
            self._by_word.setdefault(word, []).append(column)

    def _surprises(self, items: Sessions) -> Numbers:
        """[e] Minus the logarithm of the share of normal sessions that hold each event's template."""
        holding = np.append(self._holding, 0)
        held = self._templates.columns(items.templates)
        columns, owners = held.copy(), items.owners
        unknown = np.flatnonzero(held == len(self._templates))
        nearest: dict[int, tuple[int, float]] = {}
        for event, template in zip(unknown.tolist(), items.templates[unknown].tolist(), strict=True):
            if template not in nearest:
                nearest[template] = self._nearest(_cut(items.texts.get(template, "")))
            column, alike = nearest[template]
            if alike >= ALIKE and column not in held[items.rows(int(owners[event]))]:
                columns[event] = column
        columns = np.append(self._same, len(self._same))[columns]
        surprises: Numbers = -np.log((holding[columns] + 0.5) / (self._sessions + 1))
        return np.maximum(surprises, 0.0)

    def _nearest(self, text: str) -> tuple[int, float]:
        """Column and likeness of the known template with most words in common; -1 where there is none."""
        words = _words(text)
        listed = [self._by_word.get(word, []) for word in words]
        likeness = {}
        for column in {column for columns in listed if len(columns) <= COMMON for column in columns}:
            others = _words(self._texts[column])
            likeness[column] = len(words & others) / len(words | others)
        nearest = max(likeness, key=lambda column: (likeness[column], -column), default=-1)
        return nearest, likeness.get(nearest, 0.0)


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> frozenset[str]:
    """Words of a template's text, without its variable parts."""
    words = (word.strip(_PUNCTUATION) for word in text.lower().split() if "<" not in word)
    return frozenset(word for word in words if word)


def _cut(text: str) -> str:
    return " ".join(text[:MAX_CHARACTERS].split())
