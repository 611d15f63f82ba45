"""What engineers have called normal: scopes, expiry, rates, aliases."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records import Verdict
from models.verdicts import BEYOND, HOUR_MS, LEAST, Accepted, Normal, Place, Rates

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
    return Normal(Accepted(verdicts), Rates()).judge(place(**changes))[0]


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
        ([verdict("confirmed", given_ms=2), verdict(scope="session", given_ms=1)], False),
        ([verdict("confirmed", scope="session", given_ms=1), verdict(scope="signature", given_ms=2)], True),
        # An expired one does not.
        ([verdict("confirmed", scope="session", expires_ms=1), verdict(scope="signature")], True),
        ([verdict(scope="session", expires_ms=-1), verdict("confirmed")], True),
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
        ("session", {"offset": 99}, False),
        ("session", {"session": "s2"}, True),
        ("session", {"template": B}, True),
        # A line without a session is meant itself.
        ("session", {"session": "", "offset": 1}, True),
    ],
)
def test_what_each_scope_covers(scope: str, changes: dict[str, Any], is_raised: bool) -> None:
    assert raised([verdict(scope=scope)], **changes) == is_raised


def test_a_session_without_a_name_is_the_line() -> None:
    verdicts = [verdict(scope="session", session="")]
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
    normal = Normal(Accepted([verdict(accepted_per_hour=rate)]), Rates())
    limit = max(LEAST, BEYOND * rate)
    found = [(at // HOUR_MS, *normal.judge(place(event_ms=at))) for at in sorted(times)]
    for hour in range(3):
        counts = [count for of, is_raised, count in found if of == hour and is_raised]
        there = sum(of == hour for of, _, _ in found)
        assert counts == ([limit] if there >= limit else [])


def test_a_line_of_an_hour_that_is_over_is_not_counted() -> None:
    rates = Rates()
    said = verdict(accepted_per_hour=1.0)
    late = [rates.beyond(said, place(event_ms=at)) for at in [HOUR_MS, *[0] * 100]]
    assert not any(late)
    assert [rates.beyond(said, place(event_ms=HOUR_MS)) for _ in range(LEAST)][LEAST - 2] == LEAST


def test_a_bucket_expects_its_share_of_named_sessions_and_all_of_a_stream() -> None:
    said = verdict(accepted_per_hour=100.0)
    for session, limit in (("s1", 250), ("", 1000)):
        rates = Rates(share=0.25)
        counts = [rates.beyond(said, place(session=session, offset=i)) for i in range(2000)]
        assert [i + 1 for i, count in enumerate(counts) if count] == [limit]


def test_without_a_rate_however_many_are_accepted() -> None:
    normal = Normal(Accepted([verdict()]), Rates())
    assert not any(normal.judge(place())[0] for _ in range(5000))
