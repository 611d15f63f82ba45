"""Open sessions of one bucket as columns: events in, windows of template ids out.

Usage::

    table = SessionTable(window=10, gap_seconds=3600, max_open=50_000)
    table.load(state)                      # what an earlier process saved, if any
    windows = table.extend(events)         # a window for each event, then one for each session that ended
    log.append(table.delta())              # what changed; or state = table.dump()

A session ends when the clock of the partition of its last line has moved more than the gap past that line. A
partition's clock is the highest event time seen so far; a line without a usable time (its ``time`` is its arrival)
does not move it, unless no line of the partition had one yet: until then the clock is that of the arrivals. Events
without an identifier form the endless session of their partition. All this depends on the order of the lines alone,
never on how they were cut into batches.

A session may have a greatest length, in events or in time on its partition's clock. The event that would pass it begins
another session under the same name: another serial, and lengths counted anew. Nothing ended there and nothing began, so
a cut makes no window of an end, and the events before it stay in the windows of those behind it.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from contracts.service import SessionOptions
from contracts.state import SESSION_STATE
from parsing.continuations import told
from parsing.events import Events

PADDING = 0
"""Template id that stands for *before the session began*."""
END = 1
"""Template id of the event *end of session* (``contracts.records.END_TEMPLATE``)."""
LINE_CHARACTERS = 1024
"""Of a session's last line this much is kept, for the finding that the session ended too early."""

Ints = NDArray[np.int64]
Ids = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Number = TypeVar("Number", np.int64, np.bool_)

_MAGIC = b"LCSE"
_WHOLE, _CHANGES = 0, 1
# magic, format, kind, window, next serial, lines seen, records, clocks, removed, bytes of text, bytes of topic
_HEADER = struct.Struct("<4sHHIqqIIIQI")
_NEVER = np.iinfo(np.int64).min
_LONGEST_GAP_MS = 2**61  # an endless gap that may still be added to any time
_NUMBERS = (
    "serial",
    "touched",  # number of the session's last line among all lines of the table
    "clock",  # of its partition at its last line: event time if ``timed``, else arrival
    "offset",
    "arrival",
    "time",
    "partition",
    "began",  # clock of its partition at its first line; as far back as lengths were kept
    "events",  # of the session, likewise
)
_FLAGS = 3  # stream, timed, born timed
_TEXTS = ("session", "level", "line")


class SessionStateError(ValueError):
    """Bytes that are not a saved table of sessions, or are of a newer format than this code reads."""


@dataclass(frozen=True, eq=False, slots=True)
class Ends:
    """The last line of each session that ended, as columns: [m]."""

    session: list[str]
    partition: Ints
    offset: Ints
    arrival: Ints  # ms
    time: Ints  # ms
    level: list[str]
    line: list[str]  # its first ``LINE_CHARACTERS``

    def __len__(self) -> int:
        return len(self.session)


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """What a sequence model judges: for each event what came before it in its session.

    The windows of events come first, in the order of their rows; those of the ``ends`` follow, in theirs.
    """

    contexts: Ids  # [n, window] template ids, oldest first; PADDING = before the session began
    targets: Ids  # [n] the template that came; END where the session ended
    rows: Ints  # [n] row in the events' frame; -1 for ends
    streams: Flags  # [n] True: no identifier, the endless session of a partition
    serials: Ints  # [n] number of the session, counted by first lines
    ends: Ends

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def events(self) -> int:
        """How many windows are of events, not of ends."""
        return len(self.targets) - len(self.ends)


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """The columns of a micro-batch that sessions need, with the clocks of its partitions: [n] each."""

    templates: Ids
    partitions: Ints
    offsets: Ints
    arrivals: Ints
    times: Ints
    clocks: Ints
    timed: Flags
    hands: tuple[Ints, Ints]  # event and arrival clock, where lengths are limited
    expiry: Ints  # row at which a session that rests from this row on ends; n = not in this batch


