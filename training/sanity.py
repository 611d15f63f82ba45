"""What is noteworthy in the lines of a data set, and whether it is wise to learn from them.

watch = Watch()
watch.add(lines, events)                 # one batch after another, those of a partition in their order
report = watch.report(material, sessions, reviewed)
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.bundle import Sanity
from models.finished import LEVELS, Sessions, level_numbers
from models.gating import Reviewed
from models.learning import Material
from models.sessions import END, Ids
from parsing.events import Events, Lines

MOST_HASHES = 1_000_000
"""Hashes of lines kept to find repeated ones; of more lines a share, chosen by the hash, so that all copies are in."""
BACK_MS = 60_000
"""Threads and machines write a little out of order; a clock that goes back further was set."""
ERROR = LEVELS.index("ERROR")

FEW_LINES = 5_000
REPEATED = 0.2
GAP_MS, GAP_SHARE = 3_600_000, 0.25
JUMPS = 0.001
LOUD = 0.05
ONCE, ONCE_TEMPLATES = 0.5, 1_000


class Watch:
    """Looks at lines as they are read."""

    def __init__(self) -> None:
        self._lines = self._jumps = self._loud = self._events = 0
        self._hashes: list[NDArray[np.uint64]] = []
        self._kept, self._every = 0, 1
        self._last_arrival = 0
        self._gap = 0
        self._times: dict[tuple[str, int], int] = {}

    def add(self, lines: Lines, events: Events) -> None:
        """Take in a batch of one partition and the events it came to."""
        if not len(lines):
            return
        self._lines += len(lines)
        self._repeats(lines)
        arrivals = np.sort(lines.arrivals)
        before = self._last_arrival or int(arrivals[0])
        self._gap = max(self._gap, int(arrivals[0]) - before, int(np.diff(arrivals).max(initial=0)))
        self._last_arrival = max(before, int(arrivals[-1]))
        if len(events):
            self._events += len(events)
            self._loud += int(np.count_nonzero(level_numbers(events.frame["level"]) >= ERROR))
            place = (lines.topic, lines.partition)
            times = events.column("time").astype(np.int64)
            steps = np.diff(times, prepend=self._times.get(place, int(times[0])))
            self._jumps += int(np.count_nonzero(steps < -BACK_MS))
            self._times[place] = int(times[-1])

    def _repeats(self, lines: Lines) -> None:
        offsets, blob = pa.py_buffer(lines.starts()), pa.py_buffer(lines.blob)
        values = pa.Array.from_buffers(pa.large_binary(), len(lines), [None, offsets, blob])
        hashes = pl.Series(values).hash(seed=0).to_numpy()[lines.lengths > 0]
        kept = hashes[hashes % self._every == 0]
        self._hashes.append(kept)
        self._kept += len(kept)
        while self._kept > MOST_HASHES:
            self._every *= 2
            together = np.concatenate(self._hashes)
            self._hashes = [together[together % self._every == 0]]
            self._kept = len(self._hashes[0])

    def report(self, material: Material, sessions: Sessions, reviewed: Sequence[Reviewed] = ()) -> Sanity:
        """Put together what was seen, with what the lines became.

        Args:
            material: windows of normal time.
            sessions: whole sessions of it.
            reviewed: sessions that engineers judged.
        """
        _, copies = np.unique(np.concatenate([*self._hashes, np.zeros(0, np.uint64)]), return_counts=True)
        normal = set(sessions.hashes().tolist()) if len(sessions) else set()
        confirmed = [one.sessions for one in reviewed if one.is_confirmed]
        found = Sanity(
            lines=self._lines,
            templates=len(material.templates),
            repeated=float(copies[copies > 1].sum() / copies.sum()) if len(copies) else 0.0,
            longest_gap_seconds=self._gap / 1000,
            clock_jumps=self._jumps,
            loud=self._loud / self._events if self._events else 0.0,
            conflicts=sum(not normal.isdisjoint(one.hashes().tolist()) for one in confirmed if len(one)),
        )
        once = _seen_once(material.targets[material.which])
        return found.model_copy(update={"warnings": tuple(_warnings(found, material.to_ms - material.from_ms, once))})


def _seen_once(targets: Ids) -> int:
    templates, counts = np.unique(targets[targets != END], return_counts=True)
    return int(np.count_nonzero(counts == 1)) if len(templates) >= ONCE_TEMPLATES else 0


def _warnings(found: Sanity, span_ms: int, once: int) -> list[str]:
    warnings = []
    if found.lines < FEW_LINES:
        warnings.append(
            f"{found.lines:,} lines are few: rare but normal events will be raised; widen the time (--from)"
        )
    if found.repeated > REPEATED:
        warnings.append(f"{found.repeated:.0%} of the lines are there more than once: was a file sent again?")
    if found.longest_gap_seconds * 1000 > max(GAP_MS, GAP_SHARE * span_ms):
        warnings.append(
            f"for {found.longest_gap_seconds / 3600:,.1f} h no line arrived: what is normal then is not learnt"
        )
    if found.clock_jumps > JUMPS * found.lines:
        warnings.append(
            f"the time goes back by more than a minute {found.clock_jumps:,} times: gaps and sessions cannot be trusted"
        )
    if found.loud > LOUD:
        warnings.append(
            f"{found.loud:.0%} of the lines are errors: was there an incident? Leave its time out (--without FROM/TO)"
        )
    if found.conflicts:
        warnings.append(
            f"{found.conflicts} confirmed faults look like sessions that are learnt as normal: their verdicts or the "
            "sessions' identifiers are worth a look"
        )
    if once > ONCE * found.templates:
        warnings.append(f"{once:,} of {found.templates:,} templates came once: a mask is missing (settings: masks)")
    return warnings
