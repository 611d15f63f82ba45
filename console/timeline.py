"""The lines of a session, or of a partition where there is none, around a finding: when each came, and the gap before.

drawn = timeline(options, found, near.lines)
drawn.dots, drawn.gap, drawn.words          # places on an axis 0 to WIDTH, and the same in words
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contracts.records import WHOLE_KINDS, Detection
from contracts.service import ServiceSettings
from models.sentences import clock
from parsing.events import Lines
from parsing.parser import Parser

WIDTH = 760
"""Of the axis, in pixels."""
BEFORE, AFTER = 30, 15
"""Lines that are drawn, at most."""
TITLE_CHARACTERS = 160
"""Of a line, as a dot's title."""


class Dot(NamedTuple):
    """A line on the axis."""

    x: int
    at_ms: int
    text: str
    is_it: bool


class Timeline(NamedTuple):
    """Lines on an axis of time."""

    dots: list[Dot]
    """In order."""
    gap: tuple[int, int, str] | None
    """From which place to which nothing came before the finding's line, and for how long; None: it is the first."""
    first: str
    last: str
    """Times of the axis' ends, UTC."""
    words: str
    """The same for those who cannot see it."""


def timeline(options: ServiceSettings, found: Detection, lines: Sequence[tuple[int, str]]) -> Timeline | None:
    """Put the lines around a finding on an axis.

    Args:
        options: of the service: how times are read.
        found: the finding.
        lines: offset and text of lines of its partition, in order, its own among them.

    Returns:
        None: its line is not among them, it is about no line, or it is alone.
    """
    if found.kind in WHOLE_KINDS or found.offset not in dict(lines):
        return None
    mine = [one for one in lines if one[0] == found.offset or not found.session or found.session in one[1]]
    if len(mine) < 2:  # the session is not named in its lines, as where it is a window of time
        mine = list(lines)
    at = next(number for number, (offset, _) in enumerate(mine) if offset == found.offset)
    mine = mine[max(0, at - BEFORE) : at + AFTER + 1]
    at = min(at, BEFORE)
    times = _times(options, found, mine)
    first, last = min(times), max(times)
    if len(mine) < 2:
        return None
    if last > first:
        places = [round(WIDTH * (one - first) / (last - first)) for one in times]
    else:  # their times tell no difference: in their order
        places = [round(WIDTH * number / (len(times) - 1)) for number in range(len(times))]
    dots = [
        Dot(place, time, text[:TITLE_CHARACTERS], number == at)
        for number, (place, time, (_, text)) in enumerate(zip(places, times, mine, strict=True))
    ]
    gap = (places[at - 1], places[at], lasted(abs(times[at] - times[at - 1]))) if at else None
    came = f"; this one came {gap[2]} after the one before it" if gap else "; this one is the first"
    whose = f"session {found.session}" if found.session else f"partition {found.partition}"
    words = f"{len(dots)} lines of {whose} from {clock(first)} to {clock(last)} UTC{came}."
    return Timeline(dots, gap, clock(first), clock(last), words)


def _times(options: ServiceSettings, found: Detection, lines: Sequence[tuple[int, str]]) -> list[int]:
    """When each line says it was written, ms; of one that cannot be parsed, as the one before it."""
    offsets = np.array([offset for offset, _ in lines])
    values = [text.encode() for _, text in lines]
    parser = Parser(options.model_copy(update={"splits": ()}))
    arrivals = np.full(len(lines), found.arrival_ms)
    frame = parser.parse(Lines.from_list(options.service, found.topic, found.partition, offsets, arrivals, values))
    known = dict(frame.events.frame.select("offset", "time").iter_rows())
    times, last = [], found.event_ms
    for offset, _ in lines:
        last = known.get(offset, last)
        times.append(last)
    return times


def lasted(milliseconds: int) -> str:
    """A time in short.

    >>> lasted(350), lasted(3_200), lasted(150_000), lasted(7_200_000)
    ('350 ms', '3.2 s', '2.5 min', '2.0 h')
    """
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if milliseconds >= size:
            return f"{milliseconds / size:.1f} {unit}"
    return f"{milliseconds} ms"
