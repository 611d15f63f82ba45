"""Whole sessions of a bucket: the events of every state in which one rested, however lines were cut into batches."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detector_support import MINUTE, session
from test_models_support import events_of

from models.encoding import StateError
from models.finished import Sessions
from models.sessions import SessionTable
from models.whole import MOST_EVENTS, WholeSessions

GAP = 10 * MINUTE


def told(sessions):
    """Each state as plain values: name, events, and how many of them came before."""
    rows = [sessions.rows(i) for i in range(len(sessions))]
    columns = (sessions.templates, sessions.times, sessions.levels)
    return sorted(
        (name, [column[row].tolist() for column in columns], int(seen))
        for name, row, seen in zip(sessions.names, rows, sessions.seen.tolist(), strict=True)
    )


def through(events, cuts=(), store=None, table=None, batch_done=lambda store: store):
    """What comes out of the store, events cut into batches at these rows, and of the end of the log."""
    store = WholeSessions() if store is None else store
    table = table or SessionTable(4, GAP / 1000, 10**6)
    found, passed = [], 0
    bounds = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(bounds):
        part = events.slice(start, stop)
        windows = table.extend(part)
        store.extend(part, windows)
        sessions, rows = store.finished(windows, GAP)
        found, passed = found + told(sessions), passed + len(windows.ends) - len(rows)
        store.shrink()
        store = batch_done(store)
    windows = table.close()
    store.extend(events.slice(0, 0), windows)
    sessions, rows = store.finished(windows, GAP)
    return sorted(found + told(sessions)), store, passed + len(windows.ends) - len(rows)


rows_of = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(12, 16), st.sampled_from([0, 1_000, GAP, GAP + 1, 3 * GAP])),
    min_size=1, max_size=40,
)  # fmt: skip


def log_of(steps):
    at, rows = 0, []
    for name, template, gap in steps:
        at += gap
        rows.append({"session": name, "template": template, "time": at, "level": "WARN" if template == 16 else "info"})
    return events_of(rows)


@settings(max_examples=150, deadline=None)
@given(rows_of, st.sets(st.integers(0, 40), max_size=6))
def test_the_states_are_those_of_the_whole_log_however_it_is_cut(steps, cuts):
    events = log_of(steps)
    wanted = told(Sessions.of(events).resting(GAP))
    found, _store, passed = through(events, {cut for cut in cuts if cut < len(events)})
    assert found == wanted
    assert passed == 0


@settings(max_examples=60, deadline=None)
@given(rows_of, st.sets(st.integers(0, 40), max_size=6), st.integers(1, 5), st.booleans())
def test_what_was_saved_goes_on_as_if_nothing_had_happened(steps, cuts, every, is_whole):
    events = log_of(steps)
    whole, changes, batches = [b""], [], [0]

    def saved(store):
        batches[0] += 1
        change = None if is_whole and batches[0] % 3 == 0 else store.delta()
        if change is None:
            whole[0] = store.dump()
            changes.clear()
        else:
            changes.append(change)
        if batches[0] % every:
            return store
        other = WholeSessions(most_rows=50)
        if whole[0]:
            other.load(whole[0])
        for one in changes:
            other.apply(one)
        return other

    found, _, _ = through(events, {cut for cut in cuts if cut < len(events)}, WholeSessions(most_rows=50), None, saved)
    assert found == told(Sessions.of(events).resting(GAP))


def test_those_idle_longest_go_and_are_passed_when_they_come_again():
    events = events_of([row for i in range(30) for row in session(f"s{i}", [12, 13, 14], i * 1_000)])
    found, store, passed = through(events, range(3, 90, 3), WholeSessions(most_rows=20))
    assert 5 <= len(store) <= 7
    assert {name for name, *_ in found} <= {f"s{i}" for i in range(23, 30)}
    assert passed == 30 - len(found)


def test_more_sessions_than_there_is_room_for():
    events = events_of([row for i in range(100) for row in session(f"s{i}", [12, 13], i * 1_000)])
    _, store, _ = through(events, range(2, 200, 2), WholeSessions(most_sessions=10))
    assert len(store) <= 10
    assert store.rows <= 20


def test_a_session_that_is_too_long_is_passed_and_its_events_are_let_go():
    long = session("long", [12] * (MOST_EVENTS + 1), 0)
    events = events_of([*long, *session("short", [12, 13], 10**6)])
    found, _store, passed = through(events, [500])
    assert [name for name, *_ in found] == ["short"]
    assert passed == 1


def test_a_session_whose_beginning_was_not_seen_is_passed():
    events = log_of([("a", 12, 0), ("a", 13, 1_000), ("b", 14, 1_000), ("a", 15, 1_000)])
    table = SessionTable(4, GAP / 1000, 10**6)
    table.extend(events.slice(0, 1))  # before there was a store
    found, _store, passed = through(events.slice(1, 4), table=table)
    assert [name for name, *_ in found] == ["b"]
    assert passed == 1


def test_a_stream_is_no_session():
    found, store, _passed = through(events_of([("", 5), ("a", 6), ("", 7)]))
    assert [name for name, *_ in found] == ["a"]
    assert store.rows == 1


def test_damaged_state_and_changes_that_do_not_follow_are_refused():
    store = WholeSessions()
    events = log_of([("a", 12, 0), ("b", 13, 1_000)])
    windows = SessionTable(4, GAP / 1000, 100).extend(events)
    store.extend(events, windows)
    first = store.delta()
    assert first is not None
    other = WholeSessions()
    other.apply(first)
    with pytest.raises(StateError, match="begin at event 0, 2 are known"):
        other.apply(first)
    for damaged in (b"", first[:-3], first[:20] + b"\xff" * 40 + first[60:]):
        with pytest.raises(StateError):
            WholeSessions().load(damaged)


def test_a_session_that_ends_and_begins_again_in_one_batch_is_told_apart():
    events = log_of([("a", 12, 0), ("a", 13, 1_000), ("a", 14, 3 * GAP), ("a", 15, 1_000), ("b", 16, 3 * GAP)])
    table, store = SessionTable(4, GAP / 1000, 100), WholeSessions()
    windows = table.extend(events)
    store.extend(events, windows)
    sessions, rows = store.finished(windows, GAP)
    assert told(sessions) == [("a", [[12, 13], [0, 1_000], [3, 3]], 0), (
        "a", [[12, 13, 14, 15], [0, 1_000, 3 * GAP + 1_000, 3 * GAP + 2_000], [3, 3, 3, 3]], 2)]  # fmt: skip
    assert [windows.ends.session[row] for row in rows.tolist()] == sessions.names
    assert np.array_equal(sessions.closed, windows.ends.time[rows] + GAP)
