"""Why something does not belong, in data and in sentences: parameters, the session beside it, what detectors say."""

import re

import pytest
from test_alerts import detection
from test_detector_support import MINUTE, TEXTS, planted, session
from test_detector_support import shop as orders
from test_models_support import events_of

from contracts.records import Before, Expected
from contracts.service import DetectorOptions, ServiceSettings
from models.alerts import group
from models.detect import Source, study
from models.detector import Evidence, Part
from models.detectors import SESSION_DETECTORS
from models.detectors.timing import Timing
from models.explaining import (
    ExplainError,
    aligned,
    explain_finding,
    explain_line,
    explain_session,
    parameters_of,
)
from models.finished import Sessions
from models.sentences import WORDS, sentence
from models.tracing import TRACE_DETECTORS

SETTINGS = ServiceSettings(service="shop", detector=DetectorOptions(kind="ngram"))


def order(number, *, skip="", extra=""):
    steps = ["opened by", "charged", "packed in box", "shipped at door"]
    lines = [f"order {step} {number % 7} {extra if step == 'packed in box' else ''}" for step in steps if step != skip]
    return [
        f"2026-01-01 {number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d} INFO shop {line} order_id={number}"
        for line in lines
    ]


@pytest.fixture(scope="module")
def shop():
    orders = [order(number) for number in range(400)]
    orders[350] = order(350, skip="charged")
    orders[360] = [
        *order(360)[:2],
        "2026-01-01 00:06:00 INFO shop disk \x1b[31m is broken order_id=360",
        *order(360)[2:],
    ]
    lines = [line.encode() for one in orders for line in one]
    return study([Source("shop.log", lines)], [], SETTINGS, learn=0.5)


# -- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "line", "values"),
    [
        ("Received <NUM> bytes from <IP>", "10:00 INFO Received 42  bytes from 10.0.0.1", ("42", "10.0.0.1")),
        ("<IP> is gone", "10:00 INFO 10.0.0.1 is gone", ("10.0.0.1",)),
        ("block <*> lost", "lost: block a b lost", ("a b",)),
        ("nothing varies", "10:00 nothing varies", ()),
        ("Received <NUM> bytes", "Received 42 byt", ()),
        ("<NUM><IP> x", "10:00 7 x", ()),
        ("<NUM> x", " x", ()),
    ],
)
def test_parameters_are_what_the_line_has_where_the_template_varies(template, line, values):
    assert parameters_of(template, line) == values


# -- beside a normal one -------------------------------------------------------------------------------------------


def test_what_only_one_of_two_sessions_has_is_marked():
    mine, normal = [(one, one.upper()) for one in "abxd"], [(one, one.upper()) for one in "abcd"]
    steps = [(step.text, step.mark, step.is_it) for step in aligned(mine, normal, 2)]
    assert steps == [
        ("A", "both", False),
        ("B", "both", False),
        ("C", "normal", False),
        ("X", "here", True),
        ("D", "both", False),
    ]


@pytest.mark.parametrize(("mine", "normal"), [("", ""), ("", "ab"), ("ab", ""), ("aaaa", "aa"), ("abcabc", "cba")])
def test_both_sessions_are_there_whole(mine, normal):
    steps = aligned([(one, one) for one in mine], [(one, one) for one in normal], 0)
    assert "".join(step.text for step in steps if step.mark != "normal") == mine
    assert "".join(step.text for step in steps if step.mark != "here") == normal


# -- a detection ---------------------------------------------------------------------------------------------------


def found(**changes):
    values = {
        "surprise": 6.907755,
        "line": "INFO disk 7 is full",
        "template_text": "disk <NUM> is full",
        "expected": (
            Expected(template="c" * 16, text="disk <NUM> is fine", probability=0.75),
            Expected(template="d" * 16, text="rare", probability=0.001),
        ),
        "before": (Before(template="e" * 16, text="disk asked"),),
    }
    return detection(1, **(values | changes))


def test_a_detection_is_explained_by_what_it_carries():
    one, later = found(), detection(2, event_ms=3_600_000)
    (alert,) = group([one, later])
    told = explain_finding(one, alert)
    assert told.sentences() == [
        'Expected "disk <NUM> is fine" (75 %).',
        'Came "disk <NUM> is full"; that is one in 1,000.',
        "The line has 7 where its template has variables.",
        "This was found 2 times, since 1970-01-01 00:00:01 UTC, last at 1970-01-01 01:00:00 UTC.",
    ]
    assert [(step.text, step.mark) for step in told.steps] == [
        ("disk asked", "both"),
        ("disk <NUM> is fine", "normal"),
        ("disk <NUM> is full", "here"),
    ]
    assert told.data()["one_in"] == pytest.approx(1000, rel=1e-4)


def test_an_end_is_explained_by_what_failed_to_come():
    one = found(kind="end", surprise=30.0)
    told = explain_finding(one, group([one])[0])
    assert told.sentences()[1] == "The session ended, and none of it came; that is less than one in a billion."
    assert told.parameters == ()


# -- a file --------------------------------------------------------------------------------------------------------


def test_a_missing_event_is_marked_beside_the_nearest_normal_session(shop):
    told = explain_session(shop, "350")
    assert told.is_raised
    (missing,) = [step.text for step in told.steps if step.mark == "normal"]
    assert "charged" in missing
    assert not [step for step in told.steps if step.mark == "here"]
    assert re.match(r"Expected [^,]*charged[^,]* \(\d+ %\)\.", told.sentences()[0])
    assert told.evidence
    assert told.place == "shop.log:1402"


