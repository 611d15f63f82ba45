"""Which session a line belongs to: what is found by itself, what the settings say, and several in one line."""

import gzip
import json
import os
import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.service import ServiceSettings, SessionOptions
from parsing import sessions
from parsing.events import SPREAD_SCHEMA, Events, Lines
from parsing.identifiers import discover
from parsing.parser import Parser
from parsing.sessions import COPY_CHARACTERS, MOST_IDS, SEVERAL, SessionFinder, SessionSettingsError, lines_in, spread

DATA = Path(os.environ.get("LOGCANARY_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
NOON = 1_795_352_400_000  # 2026-11-22T13:00:00Z


def lines_of(values, *, first=0, partition=0):
    rows = np.arange(first, first + len(values))
    arrivals = np.full(len(values), NOON)
    return Lines.from_list("pay", "logs.pay", partition, rows, arrivals, [value.encode() for value in values])


def parser_of(**session):
    return Parser(ServiceSettings(service="pay", session=SessionOptions(**session)))


def sessions_of(values, **session):
    return parser_of(**session).parse(lines_of(values)).events.frame["session"].to_list()


# -- found by itself -----------------------------------------------------------------------------------------------

STEPS = (
    "placed by {user} for {amount} cents",
    "charged, took {amount} ms",
    "packed on host-{host}",
    "shipped with {amount} of 12 items, status 200",
    "confirmed to {user} at 10.0.0.{host}:8080",
)

SHAPES = {
    "order={}": str,
    '{{"order_id":"{}"}}': str,
    "[req:{}]": lambda number: f"{number * 2654435761 % 65536:04x}",
    "tx#{}": str,
    "session {}": lambda number: f"{number * 40503 % 65536:04x}",
    "(job-{})": lambda number: f"{number * 7919:08d}",
    "CorrelId: {}": lambda number: f"{number * 2654435761 % 2**32:08x}-ab12",
    "[{}]": lambda number: f"{number * 2654435761 % 2**24:06x}",
}


def shop(shape, chance, *, lines, open_at_once, first=1000):
    """The lines of orders that go through their steps, several at once, with the place and value of each id."""
    log, ids, running, number = [], [], [], first
    while len(log) < lines:
        while len(running) < open_at_once:
            running.append([number, 0])
            number += 1
        one = running[chance.randrange(len(running))]
        value = SHAPES[shape](one[0])
        names = {"user": chance.choice(["anna", "bert"]), "amount": chance.randrange(90), "host": chance.randrange(9)}
        log.append(f"{shape.format(value)} {STEPS[one[1]].format(**names)}")
        ids.append(value)
        one[1] += 1
        if one[1] == len(STEPS):
            running.remove(one)
    return log, ids


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.sampled_from(list(SHAPES)),
    seed=st.integers(0, 2**32),
    open_at_once=st.integers(1, 25),
    noise=st.floats(0, 0.5),
)
def test_an_identifier_is_found_by_how_it_behaves(shape, seed, open_at_once, noise):
    chance = random.Random(seed)
    log, ids = shop(shape, chance, lines=1000, open_at_once=open_at_once)
    for row in range(len(log)):
        if chance.random() < noise:
            log[row], ids[row] = f"sweep {chance.randrange(10**6)} of thread {chance.randrange(4)} done", None
    pattern = discover(log)
    assert pattern is not None
    re.compile(pattern)
    assert "(?" not in pattern.replace("(?:", ""), "no look-around and no flags: RE2 takes it too"
    found = pl.Series(log).str.extract(pattern, 1).to_list()
    assert len(set(found) - {None}) == len(set(ids) - {None})
    for value, text in zip(ids, found, strict=True):
        assert (text is None) if value is None else (text is not None and text.endswith(value))


NO_IDENTIFIERS = {
    "levels and status codes": lambda i, chance: (
        f"status={chance.choice([200, 200, 404, 500])} level={chance.randrange(6)} {STEPS[i % 5][:6]}"
    ),
    "a counter": lambda i, chance: f"seq={i} {STEPS[chance.randrange(5)][:6]}",
    "hosts": lambda i, chance: f"host=node-{chance.randrange(40)} {STEPS[chance.randrange(5)][:6]}",
    "many hosts": lambda i, chance: f"node-{chance.randrange(300)} {STEPS[chance.randrange(5)][:6]}",
    "threads": lambda i, chance: f"[worker-{chance.randrange(16)}] {STEPS[chance.randrange(5)][:6]}",
    "amounts": lambda i, chance: f"bytes={int(chance.expovariate(0.01))} {STEPS[chance.randrange(5)][:6]}",
    "times": lambda i, chance: f"stamp={1_795_352_400 + i // 3} {STEPS[chance.randrange(5)][:6]}",
    "days": lambda i, chance: f"Jun {1 + i // 40} {STEPS[chance.randrange(5)][:6]}",
    "addresses": lambda i, chance: f"from 10.0.{i // 5}.{i % 5} {STEPS[chance.randrange(5)][:6]}",
    "one kind of line": lambda i, chance: f"order={i // 4} placed",
    "nothing": lambda i, chance: STEPS[chance.randrange(5)][:6],
}


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(list(NO_IDENTIFIERS)), seed=st.integers(0, 2**32))
def test_what_does_not_come_recur_and_end_is_no_identifier(kind, seed):
    chance = random.Random(seed)
    assert discover([NO_IDENTIFIERS[kind](i, chance) for i in range(1000)]) is None


