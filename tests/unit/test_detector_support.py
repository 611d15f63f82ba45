"""Builders of finished sessions for the tests of detectors."""

import numpy as np
from test_models_support import events_of

from models.finished import Sessions

TEXTS = {
    10: "order <NUM> received from the customer",
    11: "stock checked for order <NUM>",
    12: "page of the catalogue read",
    13: "payment of order <NUM> was taken",
    14: "parcel packed in the warehouse, order <NUM>",
    15: "sent: order <NUM>",
    99: "payment service failed with an exception, order <NUM>",
}
MINUTE = 60_000


def session(name, templates, start, *, gaps=None, levels=None):
    """Rows of one session for ``events_of``: times in ms from ``start``."""
    at, rows = start, []
    for i, template in enumerate(templates):
        at += (gaps or {}).get(i, 200)
        rows.append({"session": name, "template": template, "time": at, "level": (levels or {}).get(i, "INFO")})
    return rows


def shop_events(n, *, seed=0, start=0, every=5_000, prefix="s"):
    """Events of ``n`` orders one after another, which differ in the pages read and in their gaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        steps = [10, 11, *[12] * int(rng.integers(0, 4)), 13, 14, 15]
        gaps = {j: int(rng.integers(50, 400)) for j in range(len(steps))}
        rows += session(f"{prefix}{i}", steps, start + i * every, gaps=gaps)
    return events_of(rows, templates=TEXTS)


def shop(n, **options):
    """Finished sessions of ``shop_events``."""
    return Sessions.of(shop_events(n, **options))


def planted(start=10**7, name="odd"):
    """One session that is wrong in every way: a new line of trouble, a long gap, out of order, too much, and no end."""
    steps = [10, 99, 12, 12, 12, 12, 12, 12, 13, 11]
    rows = session(name, steps, start, gaps={1: 20 * MINUTE}, levels={1: "ERROR"})
    return Sessions.of(events_of(rows, templates=TEXTS))


def random_sessions(n, *, seed, templates=2**63, length=12, start=0):
    """Sessions of templates drawn from very many."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(2, templates, n * length, dtype=np.uint64)
    times = start + np.arange(n * length) * 1_000
    starts = np.arange(n + 1) * length
    texts = {int(one): f"event number {one} of many kinds" for one in drawn}
    levels = np.full(n * length, 3)
    names = [f"r{seed}-{i}" for i in range(n)]
    return Sessions(names, starts, drawn, times, levels, times[starts[1:] - 1], np.zeros(n, dtype=np.int64), texts)


def test_the_planted_session_is_one_and_the_others_are_whole():
    assert len(planted()) == 1
    orders = shop(20)
    assert len(orders) == 20
    assert set(orders.templates[orders.starts[1:] - 1].tolist()) == {15}
