"""The stages without Flink: nothing is lost, a batch handled twice says the same, state brings everything back."""

import math
from dataclasses import replace
from functools import partial
from itertools import product
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import BundlePointer, Move, Settings, Template, Verdict
from contracts.service import DetectorOptions, MaskOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings, FlinkOptions
from models.alerts import group
from models.bundle import BundleError
from models.learning import Collector, fit_ngram, learn
from models.sessions import SessionTable
from parsing.events import Events, Lines
from parsing.parser import Parser
from parsing.sessions import spread
from storage.control import ControlView, key_of
from storage.files import StorageError
from streaming.buckets import Saved
from streaming.bundles import Bundles, Live, versions_at
from streaming.frames import shard_key
from streaming.stages import RECORD_BYTES, ParseStage, ScoreStage, bucket_key, fitting, parse_safely
from tests.packing import pack

SERVICE, TOPIC = "shop", "logs.shop"
OPTIONS = ServiceSettings(service=SERVICE, detector=DetectorOptions(kind="ngram", window=4, end_event="off"))
T0 = 1_700_000_000_000
"""Arrival (ms) of offset 0; each line comes a millisecond after the one before."""
APP = AppSettings(flink=FlinkOptions(buckets=3, batch_lines=100))
STEPS = ("request received", "stock checked and reserved", "payment of the basket taken", "parcel handed to carrier")


def order(number, steps=STEPS):
    return [f"2024-05-0{1 + number % 9} 10:00:0{i} INFO {step} trace_id={number:032x}" for i, step in enumerate(steps)]


def text(orders):
    return [line.encode() for one in orders for line in one]


@pytest.fixture(scope="module")
def bundle():
    parser, table, collector = Parser(OPTIONS), SessionTable(4, math.inf, 10**6), Collector(4)
    lines = text(order(number) for number in range(400))
    events = parser.parse(Lines.from_list(SERVICE, TOPIC, 0, range(len(lines)), [0] * len(lines), lines)).events
    collector.add(table.extend(events), events.templates)
    return learn(
        collector.material(lines=len(lines), from_ms=0, to_ms=1), OPTIONS, fit_ngram, created_ms=1_700_000_000_000
    )


class Shelf:
    """A registry of bundles in memory; what is not there raises."""

    def __init__(self, *bundles):
        self.bundles = {bundle.manifest.version: bundle for bundle in bundles}

    def load(self, service, version):
        return self.bundles[version]


def pointer(version, *before, from_ms=0):
    moves = tuple(Move(version=one, from_ms=since) for one, since in before)
    return BundlePointer(
        service=SERVICE, version=version, author="t", reason="t", moved_ms=1, from_ms=from_ms, before=moves
    )


def tell(stage, record):
    stage.control(key_of(record), record.model_dump_json().encode())


def frame(lines, first=0, partition=0):
    n = len(lines)
    offsets = np.arange(first, first + n)
    columns = np.full(n, partition), offsets, offsets + T0
    ((_, key, data),) = pack([TOPIC] * n, *columns, lines, APP.flink.max_line_bytes)
    return key, data


class Memory:
    """What Flink's state would hold, of both operators."""

    def __init__(self):
        self.parsers, self.wholes, self.changes = {}, {}, {}

    def parse(self, stage, key, data):
        out = stage.parse(key, data, lambda: self.parsers.get(key))
        if out.state is not None:
            self.parsers[key] = out.state
        return out

    def score(self, stage, key, data):
        out = stage.score(key, data, lambda: Saved(self.wholes.get(key, b""), self.changes.get(key, [])))
        if out.whole is not None:
            self.wholes[key], self.changes[key] = out.whole, []
        elif out.change is not None:
            self.changes.setdefault(key, []).append(out.change)
        return out


def stages(bundle=None):
    view = ControlView()
    score = ScoreStage(APP, view, Bundles(Shelf(*([bundle] if bundle else []))))
    if bundle:
        tell(score, pointer(bundle.manifest.version))
    return ParseStage(APP, ControlView()), score


