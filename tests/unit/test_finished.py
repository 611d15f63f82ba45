"""Finished sessions as columns: whole, in the states in which they rested, and alike where they are equal."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detector_support import MINUTE, session, shop
from test_models_support import events_of

from models.finished import Sessions, level_number

HOUR = 60 * MINUTE


def test_sessions_come_in_the_order_of_their_last_events_with_their_own_in_order():
    rows = [("a", 5), ("b", 6), ("a", 7), ("b", 8), ("", 9), ("a", 9)]
    sessions = Sessions.of(events_of(rows))
    assert sessions.names == ["b", "a"]
    assert [sessions.templates[sessions.rows(i)].tolist() for i in range(2)] == [[6, 8], [5, 7, 9]]
    assert sessions.closed.tolist() == [3_000, 5_000]
    assert Sessions.of(events_of(rows), closed_ms=9_999).closed.tolist() == [9_999, 9_999]


def test_no_events_are_no_sessions():
    for rows in ([], [("", 5)]):
        sessions = Sessions.of(events_of([("a", 5), *rows]).slice(1, 1 + len(rows)))
        assert len(sessions) == 0
        assert len(sessions.bags()) == len(sessions.kinds()) == len(sessions.groups()) == 0
        assert len(sessions.resting(HOUR)) == 0


def test_a_session_comes_again_where_it_goes_on_after_a_rest():
    rows = session("a", [10, 11, 12, 13], 0, gaps={2: 2 * HOUR}) + session("b", [10, 11], HOUR)
    whole = Sessions.of(events_of(sorted(rows, key=lambda row: row["time"])), closed_ms=10 * HOUR)
    states = whole.resting(HOUR)
    assert states.names == ["a", "b", "a"]
    assert states.lengths.tolist() == [2, 2, 4]
    assert states.seen.tolist() == [0, 0, 2]
    assert states.closed.tolist() == [400 + HOUR, 2 * HOUR + 400, 3 * HOUR + 600]
    assert whole.resting(10**15).lengths.tolist() == whole.lengths.tolist()


def test_a_log_that_is_over_ends_what_was_still_open():
    whole = Sessions.of(events_of(session("a", [10, 11], 0)), closed_ms=5 * MINUTE)
    assert whole.resting(HOUR).closed.tolist() == [5 * MINUTE]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=6), min_size=1, max_size=8))
def test_hashes_agree_with_what_they_stand_for(sequences):
    rows = [row for i, one in enumerate(sequences) for row in session(f"s{i}", one, i * MINUTE)]
    sessions = Sessions.of(events_of(rows))
    held = [tuple(sessions.templates[sessions.rows(i)].tolist()) for i in range(len(sessions))]
    for hashes, form in (
        (sessions.hashes(), lambda one: one),
        (sessions.bags(), lambda one: tuple(sorted(one))),
        (sessions.kinds(), lambda one: tuple(sorted(set(one)))),
    ):
        forms = [form(one) for one in held]
        assert len(set(hashes.tolist())) == len(set(forms))
        assert len(set(zip(hashes.tolist(), forms, strict=True))) == len(set(forms))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(10, 14), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sets(st.integers(10, 14)),
    st.data(),
)
def test_without_some_templates_the_rest_stays_as_it_was(sequences, gone, data):
    rows = [row for i, steps in enumerate(sequences) for row in session(f"s{i}", steps, i * MINUTE)]
    whole = Sessions.of(events_of(rows))
    seen = np.array([data.draw(st.integers(0, len(steps))) for steps in sequences])
    whole = replace(whole, seen=seen)
    rest, rows = whole.without(np.array(sorted(gone), dtype=np.uint64))
    kept = [[one for one in steps if one not in gone] for steps in sequences]
    assert rows.tolist() == [i for i, steps in enumerate(kept) if steps]
    for place, row in enumerate(rows.tolist()):
        assert rest.templates[rest.rows(place)].tolist() == kept[row]
        assert rest.names[place] == f"s{row}"
        assert rest.closed[place] == whole.closed[row]
        steps = np.diff(whole.times[whole.rows(row)], prepend=0).tolist()
        kept_steps = [step for step, one in zip(steps, sequences[row], strict=True) if one not in gone]
        assert np.diff(rest.times[rest.rows(place)]).tolist() == kept_steps[1:]
        assert rest.seen[place] == len([one for one in sequences[row][: seen[row]] if one not in gone])


def test_taking_and_joining_lose_nothing():
    sessions = shop(30)
    order = np.random.default_rng(0).permutation(30)
    parts = [sessions.take(np.sort(order[:11])), sessions.take(np.sort(order[11:]))]
    joined = Sessions.joined(parts)
    assert sorted(joined.names) == sorted(sessions.names)
    back = joined.take(np.argsort([int(name[1:]) for name in joined.names]))
    for name in ("templates", "times", "levels", "closed", "starts", "seen"):
        assert (getattr(back, name) == getattr(sessions, name)).all()


def test_sessions_refuse_columns_that_do_not_fit():
    one = np.ones(1, dtype=np.int64)
    with pytest.raises(ValueError, match="no events"):
        Sessions(["a"], np.array([0, 0]), np.zeros(0, dtype=np.uint64), one[:0], one[:0], one, one, {})
    with pytest.raises(ValueError, match="names"):
        Sessions(["a"], np.array([0, 2]), np.ones(1, dtype=np.uint64), one, one, one, one, {})


@pytest.mark.parametrize(
    ("spelt", "number"), [("", 0), ("info", 3), ("WARNING", 5), ("Err", 6), ("CRITICAL", 7), ("x", 0)]
)
def test_levels(spelt, number):
    assert level_number(spelt) == number