def test_no_lines_name_nothing():
    assert discover([]) is None
    assert discover([""] * 1000) is None


def corpus(path):
    if not path.exists():
        if "LOGCANARY_DATA" in os.environ:
            pytest.fail(f"LOGCANARY_DATA is set, and {path} is not there")
        pytest.skip(f"no log data: {path} is not there; set LOGCANARY_DATA to its folder")
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()


SYSTEMS = (
    *("Android", "Apache", "BGL", "HDFS", "HPC", "Hadoop", "HealthApp", "Linux"),
    *("Mac", "OpenSSH", "OpenStack", "Proxifier", "Spark", "Thunderbird", "Windows", "Zookeeper"),
)
FOUND = {
    "OpenSSH": r"\bsshd\[([0-9]+)\b",
    "Linux": r"\bpam_unix\)\[([0-9]+)\b",
    "OpenStack": r"\binstance(?:: | )([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b",
    "Spark": r"\bTID ([0-9]+)\b",
}
"""Processes that serve a login each, virtual machines, tasks. What the others have does not come and end within a
thousand lines."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_found_in_loghub(system):
    assert discover(corpus(DATA / "loghub" / system / f"{system}_2k.log.gz")[:1000]) == FOUND.get(system)


def test_blocks_and_traces_are_found_without_the_rules_for_them():
    assert discover(corpus(DATA / "hdfs" / "hdfs.log.gz")[:1000]) == r"\b(blk(?:_-|_)[0-9]+)\b"
    services = defaultdict(list)
    for line in corpus(DATA / "trainticket" / "2023-01-29.jsonl.gz"):
        record = json.loads(line)
        services[record["pod"].rsplit("-", 2)[0]].append(record["log"][:1024])
    found = {name: discover(lines[:1000]) for name, lines in services.items()}
    assert set(found.values()) == {None, r"\bTraceID: ([0-9a-f]{32})\b"}
    # In the others a trace has one line, or lines of one kind only.
    assert sum(pattern is not None for pattern in found.values()) == 19


@pytest.fixture
def no_rules(monkeypatch):
    monkeypatch.setattr(sessions, "RULES", {"field": None})


@pytest.mark.parametrize("batch", [1, 7, 333, 999, 1000, 1001, 2000])
def test_what_is_found_depends_on_the_lines_alone(batch):
    log, ids = shop("order={}", random.Random(5), lines=2000 if batch > 1 else 1100, open_at_once=9)
    parser, named = parser_of(), []
    for first in range(0, len(log), batch):
        named += parser.parse(lines_of(log[first : first + batch], first=first)).events.frame["session"].to_list()
        if first % 3 == 0:
            again = parser_of()
            again.load(parser.dump())
            parser = again
    assert parser.session_rule == r"found \border=([0-9]+)\b"
    assert named == [""] * 1000 + ids[1000:]


def test_what_was_found_is_shown_as_settings_that_do_the_same():
    log, ids = shop("tx#{}", random.Random(6), lines=1200, open_at_once=5)
    parser = parser_of(several="last", gap_seconds=5)
    parser.parse(lines_of(log))
    shown = parser.resolved.session
    assert shown == SessionOptions(by="identifier", pattern=r"\btx#([0-9]+)\b", several="last", gap_seconds=5)
    assert sessions_of(log, **shown.model_dump()) == ids


def test_a_known_identifier_is_shown_as_settings_too():
    parser = parser_of()
    parser.parse(lines_of([f"reading blk_{i // 3} of 7" for i in range(1200)]))
    assert (parser.session_rule, parser.resolved.session.pattern) == ("block", sessions.RULES["block"])
    nothing = parser_of()
    nothing.parse(lines_of(["all quiet"] * 1200))
    assert nothing.resolved.session == SessionOptions()


def test_blocks_are_found_in_the_parser_without_the_rule(no_rules):
    values = corpus(DATA / "hdfs" / "hdfs.log.gz")[:3000]
    parser = parser_of()
    named = parser.parse(lines_of(values)).events.frame["session"].to_list()
    assert parser.session_rule == r"found \b(blk(?:_-|_)[0-9]+)\b"
    assert named[1000:] == [re.search(r"blk_-?[0-9]+", line).group() for line in values[1000:]]


# -- as the settings say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "line", "session"),
    [
        ("traceId", '{"message":"x","traceId":"t-1"}', "t-1"),
        ("traceId", '{"log":"{\\"traceId\\": \\"t-1\\", \\"a\\": 1}\\n"}', "t-1"),
        ("traceId", "level=info traceId=t/1 took=5", "t/1"),
        ("traceId", "12:00:00.1 INFO a.B traceId: t1. Done", "t1"),
        ("traceId", "{'traceId': 't1'}", "t1"),
        ("traceId", '{"myTraceId":"no","xtraceId":"no"}', ""),
        ("traceId", '{"traceId":null}', ""),
        ("traceId", "traceId=-", ""),
        ("order", '{"order":12,"a":1}', "12"),
        ("trace.id", '{"trace.id":"t1"}', "t1"),
        ("trace.id", '{"trace":{"sampled":true,"id":"t1"}}', "t1"),
        ("trace.id", '{"trace":{"sampled":true},"id":"no"}', ""),
        ("a+b", "a+b=5", "5"),
    ],
)
def test_by_a_field(field, line, session):
    assert sessions_of([line], by="field", field=field) == [session]


def test_a_field_is_named_in_the_rule():
    parser = parser_of(by="field", field="traceId")
    assert parser.session_rule == "field traceId"
    assert parser.resolved.session == parser.settings.session


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("Dec 10 06:55:46 LabSZ sshd[24200]: host=other", "LabSZ"),
        ("<34>1 2026-11-22T13:07:49.003Z web-1 su 123 ID47 - failed", "web-1"),
        ("2026-11-22T13:07:49.123+01:00 box prog[1]: up", "box"),
        ('{"host":"n1","message":"up"}', "n1"),
        ('{"host":{"os":"linux","name":"n2"},"message":"up"}', "n2"),
        ('{"kubernetes":{"pod":"p","host":"k1"},"log":"up"}', "k1"),
        ("2026-11-22 13:07:49 INFO up hostname=b5", "b5"),
        ("2026-11-22 13:07:49 INFO up", ""),
    ],
)
def test_by_host(line, host):
    assert sessions_of([line], by="host") == [host]


def test_windows_of_time_and_of_lines_are_named_by_the_line_alone():
    log = [f"2026-11-22 12:{minute:02d}:{second:02d} tick" for minute, second in ((0, 1), (0, 59), (1, 0), (0, 30))]
    first, second = "2026-11-22T12:00:00Z/0", "2026-11-22T12:01:00Z/0"
    assert sessions_of(log, by="time", window_seconds=60) == [first, first, second, first]
    assert sessions_of(["2026-11-22 12:00:00.75 x"], by="time", window_seconds=0.5) == ["2026-11-22T12:00:00.500Z/0"]
    assert sessions_of(log, by="lines", window_lines=2) == ["0-1/0", "0-1/0", "2-3/0", "2-3/0"]
    other = parser_of(by="lines", window_lines=100).parse(lines_of(["x"], first=730, partition=3))
    assert other.events.frame["session"].to_list() == ["700-799/3"]


@pytest.mark.parametrize("by", ["time", "lines"])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_windows_do_not_depend_on_batches_or_restarts(by, batch):
    log = [f"2026-11-22 12:{i // 60:02d}:{i % 60:02d} tick {i % 7}" for i in range(300)]
    whole, parts = sessions_of(log, by=by, window_lines=9), []
    for first in range(0, len(log), batch):
        parser = parser_of(by=by, window_lines=9)  # one that remembers nothing
        parts += parser.parse(lines_of(log[first : first + batch], first=first)).events.frame["session"].to_list()
    assert parts == whole
    assert len(set(whole)) == (5 if by == "time" else 34)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "field"}, r"session\.field: needed where session\.by is 'field'"),
        ({"field": "x"}, r"session\.field: says nothing where session\.by is 'auto'; set that to 'field'"),
        ({"by": "identifier"}, r"session\.pattern: needed"),
        ({"by": "identifier", "pattern": "(x"}, r"session\.pattern: '\(x' cannot be used: [^\n]+$"),
    ],
)
def test_settings_that_do_not_go_together_are_named(options, words):
    with pytest.raises(SessionSettingsError, match=words):
        parser_of(**options)


@pytest.mark.parametrize(
    "options",
    [{"max_events": 0}, {"max_seconds": 0}, {"window_seconds": 0}, {"window_lines": 0}, {"several": "both"}],
)
def test_settings_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        SessionOptions(**options)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.text(max_size=60) | st.from_regex(r"[a-z ]{0,9}(blk_-?[0-9]{1,5} ?){0,4}", fullmatch=True)),
    by=st.sampled_from(["auto", "identifier", "field", "host", "window", "time", "lines"]),
    several=st.sampled_from(["first", "last", "all"]),
)
def test_any_line_has_a_session_and_no_line_fails(lines, by, several):
    given_with = {"identifier": {"pattern": r"blk_-?[0-9]+"}, "field": {"field": "a.b"}}.get(by, {})
    options = SessionOptions(by=by, several=several, **given_with)
    finder = SessionFinder(options)
    column = pl.Series("line", lines, dtype=pl.String)
    found = finder.sessions(column, column, None)
    assert found.null_count() == 0
    assert len(found) == len(lines)
    finder.decide(len(lines))


# -- several identifiers in a line -----------------------------------------------------------------------------------

DELETES = ["ask 10.0.0.1 to delete blk_1 blk_-2 blk_1 blk_3", "all quiet", "deleted blk_7"]


@pytest.mark.parametrize(
    ("several", "found"),
    [
        ("first", ["blk_1", "", "blk_7"]),
        ("last", ["blk_3", "", "blk_7"]),
        ("all", [SEVERAL.join(["blk_1", "blk_-2", "blk_3"]), "", "blk_7"]),
    ],
)
def test_first_last_or_all_of_several_identifiers(several, found):
    pattern = r"\bblk_-?[0-9]+"
    assert sessions_of(DELETES, several=several) == found
    assert sessions_of(DELETES, by="identifier", pattern=pattern, several=several) == found
    assert sessions_of(DELETES, by="identifier", pattern=rf"({pattern})(?: |$)", several=several) == found


def spread_of(values, **session):
    options = SessionOptions(several="all", **session)
    events = Parser(ServiceSettings(service="pay", session=options)).parse(lines_of(values)).events
    return spread(events, options)


def test_a_line_is_an_event_of_each_of_its_sessions_and_one_line():
    events = spread_of(DELETES)
    assert events.frame["session"].to_list() == ["blk_1", "blk_-2", "blk_3", "", "blk_7"]
    assert events.frame["offset"].to_list() == [0, 0, 0, 1, 2]
    assert events.frame["copy"].to_list() == [False, True, True, False, False]
    assert lines_in(events) == 3
    assert Events.from_bytes(events.to_bytes()).frame.equals(events.frame)
    parts = [Events.from_bytes(part.to_bytes()) for _, part in events.by_bucket(8)]
    assert sum(map(lines_in, parts)) == 3
    assert all(part.frame.schema == SPREAD_SCHEMA for part in parts)


def test_events_are_not_spread_where_one_identifier_counts():
    events = parser_of().parse(lines_of(DELETES)).events
    assert spread(events, SessionOptions()) is events
    assert lines_in(events) == 3


def test_a_line_does_not_grow_by_its_identifiers():
    line = "delete " + " ".join(f"blk_{number}" for number in range(7_000))
    events = spread_of([line])
    assert len(events) == MOST_IDS
    assert events.frame["line"].str.len_chars().to_list() == [len(line)] + [COPY_CHARACTERS] * (MOST_IDS - 1)


def test_spreading_no_events_gives_none():
    assert spread(Events.empty("pay", "logs.pay"), SessionOptions(several="all")).frame.schema == SPREAD_SCHEMA
