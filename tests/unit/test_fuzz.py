"""Fuzzed lines of every kind through parsing and scoring: the short form of ``python -m tests.chaos.fuzz``."""

import itertools

import pytest

from tests.chaos.fuzz import KINDS, LIMIT, dead_reason, fuzz, fuzzed, verdict

LINES = 20_000


@pytest.fixture(scope="module")
def outcome():
    return fuzz(LINES, seed=2)


def test_every_line_is_scored_or_counted_by_reason_and_nothing_raises(outcome):
    assert verdict(outcome, LINES) == []
    assert set(outcome.kinds) == set(KINDS)
    assert set(outcome.dead) == {"null", "empty", "invalid_utf8"}
    assert outcome.cut
    assert outcome.detections > LINES / 10


def test_a_line_lost_on_the_way_would_be_noticed(monkeypatch):
    from parsing import decode

    whole = decode.dead_letters
    monkeypatch.setattr(decode, "dead_letters", lambda lines, dead: whole(lines, dead)[1:])
    assert any("dead letters differ" in words for words in verdict(fuzz(300, seed=3), 300))


def test_a_parser_that_raises_on_a_batch_would_be_noticed(monkeypatch):
    from parsing import unwrap

    opened = unwrap.unwrap

    def touchy(text, *rest):
        if len(text) > 1 and text.str.contains("🐦", literal=True).any():  # goes away once the batch is halved
            raise ValueError("too many at once")
        return opened(text, *rest)

    monkeypatch.setattr(unwrap, "unwrap", touchy)
    assert any("too many at once" in words for words in verdict(fuzz(300, seed=3), 300))


def test_the_same_seed_gives_the_same_lines():
    first, again = (list(itertools.islice(fuzzed(5), 3_000)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(fuzzed(6), 3_000))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "empty"),
        (b" \t\r\n", "empty"),
        (b"\x00", None),
        (b"\xff", "invalid_utf8"),
        (b"x" * (LIMIT - 1) + "é".encode(), None),
        (b"x" * (LIMIT - 1) + b"\xc3\xff", None),
        (b"\xff" + b"x" * LIMIT, "invalid_utf8"),
    ],
)
def test_what_is_expected_of_a_line(value, reason):
    assert dead_reason(value) == reason
