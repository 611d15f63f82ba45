"""What is noteworthy in the lines of a data set is counted, and said where learning from them is unwise."""

import numpy as np
import pytest

from parsing.events import Lines
from tests.unit.test_training import SERVICE, SETTINGS, STEPS, dataset, orders, verdict
from training import sanity
from training.dataset import Dataset, build

START = 1_770_000_000_000


def at(texts, arrivals=None, partition=0) -> Lines:
    count = len(texts)
    arrivals = START + np.arange(count) if arrivals is None else np.array(arrivals)
    return Lines.from_list(SERVICE, "logs.shop", partition, np.arange(count), arrivals, texts)


def seen(*batches) -> Dataset:
    return build(batches, SETTINGS, endless=True)


def warned(data: Dataset, words: str) -> bool:
    return any(words in warning for warning in data.sanity.warnings)


def test_plenty_of_plain_lines_are_nothing_to_worry_about():
    data = seen(at(orders(range(100, 1_600))))
    assert data.sanity.warnings == ()
    assert (data.sanity.lines, data.sanity.templates) == (6_000, 4)
    assert (data.sanity.repeated, data.sanity.clock_jumps, data.sanity.loud) == (0, 0, 0)


def test_few_lines_are_few():
    assert warned(seen(at(orders(range(100, 120)))), "80 lines are few")


def test_lines_that_were_sent_twice_are_told_whatever_the_batches():
    lines = orders(range(100, 1_600))
    data = seen(at(lines), at(lines[:3_000]))
    assert data.sanity.repeated == pytest.approx(6_000 / 9_000)
    assert warned(data, "67% of the lines are there more than once")


def test_of_many_lines_a_share_is_looked_at(monkeypatch):
    monkeypatch.setattr(sanity, "MOST_HASHES", 1_000)
    lines = orders(range(100, 1_600))
    data = seen(at(lines), at(lines[:3_000]))
    assert data.sanity.repeated == pytest.approx(6_000 / 9_000, abs=0.05)


def test_a_time_without_lines_is_told():
    lines = orders(range(100, 1_600))
    arrivals = START + np.arange(6_000) + np.repeat([0, 7_200_000], 3_000)
    data = seen(at(lines, arrivals))
    assert data.sanity.longest_gap_seconds == pytest.approx(7_200, abs=1)
    assert warned(data, "for 2.0 h no line arrived")


def test_clocks_that_were_set_are_told_and_small_disorder_is_not():
    def stamped(second: int, number: int) -> bytes:
        return f"2026-01-01 10:{second // 60:02d}:{second % 60:02d},000 INFO  shop: sent: order {number}".encode()

    tidy = seen(at([stamped(number % 50, number) for number in range(1_000)]))
    assert tidy.sanity.clock_jumps == 0
    odd = seen(at([stamped(600 * (number % 2), number) for number in range(1_000)]))
    assert odd.sanity.clock_jumps == pytest.approx(500, abs=1)
    assert warned(odd, "the time goes back")


def test_many_errors_look_like_an_incident():
    lines = [
        line.replace(b"INFO ", b"ERROR") if n % 4 == 0 else line for n, line in enumerate(orders(range(100, 1_600)))
    ]
    data = seen(at(lines))
    assert data.sanity.loud == 0.25
    assert warned(data, "25% of the lines are errors")


def test_faults_that_look_like_normal_sessions_contradict_themselves():
    data = dataset(orders(range(100, 1_600)), verdicts=(verdict("confirmed", "107"),))
    assert data.sanity.conflicts == 1
    assert warned(data, "1 confirmed faults look like sessions that are learnt as normal")
    clear = dataset(
        orders(range(100, 1_600)) + orders(range(50, 51), [STEPS[3], STEPS[0]]), verdicts=(verdict("confirmed", "50"),)
    )
    assert clear.sanity.conflicts == 0


def test_a_missing_mask_is_told():
    words = ("".join(chr(97 + int(digit)) for digit in str(number)) for number in range(2_000))
    shapes = [f"{word} " * (3 + number % 40) for number, word in enumerate(words)]
    lines = [f"2026-01-01 00:00:00,000 INFO  shop: {shape}".encode() for shape in shapes]
    data = seen(at([*orders(range(100, 1_100)), *lines]))
    assert data.sanity.templates > sanity.ONCE_TEMPLATES
    assert warned(data, "templates came once: a mask is missing")
