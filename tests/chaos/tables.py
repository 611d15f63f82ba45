"""Countless sessions and templates through the tables that hold them, in this process: memory, state and speed."""

import random
import resource
import string
import time
from typing import Any

import numpy as np
import polars as pl
import psutil

from contracts.service import ServiceSettings, SessionOptions
from parsing.events import Events, Lines
from parsing.parser import Parser
from streaming.buckets import Bucket

MB = 1_000_000
BATCH = 20_000
WINDOW = 10
NOW = 1_714_557_600_000
SESSIONS_MB, SESSIONS_STATE_MB = 400, 100
"""Bounds for one bucket with ``max_open`` of 50,000: memory, and what is saved of it (a whole and the
changes behind it), with lines of 100 bytes."""
TEMPLATES_MB, TEMPLATES_STATE_MB = 400, 30
"""Bounds for the parser of one partition."""


def resident() -> float:
    """Memory of this process, MB."""
    return float(psutil.Process().memory_info().rss) / MB


def session_events(first: int, number: int, lines_each: int = 2) -> Events:
    """Lines of sessions that never come again: ``lines_each`` each, all begun before any goes on."""
    n = number * lines_each
    offsets = first * lines_each + np.arange(n)
    sessions = [f"{session:032x}" for session in range(first, first + number)] * lines_each
    frame = pl.DataFrame(
        [
            pl.Series("offset", offsets),
            pl.Series("partition", np.zeros(n, dtype=np.int32)),
            pl.Series("arrival", NOW + offsets // 100),
            pl.Series("time", NOW + offsets // 100 - 1),
            pl.Series("level", ["INFO"] * n),
            pl.Series("session", sessions),
            pl.Series("template", np.full(n, 77, dtype=np.uint64)),
            pl.Series("line", [f"2024-05-01 10:00:00 INFO {name} was heard of{'.' * 40}" for name in sessions]),
        ]
    )
    return Events("web", "logs.web", frame, {77: "<*> was heard of"})


def sessions_through(number: int, batch: int = BATCH // 2) -> dict[str, Any]:
    """Run distinct sessions through one bucket, and save it as the job does."""
    options = SessionOptions(gap_seconds=1e9)
    bucket = Bucket(WINDOW, options)
    table = bucket.table
    before, most, state, largest = resident(), 0.0, 0, 0
    ended, began, spent = 0, time.perf_counter(), 0.0
    for first in range(0, number, batch):
        events = session_events(first, min(batch, number - first))
        start = time.perf_counter()
        windows = table.extend(events)
        bucket.finished(events, windows)
        ended += len(windows.ends)
        whole, change = bucket.save()
        spent += time.perf_counter() - start
        state = len(whole) if whole is not None else state + len(change or b"")
        largest = max(largest, state)
        most = max(most, resident() - before)
    found: dict[str, Any] = {
        "sessions": number,
        "open": len(table),
        "ended": ended,
        "lines_per_second": round(2 * number / spent),
        "memory_mb": round(most, 1),
        "state_mb": round(largest / MB, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }
    if len(table) > options.max_open or ended + len(table) != number:
        found["problem"] = f"{len(table)} sessions are open and {ended} have ended"
    elif most > SESSIONS_MB or largest > SESSIONS_STATE_MB * MB:
        found["problem"] = f"{most:.0f} MB of memory and {largest / MB:.0f} MB of state"
    return found


def strange_lines(chance: random.Random, number: int, words: int = 8) -> list[bytes]:
    """Lines that have no word in common, and none with a digit."""
    return [
        " ".join("".join(chance.choices(string.ascii_lowercase, k=9)) for _ in range(words)).encode()
        for _ in range(number)
    ]


def templates_through(number: int, words: int = 8) -> dict[str, Any]:
    """Run dissimilar lines through one parser, save it, load it, and run the first of them once more."""
    parser = Parser(ServiceSettings(service="web"))
    chance = random.Random(number)
    before, overflow, evicted = resident(), 0, 0
    first = strange_lines(chance, min(BATCH, number), words)
    began = time.perf_counter()
    for start in range(0, number, BATCH):
        some = first if start == 0 else strange_lines(chance, min(BATCH, number - start), words)
        offsets = range(start, start + len(some))
        parsed = parser.parse(Lines.from_list("web", "logs.web", 0, offsets, [NOW] * len(some), some))
        overflow += sum(parsed.overflow.values())
        evicted += sum(template.reason == "evicted" for template in parsed.new_templates)
    seconds = time.perf_counter() - began
    memory, state, templates = resident() - before, len(parser.dump()), parser.template_count
    began = time.perf_counter()
    parser.parse(Lines.from_list("web", "logs.web", 0, range(len(first)), [NOW] * len(first), first))
    known = time.perf_counter() - began
    found: dict[str, Any] = {
        "lines": number,
        "templates": templates,
        "overflow": overflow,
        "evicted": evicted,
        "new_lines_per_second": round(number / seconds),
        "known_lines_per_second": round(len(first) / known),
        "memory_mb": round(memory, 1),
        "state_mb": round(state / MB, 1),
        "peak_process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
    }
    if templates + evicted + overflow < number:
        found["problem"] = f"{templates} templates, {evicted} that went and {overflow} lines without one of {number}"
    elif memory > TEMPLATES_MB or state > TEMPLATES_STATE_MB * MB:
        found["problem"] = f"{memory:.0f} MB of memory and {state / MB:.0f} MB of state"
    return found
