"""The stage of traces without Flink: lines of two services in, detections out, by a hand-moved clock."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import Verdict
from contracts.service import DetectorOptions, ServiceSettings
from contracts.settings import AppSettings
from models.encoding import StateError
from models.tracing.reading import packed, unpacked
from models.verdicts import verdict_on
from parsing.events import Events, Lines
from parsing.parser import Parser
from storage.control import ControlView, key_of
from streaming.buckets import Saved
from streaming.frames import shard_key
from streaming.stages import ParseStage
from streaming.traces import IDLE_MS, LOOK_MS, TraceStage
from tests.packing import pack

BEGIN = int(datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
FAULTS = (15 * MINUTE, 25 * MINUTE)
MINUTES = 32


def line(service, number, span, at, words, level="INFO"):
    when = datetime.fromtimestamp((BEGIN + at) / 1000, UTC)
    stamp = f"{when:%Y-%m-%d %H:%M:%S}.{at % 1000:03d}"
    return at, service, f"{stamp} {level} c.Shop#7 TraceID: abc{number:029x} SpanID: f{span}{number:014x} {words}"


def day():
    """The shop asks the stock every two seconds; in two of the minutes the stock breaks."""
    rows = []
    for number, at in enumerate(range(0, MINUTES * MINUTE, 2_000)):
        broken = any(fault <= at < fault + 2 * MINUTE for fault in FAULTS)
        found = ("no such shelf in store", "ERROR") if broken else ("shelf found", "INFO")
        rows += [
            line("shop", number, 0, at, "order taken"),
            line("stock", number, 1, at + 30, "looking for the shelf"),
            line("stock", number, 1, at + 60, *found),
            line("shop", number, 0, at + 90, "order packed"),
        ]
    return sorted(rows)


class Run:
    """A parser for each service and the stage; what is saved is kept as the operator keeps it."""

    def __init__(self, services=("shop", "stock")):
        self.now = BEGIN
        self.view = ControlView()
        self.parsers = {service: Parser(ServiceSettings(service=service)) for service in services}
        self.saved = Saved(b"", [])
        self.found = []
        self.look_again = 0
        self.restart()

    def restart(self):
        self.stage = TraceStage(AppSettings(), self.view, clock=lambda: self.now)

    def tell(self, record):
        self.stage.control(key_of(record), record.model_dump_json().encode())

    def feed(self, rows, start=0):
        for service, parser in self.parsers.items():
            texts = [text.encode() for _, one, text in rows if one == service]
            if not texts:
                continue
            arrivals = [BEGIN + at for at, one, _ in rows if one == service]
            offsets = range(start, start + len(texts))
            parsed = parser.parse(Lines.from_list(service, f"logs.{service}", 0, offsets, arrivals, texts))
            for template in parsed.new_templates:
                self.tell(template)
            self._keep(self.stage.watch(packed(parsed.events), lambda: self.saved))
        self.now += 500

    def look(self):
        self._keep(self.stage.look(lambda: self.saved))

    def _keep(self, out):
        if out.whole is not None:
            self.saved = Saved(out.whole, [])
        elif out.change is not None:
            self.saved = Saved(self.saved.whole, [*self.saved.changes, out.change])
        self.found += out.detections
        self.look_again = out.look_again_ms

    def over(self):
        """No line comes any more."""
        for _ in range(4):
            self.now += IDLE_MS + MINUTE
            self.look()
        return self


def told(found):
    return {one.id: (one.service, one.signature, one.event_ms, one.session) for one in found}


@pytest.fixture(scope="module")
def rows():
    return day()


@pytest.fixture(scope="module")
def whole(rows):
    run = Run()
    for at in range(0, len(rows), 500):
        run.feed(rows[at : at + 500], at)
    return run.over().found


def test_a_fault_is_told_where_it_broke_with_a_trace_that_shows_it(rows, whole):
    for fault in FAULTS:
        mine = [one for one in whole if 0 < one.event_ms - BEGIN - fault < 2 * MINUTE]
        assert {one.service for one in mine} == {"stock"}
        assert any("no such shelf in store" in one.headline for one in mine)
        for one in mine:
            assert (one.kind, one.topic, one.line, one.bundle) == ("trace", "logs.stock", "", "")
            assert one.score > one.threshold > 0
            assert one.reasons[0].detector == one.detector
            assert any(one.session in text and text.startswith("2026") for _, _, text in rows)
    assert len({one.id for one in whole}) == len(whole)
    assert min(one.event_ms for one in whole) >= BEGIN + FAULTS[0]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(40, 900), min_size=1, max_size=4), st.sets(st.integers(0, 12), max_size=3))
def test_neither_batches_nor_a_crash_change_what_is_found(rows, whole, sizes, crashes):
    run, at, turn = Run(), 0, 0
    while at < len(rows):
        part = rows[at : at + sizes[turn % len(sizes)]]
        run.feed(part, at)
        if turn in crashes:
            run.restart()
        at, turn = at + len(part), turn + 1
    assert told(run.over().found) == told(whole)


def test_event_time_waits_for_the_partition_behind_until_it_falls_silent(rows):
    run = Run()
    ahead = [row for row in rows if row[1] == "shop"]
    run.feed([row for row in rows if row[1] == "stock"][:4])
    run.feed(ahead)
    assert run.look_again == run.now - 500 + LOOK_MS
    kept = len(run.stage._known.across)
    assert kept >= len(ahead) - 40, "the stock is at its first minute"
    for _ in range(4):  # the shop goes on, the stock does not
        run.now += IDLE_MS // 2
        run.feed(ahead[-1:])
    assert len(run.stage._known.across) < kept / 10
    run.over()
    assert run.look_again == 0


def test_what_is_accepted_is_not_raised(rows, whole):
    run = Run()
    for one in whole:
        run.tell(verdict_on(one, "false-positive", "t", "t", 1, scope="signature"))
    for at in range(0, len(rows), 500):
        run.feed(rows[at : at + 500], at)
    assert run.over().found == []
    assert all(isinstance(one, Verdict) for some in run.view.verdicts.values() for one in some.values())


def test_damaged_state_and_batches_are_refused(rows):
    run = Run()
    run.feed(rows[:100])
    data = run.stage._known.dump()
    for saved in (Saved(data[:-1], []), Saved(data, [b"abc"]), Saved(b"", [b"12345678" + data])):
        run.saved = saved
        run.restart()
        with pytest.raises(StateError):
            run.look()
    with pytest.raises(StateError):
        unpacked(data)


def test_the_parser_hands_on_lines_that_name_a_trace_unless_told_not_to(rows):
    texts = [text.encode() for _, service, text in rows[:50] if service == "shop"]
    plain = b"2026-01-31 08:00:00.000 INFO c.Shop#7 nothing to see"
    lines = [*texts, plain]
    columns = np.zeros(len(lines), dtype=np.int64), np.arange(len(lines)), np.full(len(lines), BEGIN)
    ((_, _, frame),) = pack(["logs.shop"] * len(lines), *columns, lines, 65_536)
    stage = ParseStage(AppSettings(), ControlView())
    (data,) = stage.parse(shard_key("logs.shop", 0), frame, lambda: None).traces
    batch = unpacked(data)
    assert (batch.service, batch.topic, batch.partition) == ("shop", "logs.shop", 0)
    assert len(batch.lines) == len(texts)
    assert batch.offset == len(texts)
    view = ControlView()
    quiet = ServiceSettings(service="shop", detector=DetectorOptions(traces="off"))
    told = {"type": "settings", "settings": json.loads(quiet.model_dump_json())}
    view.apply("settings/shop", json.dumps(told).encode())
    assert ParseStage(AppSettings(), view).parse(shard_key("logs.shop", 0), frame, lambda: None).traces == []
    assert packed(Events.empty("shop", "logs.shop")) is None


def test_a_job_that_is_behind_waits_for_the_service_that_is_read_later(rows):
    """Catching up, one topic may be read whole before the next: nobody is blamed for lines that were not read yet."""
    straight = Run()
    straight.feed(rows)
    run = Run()
    halves = [[one for one in rows if one[1] == service] for service in ("shop", "stock")]
    early = [one for one in rows if one[0] < 12 * MINUTE]
    run.feed(early)
    run.now = BEGIN + (MINUTES + 1) * MINUTE  # lines are a minute to half an hour old when they are read
    later = [[one for one in half if one[0] >= 12 * MINUTE] for half in halves]
    run.feed(later[0], start=10_000)
    for _ in range(6):  # the stock's lines take longer to come than a partition may rest in quiet times
        run.now += IDLE_MS
        run.look()
    assert not run.found
    run.feed(later[1], start=10_000)
    assert {one[:1] + one[2:] for one in told(run.over().found).values()} == {
        one[:1] + one[2:] for one in told(straight.over().found).values()
    }