def test_a_line_never_seen_is_what_a_session_is_explained_by(shop):
    told = explain_session(shop, "360")
    assert told.is_new
    assert "disk" in told.line
    assert "which was never seen before" in told.sentences()[1]
    assert told.count == 1
    assert [step.text for step in told.steps if step.is_it] == [told.template_text]
    assert explain_line(shop, 1442).line == told.line


def test_a_normal_session_is_said_to_be_one(shop):
    told = explain_session(shop, "390")
    assert not told.is_raised
    assert "not unusual enough to be raised" in told.sentences()[1]
    assert {step.mark for step in told.steps} == {"both"}
    assert told.evidence == ("No detector of whole sessions finds this one rare.",)


def test_of_a_long_session_the_events_around_the_one_explained_are_shown(shop, monkeypatch):
    monkeypatch.setattr("models.explaining.MAX_STEPS", 2)
    told = explain_session(shop, "360")
    own = [step for step in told.steps if step.mark != "normal"]
    assert len(own) == 2
    assert [step.text for step in own if step.is_it] == [told.template_text]


def test_what_is_not_there_is_said_with_what_is(shop):
    with pytest.raises(ExplainError, match="no line names a session 'x'; sessions are, for instance, "):
        explain_session(shop, "x")
    with pytest.raises(ExplainError, match=r"line 9,999 of shop\.log is no line of its own: it has 1,600"):
        explain_line(shop, 9999)


# -- what detectors say --------------------------------------------------------------------------------------------


def test_every_detector_of_sessions_is_put_into_words(shop):
    log = shop.log.events
    sessions = Sessions.of(log)
    for kind in SESSION_DETECTORS:
        one = kind()
        one.learn(sessions.take(shop_rows(sessions, 200)))
        for row in (350, 360, 390):
            said = sentence(one.explain(sessions, row), log.templates)
            assert said.endswith(".")
            assert said[0] == said[0].upper()


def shop_rows(sessions, most):
    return sessions.groups().argsort()[:most]


@pytest.mark.parametrize("reason", sorted(WORDS))
def test_every_reason_can_be_said_of_a_template_that_nobody_knows(reason):
    why = Evidence("d", reason, "chance", (Part(7, 0.5, 0.25, "ERROR"),), related=(9,))
    said = sentence(why, {})
    assert said.endswith(".")
    assert "{}" not in said


def test_the_reasons_of_detectors_of_traces_are_known():
    own = {kind.name for kind in TRACE_DETECTORS} - {"next_event", "gap"}  # which have words of their own
    assert own | {"unexpected", "ended_early", "slow"} <= set(WORDS)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            Evidence("missing", "stopped_early", "chance", (Part(2, 0.0, 0.98),), related=(1,)),
            'It stopped after "A"; what followed elsewhere: "B" (98 %).',
        ),
        (
            Evidence("timing", "slow", "ms", (Part(2, 5200.0, 480.0),), related=(1,)),
            '"B" came 5,200 ms after "A"; 99 of 100 come within 480 ms.',
        ),
        (
            Evidence("timing", "slow_unseen", "ms", (Part(2, 5200.0, 1023.0),), related=(1,)),
            '"B" came 5,200 ms after "A", as it never did; 99 of 100 events come within 1,023 ms of the one before.',
        ),
        (
            Evidence("count_vector", "unusual_counts", "events", (Part(1, 3.0, 1.0), Part(2, 0.0, 2.0))),
            'Compared with the nearest normal session: "A" 3 times instead of once, "B" never instead of 2 times.',
        ),
        (
            Evidence("pca", "unusual_mix", "events", (Part(1, 1.0, 1.02), Part(2, 4.0, 1.3), Part(1, 0.0, 1.01))),
            'Compared with what usually comes with the rest: "B" 4 times instead of 1.3 times, '
            '"A" never instead of once.',
        ),
        (
            Evidence("order", "unusual_order", "chance", (Part(2, 1.0, 0.004), Part(1, 0.0, 0.9)), related=(1,)),
            'After "A" came "B" (0.4 %); expected "A" (90 %).',
        ),
        (
            Evidence("new_template", "new", "chance", (Part(2, 1.0, 0.0),), related=(1,)),
            '"B" is in no normal session; the nearest known one is "A".',
        ),
        (
            Evidence("rate", "silence", "events", (Part(0, 0.0, 12.0),)),
            "A silence: 0 events in a minute where 12.0 are usual.",
        ),
    ],
)
def test_sentences(why, said):
    assert sentence(why, {1: "A", 2: "B"}) == said


def test_a_gap_between_two_that_never_met_is_put_beside_that_of_any_two():
    timing = Timing()
    timing.learn(orders(200))
    why = timing.explain(planted(), 0)
    assert (why.reason, why.parts[0].observed) == ("slow_unseen", 20 * MINUTE)
    assert 300 < why.parts[0].usual < 1_000
    late = Sessions.of(events_of(session("late", [10, 11, 13, 14, 15], 10**7, gaps={1: 9_000}), templates=TEXTS))
    why = timing.explain(late, 0)
    assert (why.reason, why.parts[0].observed) == ("slow", 9_000)
    assert 300 < why.parts[0].usual < 1_000
