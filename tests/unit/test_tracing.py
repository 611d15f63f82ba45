"""Traces, what is counted of them, and what a watch over them finds: lists in, lists out, the clock moved by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoding import StateError
from models.finished import LEVELS
from models.sessions import END, PADDING
from models.tracing import TRACE_DETECTORS
from models.tracing.blame import CallGraph, blame
from models.tracing.branches import Branches
from models.tracing.callees import Callees
from models.tracing.gaps import Gaps, bins_of
from models.tracing.levels import Levels
from models.tracing.rates import MINUTE_MS, Rates
from models.tracing.shapes import Shapes
from models.tracing.shares import ANY, MEMORY, Compared, Counted
from models.tracing.templates import Templates
from models.tracing.traces import NO_PARENT, QUIET_MS, TraceLines, TraceTable, build
from models.tracing.watch import ADOPTED_MS, TICK_MS, Watch

SHOP, STOCK, PRICES = 0, 1, 2
INFO, ERROR = LEVELS.index("INFO"), LEVELS.index("ERROR")
ASK, ANSWER, LOOK, FOUND, FAIL, PRICE = range(100, 106)


def lines_of(rows):
    """Rows of (trace, span, service, template, level, ms)."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    kinds = (np.uint64, np.uint64, np.int64, np.uint64, np.int64, np.int64)
    return TraceLines(*(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))


def request(trace, at, *, fails=False, calls=True, slow=0, prices=True):
    """The shop asks the stock, then the prices; a failing stock ends early and the shop says so."""
    rows = [(trace, 1, SHOP, ASK, INFO, at)]
    if calls:
        rows.append((trace, 2, STOCK, LOOK, INFO, at + 2))
        rows.append((trace, 2, STOCK, FAIL if fails else FOUND, ERROR if fails else INFO, at + 4 + slow))
    rows.append((trace, 1, SHOP, ANSWER, INFO, at + 6 + slow))
    if prices:
        rows.append((trace, 3, PRICES, PRICE, INFO, at + 8 + slow))
    rows.append((trace, 1, SHOP, ANSWER, INFO, at + 10 + slow))
    return rows


def whole(rows):
    lines = lines_of(rows)
    return build(lines, np.full(len(lines), 10**9))


# -- traces ------------------------------------------------------------------------------------------------------


def test_a_caller_encloses_its_callees():
    traces = whole(request(7, 1000))
    services = traces.span_services.tolist()
    assert services == [SHOP, STOCK, PRICES]
    assert traces.parents.tolist() == [NO_PARENT, 0, 0]
    first, second, _ = traces.steps()
    assert traces.lines.templates[first].tolist() == [ASK, ANSWER, LOOK]
    assert traces.lines.templates[second].tolist() == [ANSWER, ANSWER, FOUND]
    called, step = traces.calls()
    assert list(zip(called.tolist(), step.tolist(), strict=True)) == [(1, 0), (2, 1)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=40))
def test_parents_and_steps_are_what_they_are_said_to_be(rows):
    traces = whole([(trace, span, span % 3, 100 + span, INFO, at) for trace, span, at in rows])
    firsts, lasts = traces.firsts, traces.lasts
    assert (np.diff(firsts) > 0).all()
    for span, parent in enumerate(traces.parents.tolist()):
        around = [
            other
            for other in range(span)
            if traces.span_traces[other] == traces.span_traces[span] and lasts[other] > lasts[span]
        ]
        assert parent == max(around, default=NO_PARENT)
    for first, second, span in zip(*(part.tolist() for part in traces.steps()), strict=True):
        assert traces.span[first] == traces.span[second] == span
        assert not (traces.span[first + 1 : second] == span).any()
    for called, step in zip(*(part.tolist() for part in traces.calls()), strict=True):
        first, second, span = (part[step] for part in traces.steps())
        assert span == traces.parents[called]
        assert first < firsts[called] <= lasts[called]
        assert lasts[called] < lasts[span]
        assert firsts[called] < second


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6), st.randoms(use_true_random=False))
def test_traces_do_not_depend_on_batches(cuts, shuffled):
    rows = [row for trace in range(20) for row in request(trace, 700 * trace)]
    shuffled.shuffle(rows)
    rows.sort(key=lambda row: row[5])

    def finished(bounds):
        table = TraceTable()
        for start, stop in itertools.pairwise([0, *sorted(bounds), len(rows)]):
            if stop > start:
                table.add(lines_of(rows[start:stop]))
        return [table.finished(12_000), table.finished(10**9)]

    for one, other in zip(finished([]), finished(cuts), strict=True):
        assert one.names.tolist() == other.names.tolist()
        assert one.lines.templates.tolist() == other.lines.templates.tolist()
        assert one.closed.tolist() == other.closed.tolist()


def test_a_trace_ends_when_it_has_rested_and_the_idlest_when_there_are_too_many():
    table = TraceTable(max_lines=12)
    table.add(lines_of(request(1, 0) + request(2, 5_000)))
    assert len(table.finished(QUIET_MS)) == 0
    over = table.finished(QUIET_MS + 11)
    assert over.names.tolist() == [1]
    assert over.closed.tolist() == [QUIET_MS + 10]
    table.add(lines_of(request(3, 6_000) + request(4, 7_000)))
    assert table.finished(QUIET_MS + 11).names.tolist() == [2]
    assert len(table) == 12