def run(parse, score, memory, batches):
    """Everything that came of the batches: detections and statistics."""
    found, statistics = [], []
    for data in batches:
        out = memory.parse(parse, *data)
        statistics.append(out.statistic)
        for key, events in out.events:
            scored = memory.score(score, key, events)
            found += scored.detections
            statistics += scored.statistics
    return found, statistics


def batches(size=70):
    """Orders, one in seven of which goes wrong, in batches of ``size`` lines."""
    wrong = (STEPS[0], STEPS[3], STEPS[1])
    lines = text(order(number, wrong if number % 7 == 3 else STEPS) for number in range(1000, 1150))
    return [frame(lines[at : at + size], at) for at in range(0, len(lines), size)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.binary(max_size=200), st.text(max_size=80).map(str.encode)), min_size=1, max_size=80
    )
)
def test_lines_in_are_lines_scored_and_dead_letters(values):
    parse, score = stages()
    memory = Memory()
    out = memory.parse(parse, *frame(values))
    scored = [one for key, events in out.events for one in memory.score(score, key, events).statistics]
    assert out.statistic.lines == len(values)
    assert out.statistic.bytes == sum(len(value) for value in values if value is not None)
    assert sum(out.statistic.dead.values()) == len(out.dead)
    assert len(values) == len(out.dead) + sum(one.lines for one in scored)
    offsets = sorted(letter.offset for letter in out.dead)
    assert offsets == sorted(set(offsets))
    assert all(one.bundle == "" for one in scored)


def test_the_same_lines_give_the_same_detections_however_they_are_cut(bundle):
    results = []
    for size in (70, 1, 1000):
        found, _ = run(*stages(bundle), Memory(), batches(size))
        results.append({one.id: (one.offset, one.template) for one in found})
    assert results[0]
    assert results[0] == results[1] == results[2]


def test_a_crash_and_a_replay_from_saved_state_give_the_same_ids(bundle):
    whole, _ = run(*stages(bundle), Memory(), batches())
    for crash in (1, 3, 6):
        memory = Memory()
        first, _ = run(*stages(bundle), memory, batches()[:crash])
        rest, _ = run(*stages(bundle), memory, batches()[crash:])  # new instances, the old state
        assert {one.id for one in first + rest} == {one.id for one in whole}


def test_a_batch_handled_twice_gives_the_same_ids(bundle):
    memory = Memory()
    once, _ = run(*stages(bundle), memory, batches())
    parse, score = stages(bundle)
    memory = Memory()
    run(parse, score, memory, batches()[:2])
    saved = Memory()
    saved.parsers, saved.wholes = dict(memory.parsers), dict(memory.wholes)
    saved.changes = {key: list(changes) for key, changes in memory.changes.items()}
    lost, _ = run(parse, score, memory, batches()[2:])  # emitted, then the crash
    again, _ = run(*stages(bundle), saved, batches()[2:])
    assert {one.id for one in lost} == {one.id for one in again}
    assert {one.id for one in again} <= {one.id for one in once}


def test_a_new_bundle_is_in_force_from_the_next_batch_and_a_bad_one_is_refused(bundle):
    parse, score = stages()
    score._bundles._source.bundles[bundle.manifest.version] = bundle
    memory, (first, second, third, fourth, *_) = Memory(), batches()
    _, before = run(parse, score, memory, [first])
    tell(score, pointer(bundle.manifest.version))
    _, after = run(parse, score, memory, [second])
    tell(score, pointer("20240101T000000-00000000", (bundle.manifest.version, 0)))
    _, refused = run(parse, score, memory, [third])
    tell(score, pointer(bundle.manifest.version))
    _, healed = run(parse, score, memory, [fourth])
    of = [[one for one in some if one.stage == "score"] for some in (before, after, refused, healed)]
    assert [{one.bundle for one in some} for some in of] == [{""}, *([{bundle.manifest.version}] * 3)]
    assert {one.bundle_refused for one in of[0] + of[1] + of[3]} == {""}
    assert all("20240101T000000-00000000" in one.bundle_refused for one in of[2])