class SessionTable:
    """The open sessions of one bucket.

    Args:
        window: Events of history kept for each session.
        gap_seconds: A session with no line for longer than this has ended; may be infinite.
        max_open: Sessions kept; when one more begins, the one idle longest is ended. Streams do not count.
        max_seconds: A session that would be longer is cut; None: however long. Streams are not cut.
        max_events: A session that would have more is cut; None: however many.
    """

    def __init__(
        self,
        window: int,
        gap_seconds: float,
        max_open: int,
        *,
        max_seconds: float | None = None,
        max_events: int | None = None,
    ) -> None:
        if window < 1 or max_open < 1 or not gap_seconds > 0:
            raise ValueError(f"window {window}, gap_seconds {gap_seconds} and max_open {max_open} must be positive")
        if (max_seconds is not None and not max_seconds > 0) or (max_events is not None and max_events < 1):
            raise ValueError(f"max_seconds {max_seconds} and max_events {max_events} must be positive, or None")
        self.window = window
        self.max_open = max_open
        self._topic = ""
        self._gap = int(min(gap_seconds * 1000, _LONGEST_GAP_MS))
        self._limited = max_seconds is not None or max_events is not None
        self._longest = _LONGEST_GAP_MS if max_seconds is None else int(min(max_seconds * 1000, _LONGEST_GAP_MS))
        self._most = _LONGEST_GAP_MS if max_events is None else max_events
        self._clear(capacity=64)

    @classmethod
    def of(cls, window: int, options: SessionOptions) -> "SessionTable":
        """Make a table that ends and cuts sessions as a service's settings say."""
        return cls(
            window,
            gap_of(options),
            options.max_open,
            max_seconds=options.max_seconds,
            max_events=options.max_events,
        )

    def __len__(self) -> int:
        """Open sessions, streams not counted."""
        return int(np.count_nonzero(self._open & ~self._stream))

    # -- events in, windows out ----------------------------------------------------------------------------------

    def extend(self, events: Events) -> Windows:
        """Append events to their sessions; returns their windows and those of the sessions that ended meanwhile.

        Raises:
            ValueError: The events are of another topic than those before.
        """
        n = len(events)
        if self._topic and events.topic != self._topic:
            raise ValueError(f"this table holds sessions of {self._topic}, not of {events.topic}")
        self._topic = events.topic
        rows = told(events)
        if len(rows) < n:  # what goes on with the line before it is no event of a session
            windows = self.extend(events.take(rows))
            return replace(
                windows, rows=np.where(windows.rows < 0, -1, rows[windows.rows]) if len(rows) else windows.rows
            )
        if n == 0:
            return self._ended(np.zeros(0, dtype=np.int64))
        slots = self._slots_of(events)
        existed = self._open[slots]
        batch, expiry_of_old = self._read(events, slots)
        order = np.argsort(slots, kind="stable")
        begins, closed = self._fate(batch, slots, order, existed, expiry_of_old)
        cuts = self._cuts(batch, slots, order, begins)
        return self._cut(events, batch, slots, order=order, begins=begins, cuts=cuts, closed=closed)

    def expire(self, quiet_ms: Callable[[int], int]) -> Windows:
        """End the sessions that rest for longer than the gap though no line comes that would say so.

        The time of a partition goes on from its newest arrival by what has passed here since that line came. The wall
        clock would end, after an outage, sessions whose next lines still wait in Kafka.

        Args:
            quiet_ms: for how long nothing has come from a partition (its number is given), ms.
        """
        late = np.zeros(len(self._open), dtype=np.bool_)
        for partition, (_, newest) in self._clocks.items():
            of_partition = self._col["partition"] == partition
            late |= of_partition & (self._col["arrival"] < newest + quiet_ms(partition) - self._gap)
        return self._ended(np.flatnonzero(late & self._open & ~self._stream))

    def close(self) -> Windows:
        """End all sessions but the streams: the log is over."""
        return self._ended(np.flatnonzero(self._open & ~self._stream))

    # -- state ---------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Encode the whole table; ``delta`` counts from here."""
        data = self._encode(_WHOLE, np.flatnonzero(self._open), np.zeros(0, dtype=np.int64))
        self._settle()
        return data

    def delta(self) -> bytes:
        """Encode what changed since the last ``dump``, ``delta``, ``load`` or ``apply`` (or since it was empty)."""
        removed = np.concatenate([np.zeros(0, dtype=np.int64), *self._removed])
        data = self._encode(_CHANGES, np.flatnonzero(self._dirty & self._open), removed)
        self._settle()
        return data

    def load(self, data: bytes) -> None:
        """Replace the table by one that ``dump`` wrote; a history of another window length is cut or padded.

        Raises:
            SessionStateError: The bytes are not a whole table, or of a newer format.
        """
        self._clear(capacity=64)
        self._decode(data, _WHOLE)

    def apply(self, data: bytes) -> None:
        """Bring in what ``delta`` wrote, in the order it was written.

        Raises:
            SessionStateError: The bytes are not a delta, or of a newer format.
        """
        self._decode(data, _CHANGES)

    # -- inside --------------------------------------------------------------------------------------------------

    def _clear(self, capacity: int) -> None:
        self._col: dict[str, Ints] = {name: np.zeros(capacity, dtype=np.int64) for name in _NUMBERS}
        self._text = {name: np.full(capacity, "", dtype=object) for name in _TEXTS}
        self._history: Ids = np.zeros((capacity, self.window), dtype=np.uint64)
        self._open: Flags = np.zeros(capacity, dtype=np.bool_)
        self._dirty: Flags = np.zeros(capacity, dtype=np.bool_)
        self._stream: Flags = np.zeros(capacity, dtype=np.bool_)
        self._timed: Flags = np.zeros(capacity, dtype=np.bool_)
        self._born_timed: Flags = np.zeros(capacity, dtype=np.bool_)
        self._slots: dict[str | int, int] = {}  # session, or the partition of a stream
        self._free = list(range(capacity - 1, -1, -1))
        self._clocks: dict[int, tuple[int, int]] = {}  # partition -> event clock (or _NEVER), arrival clock
        self._removed: list[Ints] = []
        self._saved_serials = 0  # sessions numbered below this may be in what was saved
        self._next_serial = 0
        self._lines = 0
        self._topic = ""

    def _grow(self) -> None:
        old = len(self._open)
        self._col = {name: _doubled(column) for name, column in self._col.items()}
        self._text = {name: np.concatenate([text, np.full(old, "", dtype=object)]) for name, text in self._text.items()}
        self._history = np.concatenate([self._history, np.zeros_like(self._history)])
        self._open, self._dirty = _doubled(self._open), _doubled(self._dirty)
        self._stream, self._timed = _doubled(self._stream), _doubled(self._timed)
        self._born_timed = _doubled(self._born_timed)
        self._free = [*range(2 * old - 1, old - 1, -1), *self._free]

    def _slots_of(self, events: Events) -> Ints:
        """The slot of each event's session, a free one where the session is new: [n]."""
        _, first, inverse = np.unique(events.session_hashes(), return_index=True, return_inverse=True)
        names = _texts(events, "session", first)
        partitions = events.column("partition")[first].tolist()
        slots = np.zeros(len(first), dtype=np.int64)
        for i, (name, partition) in enumerate(zip(names, partitions, strict=True)):
            key = name or partition
            slot = self._slots.get(key)
            if slot is None:
                slot = self._claim(key)
            slots[i] = slot
        of_row: Ints = slots[inverse.reshape(-1)]
        return of_row

    def _claim(self, key: str | int) -> int:
        if not self._free:
            self._grow()
        slot = self._slots[key] = self._free.pop()
        self._stream[slot] = isinstance(key, int)
        self._text["session"][slot] = "" if isinstance(key, int) else key
        return slot

    def _read(self, events: Events, slots: Ints) -> tuple[_Batch, Ints]:
        """Move the clocks; returns the batch and the row at which each slot's state ends (n = not in this batch)."""
        n = len(events)
        batch = _Batch(
            templates=events.template_ids(),
            partitions=events.column("partition"),
            offsets=events.column("offset"),
            arrivals=events.column("arrival"),
            times=events.column("time"),
            clocks=np.empty(n, dtype=np.int64),
            timed=np.empty(n, dtype=np.bool_),
            hands=(np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)),
            expiry=np.full(n, n, dtype=np.int64),
        )
        expiry_of_old = np.full(len(self._open), n, dtype=np.int64)
        resting = self._open & ~self._stream
        for partition in np.unique(batch.partitions).tolist():
            rows = np.flatnonzero(batch.partitions == partition)
            hands = self._advance(partition, batch.times[rows], batch.arrivals[rows])
            batch.timed[rows] = hands[0] > _NEVER
            batch.clocks[rows] = np.where(batch.timed[rows], *hands)
            if self._limited:
                batch.hands[0][rows], batch.hands[1][rows] = hands
            batch.expiry[rows] = self._expiry(batch.clocks[rows], batch.timed[rows], hands, rows, n)
            here = np.flatnonzero(resting & (self._col["partition"] == partition))
            clock, timed = self._col["clock"][here], self._timed[here]
            expiry_of_old[here] = self._expiry(clock, timed, hands, rows, n)
        batch.expiry[self._stream[slots]] = n
        return batch, expiry_of_old

    def _advance(self, partition: int, times: Ints, arrivals: Ints) -> tuple[Ints, Ints]:
        """The partition's event clock (_NEVER: none yet) and arrival clock at each of its lines."""
        event_clock, arrival_clock = self._clocks.get(partition, (_NEVER, _NEVER))
        moving = np.where(times != arrivals, times, _NEVER)
        event_hand = np.maximum(np.maximum.accumulate(moving), event_clock)
        arrival_hand = np.maximum(np.maximum.accumulate(arrivals), arrival_clock)
        self._clocks[partition] = (int(event_hand[-1]), int(arrival_hand[-1]))
        return event_hand, arrival_hand

    def _expiry(self, clocks: Ints, timed: Flags, hands: tuple[Ints, Ints], rows: Ints, never: int) -> Ints:
        """The first of ``rows`` whose clock is past the gap after ``clocks``; ``never`` where none is."""
        expiry = np.full(len(clocks), never, dtype=np.int64)
        limits = clocks + self._gap
        for hand, kind in zip(hands, (True, False), strict=True):
            # Few sessions end in a batch: only those are looked up.
            ending = np.flatnonzero((timed == kind) & (limits < hand[-1]))
            if len(ending):
                expiry[ending] = rows[np.searchsorted(hand, limits[ending], side="right")]
        return expiry

    def _fate(self, batch: _Batch, slots: Ints, order: Ints, existed: Flags, expiry_of_old: Ints) -> tuple[Flags, Ints]:
        """Which rows begin a session ([n]), and which slots hold no session after the batch."""
        n = len(slots)
        in_order = slots[order]
        first = np.ones(n, dtype=np.bool_)
        first[1:] = in_order[1:] != in_order[:-1]
        expiry = batch.expiry[order]
        ends_at = np.empty(n, dtype=np.int64)  # row at which what lay before this row ended
        ends_at[1:] = expiry[:-1]
        ends_at[first] = np.where(existed[order][first], expiry_of_old[in_order[first]], -1)
        begins = np.empty(n, dtype=np.bool_)
        begins[order] = ends_at <= order
        streams = self._stream[slots]
        if len(self) + int(np.count_nonzero(begins & ~streams)) > self.max_open:
            return self._evict(batch, slots, existed, expiry_of_old)
        last = np.empty(n, dtype=np.bool_)
        last[:-1] = first[1:]
        last[-1] = True
        untouched = expiry_of_old < n
        untouched[in_order[first]] = False
        closed = np.concatenate([np.flatnonzero(untouched), in_order[last & (expiry < n)]])
        return begins, closed

    def _evict(self, batch: _Batch, slots: Ints, existed: Flags, expiry_of_old: Ints) -> tuple[Flags, Ints]:
        """``_fate`` when the table may become full: line by line, which costs about a microsecond each."""
        n = len(slots)
        identified = np.flatnonzero(self._open & ~self._stream)
        oldest = identified[np.argsort(self._col["touched"][identified])].tolist()
        queue: list[tuple[int, int]] = [
            (slot, -1) for slot in oldest
        ]  # (slot, row of its last line), idle longest first
        ending: dict[int, list[tuple[int, int]]] = {}
        for slot in np.flatnonzero(expiry_of_old < n).tolist():
            ending.setdefault(int(expiry_of_old[slot]), []).append((slot, -1))
        for row in np.flatnonzero(batch.expiry < n).tolist():
            ending.setdefault(int(batch.expiry[row]), []).append((int(slots[row]), row))
        last_row = dict.fromkeys(oldest, -1)  # of the sessions that are open
        begins = ~existed
        at, streams = 0, self._stream[slots].tolist()
        endless = set(slots[existed].tolist())
        for row, slot in enumerate(slots.tolist()):
            for passed, line in ending.get(row, ()):
                if last_row.get(passed) == line:
                    del last_row[passed]
            if streams[row]:
                begins[row] = slot not in endless
                endless.add(slot)
                continue
            begins[row] = slot not in last_row
            while begins[row] and len(last_row) >= self.max_open:
                idle, line = queue[at]
                at += 1
                if last_row.get(idle) == line:
                    del last_row[idle]
            last_row[slot] = row
            queue.append((slot, row))
        gone = {slot for slot in (*oldest, *slots.tolist()) if slot not in last_row}
        closed = np.array(sorted(gone), dtype=np.int64)
        return begins, closed[~self._stream[closed]]

    def _cuts(self, batch: _Batch, slots: Ints, order: Ints, begins: Flags) -> Flags:
        """Which rows begin another session because theirs would grow too long: [n]."""
        cuts = np.zeros(len(slots), dtype=np.bool_)
        if not self._limited:
            return cuts
        counts, began, born_timed = self._lengths(batch, slots, order, begins)
        late = np.where(born_timed, *batch.hands) > began + self._longest
        over = ((counts > self._most) | late) & ~self._stream[slots]
        if not over.any():
            return cuts
        heads, run = _runs(slots, order, begins)
        bounds = np.append(heads, len(slots))
        for one in np.unique(run[over[order]]).tolist():
            rows = order[bounds[one] : bounds[one + 1]]
            start, born, at = int(began[rows[0]]), bool(born_timed[rows[0]]), 0
            fits = self._most - int(counts[rows[0]]) + 1  # so many of the rows
            while True:
                late = batch.hands[0 if born else 1][rows[at:]] > start + self._longest
                at = min(at + max(fits, 0), at + int(late.argmax()) if late.any() else len(rows))
                if at >= len(rows):
                    break
                cuts[rows[at]] = True
                start, born, fits = int(batch.clocks[rows[at]]), bool(batch.timed[rows[at]]), self._most
        return cuts

    def _lengths(self, batch: _Batch, slots: Ints, order: Ints, begins: Flags) -> tuple[Ints, Ints, Flags]:
        """Of each row's session: events up to this one, clock at its first, whether that was event time: [n]."""
        heads, run = _runs(slots, order, begins)
        first = order[heads]
        fresh, old = begins[first], slots[first]
        events = np.where(fresh, 0, self._col["events"][old]) - heads + 1
        began = np.where(fresh, batch.clocks[first], self._col["began"][old])
        born_timed = np.where(fresh, batch.timed[first], self._born_timed[old])
        row_of = np.empty_like(order)
        row_of[order] = np.arange(len(order))
        in_run = run[row_of]
        return events[in_run] + row_of, began[in_run], born_timed[in_run]

    def _cut(
        self, events: Events, batch: _Batch, slots: Ints, *, order: Ints, begins: Flags, cuts: Flags, closed: Ints
    ) -> Windows:
        """Lay each session's history and events one after another, cut the windows, and keep the new histories."""
        n, w = len(slots), self.window
        in_order = slots[order]
        first = np.ones(n, dtype=np.bool_)
        first[1:] = in_order[1:] != in_order[:-1]
        begun = begins[order]
        heads = np.flatnonzero(first | begun)  # where a run of events of one session starts
        run = np.cumsum(first | begun) - 1
        places = np.arange(n) + (run + 1) * w
        flat = np.zeros(n + len(heads) * w, dtype=np.uint64)
        flat[places] = batch.templates[order]
        continued = np.flatnonzero(~begun[heads])
        base = heads[continued] + continued * w
        flat[base[:, None] + np.arange(w)] = self._history[in_order[heads[continued]]]
        windows = sliding_window_view(flat, w)
        place_of_row = np.empty(n, dtype=np.int64)
        place_of_row[order] = places
        contexts = windows[place_of_row - w]

        numbered = begins | cuts
        serials = self._number(order, slots, numbered)
        tails = np.append(heads[1:], n) - 1  # last event of each run
        histories = windows[places[tails] - w + 1]
        closing = np.zeros(len(self._open), dtype=np.bool_)
        closing[closed] = True
        succeeded = np.append(~first[heads[1:]], False)  # another session of the same name follows in this batch
        ended = np.flatnonzero(succeeded | closing[in_order[tails]])
        # Sessions that ended as they were before this batch: first those whose slot is taken again here.
        before = in_order[heads[first[heads] & begun[heads]]]
        before = before[self._open[before]]
        untouched = closing.copy()
        untouched[in_order] = False
        parts = [self._last_lines(np.concatenate([before, np.flatnonzero(untouched)]))]
        parts.append(self._last_rows(events, batch, order[tails[ended]], histories[ended], serials))
        lengths = (
            self._lengths(batch, slots, order, numbered)
            if self._limited
            else (np.zeros_like(slots), batch.clocks, batch.timed)
        )
        self._keep(
            events,
            batch,
            slots,
            rows=order[tails[~succeeded]],
            histories=histories[~succeeded],
            serials=serials,
            lengths=lengths,
        )
        self._release(closed)
        ends, end_contexts, end_serials = _join(parts)
        return Windows(
            contexts=np.concatenate([contexts, end_contexts]),
            targets=np.concatenate([batch.templates, np.full(len(ends), END, dtype=np.uint64)]),
            rows=np.concatenate([np.arange(n), np.full(len(ends), -1)]),
            streams=np.concatenate([self._stream[slots], np.zeros(len(ends), dtype=np.bool_)]),
            serials=np.concatenate([serials, end_serials]),
            ends=ends,
        )

    def _number(self, order: Ints, slots: Ints, begins: Flags) -> Ints:
        """The serial of each row's session: [n]. New sessions are numbered by their first lines."""
        heads, run = _runs(slots, order, begins)
        fresh = self._next_serial + np.cumsum(begins) - 1
        self._next_serial += int(np.count_nonzero(begins))
        of_head = np.where(begins, fresh, self._col["serial"][slots])[order[heads]]
        serials = np.empty(len(slots), dtype=np.int64)
        serials[order] = of_head[run]
        return serials

    def _keep(
        self,
        events: Events,
        batch: _Batch,
        all_slots: Ints,
        *,
        rows: Ints,
        histories: Ids,
        serials: Ints,
        lengths: tuple[Ints, Ints, Flags],
    ) -> None:
        """Write the state of the sessions touched by the batch; ``rows`` are their last lines."""
        slots = all_slots[rows]
        former = self._col["serial"][slots]
        self._note(former[self._open[slots] & (former != serials[rows])])
        self._history[slots] = histories
        counts, began, born_timed = lengths
        for name, column in (
            ("serial", serials),
            ("touched", np.arange(self._lines, self._lines + len(all_slots))),
            ("clock", batch.clocks),
            ("offset", batch.offsets),
            ("arrival", batch.arrivals),
            ("time", batch.times),
            ("partition", batch.partitions),
            ("began", began),
            ("events", counts),
        ):
            self._col[name][slots] = column[rows]
        self._text["level"][slots] = np.array(_texts(events, "level", rows), dtype=object)
        self._text["line"][slots] = np.array(_texts(events, "line", rows), dtype=object)
        self._timed[slots] = batch.timed[rows]
        self._born_timed[slots] = born_timed[rows]
        self._open[slots] = True
        self._dirty[slots] = True
        self._lines += len(all_slots)

    def _last_rows(
        self, events: Events, batch: _Batch, rows: Ints, histories: Ids, serials: Ints
    ) -> tuple[Ends, Ids, Ints]:
        """The ends of sessions whose last line is in this batch."""
        ends = Ends(
            session=_texts(events, "session", rows),
            partition=batch.partitions[rows],
            offset=batch.offsets[rows],
            arrival=batch.arrivals[rows],
            time=batch.times[rows],
            level=_texts(events, "level", rows),
            line=_texts(events, "line", rows),
        )
        return ends, histories, serials[rows]

    def _last_lines(self, slots: Ints) -> tuple[Ends, Ids, Ints]:
        """The ends of sessions whose last line is in the table."""
        ends = Ends(
            session=self._text["session"][slots].tolist(),
            partition=self._col["partition"][slots],
            offset=self._col["offset"][slots],
            arrival=self._col["arrival"][slots],
            time=self._col["time"][slots],
            level=self._text["level"][slots].tolist(),
            line=self._text["line"][slots].tolist(),
        )
        return ends, self._history[slots], self._col["serial"][slots]

    def _ended(self, slots: Ints) -> Windows:
        """End the sessions in these slots; returns the windows of their ends."""
        ends, contexts, serials = self._last_lines(slots)
        self._release(slots)
        return Windows(
            contexts=contexts,
            targets=np.full(len(slots), END, dtype=np.uint64),
            rows=np.full(len(slots), -1, dtype=np.int64),
            streams=np.zeros(len(slots), dtype=np.bool_),
            serials=serials,
            ends=ends,
        )

    def _release(self, slots: Ints) -> None:
        self._note(self._col["serial"][slots])
        for slot in slots.tolist():
            del self._slots[self._text["session"][slot]]
            self._free.append(slot)
        self._open[slots] = False
        for name in _TEXTS:
            self._text[name][slots] = ""

    # -- encoding ------------------------------------------------------------------------------------------------

    def _note(self, serials: Ints) -> None:
        """Remember what the next delta must take away: only what an earlier one, or a dump, may have brought.

        A table that is never saved remembers nothing.
        """
        saved = serials[serials < self._saved_serials]
        if len(saved):
            self._removed.append(saved)

    def _settle(self) -> None:
        self._saved_serials = self._next_serial
        self._dirty[:] = False
        self._removed = []

    def _encode(self, kind: int, slots: Ints, removed: Ints) -> bytes:
        """Header, topic, clocks, serials removed, columns, histories, lengths of texts (characters), texts (UTF-8)."""
        texts = [text for name in _TEXTS for text in self._text[name][slots].tolist()]
        blob = "".join(texts).encode()
        topic = self._topic.encode()
        clocks = np.array([(p, *hands) for p, hands in self._clocks.items()], dtype="<i8").reshape(-1, 3)
        header = _HEADER.pack(
            _MAGIC, SESSION_STATE, kind, self.window, self._next_serial, self._lines,
            len(slots), len(clocks), len(removed), len(blob), len(topic),
        )  # fmt: skip
        columns = [self._col[name][slots].astype("<i8", copy=False).tobytes() for name in _NUMBERS]
        flags = np.stack([self._stream[slots], self._timed[slots], self._born_timed[slots]]).tobytes()
        lengths = np.fromiter(map(len, texts), dtype="<u4", count=len(texts)).tobytes()
        histories = self._history[slots].astype("<u8", copy=False).tobytes()
        return b"".join(
            [
                header,
                topic,
                clocks.tobytes(),
                removed.astype("<i8").tobytes(),
                *columns,
                flags,
                histories,
                lengths,
                blob,
            ]
        )

    def _decode(self, data: bytes, wanted: int) -> None:
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise SessionStateError("these bytes are no saved sessions: they do not begin with LCSE")
        _, version, kind, window, serial, lines, n, clocks, removed, blob, topic = _HEADER.unpack_from(data)
        if version != SESSION_STATE:
            raise SessionStateError(
                f"saved sessions of format {version}, this version reads format {SESSION_STATE}: start the version that"
                " wrote them, or begin anew with --fresh"
            )
        if kind != wanted:
            raise SessionStateError("a delta of sessions where a whole table belongs, or the other way round")
        reader = _Reader(data, _HEADER.size)
        try:
            self._topic = reader.take(topic).decode() or self._topic
            for partition, event_clock, arrival_clock in reader.numbers(clocks * 3).reshape(-1, 3).tolist():
                self._clocks[partition] = (event_clock, arrival_clock)
            self._forget(reader.numbers(removed))
            columns = {name: reader.numbers(n) for name in _NUMBERS}
            flags = np.frombuffer(reader.take(_FLAGS * n), dtype=np.bool_).reshape(_FLAGS, n)
            histories = np.frombuffer(reader.take(8 * n * window), dtype="<u8").reshape(n, window).astype(np.uint64)
            lengths = np.frombuffer(reader.take(4 * n * len(_TEXTS)), dtype="<u4").astype(np.int64)
            texts = _split(reader.take(blob).decode(), lengths)
        except (ValueError, OverflowError) as error:
            raise SessionStateError(f"saved sessions are damaged: {error}") from error
        self._next_serial, self._lines = serial, lines
        self._restore(columns, flags, histories, {name: texts[i * n : (i + 1) * n] for i, name in enumerate(_TEXTS)})
        self._settle()

    def _forget(self, serials: Ints) -> None:
        slots = np.flatnonzero(self._open & np.isin(self._col["serial"], serials))
        self._release(slots)

    def _restore(self, columns: dict[str, Ints], flags: Flags, histories: Ids, texts: dict[str, list[str]]) -> None:
        parts = zip(flags[0].tolist(), columns["partition"].tolist(), texts["session"], strict=True)
        keys = [partition if stream else name for stream, partition, name in parts]
        slots = np.array([self._slots[key] if key in self._slots else self._claim(key) for key in keys], dtype=np.int64)
        for name, column in columns.items():
            self._col[name][slots] = column
        for name, column_of_text in texts.items():
            self._text[name][slots] = np.array(column_of_text, dtype=object)
        self._timed[slots], self._born_timed[slots] = flags[1:]
        width = min(self.window, histories.shape[1])
        self._history[slots] = PADDING
        self._history[slots, self.window - width :] = histories[:, histories.shape[1] - width :]
        self._open[slots] = True