# -- counts ------------------------------------------------------------------------------------------------------


def table_of(counted):
    return {
        (before, after, outcome): (hits, trials)
        for before, after, outcome, hits, trials in zip(
            *(getattr(counted, name).tolist() for name in ("before", "after", "outcomes", "hits", "trials")),
            strict=True,
        )
    }


def test_traces_are_counted_never_lines():
    rows = request(1, 0) + request(2, 50, fails=True)
    counted = table_of(Counted.of(Branches().outcomes(whole(rows)), 0))
    assert counted[ANSWER, 0, ANSWER] == (2, 2)
    assert counted[ANSWER, 0, END] == (2, 2)
    assert counted[LOOK, 0, FOUND] == counted[LOOK, 0, FAIL] == (1, 2)
    assert counted[PADDING, 0, LOOK] == (2, 2)
    assert counted[LOOK, 0, int(ANY)] == (2, 2)


def test_a_bag_differs_by_one_line():
    bags = Shapes().outcomes(whole(request(1, 0) + request(2, 50) + request(3, 90, fails=True))).outcomes
    assert bags.reshape(3, 3)[0].tolist() == bags.reshape(3, 3)[1].tolist()
    assert (bags.reshape(3, 3)[0] != bags.reshape(3, 3)[2]).tolist() == [False, True, False]


def test_the_loudest_level_of_a_service_counts():
    found = Levels().outcomes(whole(request(1, 0, fails=True)))
    assert dict(zip(found.services.tolist(), found.outcomes.tolist(), strict=True)) == {
        SHOP: 0, STOCK: ERROR, PRICES: 0,
    }  # fmt: skip


def test_the_likelihood_ratio_is_that_of_two_shares():
    def log(k, n, share):
        return k * np.log(share) + (n - k) * np.log(1 - share)

    ratio = log(6, 8, 6 / 8) + log(2, 200, 2 / 200) - log(6, 8, 8 / 208) - log(2, 200, 8 / 208)
    compared = Compared(*(np.array([float(one)]) for one in (6, 8, 2, 200)))
    assert compared.nats()[0] == pytest.approx(ratio + 0.5 * np.log(4 * np.pi * ratio))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 300), st.integers(0, 300))
def test_nothing_is_unusual_without_a_past_or_without_growth(hits, more, learnt, others):
    compared = Compared(*(np.array([float(one)]) for one in (hits, hits + more, learnt, learnt + others)))
    nats = compared.nats()[0]
    assert np.isfinite(nats)
    assert nats >= 0
    if not learnt + others or not hits or hits * (learnt + others) <= learnt * (hits + more):
        assert nats == 0


def normal(count, start=0, every=1_000):
    return [row for number in range(count) for row in request(start + number, (start + number) * every)]


@pytest.mark.parametrize("kind", TRACE_DETECTORS, ids=lambda kind: kind.name)
def test_what_is_learnt_does_not_depend_on_batches_and_survives_a_dump(kind):
    parts = [Counted.of(kind().outcomes(whole(normal(40, 40 * number))), 1_000 * number) for number in range(4)]
    total = Counted.total(parts, 0)
    one, other, third = kind(), kind(), kind()
    for part in parts:
        one.learn(part)
    other.learn(Counted.total(parts, 5))
    for part in parts[:2]:
        third.learn(part)
    rest = kind()
    for part in parts[2:]:
        rest.learn(part)
    third.merge(rest)
    for name, column in one.columns().items():
        np.testing.assert_array_equal(column, other.columns()[name])
        np.testing.assert_array_equal(column, third.columns()[name])
    again = kind()
    again.load(one.dump())
    np.testing.assert_array_equal(again.strangeness(total), one.strangeness(total))
    np.testing.assert_array_equal(again.compared(total).learnt_hits, one.compared(total).learnt_hits)
    with pytest.raises(StateError):
        again.load(one.dump()[:-1])


def test_old_ways_are_halved():
    detector = Templates()
    for number in range(30):
        detector.learn(Counted.of(detector.outcomes(whole(normal(100))), number))
    hits = detector.columns()["hits"]
    assert hits.max() <= MEMORY
    assert hits.max() > MEMORY / 4


def test_gaps_are_told_apart_by_a_fifth():
    assert bins_of(np.array([-3, 0, 1, 2, 4, 10**9])).tolist() == [0, 0, 1, 5, 9, 79]
    assert len(set(bins_of(np.array([100, 119, 141])).tolist())) == 3


# -- the watch -----------------------------------------------------------------------------------------------------


