"""The quick way in: what it finds in logs with known oddities, what it says of itself, and what it refuses."""

import gzip
import itertools
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import Detection
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings, SessionOptions
from models.detect import NEW_TEMPLATE, DetectError, Source, detect

DATA = Path(os.environ.get("LOGCANARY_DATA", Path(__file__).parents[2] / "../shared/data"))


def service(**changes):
    return ServiceSettings(service="files", detector=DetectorOptions(kind="ngram"), **changes)


def stamp(number):
    return f"2026-01-31 {8 + number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}"


def orders(count, odd=(), start=0):
    """A log of orders, three lines each; ``odd`` orders skip the payment."""
    rng = random.Random(7)
    lines = []
    for number in range(count):
        request = f"{rng.getrandbits(64):016x}"
        said = [
            f"request_id={request} order {number} received",
            f"request_id={request} payment of {number} EUR accepted",
        ]
        said += [f"request_id={request} order {number} shipped to {rng.choice('ABCDEF')}"]
        if number in odd:
            del said[1]
        lines += [f"{stamp(start + number)} INFO shop.Orders - {text}".encode() for text in said]
    return lines


def stream(count):
    """A log without identifiers: a cycle of three events."""
    events = ("cache refreshed in %d ms", "heartbeat %d sent", "queue length is %d")
    return [f"{stamp(number)} INFO app.Main - {events[number % 3] % (number * 7)}".encode() for number in range(count)]


def test_a_line_never_seen_is_found_with_its_place_and_neighbours():
    lines = stream(600)
    lines.insert(450, f"{stamp(450)} ERROR app.Main - disk /dev/sda1 is full".encode())
    report = detect([Source("app.log", lines)], [], service())
    first = report.found[0]
    assert first.alert.worst.detector == NEW_TEMPLATE
    assert (first.file, first.number, first.alert.count) == ("app.log", 451, 1)
    assert "is full" in first.alert.worst.line
    assert [around.number for around in first.around] == [446, 447, 448, 449, 450, 451, 452, 453]
    assert [around.here for around in first.around] == [False] * 5 + [True] + [False] * 2
    assert first.alert.headline.startswith("never seen in 300 lines: disk")
    assert 0.9 < first.alert.worst.score <= 1


def test_a_session_that_skips_a_step_is_found_with_what_was_expected():
    report = detect([Source("shop.log", orders(400, odd={333}))], [], service())
    found = [one for one in report.found if one.alert.worst.detector == "ngram"]
    assert found
    worst = found[0].alert.worst
    assert "order 333 shipped" in worst.line
    assert "payment of" in worst.expected[0].text
    assert worst.expected[0].probability > 0.9
    assert worst.session
    assert all(worst.session in around.line for around in found[0].around)
    assert report.learnt.sessions > 100


def test_a_quiet_log_stays_quiet():
    for lines in (stream(600), orders(300)):
        report = detect([Source("app.log", lines)], [], service())
        assert (report.alerts, report.detections, report.found) == (0, 0, ())


def test_a_baseline_is_learnt_and_the_file_is_checked_whole():
    odd = [f"{stamp(9000)} ERROR app.Main - disk is full".encode(), *stream(50)]
    report = detect(
        [Source("new.log", odd)], [Source("old.log", stream(300)), Source("older.log", stream(300))], service()
    )
    assert (report.checked_lines, report.learnt.lines) == (51, 600)
    assert report.learnt.origin == "the baseline (old.log, older.log)"
    assert [(found.file, found.number) for found in report.found] == [("new.log", 1)]


def test_one_line_is_enough_to_check_against_a_baseline():
    report = detect([Source("one.log", [stream(9)[0]])], [Source("old.log", stream(300))], service())
    assert (report.checked_lines, report.alerts) == (1, 0)


def test_a_frequent_oddity_is_one_alert_that_counts_all_of_it():
    lines = stream(300) + [f"{stamp(400 + n)} WARN app.Main - retry {n} of upload".encode() for n in range(200)]
    report = detect([Source("app.log", lines)], [], service())
    found = next(one for one in report.found if "retry" in one.alert.worst.line)
    assert found.alert.count == 200
    assert found.alert.first_ms < found.alert.last_ms
    assert [number for _, number in found.places] == list(range(301, 309))


