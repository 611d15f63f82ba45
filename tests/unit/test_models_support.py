"""Builders of events for the tests of models and training."""

import numpy as np
import polars as pl

from parsing.events import EVENT_SCHEMA, Events


def events_of(rows, service="pay", templates=None, start=0):
    """Events from tuples (session, template) or dicts of columns; offsets count up from ``start``."""
    full = []
    for i, row in enumerate(rows):
        one = {
            "offset": start + i, "partition": 0, "arrival": 10_000_000 + start + i, "time": 1000 * (start + i),
            "level": "INFO", "session": "", "template": 2, "line": f"line {start + i}",
        }  # fmt: skip
        full.append(one | (row if isinstance(row, dict) else {"session": row[0], "template": row[1]}))
    frame = pl.DataFrame(full, schema=EVENT_SCHEMA, orient="row")
    ids = frame["template"].unique().to_list()
    texts = {i: (templates or {}).get(i, f"template {i} <NUM>") for i in ids}
    return Events(service, f"logs.{service}", frame, texts)


def random_log(n, sessions, *, templates=12, seed=0, service="pay", noise=0.05):
    """A log in which each session walks a ring of templates, with some noise (a share of the lines)."""
    rng = np.random.default_rng(seed)
    at = {}
    rows = []
    for _ in range(n):
        name = f"s{rng.integers(sessions)}"
        step = at[name] = at.get(name, 0) + 1
        template = 100 + (step % templates if rng.random() >= noise else int(rng.integers(templates)))
        rows.append((name, template))
    return events_of(rows, service)


def test_events_of_gives_columns_in_offset_order():
    events = events_of([("a", 5), ("b", 6)])
    assert events.column("offset").tolist() == [0, 1]
    assert set(events.templates) == {5, 6}