class Play:
    """A watched system whose clock is moved by hand."""

    def __init__(self, kinds):
        self.table, self.watch, self.now, self.trace = TraceTable(), Watch([kind() for kind in kinds]), 0, 0

    def run(self, seconds, every=1_000, **how):
        """Requests for some time; returns what was found."""
        found = []
        for _ in range(seconds * 1000 // TICK_MS):
            for at in range(self.now, self.now + TICK_MS, every):
                self.trace += 1
                self.table.add(lines_of(request(self.trace, at, **how)))
            self.now += TICK_MS
            found += self.watch.tick(self.table.finished(self.now), self.now, 3)
        return found


FAULTS = [
    (Templates, {"fails": True}, STOCK, STOCK),
    (Branches, {"fails": True}, STOCK, STOCK),
    (Shapes, {"fails": True}, STOCK, STOCK),
    (Levels, {"fails": True}, STOCK, STOCK),
    (Gaps, {"slow": 50}, STOCK, STOCK),
    (Callees, {"calls": False}, SHOP, STOCK),
    (Callees, {"prices": False}, SHOP, PRICES),
]


@pytest.mark.parametrize(("kind", "how", "seen", "blamed"), FAULTS)
def test_a_fault_is_found_each_time_and_normal_time_is_quiet(kind, how, seen, blamed):
    play = Play([kind])
    assert play.run(600) == []
    for _ in range(3):
        found = play.run(60, **how)
        assert {(finding.service, finding.blamed) for finding in found} == {(seen, blamed)}
        assert found[0].at_ms <= play.now - 20_000
        assert found[0].traces
        assert found[0].evidence.parts
        play.run(40)
        assert play.run(600) == []


def test_a_slow_callee_is_not_its_callers_fault():
    play = Play([Gaps])
    play.run(600)
    assert {finding.service for finding in play.run(60, slow=400)} == {STOCK}


def test_drifts_of_a_few_milliseconds_are_no_news():
    play = Play([Gaps])
    play.run(600, slow=18)
    assert play.run(120, slow=20) == []


def test_a_release_is_told_and_then_learnt():
    play = Play([Shapes, Callees, Branches])
    play.run(1_800)
    assert play.run(120, prices=False)
    play.run(ADOPTED_MS // 1000 + 1_800, prices=False)
    assert play.run(600, prices=False) == []


def test_trouble_is_never_taken_for_a_release():
    play = Play([Levels])
    play.run(1_800)
    play.run(ADOPTED_MS // 1000 + 1_800, fails=True)
    assert play.run(60, fails=True)


def test_a_cold_start_raises_nothing():
    play = Play(TRACE_DETECTORS)
    assert play.run(120) == []


def test_the_budget_sets_the_bar():
    def found(budget):
        play = Play([])
        play.watch = Watch([Shapes()], budget)
        play.run(300, every=5_000)
        return len(play.run(40, every=5_000, fails=True))

    assert found(1e-9) == 0
    assert found(1_000.0) > 0


# -- blame ---------------------------------------------------------------------------------------------------------


def test_callers_are_read_from_traces_and_pass_the_blame_on():
    rows = [row for number in range(50) for row in request(number, 100 * number)]
    # Once, a clock that goes wrong puts the shop inside of the stock.
    rows += [(99, 2, STOCK, LOOK, INFO, 0), (99, 1, SHOP, ASK, INFO, 1), (99, 2, STOCK, FOUND, INFO, 2)]
    graph = CallGraph()
    graph.learn(whole(rows))
    assert graph.callers(STOCK) == graph.above(PRICES) == {SHOP}
    assert graph.callers(SHOP) == set()
    play = Play([Branches])
    play.run(300)
    (stock,) = play.run(60, fails=True)[-1:]
    shop = type(stock)(**{name: getattr(stock, name) for name in stock.__slots__} | {"service": 0, "blamed": 0})
    standing, passed = blame([shop, stock], graph)
    assert standing == [stock]
    assert passed == [(shop, stock)]
    elsewhere = type(stock)(
        **{name: getattr(shop, name) for name in shop.__slots__} | {"traces": frozenset({10**6, 10**6 + 1})}
    )
    assert blame([elsewhere, stock], graph) == ([elsewhere, stock], [])


# -- rates ---------------------------------------------------------------------------------------------------------


def minutes(rates, counts, start):
    """Feed lines a minute for two services; returns (minute, service, reason) of what was found."""
    found = []
    for number, (one, other) in enumerate(counts):
        services = np.repeat([0, 1], [one, other])
        times = np.full(len(services), (start + number) * MINUTE_MS + 5)
        found += [
            (finding.at_ms // MINUTE_MS, finding.service, finding.evidence.reason)
            for finding in rates.add(services, times, 2)
        ]
    return found


def test_bursts_drops_and_silences_are_found_and_chance_is_not():
    rng = np.random.default_rng(5)
    usual = [(int(rng.poisson(200)), int(rng.poisson(50))) for _ in range(120)]
    rates = Rates()
    assert minutes(rates, usual, 0) == []
    assert minutes(rates, [(200, 0), (200, 50), (2_000, 50), (30, 50), (200, 50)], 120) == [
        (121, 1, "silence"),
        (123, 0, "burst"),
        (124, 0, "drop"),
    ]
    # What was found was not learnt: the same again is found again.
    assert minutes(rates, [(2_000, 50), (200, 50)], 125) == [(126, 0, "burst")]