def test_top_cuts_the_list_and_says_how_many_there_are():
    lines = stream(300) + [
        f"{stamp(400 + n)} ERROR app.Main - {word} broke".encode() for n, word in enumerate(["pump", "fan", "belt"])
    ]
    report = detect([Source("app.log", lines)], [], service(), top=1)
    assert len(report.found) == 1
    assert report.alerts >= 1
    assert len(detect([Source("app.log", lines)], [], service(), top=0).found) == report.alerts


def test_a_stack_trace_belongs_to_its_line():
    trace = [
        b"java.io.IOException: no space",
        b"\tat a.b.C.d(C.java:1)",
        b"\tat a.b.C.e(C.java:2)",
        b"Caused by: x",
        b"\t... 7 more",
    ]
    lines = stream(600)
    lines[450:450] = [f"{stamp(450)} ERROR app.Main - write failed".encode(), *trace]
    report = detect([Source("app.log", lines)], [], service())
    numbers = [found.number for found in report.found]
    assert 451 in numbers
    assert not {453, 454, 455, 456} & set(numbers)


def test_several_files_are_read_in_the_order_of_their_times():
    lines = stream(600)
    late, early = Source("b.log", lines[300:]), Source("a.log", lines[:300])
    report = detect([late, early], [], service())
    assert report.alerts == 0
    assert report.learnt.origin == "the first half of 2 files"


def test_files_of_two_formats_are_each_read_by_their_own():
    other = [f"Jan 31 08:{n // 60:02d}:{n % 60:02d} host cron[{n}]: job {n} done".encode() for n in range(300)]
    report = detect([Source("app.log", stream(300)), Source("syslog", other)], [], service(), learn=0.8)
    assert "No line has a time" not in " ".join(report.notes)
    assert report.learnt.templates <= 5


def test_sessions_by_an_expression_of_ones_own():
    lines = [line.replace(b"request_id=", b"ticket ") for line in orders(200)]
    pattern = SessionOptions(by="identifier", pattern=r"ticket (\w+)")
    assert detect([Source("x", lines)], [], service(session=pattern)).learnt.sessions == 100


def test_sessions_by_an_identifier_that_nobody_named_are_found_from_the_first_line():
    lines = [line.replace(b"request_id=", b"ticket ") for line in orders(800, odd={700})]
    report = detect([Source("x", lines)], [], service())
    assert report.learnt.session_rule == r"found \bticket ([0-9a-f]{16})\b"
    assert report.learnt.sessions >= 399
    assert any(b"order 700 shipped" in lines[one.number - 1] for one in report.found)


def test_a_line_of_several_sessions_is_shown_and_counted_once():
    lines = orders(400)
    both = lines[-1].replace(b" shipped", b" and request_id=00000000000000ab exploded")
    several = SessionOptions(several="all")
    report = detect([Source("x", [*lines, both])], [], service(session=several))
    assert report.learnt.lines + report.checked_lines == len(lines) + 1
    (found,) = [one for one in report.found if "exploded" in one.alert.worst.line]
    assert (found.alert.count, found.number, found.places) == (1, len(lines) + 1, (("x", len(lines) + 1),))
    assert [one.number for one in found.around if one.here] == [len(lines) + 1]


@pytest.mark.parametrize(
    ("lines", "baseline", "words"),
    [
        ([b"one line"], [], r"too little to learn.*of 1 line 0, at least 20"),
        ([b"a line"] * 30, [], r"of 30 lines 15, at least 20 are needed.*--baseline"),
        ([b"a line"], [b"x"] * 5, r"the baseline has 5"),
        ([b"\xff\xfe\xff"], [], "no line could be read: 1 invalid_utf8"),
        ([b"", b"  "], [], "no line could be read"),
    ],
)
def test_too_little_to_say_anything(lines, baseline, words):
    with pytest.raises(DetectError, match=words):
        detect([Source("x", lines)], [Source("b", baseline)] if baseline else [], service())