def test_a_swap_is_in_force_from_its_offset_on_however_the_lines_are_cut(bundle):
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": "20250101T000000-00000000"}))
    old, new = bundle.manifest.version, other.manifest.version
    results = []
    for size in (70, 7, 1000):
        parse, score = stages(bundle)
        score._bundles._source.bundles[new] = other
        tell(score, pointer(new, (old, 0), from_ms=T0 + 333))  # the arrival of offset 333
        found, statistics = run(parse, score, Memory(), batches(size))
        scored = [one for one in statistics if one.stage == "score"]
        assert {one.bundle for one in scored} == {old, new}
        assert all(one.bundle == (old if one.last_offset < 333 else new) for one in scored)
        assert all(one.first_offset >= 333 for one in scored if one.bundle == new)
        assert sum(one.lines for one in scored) == sum(one.lines for one in statistics if one.stage == "parse")
        results.append({(one.id, one.bundle) for one in found})
    assert len({version for _, version in results[0]}) == 2
    assert results[0] == results[1] == results[2]


def test_keys_that_move_between_instances_with_their_state_give_the_same(bundle, monkeypatch):
    """What a job does that is stopped with a savepoint and goes on with four instances, and then with one again."""
    monkeypatch.setattr("streaming.stages.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("streaming.stages.SAVE_SHARE", math.inf)
    wrong = (STEPS[0], STEPS[3], STEPS[1])
    partitions = [text(order(p * 1000 + n, wrong if n % 7 == 3 else STEPS) for n in range(60)) for p in range(4)]
    size = len(partitions[0]) // 6  # sessions are open wherever it is cut
    rounds = [[frame(partitions[p][at : at + size], at, p) for p in range(4)] for at in range(0, 6 * size, size)]
    results = []
    for widths in ((1, 1, 1), (1, 4, 1), (4, 2, 3)):
        memory, log, found, ids = Memory(), [pointer(bundle.manifest.version)], [], []
        for part, width in enumerate(widths):
            instances = [
                (ParseStage(APP, seen(log)), ScoreStage(APP, seen(log), Bundles(Shelf(bundle)))) for _ in range(width)
            ]
            for key, data in [one for frames in rounds[2 * part : 2 * part + 2] for one in frames]:
                out = memory.parse(instances[crc32(key.encode()) % width][0], key, data)
                log += out.templates
                for both in instances:
                    for stage, record in product(both, out.templates):
                        tell(stage, record)
                for bucket, events in out.events:
                    scored = memory.score(instances[crc32(bucket.encode()) % width][1], bucket, events)
                    found += [(one.id, one.template, one.surprise) for one in scored.detections]
                    ids += Events.from_bytes(events).template_ids().tolist()
        results.append((sorted(found), sorted(ids)))
    assert len(results[0][0]) > 20
    assert results[0] == results[1] == results[2]


def seen(records):
    """A view of the control topic that has these records."""
    view = ControlView()
    for record in records:
        view.apply(key_of(record), record.model_dump_json().encode())
    return view


@pytest.mark.parametrize("loaded", [False, True])
def test_an_alias_reaches_bundle_and_verdicts(bundle, loaded):
    """A template that the bundle knows goes on under the id of its alias: it is known, and quiet where it was quiet."""
    known = next(one for one in bundle.vocabulary.entries if "stock" in one.text)
    root = f"{0xAA + loaded:016x}"  # the bundle is this module's, and learns each
    alias = Template(service=SERVICE, id=known.template, text=known.text, reason="merged", alias_of=root)
    parse, score = stages(bundle)
    before, _ = run(parse, score, Memory(), batches())
    parse, score = stages(bundle)
    if loaded:
        score._bundles.of(SERVICE, (bundle.manifest.version,), {})
    for stage in (parse, score):
        tell(stage, alias)
    after, statistics = run(parse, score, Memory(), batches())
    assert {one.id for one in after} == {one.id for one in before}
    assert root in {one.template for one in after}
    assert known.template not in {one.template for one in after}
    assert sum(one.unknown for one in statistics) == 0
    # What was said of the one id holds for lines that come under the other.
    quiet = stages(bundle)[1]
    for record in (verdict_on(next(one for one in before if one.template == known.template)), alias):
        tell(quiet, record)
    kept, statistics = run(stages(bundle)[0], quiet, Memory(), batches())
    assert {one.id for one in kept} == {one.id for one in before if one.template != known.template}
    assert sum(one.suppressed for one in statistics) == len(before) - len(kept) > 0


def verdict_on(found):
    keys = ["service", "template", "topic", "partition", "offset", "session", "event_ms", "arrival_ms"]
    fields = {key: getattr(found, key) for key in keys}
    return Verdict(**fields, detection=found.id, value="expected", reason="t", author="t", given_ms=1)


def test_what_is_announced_keeps_its_example_and_says_when_it_has_returned():
    parse, _ = stages()
    key, data = frame([b"user anna logged in"])
    (born,) = parse.parse(key, data, lambda: None).templates
    assert (born.reason, born.example, born.partition, born.offset) == ("born", "user anna logged in", 0, 0)
    other = born.model_copy(update={"id": "0" * 14 + "aa", "text": "user <*> logged in", "example": "x"})
    tell(parse, born)
    tell(parse, other)  # a race: another shard has made one of its own
    out = parse.parse(*frame([b"user carl logged in"], 1), lambda: None)
    merged = {one.id: one for one in out.templates}[born.id]
    assert (merged.alias_of, merged.example, merged.offset) == (other.id, born.example, 0)
    assert out.statistic.changes["merged"] == 1
    assert out.statistic.new_templates == 0
    parse, _ = stages()
    tell(parse, born.model_copy(update={"reason": "evicted"}))
    (again,) = parse.parse(key, data, lambda: None).templates
    assert (again.id, again.reason) == (born.id, "returned")


def test_moves_of_a_pointer_make_a_timeline():
    moved = pointer("c", ("b", 200), ("a", 100), from_ms=150)
    assert [versions_at(moved, at) for at in (99, 100, 149, 150, 250)] == [
        (), ("a",), ("a",), ("c", "a"), ("c", "b", "a")
    ]  # fmt: skip
    assert versions_at(None, 1) == ()


def test_after_a_restart_a_refused_bundle_leaves_the_previous_one_in_force(bundle):
    parse, score = stages(bundle)
    version = bundle.manifest.version
    tell(score, pointer("20240101T000000-00000000", (version, 0)))
    found, statistics = run(parse, score, Memory(), batches())
    scored = [one for one in statistics if one.stage == "score"]
    assert found
    assert {one.bundle for one in scored} == {version}
    assert all("20240101T000000-00000000" in one.bundle_refused for one in scored)


class AwayShelf(Shelf):
    """A registry whose store is away for so many attempts."""

    def __init__(self, *bundles, attempts):
        super().__init__(*bundles)
        self.attempts = attempts

    def load(self, service, version):
        self.attempts -= 1
        if self.attempts >= 0:
            raise StorageError("no answer from the store")
        return super().load(service, version)


def test_while_the_store_is_away_no_line_is_scored_with_an_older_bundle(bundle):
    old, new = bundle.manifest.version, "20990101T000000-00000000"
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": new}))
    shelf = AwayShelf(bundle, other, attempts=0)
    score = ScoreStage(APP, ControlView(), Bundles(shelf, patience=0))
    tell(score, pointer(old))
    parse, memory, (first, second, *_) = ParseStage(APP, ControlView()), Memory(), batches()
    run(parse, score, memory, [first])
    tell(score, pointer(new, (old, 0)))
    shelf.attempts = 1
    ((bucket, events), *_) = memory.parse(parse, *second).events
    with pytest.raises(StorageError, match=rf"bundle {new} of {SERVICE} cannot be read.* no answer from the store"):
        memory.score(score, bucket, events)
    # What Flink starts anew, once the store answers.
    again = ScoreStage(APP, ControlView(), Bundles(shelf, patience=0))
    tell(again, pointer(new, (old, 0)))
    (scored,) = memory.score(again, bucket, events).statistics
    assert (scored.bundle, scored.bundle_refused) == (new, "")


def test_a_short_absence_of_the_store_is_waited_for(bundle, monkeypatch):
    monkeypatch.setattr("streaming.bundles.ASK_AGAIN_SECONDS", 0.01)
    shelf = AwayShelf(bundle, attempts=3)
    score = ScoreStage(APP, ControlView(), Bundles(shelf, patience=60))
    tell(score, pointer(bundle.manifest.version))
    found, statistics = run(ParseStage(APP, ControlView()), score, Memory(), batches())
    assert found
    assert {one.bundle for one in statistics if one.stage == "score"} == {bundle.manifest.version}
    assert shelf.attempts == -1


def test_a_damaged_bundle_is_refused_at_once_and_not_read_again_with_every_batch(bundle):
    class Damaged(Shelf):
        asked = 0

        def load(self, service, version):
            if version == bundle.manifest.version:
                return bundle
            self.asked += 1
            raise BundleError("bundle is damaged: model.onnx has 3 bytes instead of 4")

    shelf = Damaged()
    score = ScoreStage(APP, ControlView(), Bundles(shelf))
    tell(score, pointer("20990101T000000-00000000", (bundle.manifest.version, 0)))
    _, statistics = run(ParseStage(APP, ControlView()), score, Memory(), batches())
    scored = [one for one in statistics if one.stage == "score"]
    assert {one.bundle for one in scored} == {bundle.manifest.version}
    assert all("3 bytes instead of 4" in one.bundle_refused for one in scored)
    assert shelf.asked == 1


def test_a_scorer_that_raises_costs_its_service_the_scores_and_nothing_else(bundle):
    class Broken:
        def __init__(self):
            self.bundle = bundle

        def score(self, *arguments):
            raise ZeroDivisionError("by accident")

    parse, score = stages(bundle)
    memory = Memory()
    run(parse, score, memory, batches()[:1])
    version = bundle.manifest.version
    score._bundles._live[SERVICE][version] = Live(Broken(), version, 4)
    found, statistics = run(parse, score, memory, batches()[1:3])
    scored = [one for one in statistics if one.stage == "score"]
    assert not found
    assert {one.bundle for one in scored} == {""}
    assert all("by accident" in one.bundle_refused for one in scored)


def test_a_verdict_suppresses_from_the_next_batch_on(bundle):
    found, _ = run(*stages(bundle), Memory(), batches())
    parse, score = stages(bundle)
    for one in {detection.template: detection for detection in found}.values():
        verdict = Verdict(
            service=SERVICE, detection=one.id, template=one.template, topic=TOPIC, partition=0, offset=one.offset,
            session="", event_ms=0, arrival_ms=0, value="expected", reason="", author="t", given_ms=1,
        )  # fmt: skip
        tell(score, verdict)
    again, statistics = run(parse, score, Memory(), batches())
    assert not again
    assert sum(one.suppressed for one in statistics) == len(found)


def test_quiet_sessions_end_when_nothing_has_come_for_the_gap_however_long_lines_wait_in_kafka(bundle):
    clock = {"now": 2_000_000_000_000}  # years after the lines arrived
    view, gap = ControlView(), int(OPTIONS.session.gap_seconds * 1000)
    score = ScoreStage(APP, view, Bundles(Shelf(bundle)), clock=lambda: clock["now"])
    tell(score, pointer(bundle.manifest.version))
    memory = Memory()
    run(stages(bundle)[0], score, memory, batches()[:1])
    keys = list(memory.changes)

    def ended(stage):
        return [stage.expire(key, partial(Saved, b"", memory.changes[key])) for key in keys]

    clock["now"] += gap - 100  # all lines of the batch arrived within 70 ms
    assert not any(out.statistics for out in ended(score)), "the gap is not over"
    again = ScoreStage(APP, view, Bundles(Shelf(bundle)), clock=lambda: clock["now"])
    clock["now"] += 200
    assert not any(out.statistics for out in ended(again)), "a restarted job has not listened for long enough"
    outputs = ended(score)
    counts = [one for out in outputs for one in out.statistics]
    assert sum(one.windows for one in counts) > 10
    assert all(one.lines == one.sessions == 0 for one in counts)
    assert all(out.look_again_ms == 0 for out in outputs)
    assert not any(out.statistics for out in ended(score))


def test_new_settings_and_templates_reach_a_running_parser():
    parse, _ = stages()
    memory = Memory()
    memory.parse(parse, *frame([b"user anna logged in"] * 3))
    strange = Template(service=SERVICE, id="00000000000000aa", text="user <WHO> logged in")
    tell(parse, strange)
    masks = (MaskOptions(name="WHO", pattern="anna|otto"),)
    tell(parse, Settings(settings=ServiceSettings(service=SERVICE, masks=masks, session=SessionOptions(by="window"))))
    tell(parse, Settings(settings=ServiceSettings(service="other")))
    out = memory.parse(parse, *frame([b"user otto logged in"] * 3, 3))
    events = Events.from_bytes(out.events[0][1])
    assert set(events.templates) == {0xAA}


def test_a_line_that_the_parser_fails_on_is_a_dead_letter_and_the_others_go_on():
    class Failing:
        def __init__(self):
            self.parser = Parser(OPTIONS)
            self.redaction = self.parser.redaction

        def parse(self, lines):
            if b"boom" in lines.blob:
                raise RuntimeError("no good")
            return self.parser.parse(lines)

    values = [b"one fine line"] * 5 + [b"boom"] + [b"another fine line"] * 6 + [b"boom", b"boom"]
    lines = Lines.from_list(SERVICE, TOPIC, 0, range(20, 34), [5] * 14, values)
    parsed = parse_safely(Failing(), lines)
    assert [(letter.offset, letter.reason, letter.head) for letter in parsed.dead] == [
        (offset, "error", "boom") for offset in (25, 32, 33)
    ]
    assert "no good" in parsed.dead[0].detail
    assert parsed.events.column("offset").tolist() == [*range(20, 25), *range(26, 32)]


def test_keys():
    assert shard_key("logs.a", 1).partition("~")[0] == "logs.a/1"
    assert bucket_key("a", 1).partition("~")[0] == "a#1"


def test_late_lines_are_scored_and_marked_and_an_end_is_late_only_after_its_gap(bundle):
    found, _ = run(*stages(bundle), Memory(), batches())  # their lines arrived years ago
    assert found
    assert all(one.late for one in found)
    stage = stages(bundle)[1]
    now = found[0].detected_ms
    gap = 1000 * OPTIONS.session.gap_seconds
    late = 1000 * APP.flink.late_seconds
    for kind, age, expected in (("event", late - 1, False), ("event", late + 1, True), ("end", gap + late - 1, False)):
        changes = {"kind": kind, "arrival_ms": int(now - age), "late": False}
        assert stage._finished(found[0].model_copy(update=changes)).late == expected


def test_no_detection_is_too_large_for_a_broker(bundle):
    found, _ = run(*stages(bundle), Memory(), batches())
    one = next(detection for detection in found if detection.before)
    huge = "\x00" * 65_536
    before = tuple(each.model_copy(update={"text": huge}) for each in one.before)
    large = one.model_copy(update={"line": huge, "template_text": huge, "before": before, "session": huge})
    small = fitting(large)
    assert small.cut
    assert small.id == large.id
    assert len(small.model_dump_json().encode()) <= RECORD_BYTES < len(large.model_dump_json().encode())
    assert fitting(one) is one


# -- lines that name several sessions


PAIRED = OPTIONS.model_copy(
    update={"session": SessionOptions(by="identifier", pattern=r"order-([0-9]+)", several="all", gap_seconds=1e9)}
)


def pair(number, paid=True):
    one, other = 2 * number, 2 * number + 1
    lines = [f"order-{one} was received", f"order-{other} was received", f"order-{one} was paid"]
    lines += [f"order-{other} was paid"] if paid else []
    return [*lines, f"parcels of order-{one} and order-{other} left the house"]


@pytest.fixture(scope="module")
def paired():
    parser, table, collector = Parser(PAIRED), SessionTable.of(4, PAIRED.session), Collector(4)
    lines = text(pair(number) for number in range(300))
    events = parser.parse(Lines.from_list(SERVICE, TOPIC, 0, range(len(lines)), [0] * len(lines), lines)).events
    events = spread(events, PAIRED.session)
    collector.add(table.extend(events), events.templates)
    return learn(collector.material(lines=len(lines), from_ms=0, to_ms=1), PAIRED, fit_ngram, created_ms=T0)


def paired_stages(bundle):
    parse, score = stages(bundle)
    for stage in (parse, score):
        tell(stage, Settings(settings=PAIRED))
    return parse, score


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_of_several_sessions_is_one_line_and_one_detection_and_judged_in_each(paired, size):
    lines = text(pair(number, paid=number != 517) for number in range(500, 540))
    found, statistics = run(
        *paired_stages(paired), Memory(), [frame(lines[at : at + size], at) for at in range(0, len(lines), size)]
    )
    assert sum(one.lines for one in statistics if one.stage == "score") == len(lines)
    assert sum(one.windows for one in statistics) == len(lines) + 40, "each pair's last line is in two sessions"
    assert [(each.session, lines[each.offset]) for each in found] == [
        ("1035", b"parcels of order-1034 and order-1035 left the house")
    ]


def test_of_what_the_sessions_of_a_line_find_in_it_the_worse_is_kept(paired):
    """Both are strange here: in one session the line comes first, in the other after two steps of its own."""
    lines = text([["order-7 was received", "order-7 was received", "parcels of order-7 and order-8 left the house"]])
    whole, _ = run(*paired_stages(paired), Memory(), [frame(lines)])
    alone = []
    for several in ("first", "last"):
        session = PAIRED.session.model_copy(update={"several": several})
        parse, score = stages(paired)
        for stage in (parse, score):
            tell(stage, Settings(settings=PAIRED.model_copy(update={"session": session})))
        alone += run(parse, score, Memory(), [frame(lines)])[0]
    last = [each for each in whole if each.offset == 2]
    each_alone = [each for each in alone if each.offset == 2]
    assert len(each_alone) == 2
    assert {each.id for each in [*last, *each_alone]} == {last[0].id}
    (shown,) = group(last)
    assert shown.worst.surprise == max(each.surprise for each in each_alone)
    assert shown.count == 1


def test_new_session_settings_reach_a_running_table(bundle):
    parse, score = stages(bundle)
    memory = Memory()
    run(parse, score, memory, batches()[:1])
    cut = SessionOptions(max_events=1)
    for stage in (parse, score):
        tell(stage, Settings(settings=OPTIONS.model_copy(update={"session": cut})))
    (key, data), *_ = memory.parse(parse, *batches()[1]).events
    out = memory.score(score, key, data)
    assert out.whole is not None
    assert score._buckets[key].bucket.table._most == 1
