"""The tail that makes scores, the ensemble that keeps one budget, learning while running: by a hand-moved clock."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detector_support import MINUTE, TEXTS, planted, session, shop
from test_models_support import events_of

from models.calibration import WINDOW, Tail
from models.counts import ENOUGH, backed
from models.detector import Detector, Evidence, held_back_figures, worst_of_groups
from models.detectors import session_detectors
from models.encoding import StateError
from models.ensemble import Ensemble, doubtful
from models.finished import Sessions
from models.running import SLICE_ITEMS, SLICES, Running

BUDGET = 0.01

# -- the tail ----------------------------------------------------------------------------------------------------


def tail_of(figures):
    tail = Tail()
    tail.add(np.array(figures, dtype=float))
    return tail


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_rarity_rises_with_strangeness_and_is_finite(figures):
    asked = np.sort(np.array([*figures, 0, 1e-9, 1, 50, 101, 1e6]))
    rarity = tail_of(figures).rarity(asked)
    assert np.isfinite(rarity).all()
    assert (rarity >= 0).all()
    assert (np.diff(rarity) >= -1e-12).all()


def test_a_share_of_the_held_back_figures_is_as_rare_as_it_says():
    figures = np.random.default_rng(0).exponential(size=4_000)
    rarity = tail_of(figures).rarity(figures)
    for share in (0.1, 0.01, 0.005):
        assert np.mean(rarity > -math.log(share)) <= share
    # Beyond the highest it goes on as the exponential that it is.
    assert tail_of(figures).rarity(np.array([14.0]))[0] == pytest.approx(14, rel=0.2)


def test_what_is_hardly_stranger_is_no_stranger():
    tail = tail_of([1.0] * 50 + [10.0])
    assert tail.rarity(np.array([10.4]))[0] == tail.rarity(np.array([10.0]))[0]
    assert tail.rarity(np.array([12.0]))[0] > tail.rarity(np.array([10.0]))[0]


def test_where_normal_items_are_all_alike_anything_else_is_rare():
    tail = tail_of(np.zeros(1_000))
    assert tail.rarity(np.zeros(1))[0] == 0
    assert tail.rarity(np.array([0.5]))[0] > -math.log(0.005)


def test_a_tail_forgets_the_oldest_and_keeps_both_shards():
    tail = tail_of(np.full(WINDOW, 5.0))
    tail.add(np.zeros(WINDOW))
    assert len(tail) == WINDOW
    assert tail.rarity(np.array([4.0]))[0] > 5
    other = tail_of(np.full(WINDOW, 7.0))
    tail.merge(other)
    assert len(tail) == WINDOW
    assert tail.rarity(np.array([6.0]))[0] == pytest.approx(math.log(2), abs=0.01)
    small = tail_of([1.0])
    small.merge(tail_of([2.0, 3.0]))
    assert len(small) == 3


def test_groups_count_once_with_their_worst():
    groups = np.array([4, 9, 4, 1], dtype=np.uint64)
    assert worst_of_groups(np.array([5.0, 1.0, 2.0, 3.0]), groups).tolist() == [1.0, 5.0, 3.0]
    assert worst_of_groups(np.zeros(0), groups[:0]).tolist() == []


def test_a_burst_of_one_kind_counts_once():
    kinds = np.array([7, 7, 8, 7], dtype=np.uint64)
    before = np.array([[1.0, 0.0], [9.0, 0.0], [3.0, 5.0], [9.0, 2.0]])
    after = np.array([[0.0, 0.0], [0.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    figures = held_back_figures(before, after, kinds)
    assert figures.tolist() == [[9.0, 2.0], [0.0, 0.0], [4.0, 5.0], [1.0, 0.0]]


def test_what_was_never_seen_looks_no_stranger_the_more_is_learnt():
    none, coarser = np.zeros(2, dtype=np.int64), np.full(2, 0.01)
    known = backed(none, np.array([ENOUGH, 10**9]), coarser, 1.0)
    assert known[0] == known[1]
    assert backed(none, np.zeros(2, dtype=np.int64), coarser, 1.0).tolist() == coarser.tolist()


# -- the ensemble ------------------------------------------------------------------------------------------------


def taught(detectors=None, n=600):
    ensemble = Ensemble(detectors or session_detectors(), BUDGET)
    items = shop(n)
    ensemble.learn(items.take(np.arange(n // 2)))
    ensemble.calibrate_and_learn(items.take(np.arange(n // 2, n)))
    return ensemble


class Noise(Detector[Sessions]):
    """Finds anything strange, by the time of day."""

    name = "noise"
    aspect = "noise"

    def learn(self, items):
        pass

    def strangeness(self, items):
        return np.array([hash((int(at), 7)) % 1_000 / 10 for at in items.closed.tolist()])

    def explain(self, items, row):
        return Evidence(self.name, "noise", "nats", ())

    def merge(self, other):
        pass

    def columns(self):
        return {}

    def restore(self, columns):
        pass


def test_the_budget_is_kept_by_all_together():
    ensemble = taught()
    fresh = shop(1_000, seed=5, start=10**8, prefix="u")
    assert ensemble.judge(fresh).raised.mean() <= 2 * BUDGET
    judged = ensemble.judge(planted())
    assert judged.raised.all()
    assert judged.trouble.all()
    assert (judged.scores > 1 - BUDGET).all()


def test_a_detector_of_noise_spends_no_more_than_the_budget():
    with_noise = taught([*session_detectors(), Noise()])
    fresh = shop(1_000, seed=5, start=10**8, prefix="u")
    assert with_noise.judge(fresh).raised.mean() <= 3 * BUDGET
    assert with_noise.judge(planted()).raised.all()


def test_the_evidence_of_all_that_fired_is_kept():
    ensemble = taught()
    found = [evidence.detector for evidence in ensemble.explain(planted(), 0)]
    assert {"new_template", "count_vector", "missing", "severity"} <= set(found)
    assert len(ensemble.explain(shop(1), 0)) == 1


def test_an_ensemble_comes_back_whole():
    ensemble, again = taught(), Ensemble(session_detectors(), BUDGET)
    again.load(ensemble.dump())
    assert again.dump() == ensemble.dump()
    asked = Sessions.joined([shop(20, seed=3), planted()])
    assert (again.judge(asked).ensemble == ensemble.judge(asked).ensemble).all()
    with pytest.raises(StateError):
        again.load(ensemble.dump()[:-1])


@pytest.mark.parametrize("names", [("order",), ("order", "pca", "autoencoder"), ("order", "count_vector")])
def test_an_ensemble_of_other_detectors_is_refused(names):
    chosen = taught(session_detectors(("order", "pca")))
    with pytest.raises(StateError, match=r"state of detectors order, pca; these are "):
        Ensemble(session_detectors(names), BUDGET).load(chosen.dump())


def test_a_choice_of_detectors_keeps_the_budget_and_finds_what_they_look_at():
    chosen = taught(session_detectors(("autoencoder", "count_vector")))
    assert chosen.judge(shop(1_000, seed=5, start=10**8, prefix="u")).raised.mean() <= 2 * BUDGET
    assert chosen.judge(planted()).raised.all()
    assert {why.detector for why in chosen.explain(planted(), 0)} == {"autoencoder", "count_vector"}


def test_what_few_do_is_doubted_with_all_their_other_states():
    groups = np.array([*range(200), 0, 200, 201], dtype=np.uint64)
    kinds = np.array([*[5] * 200, 9, 9, 5], dtype=np.uint64)
    assert np.flatnonzero(doubtful(groups, kinds, 0.01)).tolist() == [0, 200, 201]
    assert not doubtful(groups, kinds, 0.001).any()
    assert doubtful(groups[:0], kinds[:0]).tolist() == []


# -- learning while running --------------------------------------------------------------------------------------


def orders(first, n, steps=(10, 11, 13, 14, 15), every=2_000, name="n"):
    """``n`` orders of one kind from the number ``first``, one every two seconds."""
    rows = [row for i in range(first, first + n) for row in session(f"{name}{i}", steps, 10**8 + i * every)]
    return Sessions.of(
        events_of(rows, templates=TEXTS | {40: "order <NUM> was wrapped as a present", 41: "ribbon tied"})
    )


def running(**options):
    return Running(taught(), **options)


NEW_STEP = (10, 11, 40, 41, 13, 14, 15)
FAULT = (10, 99, 11)


def test_normal_traffic_teaches_after_the_delay():
    run = running(delay_ms=5 * MINUTE)
    run.judge(orders(0, 100))
    run.judge(orders(100, 30))
    assert run.learnt == 0
    run.judge(orders(4_000, 1))
    assert run.learnt == 130
    run.judge(orders(8_000, 1))
    assert run.learnt == 131


def test_a_repeated_fault_is_raised_every_time():
    run = running()
    for episode in range(10):
        first = episode * 400
        assert not run.judge(orders(first, 300)).raised.any()
        assert run.judge(orders(first + 300, 20, FAULT, name="f")).raised.all()


def test_a_release_becomes_normal_after_the_first_alerts():
    run = running()
    assert not run.judge(orders(0, 300)).raised.any()
    raised = []
    for part in range(10):
        raised += run.judge(orders(300 + part * 200, 200, NEW_STEP)).raised.tolist()
    assert all(raised[: 100 * SLICES])
    assert not any(raised[-400:])
    # What was normal before still is, and a fault still is none.
    assert not run.judge(orders(2_400, 50)).raised.any()
    assert run.judge(orders(2_450, 5, FAULT)).raised.all()


WARES = tuple(range(20, 40))
WARES_TEXTS = TEXTS | {40: "ribbon tied"} | {ware: f"article {chr(77 + ware)} put into the cart" for ware in WARES}


def purchases(first, n, *steps, name="w"):
    """``n`` purchases of one of twenty wares each, one every two seconds, with other steps before they are sent."""
    rows = [
        row
        for i in range(first, first + n)
        for row in session(f"{name}{i}", (10, WARES[i % len(WARES)], *steps), 10**8 + i * 2_000)
    ]
    return Sessions.of(events_of(rows, templates=WARES_TEXTS))


def selling(**options):
    ensemble = Ensemble(session_detectors(), BUDGET)
    ensemble.learn(purchases(-2_000, 1_000, 15))
    ensemble.calibrate_and_learn(purchases(-1_000, 1_000, 15))
    return Running(ensemble, **options)


KNOWN = np.array([10, 15, *WARES], dtype=np.uint64)


def test_a_new_line_in_sessions_of_many_kinds_becomes_normal():
    run, blind = selling(known=KNOWN), selling()
    items = [purchases(first, 100, 40, 15) for first in range(0, 1_000, 100)]
    raised = [run.judge(one).raised for one in items]
    assert all(one.all() for one in raised[:SLICES])
    assert not any(one.any() for one in raised[-5:])
    assert run.news == {40}
    # No kind of session is a tenth of all: only what they have in common came to stay.
    assert all(blind.judge(one).raised.all() for one in items)
    # What was normal before still is; what stops at the new line, or has trouble beside it, is not spared.
    assert not run.judge(purchases(1_000, 20, 15)).raised.any()
    assert run.judge(purchases(1_020, 5, 40)).raised.all()
    assert run.judge(purchases(1_040, 5, 99, 40, 15)).raised.all()
    # A restart keeps it.
    again = selling(known=KNOWN)
    again.load(run.dump())
    assert again.news == {40}
    assert again.dump() == run.dump()
    assert not again.judge(purchases(1_060, 20, 40, 15)).raised.any()
    for damaged in (run.dump()[:-1], run.ensemble.dump(), b""):
        with pytest.raises(StateError):
            again.load(damaged)


def test_a_new_line_of_trouble_or_in_few_sessions_is_never_normal():
    run = selling(known=KNOWN)
    for first in range(0, 1_000, 100):
        assert run.judge(purchases(first, 50, 99, 15)).raised.all()
        assert run.judge(purchases(first + 50, 5, 40, 15)).raised.all()
        assert not run.judge(purchases(first + 55, 45, 15)).raised.any()
    assert run.news == frozenset()


def test_trouble_is_never_taken_for_a_release():
    run = running()
    for part in range(10):
        assert run.judge(orders(part * 200, 200, FAULT)).raised.all()
    assert run.learnt == 0


def test_a_new_kind_that_comes_and_goes_is_no_release():
    run = running()
    for part in range(0, 3_000, 3 * SLICE_ITEMS):
        assert run.judge(orders(part, SLICE_ITEMS, NEW_STEP)).raised.all()
        run.judge(orders(part + SLICE_ITEMS, 2 * SLICE_ITEMS))


def test_what_is_near_to_something_raised_is_not_learnt():
    run = running(near_ms=2 * MINUTE)
    run.judge(orders(0, 200))
    run.judge(orders(200, 1, FAULT))
    run.judge(orders(201, 200))
    run.judge(orders(5_000, 1))
    # Within two minutes are 60 orders before it and 59 after it, which took 0.4 s longer than the fault.
    assert run.learnt == 400 - 60 - 59


def test_no_later_state_of_a_raised_session_is_learnt():
    run = running(near_ms=1)
    assert run.judge(orders(0, 1, FAULT, name="f")).raised.all()
    assert not run.judge(replace(orders(200, 1), names=["f0"])).raised.any()
    run.judge(orders(400, 1))
    run.judge(orders(4_000, 1))
    assert run.learnt == 1


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 699), max_size=6))
def test_batches_do_not_matter(cuts):
    items = Sessions.joined([orders(0, 300), orders(300, 300, NEW_STEP), orders(600, 100)])
    whole = running().judge(items).ensemble
    run, edges = running(), sorted({0, 700, *cuts})
    parts = [run.judge(items.take(np.arange(a, b))).ensemble for a, b in pairwise(edges)]
    assert np.allclose(np.concatenate(parts), whole)
