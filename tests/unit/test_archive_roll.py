"""Which lines go into which file: no gap, no overlap, whatever the batches; the clock is moved by hand."""

import itertools
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.settings import ArchiveOptions
from storage.archive import HOUR_MS, batch_of
from streaming.archiver import GRACE_SECONDS, Buffer, Segment, slot_end
from tests.unit.test_archive_files import Line

NOON = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
WIDE = ArchiveOptions(roll_seconds=600, roll_lines=1_000_000, roll_bytes=1_000_000)


def feed(options: ArchiveOptions, batches: Iterable[Sequence[Line]]) -> tuple[list[Segment], Segment]:
    """Files that are full after these batches, and the open one."""
    buffer = Buffer(options)
    full = [segment for lines in batches if lines for segment in buffer.add(batch_of("logs.web", 0, lines), now=0.0)]
    return full, buffer.close()


def offsets(segment: Segment) -> list[int]:
    return [offset for batch in segment.batches for offset in batch["offset"].to_pylist()]


def times(*timestamps: int) -> list[Line]:
    return [Line(offset, timestamp) for offset, timestamp in enumerate(timestamps)]


streams = st.lists(
    st.tuples(st.integers(1, 3), st.integers(-2 * MINUTE, 5 * MINUTE), st.none() | st.binary(max_size=50)), max_size=60
)


@given(
    streams,
    st.lists(st.integers(0, 60), max_size=8),
    st.builds(
        ArchiveOptions,
        roll_seconds=st.sampled_from([1, 60, 600, 3600, 7200]),
        roll_lines=st.integers(1, 30),
        roll_bytes=st.integers(1, 300),
    ),
)
@settings(deadline=None)
def test_files_follow_from_the_lines_not_from_the_batches(
    stream: list[tuple[int, int, bytes | None]], cuts: list[int], options: ArchiveOptions
) -> None:
    lines, offset, time = [], 0, NOON + 50 * MINUTE
    for step, later, value in stream:
        offset, time = offset + step, time + later
        lines.append(Line(offset, time, value=value))
    bounds = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    full, rest = feed(options, [lines[a:b] for a, b in itertools.pairwise(bounds)])
    whole, whole_rest = feed(options, [lines])
    assert [offsets(segment) for segment in [*full, rest]] == [offsets(segment) for segment in [*whole, whole_rest]]
    # No gap, no overlap, in order.
    assert [number for segment in [*full, rest] for number in offsets(segment)] == [line.offset for line in lines]
    by_offset = {line.offset: line for line in lines}
    for segment in full:
        inside = [by_offset[number] for number in offsets(segment)]
        assert (segment.first, segment.last, segment.lines) == (inside[0].offset, inside[-1].offset, len(inside))
        assert segment.bytes == sum(len(line.value or b"") for line in inside)
        assert len(inside) <= options.roll_lines
        assert segment.bytes - len(inside[-1].value or b"") < options.roll_bytes
        # Nothing of a later slot, hence nothing of a later hour.
        assert inside[0].timestamp is not None
        end = slot_end(inside[0].timestamp, options.roll_seconds)
        assert all((line.timestamp or 0) < end for line in inside)
        assert end - 1 < inside[0].timestamp - inside[0].timestamp % HOUR_MS + HOUR_MS


def test_a_file_ends_with_its_last_line_by_number_and_by_size() -> None:
    full, rest = feed(ArchiveOptions(roll_lines=3), [times(*[NOON] * 7)])
    assert [offsets(segment) for segment in full] == [[0, 1, 2], [3, 4, 5]]
    assert offsets(rest) == [6]
    full, rest = feed(ArchiveOptions(roll_bytes=10), [[Line(n, NOON, value=b"12345678") for n in range(5)]])
    assert [offsets(segment) for segment in full] == [[0, 1], [2, 3]]


def test_a_line_of_the_next_slot_ends_the_file_before_it() -> None:
    full, rest = feed(WIDE, [times(NOON, NOON + 9 * MINUTE, NOON + 10 * MINUTE, NOON + 11 * MINUTE)])
    assert [offsets(segment) for segment in full] == [[0, 1]]
    assert offsets(rest) == [2, 3]


