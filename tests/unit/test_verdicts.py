"""What engineers have called normal: scopes, expiry, rates, aliases."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records import Detection, Template, Verdict
from models.verdicts import (
    HOUR_MS,
    Accepted,
    Place,
    Rates,
    Suppression,
    Suppressions,
    limit,
    observed_rate,
    undone,
    verdict_on,
)
from storage.control import ControlView, key_of

A, B = "00000000000000aa", "00000000000000bb"


def verdict(value: str = "expected", **changes: Any) -> Verdict:
    values = {
        "service": "web",
        "detection": "d1",
        "template": A,
        "topic": "logs.web",
        "partition": 0,
        "offset": 1,
        "session": "s1",
        "event_ms": 0,
        "arrival_ms": 0,
        "value": value,
        "reason": "because",
        "author": "me",
        "given_ms": 1,
        "detector": "deeplog",
    }
    return Verdict.model_validate(values | changes)


def place(**changes: Any) -> Place:
    values: dict[str, Any] = {
        "template": A,
        "detector": "deeplog",
        "session": "s1",
        "partition": 0,
        "offset": 7,
        "arrival_ms": 0,
        "event_ms": 0,
    }
    return Place(**(values | changes))


def raised(verdicts: list[Verdict], **changes: Any) -> bool:
    return Suppression(Accepted(verdicts), Rates()).ask(place(**changes))[0]


@pytest.mark.parametrize(
    ("verdicts", "is_raised"),
    [
        ([], True),
        ([verdict("false-positive")], False),
        ([verdict("expected")], False),
        ([verdict("confirmed")], True),
        ([verdict("unsure")], True),
        ([verdict(template=B)], True),
        # Of two verdicts on one template the newer decides, in whatever order they are read.
        ([verdict(given_ms=1), verdict("confirmed", detection="d2", given_ms=2)], True),
        ([verdict("confirmed", detection="d2", given_ms=2), verdict(given_ms=1)], True),
        ([verdict("confirmed", given_ms=1), verdict(detection="d2", given_ms=2)], False),
        # Unsure decides nothing.
        ([verdict(given_ms=1), verdict("unsure", detection="d2", given_ms=2)], False),
        # The narrower scope decides, whichever is newer.
        ([verdict("confirmed", scope="signature", given_ms=1), verdict(given_ms=2)], True),
        ([verdict("confirmed", given_ms=2), verdict(scope="alert", given_ms=1)], False),
        ([verdict("confirmed", scope="alert", given_ms=1), verdict(scope="signature", given_ms=2)], True),
        # An expired one does not.
        ([verdict("confirmed", scope="alert", expires_ms=1), verdict(scope="signature")], True),
        ([verdict(scope="alert", expires_ms=-1), verdict("confirmed")], True),
    ],
)
def test_which_verdict_decides(verdicts: list[Verdict], is_raised: bool) -> None:
    assert raised(verdicts) == is_raised


@pytest.mark.parametrize(
    ("scope", "changes", "is_raised"),
    [
        ("template", {"detector": "deeplog.end", "session": "s2"}, False),
        ("template", {"template": B}, True),
        ("signature", {"session": "s2"}, False),
        ("signature", {"detector": "deeplog.end"}, True),
        ("alert", {"offset": 99}, False),
        ("alert", {"session": "s2"}, True),
        ("alert", {"template": B}, True),
        # A line without a session is meant itself.
        ("alert", {"session": "", "offset": 1}, True),
    ],
)
def test_what_each_scope_covers(scope: str, changes: dict[str, Any], is_raised: bool) -> None:
    assert raised([verdict(scope=scope)], **changes) == is_raised


def test_a_session_without_a_name_is_the_line() -> None:
    verdicts = [verdict(scope="alert", session="")]
    assert not raised(verdicts, session="", offset=1)
    assert raised(verdicts, session="", offset=2)
    assert raised(verdicts, session="", offset=1, partition=3)


def test_a_verdict_expires_by_the_arrival_of_lines() -> None:
    verdicts = [verdict(expires_ms=1000)]
    assert not raised(verdicts, arrival_ms=999)
    assert raised(verdicts, arrival_ms=1000)


def test_aliases_are_one_template_both_ways() -> None:
    roots = {A: A, B: A}
    for of, asked in ((A, B), (B, A)):
        accepted = Accepted([verdict(template=of)], lambda template: roots[template])
        assert accepted.deciding(place(template=asked)) is not None


def test_all_that_was_said_is_told_oldest_first() -> None:
    verdicts = [
        verdict("unsure", given_ms=3),
        verdict(scope="signature", given_ms=1, expires_ms=1),
        verdict(given_ms=2),
    ]
    assert [one.given_ms for one in Accepted(verdicts).said(place(arrival_ms=5))] == [1, 2, 3]


@given(st.lists(st.integers(0, 3 * HOUR_MS - 1), max_size=120), st.sampled_from([0.5, 1.0, 4.0]))
def test_at_most_one_finding_an_hour_is_raised_and_only_where_there_are_too_many(times: list[int], rate: float) -> None:
    suppression = Suppression(Accepted([verdict(accepted_per_hour=rate)]), Rates())
    times.sort()
    found = [(at // HOUR_MS, *suppression.ask(place(event_ms=at))) for at in times]
    for hour in range(3):
        most = limit(rate, 1.0, is_first=bool(times) and hour == times[0] // HOUR_MS)
        raised_then = [why for of, is_raised, why in found if of == hour and is_raised]
        there = sum(of == hour for of, _, _ in found)
        assert [why and why.per_hour for why in raised_then] == ([most] if there >= most else [])


def test_a_line_of_an_hour_that_is_over_is_not_counted() -> None:
    rates, said = Rates(), verdict(accepted_per_hour=1.0)
    assert not any(rates.beyond(said, place(event_ms=at)) for at in [HOUR_MS, *[0] * 100])
    most = limit(1.0, 1.0, is_first=True)
    answers = [rates.beyond(said, place(event_ms=HOUR_MS)) for _ in range(most)]
    assert [index for index, why in enumerate(answers) if why] == [most - 2]


def test_a_bucket_expects_its_share_of_named_sessions_and_all_of_a_stream() -> None:
    said = verdict(accepted_per_hour=100.0)
    for session, most in (("s1", 250), ("", 1000)):
        rates = Rates(share=0.25)
        rates.beyond(said, place(session=session, event_ms=0))  # its first hour asks for less
        answers = [rates.beyond(said, place(session=session, offset=i, event_ms=HOUR_MS)) for i in range(2000)]
        assert [(i + 1, why.per_hour) for i, why in enumerate(answers) if why] == [(most, 1000)]


def test_what_is_accepted_is_never_too_many_in_one_bucket() -> None:
    for accepted in (1.0, 2.0, 5.0, 40.0):
        for buckets in (1, 4, 64):
            assert limit(accepted, 1 / buckets, is_first=True) > 2 * accepted


def test_without_a_rate_however_many_are_accepted() -> None:
    suppression = Suppression(Accepted([verdict()]), Rates())
    assert not any(suppression.ask(place())[0] for _ in range(5000))


def test_a_bucket_keeps_counts_of_so_many_verdicts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.verdicts.MAX_COUNTS", 2)
    rates = Rates()
    for name in ("d1", "d2", "d3", "d1", "d1"):  # d1 is forgotten once, and begins anew
        assert rates.beyond(verdict(detection=name, accepted_per_hour=0.5), place()) is None
    assert rates.beyond(verdict(detection="d1", accepted_per_hour=0.5), place()) is not None


# -- shapes, undoing, detections ---------------------------------------------------------------------------------


def test_sessions_of_one_shape_are_those_with_the_same_templates_however_often_and_ordered() -> None:
    verdicts = [verdict(scope="shape", shape=(A, B))]
    assert not raised(verdicts, template=B, before=(A, B, A), session="s2")
    assert not raised(verdicts, template=A, before=(B,), session="s3")
    assert raised(verdicts, template=A, before=(B, "00000000000000cc"))
    assert raised(verdicts, template=B, before=(A,), detector="ngram")


def test_what_is_undone_covers_nothing_and_is_still_told() -> None:
    back = undone(verdict(), "ada", 7)
    assert raised([back])
    (said,) = Accepted([back]).said(place())
    assert (said.undone_by, said.undone_ms) == ("ada", 7)


def test_a_verdict_carries_what_was_said_of_the_detection_before() -> None:
    found = detection(1)
    first = verdict_on(found, "expected", "known", "ada", 1, expires_ms=9)
    second = verdict_on(found, "confirmed", "no", "bob", 2, before=undone(first, "bob", 2))
    third = verdict_on(found, "unsure", "hm", "cy", 3, before=second)
    told = [(one.value, one.author, one.expires_ms, one.undone_by) for one in third.earlier]
    assert told == [("confirmed", "bob", 0, ""), ("expected", "ada", 9, "bob")]


def test_old_records_are_still_read() -> None:
    old = verdict().model_dump_json(
        exclude={"scope", "detector", "shape", "expires_ms", "accepted_per_hour", "undone_ms", "undone_by", "earlier"}
    )
    read = Verdict.model_validate_json(old)
    assert (read.scope, read.expires_ms, read.accepted_per_hour, read.earlier) == ("template", 0, 0.0, ())
    assert not raised([read], session="s2", detector="ngram")


def detection(number: int, **changes: Any) -> Detection:
    values: dict[str, Any] = {
        "id": f"{number:016x}",
        "signature": "a" * 16,
        "service": "web",
        "detector": "deeplog",
        "kind": "event",
        "topic": "logs.web",
        "partition": 0,
        "offset": number,
        "arrival_ms": 5,
        "event_ms": 5,
        "detected_ms": 5,
        "session": f"s{number}",
        "line": "line",
        "level": "INFO",
        "template": A,
        "template_text": "line",
        "score": 1.0,
        "threshold": 0.9,
        "surprise": 9.0,
        "rank": 5,
        "expected": (),
        "before": (),
        "bundle": "b",
        "headline": "saw it",
    }
    return Detection.model_validate(values | changes)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_detections_are_judged_the_same_in_any_batches(size: int) -> None:
    found = [detection(i, template=(A, B)[i % 5 == 0]) for i in range(100)]
    suppression = Suppression(Accepted([verdict(accepted_per_hour=4.0)]), Rates())
    kept = [one for start in range(0, 100, size) for one in suppression.judge(found[start : start + size])]
    loud = [one for one in kept if one.escalated is not None]
    assert [one.id for one in kept if one.escalated is None] == [one.id for one in found if one.template == B]
    assert [(one.escalated.per_hour, one.escalated.accepted_per_hour) for one in loud if one.escalated] == [(20, 4.0)]
    assert loud[0].headline == "accepted at 4 an hour, now 20 and more: saw it"


def test_the_rate_that_was_observed_is_that_of_all_the_verdict_covers() -> None:
    hour = HOUR_MS
    times = [0, 1, hour - 1, hour, hour + 1, 3 * hour]
    found = [detection(i, event_ms=at, detector=("deeplog", "ngram")[i == 0]) for i, at in enumerate(times)]

    def rate(**changes: Any) -> float:
        return observed_rate(verdict(**changes), found, lambda template: template)

    assert (rate(), rate(scope="signature"), rate(scope="alert", session="s4")) == (3.0, 2.0, 1.0)
    # What was suppressed is not among them: what escalated says how many there were.
    found.append(detection(9, event_ms=9 * hour, escalated={"per_hour": 30, "accepted_per_hour": 3.0}))
    assert rate() == 30.0


def test_suppressions_follow_the_control_topic() -> None:
    view = ControlView()
    suppressions = Suppressions(view, buckets=2)

    def quiet(template: str) -> bool:
        return not suppressions.of("web", "web#0").judge([detection(1, template=template)])

    def tell(record: Verdict | Template) -> None:
        view.apply(key_of(record), record.model_dump_json().encode())

    assert not quiet(A)
    tell(verdict(template=B))
    assert (quiet(A), quiet(B)) == (False, True)
    tell(Template(service="web", id=B, text="line", alias_of=A))  # lines may come under either id
    assert (quiet(A), quiet(B)) == (True, True)
    tell(undone(verdict(template=B), "ada", 9))
    assert (quiet(A), quiet(B)) == (False, False)
