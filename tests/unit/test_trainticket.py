"""The measures of faults, by hand, and a small recorded day through the command."""

import gzip
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.tracing import TRACE_DETECTORS
from models.tracing.traces import TraceLines
from training.curve import draw
from training.learner import TrainingError
from training.trainticket import Day, Fault, Measure, Raised, Watched, evaluate_trainticket, ticks, watch

MINUTE = 60_000
POD = "stock-5dc8d4f9fd-46997"
START = int(datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp() * 1000)
FIELDS = {"faults", "found_any", "found_related", "found_own", "groups_per_hour", "control", "median_delay_seconds"}


def stamp(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


def record(service, trace, span, at, text, level="INFO"):
    when = stamp(at)
    header = f"{when:%H:%M:%S}.{at % 1000:03d} {level} c.Shop#7 TraceID: {trace:032x} SpanID: {span:016x} "
    line = {"log": f"{header}{text}\n", "stream": "stdout", "time": f"{when:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}123456Z"}
    return {"time_unix_nano": at * 1_000_000, "pod": f"{service}-5dc8d4f9fd-46997", "log": json.dumps(line)}


def order(number, at, broken):
    """The shop asks the stock; while it is broken, the stock says so and the shop all the same goes on."""
    found = ("ERROR", "no such shelf in store") if broken else ("INFO", "shelf found")
    steps = [
        ("shop", 1, 0, "order taken"),
        ("stock", 2, 3, "looking for the shelf"),
        ("stock", 2, 6, found[1], found[0]),
        ("shop", 1, 9, "order packed"),
    ]
    return [record(service, number, 16 * number + span, at + after, *text) for service, span, after, *text in steps]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An hour of a shop; the stock breaks at 8:20 and at 8:40, for two minutes."""
    path = tmp_path_factory.mktemp("trainticket")
    faults = [START + 20 * MINUTE, START + 40 * MINUTE]
    rows = []
    for number, at in enumerate(range(START, START + 60 * MINUTE, 3_000)):
        rows += order(number, at, any(fault <= at < fault + 2 * MINUTE for fault in faults))
        rows.append(record("clock", 10**6 + number, 1, at + 20, f"tick {number}"))
    with gzip.open(path / "2026-01-31.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    listed = [
        {
            "inject_time": f"{stamp(at):%Y-%m-%d %H:%M:%S}",
            "inject_pod": POD,
            "inject_type": "return",
        }
        for at in faults
    ]
    (path / "faults.json").write_text(json.dumps({"08": listed}))
    return path


def test_a_fault_that_comes_again_is_found_again_and_nothing_else_is(folder):
    report = evaluate_trainticket(folder, curve=False)
    for name in (*(kind.name for kind in TRACE_DETECTORS), "rate", "ensemble"):
        assert report[name].keys() >= FIELDS
    ensemble = report["ensemble"]
    assert ensemble["found_own"] == ensemble["faults"] == 2
    assert ensemble["groups"] == 0
    assert ensemble["control_own"] == 0
    assert 0 < ensemble["median_delay_seconds"] <= 60
    assert report["missed"] == report["false_groups"] == []
    # 8:20 to 8:25 and 8:40 to 8:45 are no observed time.
    assert report["observed_hours"] == pytest.approx(50 / 60)


def test_what_was_seen_does_not_depend_on_what_comes_later(folder):
    """Nothing looks ahead: the first half of the day raises the same with and without the second."""
    day = Day.read(folder)
    half = day.lines.take(np.flatnonzero(day.lines.times < START + 30 * MINUTE))
    whole = watch(day, list(ticks(day.lines)), TRACE_DETECTORS, rates=True)
    first = watch(day, list(ticks(half)), TRACE_DETECTORS, rates=True)
    until = START + 29 * MINUTE
    assert [one for one in first.raised if one.at_ms < until] == [one for one in whole.raised if one.at_ms < until]
    assert first.raised


def test_the_measures_are_those_of_the_protocol():
    services = ["a", "b", "c", "d", "e"]
    times = np.arange(0, 60 * MINUTE, MINUTE)
    ids, numbers = np.ones(60, dtype=np.uint64), np.zeros(60, dtype=np.int64)
    faults = [Fault("b", "return", 10 * MINUTE + 30_000), Fault("c", "cpu", 30 * MINUTE)]
    day = Day(services, TraceLines(ids, ids, numbers, ids, numbers, times), {}, faults)
    free = frozenset(range(60)) - frozenset(range(10, 16)) - frozenset(range(30, 35))
    measure = Measure.of(day, [])
    assert measure.observed == free
    measure = Measure(day, [{0}, {0, 1}, {2}, {3}, {4}], free)
    raised = [
        Raised(10 * MINUTE, 1, 0, began=True),  # half a minute too early, but it goes on
        Raised(11 * MINUTE, 1, 0, began=False),
        Raised(12 * MINUTE, 0, 1, began=True),  # its caller
        Raised(34 * MINUTE, 2, 2, began=True),  # too late
        Raised(50 * MINUTE, 3, 3, began=True),  # for nothing
        Raised(29 * MINUTE + 5_000, 4, 4, began=True),  # for nothing, and within the tolerance of the second
    ]
    figures = measure.figures(Watched(raised, [], 0))
    assert (figures["found_own"], figures["found_related"], figures["found_any"]) == (1, 1, 1)
    assert figures["groups"] == 2
    assert figures["groups_per_hour"] == pytest.approx(2 / (49 / 60))
    assert figures["median_delay_seconds"] == 30.0
    # Of the first fault c, d, e may be drawn: none is hit. (a is a caller.) Nothing was raised during the second.
    assert figures["control"] == 0
    hit = measure.figures(Watched([*raised, Raised(30 * MINUTE, 4, 5, began=True)], [], 0))
    assert hit["control"] == pytest.approx(1 / 8, abs=0.05)


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout


def test_the_command_prints_the_fields_and_draws_the_curve(folder, tmp_path):
    picture = tmp_path / "curve.svg"
    command = [sys.executable, "-m", "cli.main", "evaluate", "trainticket", "--data", str(folder)]
    report = json.loads(run([*command, "--picture", str(picture), "--json"]))
    assert report["ensemble"].keys() >= FIELDS
    assert len(report["curve"]) > 3
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    assert len(re.findall("<circle", drawn)) == 2 * (len(report["curve"]) + 1)
    assert "span_shape" in run([*command, "--no-curve"])


def test_a_folder_without_faults_is_told(tmp_path):
    with pytest.raises(TrainingError, match=r"faults\.json"):
        evaluate_trainticket(tmp_path)


def test_the_curve_has_a_point_for_each_budget():
    row = {"budget_a_day_and_service": 5.0, "faults": 28, "found_related": 20, "found_own": 18, "groups_per_hour": 12.0}
    assert "20 of 28 at 12.0 an hour" in draw([row], row)
