"""Traces of several services as the job watches them: in batches, by service, saved and restored in the middle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.service import ServiceSettings
from models.encoding import StateError
from models.finished import level_number
from models.tracing.across import MAX_NAMES, Across
from models.tracing.reading import trace_lines
from models.tracing.traces import TraceLines
from models.tracing.watch import TICK_MS
from parsing.events import Events, Lines
from parsing.parser import Parser

MINUTE = 60_000
SERVICES = ("shop", "stock")
FAULTS = (15 * MINUTE, 25 * MINUTE)
INFO, ERROR = level_number("INFO"), level_number("ERROR")


def day(minutes=40):
    """Rows of trace, span, service, template, level, time: the shop asks the stock; in two of the minutes it breaks."""
    rows = []
    for number, at in enumerate(range(0, minutes * MINUTE, 2_000)):
        broken = any(fault <= at < fault + 2 * MINUTE for fault in FAULTS)
        rows += [
            (number + 1, 1, 0, 10, INFO, at),
            (number + 1, 2, 1, 20, INFO, at + 30),
            (number + 1, 2, 1, 29 if broken else 21, ERROR if broken else INFO, at + 60),
            (number + 1, 1, 0, 11, INFO, at + 90),
        ]
    return sorted(rows, key=lambda row: row[-1])


def lines_of(rows):
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    traces, spans, services, templates, levels, times = columns
    ids = (one.astype(np.uint64) for one in (traces, spans))
    return TraceLines(*ids, services.copy(), templates.astype(np.uint64), levels, times)


def told(raised):
    return [
        (one.finding.at_ms, one.finding.detector, one.finding.blamed, one.alert.number, one.finding) for one in raised
    ]


def played(rows, sizes=(100_000,), saved=()):
    """Feed rows in batches of these sizes, each service by itself; after some of the batches go on as another one."""
    across, raised, at, turn = Across(services=SERVICES), [], 0, 0
    while at < len(rows):
        part = rows[at : at + sizes[turn % len(sizes)]]
        for number, service in enumerate(SERVICES):
            mine = [row for row in part if row[2] == number]
            across.add(service, lines_of(mine), {row[0]: f"trace {row[0]}" for row in mine})
        at += len(part)
        raised += across.until(part[-1][-1])
        if turn in saved:
            again = Across()
            again.load(across.dump())
            assert again.dump() == across.dump()
            across = again
        turn += 1
    return across, raised + across.until(rows[-1][-1] + 10 * MINUTE)


@pytest.fixture(scope="module")
def rows():
    return day()


@pytest.fixture(scope="module")
def whole(rows):
    return told(played(rows)[1])


def test_each_fault_is_raised_on_the_service_where_it_broke(whole):
    for fault in FAULTS:
        assert any(fault < at < fault + 2 * MINUTE and SERVICES[blamed] == "stock" for at, _, blamed, *_ in whole)
    quiet = [at for at, *_ in whole if not any(fault < at < fault + 4 * MINUTE for fault in FAULTS)]
    assert quiet == []


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=4), st.sets(st.integers(0, 12), max_size=4))
def test_neither_batches_nor_a_restart_change_what_is_raised(rows, whole, sizes, saved):
    sizes = [max(size, 40) for size in sizes]
    assert told(played(rows, sizes, saved)[1]) == whole


def test_a_tick_waits_until_its_time_is_over_and_late_lines_count_to_the_next():
    across = Across()
    across.add("shop", lines_of([(1, 1, 0, 10, INFO, 5), (2, 1, 0, 10, INFO, TICK_MS + 5)]), {})
    assert across.until(TICK_MS - 1) == []
    assert len(across) == 2
    across.until(TICK_MS)
    across.add("shop", lines_of([(1, 1, 0, 11, INFO, 7)]), {})
    across.until(10 * TICK_MS)
    assert len(across) == 0
    assert across.services == ["shop"]


def test_lines_that_wait_are_bounded_and_none_is_lost(monkeypatch):
    monkeypatch.setattr("models.tracing.ticks.MAX_PENDING", 1_000)
    across, most = Across(), 0
    rows = day(5)
    for start in range(0, len(rows), 100):
        across.add("shop", lines_of(rows[start : start + 100]), {})
        across.until(0)
        most = max(most, len(across))
    assert most < 1_000 + 100
    across.until(10 * MINUTE)
    assert len(across) == 0
    hits = across._watch.detectors[0].columns()["hits"]
    assert hits.sum() > 0


def test_services_get_their_numbers_as_they_come_and_keep_them():
    across = Across()
    for service in ("b", "a", "b"):
        across.add(service, lines_of([(1, 1, 7, 10, INFO, 5)]), {})
    assert across.services == ["b", "a"]
    again = Across()
    again.load(across.dump())
    again.add("c", lines_of([]), {})
    assert again.services == ["b", "a", "c"]


def test_of_too_many_traces_the_oldest_names_go():
    across = Across()
    across.add("shop", lines_of([]), dict.fromkeys(range(MAX_NAMES + 5), "x"))
    assert len(across.names) == MAX_NAMES
    assert 4 not in across.names
    assert 5 in across.names


def test_damaged_state_is_refused(rows):
    data = played(rows[:400])[0].dump()
    for damaged in (b"", data[:-1], data + b"x", data.replace(b'"services"', b'"survices"')):
        with pytest.raises(StateError):
            Across().load(damaged)


@pytest.mark.parametrize(
    ("line", "trace", "has_span"),
    [
        (
            b"10:00:00 INFO a.B trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 order taken",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            True,
        ),
        (
            b'{"time":"2026-01-01T10:00:00Z","level":"info","traceId":"4bf92f3577b34da6","msg":"order taken"}',
            "4bf92f3577b34da6",
            False,
        ),
        (b"10:00:00 INFO a.B TraceID: 0af7651916cd43dd SpanID: b7ad6b7169203331 order taken", "0af7651916cd43dd", True),
        (b"10:00:00 INFO a.B order 12345678 taken, traced", None, False),
        (b"10:00:00 INFO a.B order taken", None, False),
    ],
)
def test_lines_that_name_a_trace(line, trace, has_span):
    lines = Lines.from_list("shop", "logs.shop", 0, [0], [1_767_261_600_000], [line])
    found, names = trace_lines(Parser(ServiceSettings(service="shop")).parse(lines).events, 3)
    assert list(names.values()) == ([trace] if trace else [])
    assert found.traces.tolist() == list(names)
    assert found.services.tolist() == [3] * len(names)
    assert [bool(span) for span in found.spans.tolist()] == [has_span] * len(names)


def test_no_events_name_no_trace():
    found, names = trace_lines(Events.empty("shop", "logs.shop"))
    assert len(found) == 0
    assert names == {}
