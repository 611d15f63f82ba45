"""SessionTable: the windows depend on the order of lines alone, and state survives anywhere."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models_support import events_of, random_log

from contracts.service import SessionOptions
from models.sessions import END, SessionStateError, SessionTable, gap_of


class Reference:
    """The table, one line at a time, in plain Python."""

    def __init__(self, window, gap, max_open, max_seconds=None, max_events=None):
        self.window, self.gap, self.max_open = window, gap * 1000, max_open
        self.longest = math.inf if max_seconds is None else max_seconds * 1000
        self.most = math.inf if max_events is None else max_events
        self.open, self.clocks, self.serial, self.n = {}, {}, 0, 0
        self.windows, self.ends = [], []

    def end(self, key):
        one = self.open.pop(key)
        self.ends.append((key, one["serial"], tuple(one["history"]), one["offset"], one["line"]))

    def add(self, row):
        p = row["partition"]
        event, arrival = self.clocks.get(p, (-math.inf, -math.inf))
        if row["time"] != row["arrival"]:
            event = max(event, row["time"])
        arrival = max(arrival, row["arrival"])
        self.clocks[p] = (event, arrival)
        for key, one in list(self.open.items()):
            if one["partition"] == p and not one["stream"]:
                hand = event if one["timed"] else arrival
                if hand > one["clock"] + self.gap:
                    self.end(key)
        stream = row["session"] == ""
        key = row["session"] or p
        if key not in self.open:
            identified = [k for k, one in self.open.items() if not one["stream"]]
            if not stream and len(identified) >= self.max_open:
                self.end(min(identified, key=lambda k: self.open[k]["touched"]))
            self.open[key] = {"history": [0] * self.window, "stream": stream, "events": math.inf}
        one = self.open[key]
        timed = event > -math.inf
        spent = (event if one.get("born timed") else arrival) - one.get("began", 0)
        if one["events"] == math.inf or (not stream and (one["events"] >= self.most or spent > self.longest)):
            one |= {"serial": self.serial, "events": 0, "born timed": timed, "began": event if timed else arrival}
            self.serial += 1
        one["events"] += 1
        self.windows.append((tuple(one["history"]), row["template"], stream, one["serial"]))
        one["history"] = [*one["history"][1:], row["template"]]
        one |= {
            "partition": p,
            "timed": event > -math.inf,
            "clock": event if event > -math.inf else arrival,
            "touched": self.n,
            "offset": row["offset"],
            "line": row["line"],
        }
        self.n += 1


def plain(windows):
    """Windows and ends as lists of tuples."""
    k = windows.events
    assert windows.rows.tolist() == [*range(k), *[-1] * len(windows.ends)]
    assert (windows.targets[k:] == END).all()
    contexts = [tuple(c) for c in windows.contexts.tolist()]
    events = list(
        zip(
            contexts[:k],
            windows.targets[:k].tolist(),
            windows.streams[:k].tolist(),
            windows.serials[:k].tolist(),
            strict=True,
        )
    )
    ends = windows.ends
    names = [name or p for name, p in zip(ends.session, ends.partition.tolist(), strict=True)]
    closed = list(zip(names, windows.serials[k:].tolist(), contexts[k:], ends.offset.tolist(), ends.line, strict=True))
    return events, closed


line = st.fixed_dictionaries(
    {
        "session": st.sampled_from(["", "a", "b", "c", "d", "e", "ü"]),
        "template": st.integers(16, 23),
        "partition": st.sampled_from([0, 0, 1]),
        "step": st.sampled_from([0, 1, 1, 2, 7, -3]),
        "timed": st.sampled_from([True, True, True, False]),
    }
)


def rows_of(lines, timed=True):
    now, rows = 50_000, []
    for i, one in enumerate(lines):
        now += one["step"] * 1000
        arrival = 10**9 + i * 700
        rows.append(
            {
                "session": one["session"],
                "template": one["template"],
                "partition": one["partition"],
                "arrival": arrival,
                "time": now if one["timed"] and timed else arrival,
                "offset": i,
                "line": f"line {i} ü",
            }
        )
    return rows


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(line, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    window=st.integers(1, 4),
    gap=st.sampled_from([2, 5, 1000, math.inf]),
    max_open=st.sampled_from([1, 2, 3, 100]),
    max_seconds=st.sampled_from([None, 1, 4, 9]),
    max_events=st.sampled_from([None, 1, 2, 5]),
    timed=st.booleans(),
    restart=st.lists(st.sampled_from(["", "dump", "delta"]), min_size=8, max_size=8),
)
def test_any_batching_and_any_restart_gives_the_windows_of_line_by_line(
    lines, cuts, window, gap, max_open, max_seconds, max_events, timed, restart
):
    def made():
        return SessionTable(window, gap, max_open, max_seconds=max_seconds, max_events=max_events)

    rows = rows_of(lines, timed)
    reference = Reference(window, gap, max_open, max_seconds, max_events)
    for row in rows:
        reference.add(row)
    table = made()
    saved = [table.dump()]
    events, ends = [], []
    bounds = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    for i, (start, stop) in enumerate(pairwise(bounds)):
        got, closed = plain(table.extend(events_of(rows[start:stop])))
        events += got
        ends += closed
        if restart[i] == "dump":
            saved = [table.dump()]
        else:
            saved.append(table.delta())
        if restart[i]:
            table = made()
            table.load(saved[0])
            for delta in saved[1:]:
                table.apply(delta)
    assert events == reference.windows
    assert sorted(ends, key=str) == sorted(reference.ends, key=str)
    _, rest = plain(table.close())
    for key in [k for k, one in reference.open.items() if not one["stream"]]:
        reference.end(key)
    assert sorted(ends + rest, key=str) == sorted(reference.ends, key=str)


def test_a_session_without_a_line_for_longer_than_the_gap_ends_and_may_begin_again():
    table = SessionTable(window=3, gap_seconds=10, max_open=10)
    windows = table.extend(
        events_of(
            [
                {"session": "a", "template": 5, "time": 0},
                {"session": "b", "template": 6, "time": 10_001},
                {"session": "a", "template": 7, "time": 10_002},
            ]
        )
    )
    assert windows.targets.tolist() == [5, 6, 7, END]
    assert windows.contexts.tolist()[2] == [0, 0, 0], "the second session of the name begins anew"
    assert windows.contexts.tolist()[3] == [0, 0, 5]
    assert windows.ends.session == ["a"]
    assert windows.ends.offset.tolist() == [0]
    assert windows.serials.tolist() == [0, 1, 2, 0]


def test_a_cut_is_no_end_and_no_beginning():
    table = SessionTable(window=3, gap_seconds=1000, max_open=10, max_events=2, max_seconds=10)
    rows = [{"session": "a", "template": 5 + i, "time": 1000 * at} for i, at in enumerate((0, 1, 2, 13))]
    windows = table.extend(events_of(rows))
    assert windows.serials.tolist() == [0, 0, 1, 2], "cut at the third event, and past ten seconds"
    assert windows.contexts.tolist()[2] == [0, 5, 6], "the lines before the cut stay in sight"
    assert len(windows.ends) == 0
    last = table.close()
    assert (last.ends.session, last.serials.tolist(), last.contexts.tolist()) == (["a"], [2], [[6, 7, 8]])


def test_endless_sessions_of_partitions_are_not_cut():
    table = SessionTable(window=3, gap_seconds=1000, max_open=10, max_events=1)
    assert table.extend(events_of([("", 5), ("", 6), ("a", 7), ("a", 8)])).serials.tolist() == [0, 0, 1, 2]


def test_many_cuts_in_one_batch_cost_little():
    events = random_log(5000, 1)
    table = SessionTable(window=10, gap_seconds=3600, max_open=10, max_events=1, max_seconds=7)
    began = time.process_time()
    windows = table.extend(events)
    assert time.process_time() - began < 1
    assert len(set(windows.serials.tolist())) == 5000


def test_a_window_of_time_is_over_after_as_long_again():
    options = SessionOptions(by="time", window_seconds=60, gap_seconds=3600)
    assert gap_of(options) == 60
    assert gap_of(options.model_copy(update={"by": "lines"})) == 3600
    table = SessionTable.of(3, options)
    table.extend(events_of([{"session": "12:00/0", "time": 59_000}, {"session": "12:01/0", "time": 119_000}]))
    assert len(table) == 2
    assert table.extend(events_of([{"session": "12:02/0", "time": 120_000}], start=2)).ends.session == ["12:00/0"]


def test_limits_come_with_the_settings_and_count_from_what_was_kept():
    before = SessionTable(window=3, gap_seconds=1000, max_open=10)
    before.extend(events_of([("a", 5), ("a", 6), ("a", 7)]))
    table = SessionTable.of(3, SessionOptions(max_events=2))
    table.load(before.dump())
    assert table.extend(events_of([("a", 8), ("a", 9), ("a", 10)], start=3)).serials.tolist() == [0, 0, 1]


def test_an_impossible_time_moves_no_clock():
    table = SessionTable(window=2, gap_seconds=10, max_open=10)
    first = events_of([{"session": "a", "time": 1000}])
    far = events_of([{"session": "b", "time": 9_999_999_999, "arrival": 9_999_999_999}])
    table.extend(first)
    assert len(table.extend(far).ends) == 0


def test_a_quiet_partition_ends_its_sessions():
    table = SessionTable(window=2, gap_seconds=10, max_open=10)
    table.extend(events_of([("a", 5), ("", 6), {"session": "b", "partition": 1, "arrival": 99}]))
    quiet = {0: 9_999, 1: 9_999}
    # The newest line of partition 0 came a millisecond after that of session a.
    assert len(table.expire(quiet.__getitem__)) == 0
    quiet[0] += 1
    windows = table.expire(quiet.__getitem__)
    assert windows.ends.session == ["a"]
    assert windows.contexts.tolist() == [[0, 5]]
    quiet[1] = 10_001
    assert table.expire(quiet.__getitem__).ends.session == ["b"]
    assert len(table) == 0


def test_lines_of_ended_sessions_are_kept_up_to_a_kibibyte():
    table = SessionTable(window=2, gap_seconds=10, max_open=10)
    table.extend(events_of([{"session": "a", "line": "x" * 5000}]))
    assert table.close().ends.line == ["x" * 1024]


def test_another_window_length_keeps_the_newest_history():
    table = SessionTable(window=3, gap_seconds=10, max_open=10)
    table.extend(events_of([("a", 5), ("a", 6), ("a", 7)]))
    state = table.dump()
    for window, history in ((2, [6, 7]), (5, [0, 0, 5, 6, 7])):
        other = SessionTable(window=window, gap_seconds=10, max_open=10)
        other.load(state)
        assert other.close().contexts.tolist() == [history]


@pytest.mark.parametrize(
    "harm", [lambda d: d[:-3], lambda d: b"XXXX" + d[4:], lambda d: d[:4] + b"\x09\x00" + d[6:], lambda d: b""]
)
def test_damaged_or_newer_state_is_refused(harm):
    table = SessionTable(window=3, gap_seconds=10, max_open=10)
    table.extend(events_of([("a", 5), ("b", 6)]))
    with pytest.raises(SessionStateError):
        SessionTable(3, 10, 10).load(harm(table.dump()))


def test_a_delta_is_no_whole_table():
    table = SessionTable(window=3, gap_seconds=10, max_open=10)
    with pytest.raises(SessionStateError):
        table.load(table.delta())


def test_bad_settings_are_refused():
    for arguments, limits in (((0, 10, 10), {}), ((3, 10, 10), {"max_events": 0}), ((3, 10, 10), {"max_seconds": 0.0})):
        with pytest.raises(ValueError, match="positive"):
            SessionTable(*arguments, **limits)


def test_a_delta_costs_as_much_as_the_sessions_touched():
    table = SessionTable(window=10, gap_seconds=math.inf, max_open=10_000)
    table.extend(random_log(4000, 2000))
    whole = table.dump()
    table.extend(events_of([("s1", 5)], start=4000))
    assert len(table.delta()) < len(whole) / 500
    assert len(table.delta()) < 200, "nothing changed since"


def test_a_full_batch_takes_a_few_microseconds_a_line():
    batches = [random_log(5000, 1000, seed=seed) for seed in range(3)]
    table = SessionTable(window=10, gap_seconds=3600, max_open=50_000)
    best = math.inf
    for events in batches * 3:
        began = time.perf_counter()
        table.extend(events)
        best = min(best, time.perf_counter() - began)
    assert best / 5000 < 10e-6, f"{best / 5000 * 1e6:.2f} microseconds a line"
    assert len(np.unique(table.close().serials)) == 1000
