"""How slow this machine is, and waiting: what is waited for comes later on a slower one, and that is no fault."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

REFERENCE_SECONDS = 0.04
"""A million additions on the machine on which the promises in seconds were made, two virtual cores."""

Answer = TypeVar("Answer")


@functools.cache
def slowness() -> float:
    """How many times slower than the reference this machine is, and 1 where it is faster.

    Measured once: ask before the stack runs, or it measures that too.
    """
    return max(1.0, statistics.median(_additions() for _ in range(5)) / REFERENCE_SECONDS)


def patience(seconds: float) -> float:
    """Give the seconds that something may take here which may take ``seconds`` on the reference machine."""
    return seconds * slowness()


def wait_until(condition: Callable[[], Answer], what: str, seconds: float = 60) -> Answer:
    """Ask until the answer is true, and give it: across processes there is no event to wait for.

    Args:
        condition: asked a few times a second.
        what: is waited for, for the message.
        seconds: of patience on the reference machine.
    """
    limit = patience(seconds)
    deadline = time.monotonic() + limit
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}"
        time.sleep(0.2)
    return answer


def wait_for(ask: Callable[[], Answer], wanted: Answer, seconds: float = 90) -> Answer:
    """Ask until the answer is the wanted one; as ``wait_until``."""
    limit = patience(seconds)
    deadline = time.monotonic() + limit
    while (got := ask()) != wanted:
        assert time.monotonic() < deadline, f"{got} after {limit:.0f} s, not {wanted}"
        time.sleep(0.5)
    return got


def _additions() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.perf_counter() - began