def test_late_lines_stay_in_the_open_file() -> None:
    two_clocks = [NOON + 20 * MINUTE - (number % 2) * 1000 for number in range(100)]
    full, rest = feed(WIDE, [times(*two_clocks)])
    assert len(full) == 0
    assert rest.lines == 100


def test_keys_and_headers_count_as_bytes() -> None:
    line = Line(0, NOON, key=b"123", value=b"1234", headers=[("name", b"12"), ("other", None)])
    _full, rest = feed(WIDE, [[line, Line(1, NOON, value=None)]])
    assert rest.bytes == 3 + 4 + 4 + 2 + 5


@pytest.mark.parametrize(
    ("minutes", "roll_seconds", "end"),
    [(0, 600, 10), (9.99, 600, 10), (10, 600, 20), (55, 420, 56), (57, 420, 60), (30, 3600, 60), (30, 86_400, 60)],
)
def test_slots_begin_anew_with_each_hour(minutes: float, roll_seconds: int, end: int) -> None:
    assert slot_end(NOON + int(minutes * MINUTE), roll_seconds) == NOON + end * MINUTE


def test_a_quiet_file_is_due_after_its_slot() -> None:
    buffer = Buffer(WIDE)
    assert not buffer.due(1e9, NOON + HOUR_MS)
    buffer.add(batch_of("logs.web", 0, times(NOON)), now=100.0)
    slot_over = NOON + 10 * MINUTE + int(GRACE_SECONDS * 1000)
    assert not buffer.due(100.0 + GRACE_SECONDS, slot_over - 1)
    assert buffer.due(100.0 + GRACE_SECONDS, slot_over)
    assert offsets(buffer.close()) == [0]
    assert not buffer.due(100.0 + GRACE_SECONDS, slot_over)


def test_a_backlog_is_not_cut_by_the_clock_while_it_is_read() -> None:
    """Lines of last year: their slot has long passed, and more follow at once."""
    buffer = Buffer(WIDE)
    for second in range(30):
        assert not buffer.due(float(second), NOON * 2)
        buffer.add(batch_of("logs.web", 0, [Line(second, NOON)]), now=float(second))
    assert not buffer.due(29.0 + GRACE_SECONDS - 0.1, NOON * 2)
    assert buffer.due(29.0 + GRACE_SECONDS, NOON * 2)


def test_a_trickle_of_old_or_future_lines_waits_no_longer_than_a_slot() -> None:
    for timestamp in (NOON - 365 * 24 * HOUR_MS, NOON + 24 * HOUR_MS):
        buffer = Buffer(WIDE)
        for second in range(0, 605, 2):
            assert not buffer.due(float(second), NOON)
            buffer.add(batch_of("logs.web", 0, [Line(second, timestamp)]), now=float(second))
        assert buffer.due(605.0, NOON)


def test_a_day_of_27_quiet_topics_is_at_most_144_files_each() -> None:
    """The stated bound: a file per slot in which there were lines, 86,400 / roll_seconds a day and partition.

    The clock moves by five seconds; lines come a minute apart on average, in bursts and rests, stamped as they arrive.
    """
    chance = random.Random(7)
    day, tick = 24 * 3600, 5
    most = day // WIDE.roll_seconds
    files, slots = 0, 0
    for _ in range(27):
        buffer, offset, closed, used = Buffer(WIDE), 0, [], set()
        pause = chance.choice([20, 60, 300, 3000])
        following = chance.uniform(0, pause)
        for second in range(0, day + WIDE.roll_seconds, tick):
            now_ms = NOON + second * 1000
            lines = []
            while following <= min(second, day - 1):
                lines.append(Line(offset, NOON + int(following * 1000)))
                used.add(slot_end(NOON + int(following * 1000), WIDE.roll_seconds))
                offset, following = offset + 1, following + chance.expovariate(1 / pause)
            if lines:
                closed += buffer.add(batch_of("logs.web", 0, lines), float(second))
            if buffer.due(float(second), now_ms):
                closed.append(buffer.close())
        assert [number for segment in closed for number in offsets(segment)] == list(range(offset))
        assert len(closed) == len(used) <= most
        files, slots = files + len(closed), slots + len(used)
    assert files == slots <= 27 * most == 3888
    assert files > 1000  # the bound is not kept by having no lines
