"""The checks of the chaos run and the soak fail where they should: each is given something that is wrong."""

import json

import numpy as np
import pytest

from contracts.records import Statistic
from contracts.settings import AppSettings
from tests.chaos import checks
from tests.chaos.expected import Expected, expect
from tests.chaos.orders import Orders, bundle_for, options_of
from tests.chaos.soak import Sample, quarters, verdict
from tests.chaos.traffic import highest, progress

TOPIC = "logs.shop"


def statistic(first, last, lines, stage="score", bucket=0, bundle="1"):
    return Statistic(
        stage=stage, service="shop", topic=TOPIC, partition=0, bucket=bucket, first_offset=first, last_offset=last,
        lines=lines, newest_arrival_ms=0, newest_event_ms=0, emitted_ms=0, seconds=0, bundle=bundle,
    )  # fmt: skip


def shop(**changes):
    """Six lines, of which the third is a dead letter and the others go to two buckets."""
    usual = {
        "lines": [6],
        "detections": {"a", "b"},
        "dead": {(0, 2)},
        "scored": {(0, 0): np.array([0, 3, 5]), (0, 1): np.array([1, 4])},
    }
    return Expected(**usual | changes)


PARSED = [statistic(0, 2, 3, "parse"), statistic(3, 5, 3, "parse")]
WHOLE = [*PARSED, statistic(0, 3, 2), statistic(5, 5, 1), statistic(1, 4, 2, bucket=1)]


def test_lines_scored_once_or_again_in_other_batches_are_all_there():
    assert checks.scored(WHOLE, TOPIC, shop()) == []
    assert checks.scored([*WHOLE, statistic(3, 5, 2), statistic(0, 5, 6, "parse")], TOPIC, shop()) == []


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([one for one in WHOLE if one.first_offset != 5], "1 lines were never scored"),
        (WHOLE[1:], "3 lines were never parsed"),
        ([*WHOLE, statistic(0, 5, 2)], "judged 2 of 3 lines"),
        ([*WHOLE, statistic(0, 3, 2, bundle="")], "without the bundle"),
        ([*WHOLE, statistic(0, 0, 1, bucket=7)], "judged 1 of 0 lines"),
    ],
)
def test_lines_that_were_not_scored_are_told(records, said):
    assert said in " ".join(checks.scored(records, TOPIC, shop()))


def found(*ids, **changes):
    ones = ({"id": one, "topic": TOPIC, "partition": 0, "offset": 1, "kind": "event", "detected_ms": 1} for one in ids)
    return [json.dumps(one | changes).encode() for one in ones]


def test_detections_are_compared_by_id_and_twice_the_same_is_once():
    assert checks.detections([*found("a", "b"), *found("a", detected_ms=2)], TOPIC, shop())[0] == []
    assert "1 detections are missing" in checks.detections(found("a"), TOPIC, shop())[0][0]
    assert "1 detections are too many" in checks.detections(found("a", "b", "c"), TOPIC, shop())[0][0]
    assert "differ" in checks.detections([*found("a", "b"), *found("a", offset=2)], TOPIC, shop())[0][0]


def test_what_the_parser_learns_may_generalise_and_what_the_bundle_knows_may_not():
    def twice(template, one, other):
        texts = ({"template": template, "template_text": text, "before": [before]} for text, before in (one, other))
        return [record for changes in texts for record in found("a", "b", **changes)]

    known = {"template": "0" * 15 + "7", "text": "paid"}
    learnt, wider = {"template": "0" * 15 + "8", "text": "x=1"}, {"template": "0" * 15 + "9", "text": "x=<*>"}
    expected = shop(known=frozenset({known["template"]}))
    same = twice(learnt["template"], ("x=1", learnt), ("x=<*>", wider))
    assert checks.detections(same, TOPIC, expected)[0] == []
    for one, other in ((("paid", learnt), ("sold", learnt)), (("paid", known), ("paid", learnt))):
        assert "differ" in checks.detections(twice(known["template"], one, other), TOPIC, expected)[0][0]


