"""Whole sessions of one bucket: events of sessions that are open or may go on, until they are over.

Usage::

    store = WholeSessions()
    store.extend(events, windows)                      # what ``SessionTable.extend`` made of these events
    sessions, ends = store.finished(windows, gap_ms)   # as ``models.finished.Sessions``, a row of ``windows.ends`` each
    log.append(store.delta())                          # what changed; where that is None, store.dump()

A session that rests for longer than the gap is over; where it goes on after all it comes again, whole. So it is kept
until there is no room: then those idle longest go. A session of more than ``MOST_EVENTS`` events is no unit of work
that counts and order say anything about: it is not given out, and neither is one whose beginning was not seen.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.encoding import StateError, pack, unpack
from models.finished import Sessions, level_numbers
from models.sessions import PADDING, Flags, Ids, Ints, Windows
from parsing.events import Events, string_hashes

MOST_EVENTS = 1_000
"""Of a session: of longer ones nothing is kept but that they are too long."""
MOST_ROWS = 400_000
"""Events kept, 21 bytes each."""
MOST_SESSIONS = 50_000
"""Sessions kept, about 150 bytes each."""
ROOM = 0.75
"""Of the most events and sessions so much is kept when those idle longest go: not each batch is to make room anew."""

_STATE: Final = "whole_sessions"
_FORMAT: Final = 1
_NONE: Final = -1
_UNFIT: Final = 1  # too long, or its beginning was not seen
Small = NDArray[np.uint8]


class WholeSessions:
    """The events of a bucket's sessions, as columns.

    Args:
        most_rows: Events kept.
        most_sessions: Sessions kept.
    """

    def __init__(self, most_rows: int = MOST_ROWS, most_sessions: int = MOST_SESSIONS) -> None:
        self._most_rows, self._most_sessions = most_rows, most_sessions
        self._n = self._r = self._clock = self._saved_rows = 0
        self._serials: Ints = np.zeros(0, dtype=np.int64)  # of the newest batch's events,
        self._owners: Ints = np.zeros(0, dtype=np.int64)  # and their sessions
        self._clear()

    def __len__(self) -> int:
        """Sessions kept."""
        return self._n

    @property
    def rows(self) -> int:
        """Events kept."""
        return self._r

    def extend(self, events: Events, windows: Windows) -> None:
        """Append events to their sessions; those of streams are left out."""
        which = np.flatnonzero(~windows.streams[: windows.events])
        self._serials = self._owners = np.zeros(0, dtype=np.int64)
        if not len(which):
            return
        rows = windows.rows[which]
        hashes, first, where = np.unique(events.session_hashes()[rows], return_index=True, return_inverse=True)
        began = (windows.contexts[which[first]] == PADDING).all(axis=1)
        numbers = self._numbers_of(hashes, began)
        owners: Ints = numbers[where.reshape(-1)]
        self._serials, self._owners = windows.serials[which], owners
        np.add.at(self._count, owners, 1)
        self._touched[numbers] = self._clock
        self._clock += 1
        self._mark(numbers[self._count[numbers] > MOST_EVENTS])
        fit = np.flatnonzero(self._flag[owners] != _UNFIT)
        self._append(
            owners[fit],
            windows.targets[which[fit]],
            events.column("time")[rows[fit]],
            level_numbers(events.frame["level"])[rows[fit]].astype(np.uint8),
        )
        self._dirty.append(numbers)

    def finished(self, windows: Windows, gap_ms: int) -> tuple[Sessions, Ints]:
        """The sessions that ended, and their rows in ``windows.ends``: [n]; those that are unfit are not among them.

        Call it once for each ``windows``, after ``extend``; then make room with ``shrink``.
        """
        names = windows.ends.session
        hashes = string_hashes(pl.Series(names, dtype=pl.String())).tolist()
        numbers = np.array([self._number.get(one, -1) for one in hashes], dtype=np.int64)
        serials = windows.serials[windows.events :]
        lengths = np.where(numbers >= 0, self._count[numbers], 0) - self._later(numbers, serials)
        order = np.argsort(serials, kind="stable")  # of two ends of one session the earlier first
        seen = np.zeros(len(names), dtype=np.int64)
        kept: list[int] = []
        for row in order.tolist():
            number = int(numbers[row])
            if number < 0 or self._flag[number] == _UNFIT or lengths[row] < 1:
                continue
            seen[row] = self._seen[number]
            self._seen[number] = lengths[row]
            kept.append(row)
        ends = np.array(kept, dtype=np.int64)
        self._dirty.append(np.unique(numbers[ends]))
        closed = windows.ends.time[ends] + gap_ms
        return self._gathered([names[row] for row in kept], numbers[ends], lengths[ends], closed, seen[ends]), ends

    def shrink(self) -> None:
        """Make room where there are too many events or sessions: those idle longest go."""
        if self._r <= self._most_rows and self._n <= self._most_sessions:
            return
        newest = np.argsort(-self._touched[: self._n], kind="stable")
        held = np.bincount(self._owner[: self._r], minlength=self._n)[newest]
        room = (np.cumsum(held) <= ROOM * self._most_rows) & (np.arange(self._n) < ROOM * self._most_sessions)
        self._keep(np.sort(newest[room]))

    # -- state ---------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Encode everything; ``delta`` counts from here."""
        data = self._encode(np.arange(self._n), 0)
        self._settle()
        return data

    def delta(self) -> bytes | None:
        """Encode what changed since the last ``dump``, ``delta``, ``load`` or ``apply``; None: ``dump`` has to be."""
        if self._rewritten:
            return None
        data = self._encode(np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self._dirty])), self._saved_rows)
        self._settle()
        return data

    def load(self, data: bytes) -> None:
        """Replace everything by what ``dump`` wrote.

        Raises:
            StateError: The bytes are damaged, or of another format.
        """
        self._clear()
        self.apply(data)

    def apply(self, data: bytes) -> None:
        """Bring in what ``delta`` wrote, in the order it was written.

        Raises:
            StateError: The bytes are damaged, of another format, or do not go on where the last ones ended.
        """
        columns = unpack(data, _STATE, _FORMAT)
        try:
            numbers = columns["number"].astype(np.int64)
            at, clock = (int(one) for one in columns["place"])
            owners, hashes = columns["owner"].astype(np.int64), columns["hash"].astype(np.uint64)
            if at != self._r or (len(numbers) and not int(numbers.min()) >= 0):
                raise ValueError(f"they begin at event {at}, {self._r} are known")
            top = max(self._n, int(numbers.max()) + 1 if len(numbers) else 0)
            if len(owners) and not 0 <= int(owners.min()) <= int(owners.max()) < top:
                raise ValueError(f"an event of a session beyond the {top} there are")
            self._grow_sessions(top)
            self._last[self._n : top] = _NONE
            self._n = top
            self._hash[numbers] = hashes
            for name, column in (("count", self._count), ("seen", self._seen), ("touched", self._touched)):
                column[numbers] = columns[name]
            self._flag[numbers] = columns["flag"]
            self._append(owners, columns["template"].astype(np.uint64), columns["time"].astype(np.int64),
                         columns["level"].astype(np.uint8))  # fmt: skip
        except (KeyError, ValueError, IndexError) as error:
            raise StateError(f"saved sessions do not fit: {error}") from error
        self._clock = clock
        self._number |= dict(zip(hashes.tolist(), numbers.tolist(), strict=True))
        self._settle()

    # -- inside --------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._n = self._r = self._clock = self._saved_rows = 0
        self._number: dict[int, int] = {}  # hash of a session's name -> its number
        self._hash: Ids = np.zeros(64, dtype=np.uint64)
        self._count: Ints = np.zeros(64, dtype=np.int64)  # events, those that were not kept too
        self._seen: Ints = np.zeros(64, dtype=np.int64)  # its first events that were given out
        self._touched: Ints = np.zeros(64, dtype=np.int64)
        self._flag: Small = np.zeros(64, dtype=np.uint8)
        self._last: Ints = np.full(64, _NONE, dtype=np.int64)  # the row of its last event
        self._owner: NDArray[np.int32] = np.zeros(1024, dtype=np.int32)
        self._before: Ints = np.full(1024, _NONE, dtype=np.int64)  # row of the event before in its session
        self._template: Ids = np.zeros(1024, dtype=np.uint64)
        self._time: Ints = np.zeros(1024, dtype=np.int64)
        self._level: Small = np.zeros(1024, dtype=np.uint8)
        self._dirty: list[Ints] = []
        self._rewritten = False
        self._serials = self._owners = np.zeros(0, dtype=np.int64)

    def _settle(self) -> None:
        self._saved_rows, self._dirty, self._rewritten = self._r, [], False

    def _numbers_of(self, hashes: Ids, began: Flags) -> Ints:
        """The numbers of sessions: [n]; one that is new here is unfit where it did not begin here."""
        numbers = np.empty(len(hashes), dtype=np.int64)
        known = self._n
        for i, one in enumerate(hashes.tolist()):
            numbers[i] = number = self._number.setdefault(one, self._n)
            self._n += number == self._n
        self._grow_sessions(self._n)
        new = numbers >= known
        fresh = numbers[new]
        self._hash[fresh] = hashes[new]
        self._count[fresh] = self._seen[fresh] = 0
        self._last[fresh] = _NONE
        self._flag[fresh] = np.where(began[new], 0, _UNFIT)
        return numbers

    def _mark(self, numbers: Ints) -> None:
        """These sessions are too long; what was kept of them goes with the next ``shrink``."""
        self._flag[numbers] = _UNFIT

    def _later(self, numbers: Ints, serials: Ints) -> Ints:
        """[ends] events of the newest batch that came in the same session after it had ended, and begun again."""
        later = np.zeros(len(numbers), dtype=np.int64)
        if not len(self._owners) or not len(numbers):
            return later
        newest = np.full(self._n, -1, dtype=np.int64)
        np.maximum.at(newest, self._owners, self._serials)
        for row in np.flatnonzero((numbers >= 0) & (newest[numbers] > serials)).tolist():
            later[row] = np.count_nonzero((self._owners == numbers[row]) & (self._serials > serials[row]))
        return later

    def _gathered(self, names: list[str], numbers: Ints, lengths: Ints, closed: Ints, seen: Ints) -> Sessions:
        """The first ``lengths`` events of sessions: followed back from their last ones, however many rows there are."""
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        taken = np.empty(int(starts[-1]), dtype=np.int64)
        place, at, left = starts[1:] - 1 + (self._count[numbers] - lengths), self._last[numbers], self._count[numbers]
        ends = starts[1:]
        while len(place):
            inside = place < ends
            taken[place[inside]] = at[inside]
            on = left > 1
            place, at, left, ends = place[on] - 1, self._before[at[on]], left[on] - 1, ends[on]
        levels = self._level[taken].astype(np.int64)
        return Sessions(names, starts, self._template[taken], self._time[taken], levels, closed, seen, {})

    def _append(self, owners: Ints, templates: Ids, times: Ints, levels: Small) -> None:
        end = self._r + len(owners)
        size = len(self._owner)
        if end > size:
            more = max(end, 2 * size)
            self._owner, self._template = np.resize(self._owner, more), np.resize(self._template, more)
            self._time, self._level = np.resize(self._time, more), np.resize(self._level, more)
            self._before = np.resize(self._before, more)
        self._owner[self._r : end] = owners
        self._template[self._r : end] = templates
        self._time[self._r : end] = times
        self._level[self._r : end] = levels
        self._chain(owners)
        self._r = end

    def _chain(self, owners: Ints) -> None:
        """Link the new rows to those before them in their sessions."""
        if not len(owners):
            return
        order = np.argsort(owners, kind="stable")
        of, rows = owners[order], self._r + order
        first = np.concatenate([[True], of[1:] != of[:-1]])
        before = np.concatenate([[_NONE], rows[:-1]])
        before[first] = self._last[of[first]]
        self._before[rows] = before
        last = np.concatenate([first[1:], [True]])
        self._last[of[last]] = rows[last]

    def _grow_sessions(self, size: int) -> None:
        if size <= len(self._hash):
            return
        more = max(size, 2 * len(self._hash))
        self._hash, self._flag = np.resize(self._hash, more), np.resize(self._flag, more)
        self._count, self._seen = np.resize(self._count, more), np.resize(self._seen, more)
        self._touched, self._last = np.resize(self._touched, more), np.resize(self._last, more)

    def _keep(self, numbers: Ints) -> None:
        """Keep these sessions only, and number them anew; of unfit ones no events."""
        renumbered = np.full(self._n, -1, dtype=np.int32)
        renumbered[numbers] = np.arange(len(numbers))
        owners = self._owner[: self._r]
        rows = np.flatnonzero((renumbered[owners] >= 0) & (self._flag[owners] != _UNFIT))
        self._hash, self._count, self._seen = self._hash[numbers], self._count[numbers], self._seen[numbers]
        self._touched, self._flag = self._touched[numbers], self._flag[numbers]
        kept = renumbered[owners[rows]].astype(np.int64)
        templates, times, levels = self._template[rows], self._time[rows], self._level[rows]
        self._n, self._r = len(numbers), 0
        self._last = np.full(len(numbers), _NONE, dtype=np.int64)
        self._append(kept, templates, times, levels)
        self._number = dict(zip(self._hash.tolist(), range(self._n), strict=True))
        self._owners = self._serials = np.zeros(0, dtype=np.int64)
        self._rewritten = True

    def _encode(self, numbers: Ints, first: int) -> bytes:
        rows = slice(first, self._r)
        return pack(
            _STATE,
            _FORMAT,
            {
                "number": numbers,
                "place": np.array([first, self._clock]),
                "hash": self._hash[numbers],
                "count": self._count[numbers],
                "seen": self._seen[numbers],
                "touched": self._touched[numbers],
                "flag": self._flag[numbers],
                "owner": self._owner[rows],
                "template": self._template[rows],
                "time": self._time[rows],
                "level": self._level[rows],
            },
        )
