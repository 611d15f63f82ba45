"""Templates that normal sessions hold seldom or never; a known line in other words is not one of them.

The nearest known template by words is looked for first (Jaccard 1901: words in common over words in all). Where the two
are alike and the session that holds it does not hold the known one as well, it is taken for the known one reworded, as
after a release, and from then on counts as it.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.counts import Counts
from models.detector import Detector, Evidence, Numbers, Part
from models.finished import Sessions
from models.sessions import Ints
from models.templates import MAX_TEMPLATES, Templates, distinct, widened
from models.wording import ALIKE, Wordings

WARM_SESSIONS = 50
WARM_MS = 600_000
"""Below so many sessions, or so much time between the first and the last of them, nothing is new: all is."""


class NewTemplate(Detector[Sessions]):
    """Strangeness: minus the logarithm of the share of normal sessions with the rarest template of this one, nats."""

    name = "new_template"
    aspect = "content"
    is_share = True

    def __init__(self) -> None:
        super().__init__()
        self._bags = Counts()  # of the sessions learnt
        self._templates = Templates()
        self._wordings = Wordings()  # [k]
        self._same: Ints = np.zeros(0, dtype=np.int64)  # [k] the column that each counts as: its own, or an older one
        self._holding: Ints = np.zeros(0, dtype=np.int64)  # [k] sessions that held each template, in any words
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
        nearest, _ = (-1, 0.0) if known else self._wordings.nearest(one.texts.get(template, ""))
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
                self._wordings.add(other._wordings.texts[theirs])
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
        text = "\n".join(self._wordings.texts).encode(errors="replace")
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
        self._wordings = Wordings(texts)

    def _warm(self, sessions: int = 0, now: int = 0) -> bool:
        """Whether enough is known, with so many sessions more, up to a time (ms)."""
        return self._sessions + sessions >= WARM_SESSIONS and max(now, self._until) - self._since >= WARM_MS

    def _meet(self, column: int, items: Sessions) -> None:
        """Take in the text of a template that was first met in these items: is it an older one in other words?"""
        event = int((items.templates == self._templates.ids[column]).argmax())
        session = int(items.owners[event])
        text = items.texts.get(int(items.templates[event]), "")
        if self._warm(session, int(items.closed[session])):
            held = self._templates.columns(items.templates[items.rows(session)])
            nearest, alike = self._wordings.nearest(text)
            if alike >= ALIKE and nearest not in held:
                self._same[column] = self._same[nearest]
        self._wordings.add(text)

    def _surprises(self, items: Sessions) -> Numbers:
        """[e] Minus the logarithm of the share of normal sessions that hold each event's template."""
        holding = np.append(self._holding, 0)
        held = self._templates.columns(items.templates)
        columns, owners = held.copy(), items.owners
        unknown = np.flatnonzero(held == len(self._templates))
        nearest: dict[int, tuple[int, float]] = {}
        for event, template in zip(unknown.tolist(), items.templates[unknown].tolist(), strict=True):
            if template not in nearest:
                nearest[template] = self._wordings.nearest(items.texts.get(template, ""))
            column, alike = nearest[template]
            if alike >= ALIKE and column not in held[items.rows(int(owners[event]))]:
                columns[event] = column
        columns = np.append(self._same, len(self._same))[columns]
        surprises: Numbers = -np.log((holding[columns] + 0.5) / (self._sessions + 1))
        return np.maximum(surprises, 0.0)
