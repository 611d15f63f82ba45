"""Finished sessions as columns: what session detectors learn from and score.

Usage::

    sessions = Sessions.of(events)      # whole sessions of a log, in the order in which they ended
    shapes = sessions.hashes()          # equal sequences of templates have equal ones
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import polars as pl

from models.sessions import Ids, Ints
from parsing.events import Events, string_hashes

LEVELS = ("", "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR", "FATAL")
"""Levels by their number in ``Sessions.levels``; other spellings are made one of them (``level_number``)."""
WARN = LEVELS.index("WARN")
"""The first level that is loud."""
_SPELLINGS = {"WARNING": "WARN", "ERR": "ERROR", "CRITICAL": "FATAL", "SEVERE": "ERROR", "EMERG": "FATAL"} | {
    "ALERT": "FATAL",
    "PANIC": "FATAL",
    "CRIT": "FATAL",
    "INFORMATION": "INFO",
}

_SEED = np.uint64(0x452821E638D01377)
_PRIME = np.uint64(0x9FB21C651E98DF25)  # as in models.memory
_FOLD = np.uint64(29)


def level_number(level: str) -> int:
    """The number of a level as lines spell it; 0 where it is none.

    >>> level_number("warning")
    5
    """
    word = level.upper()
    word = _SPELLINGS.get(word, word)
    return LEVELS.index(word) if word in LEVELS else 0


def level_numbers(levels: pl.Series) -> Ints:
    """[n] The number of each level of a column."""
    spelt = levels.unique().to_list()
    return levels.replace_strict(spelt, [level_number(one) for one in spelt], return_dtype=pl.Int64()).to_numpy()


def mix(one: Ids, other: Ids) -> Ids:
    """Hash two columns of 64 bits to one; the arithmetic wraps around."""
    mixed: Ids = (one ^ (other * _SEED)) * _PRIME
    mixed ^= mixed >> _FOLD
    mixed *= _PRIME
    mixed ^= mixed >> _FOLD
    return mixed


@dataclass(frozen=True, eq=False, slots=True)
class Sessions:
    """Finished sessions in the order in which they were over; their events one session after another.

    A session that rests for longer than the gap is over. Where it goes on after all it comes again, whole, and
    ``seen`` says how many of its events came before: so a session is known in every state in which it ever rested.

    Raises:
        ValueError: The columns' lengths differ, or a session has no events.
    """

    names: list[str]  # [n]
    starts: Ints  # [n + 1] where each session's events begin
    templates: Ids  # [e]
    times: Ints  # [e] ms since 1970 UTC
    levels: Ints  # [e] see LEVELS
    closed: Ints  # [n] event time at which the session was known to be over, ms
    seen: Ints  # [n] its first events that came before, in a state in which it rested
    texts: dict[int, str]  # of at least these templates
    lengths: Ints = field(init=False)  # [n] events of each session
    owners: Ints = field(init=False)  # [e] number of each event's session
    _made: dict[str, Ids] = field(init=False, default_factory=dict)  # hashes that several detectors ask for

    def __post_init__(self) -> None:
        events = len(self.templates)
        if len(self.starts) != len(self.names) + 1 or int(self.starts[-1]) != events:
            raise ValueError(f"sessions: {len(self.names)} names, {len(self.starts)} starts of {events} events")
        lengths = np.diff(self.starts)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "owners", np.repeat(np.arange(len(self.names), dtype=np.int64), lengths))
        if len(self.names) and int(lengths.min()) < 1:
            raise ValueError("sessions: one has no events")
        if len(self.closed) != len(self.names) or len(self.seen) != len(self.names):
            raise ValueError(f"sessions: {len(self.closed)} ends and {len(self.seen)} beginnings of {len(self.names)}")
        if len(self.times) != events or len(self.levels) != events:
            raise ValueError(f"sessions: {len(self.times)} times and {len(self.levels)} levels of {events} events")

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, session: int) -> slice:
        """Where a session's events lie."""
        return slice(int(self.starts[session]), int(self.starts[session + 1]))

    def take(self, rows: Ints) -> Self:
        """Return the sessions of these rows, in their order."""
        lengths = self.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(int(starts[-1])) + np.repeat(self.starts[:-1][rows] - starts[:-1], lengths)
        names = [self.names[row] for row in rows.tolist()]
        columns = (self.templates[events], self.times[events], self.levels[events])
        return type(self)(names, starts, *columns, self.closed[rows], self.seen[rows], self.texts)

    def without(self, templates: Ids) -> tuple[Self, Ints]:
        """The sessions without the events of these templates, and their rows; those of no others are left out.

        Each event comes as long after the one before it as it did: the steps that are left out took no time.
        """
        kept = ~np.isin(self.templates, templates)
        lengths = np.bincount(self.owners[kept], minlength=len(self))
        before = np.arange(len(self.templates)) < (self.starts[:-1] + self.seen)[self.owners]
        seen = np.bincount(self.owners[kept & before], minlength=len(self))
        rows = np.flatnonzero(lengths)
        starts = np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64)
        names = [self.names[row] for row in rows.tolist()]
        steps = np.diff(self.times, prepend=self.times[:1])
        steps[self.starts[:-1]] = 0
        taken = np.cumsum(np.where(kept, steps, 0))
        times = self.times[self.starts[:-1]][self.owners] + taken - taken[self.starts[:-1]][self.owners]
        columns = (self.templates[kept], times[kept], self.levels[kept])
        return type(self)(names, starts, *columns, self.closed[rows], seen[rows], self.texts), rows

    def hashes(self) -> Ids:
        """[n] Hash of each session's sequence of templates: what was judged once is answered from memory."""
        hashes = np.full(len(self), _SEED, dtype=np.uint64)
        lengths, nth = self.lengths, 0
        rows = np.flatnonzero(lengths)
        while len(rows):
            hashes[rows] ^= self.templates[self.starts[rows] + nth]
            hashes[rows] *= _PRIME
            hashes[rows] ^= hashes[rows] >> _FOLD
            nth += 1
            rows = rows[lengths[rows] > nth]
        return hashes

    def groups(self) -> Ids:
        """[n] Hash of each session's name: the states of one session belong together."""
        return self._once("groups", lambda: string_hashes(pl.Series(self.names, dtype=pl.String())))

    def bags(self) -> Ids:
        """[n] Hash of what each session holds, in any order: equal counts have equal ones."""
        return self.running_bags()[self.starts[1:] - 1] if len(self) else np.zeros(0, dtype=np.uint64)

    def kinds(self) -> Ids:
        """[n] Hash of the templates each session holds, however often."""
        return self.sets()[self.starts[1:] - 1] if len(self) else np.zeros(0, dtype=np.uint64)

    def running_bags(self) -> Ids:
        """[e] The same of what each session held up to each of its events."""
        return self._once("bags", lambda: self._running(mix(self.templates, np.full(1, _SEED))))

    def sets(self) -> Ids:
        """[e] Hash of the templates each session held up to each of its events, however often."""
        return self._once("sets", self._sets)

    def _once(self, name: str, make: Callable[[], Ids]) -> Ids:
        """Make it when it is first asked for; nobody changes what is given out."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _sets(self) -> Ids:
        owners = self.owners
        order = np.lexsort((self.templates, owners))
        new = np.ones(len(order), dtype=np.bool_)
        same_template = self.templates[order][1:] == self.templates[order][:-1]
        new[1:] = ~(same_template & (owners[order][1:] == owners[order][:-1]))
        values = np.zeros(len(order), dtype=np.uint64)
        values[order[new]] = mix(self.templates[order[new]], np.full(1, _SEED))
        return self._running(values)

    def _running(self, values: Ids) -> Ids:
        """[e] Sum of each session's values up to each event, wrapping around."""
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values, dtype=np.uint64)])
        running: Ids = sums[1:] - sums[self.starts[:-1]][self.owners]
        return running

    def resting(self, gap_ms: int) -> "Sessions":
        """Each session in every state in which it rested for longer than a gap, in the order in which that was known.

        As the job would: a session is over when nothing came for that long, and comes again where it goes on.
        """
        inner = np.flatnonzero(np.diff(self.times) > gap_ms)
        inner = inner[self.owners[inner] == self.owners[inner + 1]] if len(inner) else inner
        last = np.concatenate([inner, self.starts[1:] - 1])  # event after which it rested
        owner = self.owners[last]
        closed = np.minimum(self.times[last] + gap_ms, self.closed[owner])
        by_session = np.lexsort((last, owner))
        seen = np.zeros(len(last), dtype=np.int64)
        again = by_session[1:][owner[by_session[1:]] == owner[by_session[:-1]]]
        before = by_session[:-1][owner[by_session[1:]] == owner[by_session[:-1]]]
        seen[again] = last[before] + 1 - self.starts[owner[again]]
        order = np.lexsort((last, closed))
        owner, last, closed, seen = owner[order], last[order], closed[order], seen[order]
        lengths = last + 1 - self.starts[owner]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(int(starts[-1])) + np.repeat(self.starts[owner] - starts[:-1], lengths)
        names = [self.names[row] for row in owner.tolist()]
        columns = (self.templates[events], self.times[events], self.levels[events])
        return type(self)(names, starts, *columns, closed, seen, self.texts)

    @classmethod
    def of(cls, events: Events, closed_ms: int | None = None) -> "Sessions":
        """Take the events of whole sessions, in any interleaving; those without a session are left out.

        ``closed_ms`` is when they were known to be over; without it, each with its last event.
        """
        frame = events.frame.filter(events.frame["session"] != "")
        if not frame.height:
            none = np.zeros(0, dtype=np.int64)
            return cls([], np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint64), none, none, none, none, {})
        _, first, number = np.unique(string_hashes(frame["session"]), return_index=True, return_inverse=True)
        last = np.zeros(len(first), dtype=np.int64)
        np.maximum.at(last, number, np.arange(frame.height))
        place = np.empty(len(first), dtype=np.int64)
        place[np.argsort(last)] = np.arange(len(first))  # sessions in the order of their last events
        rows = np.argsort(place[number], kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(place[number]))]).astype(np.int64)
        times = frame["time"].to_numpy()[rows]
        closed = times[starts[1:] - 1] if closed_ms is None else np.full(len(first), closed_ms, dtype=np.int64)
        return cls(
            frame["session"][rows[starts[:-1]]].to_list(),
            starts,
            frame["template"].to_numpy()[rows],
            times,
            level_numbers(frame["level"])[rows],
            closed,
            np.zeros(len(first), dtype=np.int64),
            events.templates,
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put batches one after another."""
        sizes = [0, *np.cumsum([len(part.templates) for part in parts]).tolist()]
        starts = [part.starts[:-1] + size for part, size in zip(parts, sizes, strict=False)]
        texts: dict[int, str] = {}
        for part in parts:
            texts |= part.texts
        return cls(
            [name for part in parts for name in part.names],
            np.concatenate([*starts, np.array([sizes[-1]])]).astype(np.int64),
            np.concatenate([np.zeros(0, dtype=np.uint64), *(part.templates for part in parts)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(part.times for part in parts)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(part.levels for part in parts)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(part.closed for part in parts)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(part.seen for part in parts)]),
            texts,
        )