def test_shapes_never_seen_before_change_nothing_else_of_the_lines():
    usual, learning = Orders(1, 0).take(2_000), Orders(1, 0, novel=0.5).take(2_000)
    assert usual == Orders(1, 0).take(2_000)
    assert learning == Orders(1, 0, novel=0.5).take(2_000)
    assert 200 < sum(b"robot of lane" in line for line in learning) < 800
    assert not any(b"robot of lane" in line for line in usual)


def test_dead_letters_and_lines_are_compared():
    dead = json.dumps({"topic": TOPIC, "partition": 0, "offset": 2}).encode()
    assert checks.dead_letters([dead, dead], TOPIC, shop()) == []
    assert checks.dead_letters([], TOPIC, shop())
    assert checks.same_lines({0: [b"x", b""]}, [[b"x", b""]], "here") == []
    assert checks.same_lines({0: [b"x", None]}, [[b"x", b""]], "here")
    assert checks.same_lines({0: [b"x"]}, [[b"x", b""]], "here")
    assert checks.same_lines({}, [[b"x"]], "here")


def test_progress_counts_from_every_partition_and_after_the_kill_only():
    records = [(10, 0, 0, 5, 1, 0), (10, 1, 0, 7, 1, 0), (20, 0, 0, 6, 1, 0)]
    assert highest(records, 3) == [6, 7, -1]
    assert progress(records, [5, 7], after_ms=10) is None
    assert progress([*records, (30, 1, 0, 8, 1, 0)], [5, 7], after_ms=10) == 30
    assert progress([*records, (30, 1, 0, 7, 1, 0)], [5, 7], after_ms=10) is None


def test_orders_are_the_same_for_a_seed_and_keep_to_their_partition():
    lines = Orders(1, 0).take(500)
    again = Orders(1, 0)
    assert [line for _ in range(50) for line in again.take(10)] == lines
    sessions = [{line.rpartition(b"=")[2] for line in part} for part in (lines, Orders(1, 1).take(500))]
    assert not {one for one in sessions[0] & sessions[1] if len(one) == 32}


def test_what_is_expected_does_not_depend_on_how_the_lines_are_cut(monkeypatch):
    bundle = bundle_for("shop", TOPIC, 1)
    parts = [Orders(1, partition).take(6_000) for partition in range(2)]

    def expected():
        return expect(AppSettings(), options_of("shop"), TOPIC, bundle, parts)

    one = expected()
    monkeypatch.setattr("tests.chaos.expected.CHUNK_LINES", 701)
    other = expected()
    assert len(one.detections) > 50
    assert one.dead
    assert (one.detections, one.dead) == (other.detections, other.dead)
    assert sum(map(len, one.scored.values())) + len(one.dead) == 12_000


def samples(memory, latency, minutes=40):
    """A sample a minute: memory (MB) and p99 latency (ms) as functions of the minute."""
    return [Sample(60.0 * at, {"job": memory(at)}, {"job": 1}, [(latency(at), 1)]) for at in range(minutes)]


def test_a_steady_soak_passes_and_a_leak_a_slowdown_or_a_restart_does_not():
    assert verdict(quarters(samples(lambda at: 100, lambda at: 300))) == []
    warm = quarters(samples(lambda at: 50 + min(at, 10) * 5, lambda at: 900 if at < 5 else 300))
    assert verdict(warm) == []
    assert "memory of job" in verdict(quarters(samples(lambda at: 100 + 2 * at, lambda at: 300)))[0]
    assert "latency" in verdict(quarters(samples(lambda at: 100, lambda at: 300 + 20 * at)))[0]
    restarted = samples(lambda at: 100, lambda at: 300)
    restarted[30].pids["job"] = 2
    assert "job" in verdict(quarters(restarted))[0]
    silent = samples(lambda at: 100, lambda at: 300)
    for one in silent[30:]:
        one.waits.clear()
    assert "nothing was scored" in verdict(quarters(silent))[0]
