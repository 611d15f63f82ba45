"""What becomes of lines out of order, late, repeated, spread over partitions, or with a clock that jumps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models_support import events_of

from contracts.service import ServiceSettings
from models.sessions import SessionTable
from parsing.events import Lines
from parsing.parser import Parser

NEW_YEAR = int(np.datetime64("2027-01-01T00:00:05", "ms").astype(np.int64))
GAP_SECONDS = 60


def table():
    return SessionTable(window=4, gap_seconds=GAP_SECONDS, max_open=1_000)


def parse(lines, arrival=NEW_YEAR):
    n = len(lines)
    values = [line.encode() for line in lines]
    parser = Parser(ServiceSettings(service="pay"))
    return parser.parse(Lines.from_list("pay", "logs.pay", 0, range(n), np.full(n, arrival), values))


def at(seconds, session="a", partition=0, **more):
    return {"session": session, "partition": partition, "time": seconds * 1000, **more}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=2, max_size=30), st.integers(1, 7))
def test_a_session_spread_over_partitions_is_one_session_and_each_partition_keeps_its_order(whose, size):
    """However its partitions are mixed: one session, each line scored once, those of a partition in their order."""
    offsets = [0, 0]
    rows = []
    for partition in whose:
        rows.append(at(0, partition=partition, offset=offsets[partition], template=10 + 100 * partition + len(rows)))
        offsets[partition] += 1
    one = table()
    came = [one.extend(events_of(rows[start : start + size])) for start in range(0, len(rows), size)]
    assert sum(len(windows) for windows in came) == len(rows)
    assert {serial for windows in came for serial in windows.serials.tolist()} == {0}
    contexts = [context for windows in came for context in windows.contexts.tolist()]
    templates = [row["template"] for row in rows]
    assert contexts == [([0] * 4 + templates[:i])[-4:] for i in range(len(rows))]


def test_the_clock_of_one_partition_ends_no_session_of_another():
    one = table()
    one.extend(events_of([at(0, "a", 0), at(0, "b", 1)]))
    windows = one.extend(events_of([at(GAP_SECONDS + 1, "c", 1)], start=2))
    assert windows.ends.session == ["b"]


def test_lines_out_of_order_are_scored_in_the_order_of_their_offsets_and_the_clock_does_not_go_back():
    one = table()
    windows = one.extend(
        events_of([at(100, template=5), at(40, template=6), at(99, template=7), at(100 + GAP_SECONDS, template=8)])
    )
    assert windows.contexts.tolist()[3] == [0, 5, 6, 7]
    assert len(windows.ends) == 0, "a late line belongs to its session as if it had come in time"
    assert one.extend(events_of([at(101 + GAP_SECONDS, "b")], start=4)).ends.session == []
    assert one.extend(events_of([at(101 + 2 * GAP_SECONDS, "b")], start=5)).ends.session == ["a"]


def test_a_clock_that_jumps_back_ends_nothing_and_one_that_jumps_ahead_ends_what_rests():
    one = table()
    one.extend(events_of([at(9_000, "a"), at(0, "b")]))
    assert one.extend(events_of([at(0, "c")], start=2)).ends.session == []
    assert sorted(one.extend(events_of([at(20_000, "d")], start=3)).ends.session) == ["a", "b", "c"]


def test_a_jump_of_more_than_a_day_is_no_time_at_all_and_is_counted():
    day_ahead, hours_ahead = "2027-01-02 00:00:06 INFO x", "2027-01-01 23:00:00 INFO x"
    parsed = parse([hours_ahead, day_ahead])
    assert parsed.odd == {"impossible_time": 1}
    assert parsed.events.column("time").tolist()[1] == NEW_YEAR, "its arrival counts"


def test_a_line_that_comes_twice_is_two_lines():
    rows = [at(1, template=5), at(1, template=5), at(1, template=6)]
    assert table().extend(events_of(rows)).contexts.tolist() == [[0, 0, 0, 0], [0, 0, 0, 5], [0, 0, 5, 5]]


def test_a_missing_year_is_the_one_that_brings_the_time_closest_to_the_arrival():
    lines = ["Dec 31 23:59:59 host app[1]: old year", "Jan  1 00:00:01 host app[1]: new year"]
    times = parse(lines).events.column("time").astype("datetime64[ms]").astype(str).tolist()
    assert times == ["2026-12-31T23:59:59.000", "2027-01-01T00:00:01.000"]
