"""What is known of one bucket of sessions: the open ones, whole ones, and what was learnt of them; and how it is saved.

    bucket = Bucket.restored(saved, window, options)
    windows = bucket.table.extend(events)
    sessions, rows = bucket.finished(events, windows)     # whole sessions that are over
    whole, change = bucket.save()                          # one of the two, or neither

What is saved are changes behind a whole. A whole replaces the one before once the changes together are as large: so
what is written stays within twice what changes, however large the bucket is. What detectors learn while they run is
part of a whole only: after a crash at most ``MOST_UNSAVED`` sessions are learnt no more.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.service import SessionOptions
from models.finished import Sessions
from models.scorer import Scorer
from models.session_scorer import SessionScorer
from models.sessions import Ints, SessionStateError, SessionTable, Windows, gap_of
from models.whole import WholeSessions
from parsing.events import Events
from streaming.bundles import SCORERS_KEPT

MOST_CHANGES = 200
"""Changes behind a whole: each takes about a millisecond to restore."""
SMALL = 64 * 1024
"""Changes of fewer bytes are no reason to write a whole."""
MOST_UNSAVED = 2_000
"""Sessions learnt since the last whole."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Saved:
    """A bucket's saved state: a whole (empty: none) and the changes since, oldest first."""

    whole: bytes
    changes: Sequence[bytes]


@dataclass(slots=True)
class Written:
    """What is saved: a whole, and the changes behind it."""

    whole_bytes: int = 0
    changes: int = 0
    changed_bytes: int = 0

    @classmethod
    def of(cls, saved: Saved) -> "Written":
        """As it was saved."""
        return cls(len(saved.whole), len(saved.changes), sum(map(len, saved.changes)))

    def is_due(self, size: int) -> bool:
        """Whether a whole is to be written in place of one more change of so many bytes."""
        return self.changes >= MOST_CHANGES or self.changed_bytes + size > max(self.whole_bytes, SMALL)

    def change(self, size: int) -> None:
        """A change was written."""
        self.changes += 1
        self.changed_bytes += size


class Bucket:
    """The sessions of one bucket.

    Args:
        window: Events of history that the sequence model looks at.
        options: How sessions are told apart and when they end.
    """

    def __init__(self, window: int, options: SessionOptions) -> None:
        self.options = options
        self.table = SessionTable.of(window, options)
        self.store = WholeSessions()
        self._judges: dict[str, SessionScorer] = {}  # by the bundle's version, used last at the end
        self._learnt: tuple[str, bytes] = ("", b"")  # the version it belongs to, and what its detectors knew
        self._written, self._saved_learnt = Written(), 0
        self._rewritten = False

    @classmethod
    def restored(cls, saved: Saved, window: int, options: SessionOptions) -> "Bucket":
        """A bucket as it was saved; a history of another window length is cut or padded.

        Raises:
            SessionStateError: The bytes are damaged, or of another format.
            StateError: Those of whole sessions are.
        """
        bucket = cls(window, options)
        if saved.whole:
            table, store, version, learnt = _split(saved.whole, 4)
            bucket.table.load(table)
            bucket.store.load(store)
            bucket._learnt = version.decode(), learnt
        for change in saved.changes:
            table, store = _split(change, 2)
            bucket.table.apply(table)
            bucket.store.apply(store)
        bucket._written = Written.of(saved)
        return bucket

    def resize(self, window: int, options: SessionOptions) -> None:
        """Go on with another length of history, or other settings; the sessions stay."""
        table = SessionTable.of(window, options)
        table.load(self.table.dump())
        self.table, self.options, self._rewritten = table, options, True

    def judge(self, scorer: Scorer) -> SessionScorer | None:
        """What judges whole sessions by the scorer's bundle, and goes on from what it has learnt; None: nothing does.

        Raises:
            StateError: The bundle's detectors are damaged, or what they had learnt is.
        """
        bundle = scorer.bundle
        if not bundle.ensemble:
            return None
        version = bundle.manifest.version
        judge = self._judges.pop(version, None)
        if judge is None:
            judge = SessionScorer(scorer)
            if self._learnt[0] == version:
                judge.load(self._learnt[1])
        self._judges[version] = judge
        while len(self._judges) > SCORERS_KEPT:
            del self._judges[next(iter(self._judges))]
        return judge

    def finished(self, events: Events, windows: Windows) -> tuple[Sessions, Ints]:
        """The whole sessions that are over with these windows of the table, and their rows in ``windows.ends``: [n]."""
        self.store.extend(events, windows)
        found = self.store.finished(windows, int(gap_of(self.options) * 1000))
        self.store.shrink()
        return found

    def save(self) -> tuple[bytes | None, bytes | None]:
        """What is to be saved: a whole in place of all before, or a change behind what was saved."""
        table, store = self.table.delta(), self.store.delta()
        if store is None or self._due(len(table) + len(store)):
            return self._whole(), None
        change = _joined(table, store)
        self._written.change(len(change))
        return None, change

    @property
    def rewritten(self) -> bool:
        """Whether there is something to be saved although no line came."""
        return self._rewritten

    def _due(self, size: int) -> bool:
        learnt = sum(one.learnt for one in self._judges.values())
        return self._rewritten or self._written.is_due(size) or learnt - self._saved_learnt > MOST_UNSAVED

    def _whole(self) -> bytes:
        version, learnt = self._learnt
        if self._judges:
            version, judge = next(reversed(self._judges.items()))
            learnt = judge.dump()
        self._learnt = version, learnt
        whole = _joined(self.table.dump(), self.store.dump(), version.encode(), learnt)
        self._written, self._rewritten = Written(len(whole)), False
        self._saved_learnt = sum(one.learnt for one in self._judges.values())
        return whole


def _joined(*parts: bytes) -> bytes:
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def _split(data: bytes, count: int) -> list[bytes]:
    """The parts that ``_joined`` put together.

    Raises:
        SessionStateError: There are not as many.
    """
    parts, at = [], 0
    while at + _LENGTH.size <= len(data):
        start = at + _LENGTH.size
        at = start + int(_LENGTH.unpack_from(data, start - _LENGTH.size)[0])
        parts.append(data[start:at])
    if len(parts) != count or at != len(data):
        raise SessionStateError(f"saved sessions are damaged, or of another version: {len(parts)} parts, not {count}")
    return parts