def gap_of(options: SessionOptions) -> float:
    """Seconds (event time) without a line after which a session of these settings has ended.

    A fixed window of time is over when the next one is, however long other sessions may rest.
    """
    return min(options.gap_seconds, options.window_seconds) if options.by == "time" else options.gap_seconds


def _runs(slots: Ints, order: Ints, begins: Flags) -> tuple[Ints, Ints]:
    """Where in the order by slots a run of events of one session starts: [runs]; the run of each place: [n]."""
    in_order = slots[order]
    starts = begins[order]
    starts[0] = True
    starts[1:] |= in_order[1:] != in_order[:-1]
    return np.flatnonzero(starts), np.cumsum(starts) - 1


def _texts(events: Events, column: str, rows: Ints) -> list[str]:
    """Some texts of a column, cut to ``LINE_CHARACTERS``."""
    if not len(rows):
        return []
    # Indexing, not ``gather``: that goes through polars' planner, a third of a millisecond a call.
    texts: list[str] = events.frame[column][pl.Series(rows)].to_list()
    return texts if column != "line" else [text[:LINE_CHARACTERS] for text in texts]


class _Reader:
    """Cuts bytes into arrays, one after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise ValueError(f"{self._at + size - len(self._data)} bytes are missing")
        self._at += size
        return self._data[self._at - size : self._at]

    def numbers(self, count: int) -> Ints:
        return np.frombuffer(self.take(8 * count), dtype="<i8").astype(np.int64)


def _doubled(column: NDArray[Number]) -> NDArray[Number]:
    """The column with as many zeros behind."""
    return np.concatenate([column, np.zeros_like(column)])


def _split(text: str, lengths: Ints) -> list[str]:
    bounds = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return [text[start:stop] for start, stop in pairwise(bounds)]


def _join(parts: Iterable[tuple[Ends, Ids, Ints]]) -> tuple[Ends, Ids, Ints]:
    """One table of ends out of two."""
    (ends, contexts, serials), (more, more_contexts, more_serials) = parts
    if not len(more):
        return ends, contexts, serials
    joined = replace(
        ends,
        session=ends.session + more.session,
        level=ends.level + more.level,
        line=ends.line + more.line,
        **{
            name: np.concatenate([getattr(ends, name), getattr(more, name)])
            for name in ("partition", "offset", "arrival", "time")
        },
    )
    return joined, np.concatenate([contexts, more_contexts]), np.concatenate([serials, more_serials])