def test_lines_that_cannot_be_read_are_counted():
    report = detect([Source("x", [*stream(100), b"\xff\xff", *stream(100)])], [], service())
    assert report.unread == {"invalid_utf8": 1}


def test_little_to_learn_from_is_said():
    assert any("300 lines only" in note for note in detect([Source("x", stream(600))], [], service()).notes)


def test_a_log_that_changed_as_a_whole_is_said():
    other = [
        f"{stamp(n)} INFO app.Other - step {n} took {n} ms and ended as {'abcde'[n % 5]}".encode() for n in range(600)
    ]
    report = detect([Source("x", stream(600) + other)], [], service())
    assert any("differ as a whole" in note for note in report.notes)


def test_of_a_log_that_never_settles_only_new_kinds_of_trouble_are_named():
    """Every fifth line says something that was never said before, as a package manager's do."""
    lines = stream(2000)
    words = ("".join(letters) for letters in itertools.product("abcdefghij", repeat=4))
    for number in range(0, 2000, 5):
        one, two, three = (next(words) for _ in range(3))
        lines[number] = f"{stamp(number)} INFO app.Main - {one} {two} with the {three}".encode()
    lines[1901] = f"{stamp(1901)} INFO app.Main - checksum of the index is corrupted".encode()
    report = detect([Source("app.log", lines)], [], service())
    assert report.learnt.new_share > 0.05
    new = [found.alert.worst.line for found in report.found if found.alert.worst.detector == NEW_TEMPLATE]
    assert [line.split(" - ")[1] for line in new] == ["checksum of the index is corrupted"]
    assert report.passed_over == report.data()["new_kinds_passed_over"] > 20
    assert any(f"{report.passed_over:,} more new kinds" in note for note in report.notes)


def test_the_same_log_gives_the_same_report():
    lines = orders(300, odd={200, 250})
    first, second = (detect([Source("x", lines)], [], service()) for _ in range(2))
    assert [found.alert.worst.id for found in first.found] == [found.alert.worst.id for found in second.found]


def test_no_false_alarms_means_a_higher_bar():
    lines = orders(400, odd={300, 350})
    strict = detect([Source("x", lines)], [], service(budget=BudgetOptions(false_alarm_rate=0.0)))
    loose = detect([Source("x", lines)], [], service(budget=BudgetOptions(false_alarm_rate=0.2)))
    assert strict.detections <= loose.detections


def test_the_report_is_plain_json_with_whole_detections():
    report = detect([Source("x", orders(300, odd={200}))], [], service())
    data = json.loads(json.dumps(report.data()))
    assert data["learnt"]["lines"] == report.learnt.lines
    Detection.model_validate(data["alerts"][0]["detection"])
    assert {"file", "line_number", "around", "headline", "count"} <= data["alerts"][0].keys()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")), min_size=0, max_size=120))
def test_no_input_breaks_it(lines):
    try:
        report = detect([Source("x", lines)], [], service())
    except DetectError:
        return
    assert report.checked_lines > 0


def test_hdfs_in_seconds():
    path = DATA / "hdfs/hdfs.log.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there (LOGCANARY_DATA)")
    lines = gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
    report = detect([Source("hdfs.log", lines)], [], service(), top=0)
    assert report.learnt.session_rule == "block"
    assert 5 <= report.alerts <= 40
    assert any("Redundant addStoredBlock" in found.alert.worst.line for found in report.found)
    assert report.seconds < 30


@pytest.mark.parametrize(
    "system", ["Android", "Apache", "BGL", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Spark", "Windows"]
)
def test_any_system_gets_an_answer(system):
    path = DATA / f"loghub/{system}/{system}_2k.log.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there (LOGCANARY_DATA)")
    lines = gzip.decompress(path.read_bytes()).splitlines()
    report = detect([Source(system, lines)], [], service())
    assert report.learnt.lines + report.checked_lines + sum(report.unread.values()) <= 2000
    for found in report.found:
        assert any(around.here for around in found.around)
        assert found.around[[around.here for around in found.around].index(True)].line == found.alert.worst.line
