"""The parsing core: batches in, events out; list in, list out."""

import gc
import json
import re
import time
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.records import Template
from contracts.service import MaskOptions, ServiceSettings, SessionOptions
from parsing.events import EVENT_SCHEMA, Events, EventsError, Lines, string_hashes, template_hex
from parsing.formats import UnknownFormatError, canonical_levels
from parsing.masks import MARK, Masks, MaskSettingsError
from parsing.miner import Miner, template_id
from parsing.parser import Parsed, Parser, ParserStateError
from parsing.sessions import SessionSettingsError
from parsing.times import ISO, layout, parse_any, parse_times, possible
from parsing.tree import Tree
from parsing.unwrap import unwrap
from parsing.words import WILDCARD, meet, words_of

ARRIVAL = 1_795_352_869_000  # 2026-11-22 13:07:49 UTC


def lines_of(*values: bytes | str | None, first: int = 0, arrival: int = ARRIVAL, partition: int = 0) -> Lines:
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    n = len(raw)
    return Lines.from_list("pay", "logs.pay", partition, np.arange(first, first + n), np.full(n, arrival), raw)


def parse(*values: bytes | str | None, **options: object) -> Parsed:
    return Parser(ServiceSettings(service="pay", **options)).parse(lines_of(*values))


def texts(parsed: Parsed) -> list[str]:
    return [parsed.events.templates[template] for template in parsed.events.template_ids().tolist()]


# -- lines and events ------------------------------------------------------------------------------


def test_lines_are_cut_where_they_were_joined():
    lines = lines_of("a", None, "", "ccc")
    assert [lines.line(row) for row in range(4)] == [b"a", None, b"", b"ccc"]
    part = lines.slice(1, 9)
    assert [part.line(row) for row in range(3)] == [None, b"", b"ccc"]
    assert part.offsets.tolist() == [1, 2, 3]


def test_lines_whose_lengths_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="lengths add up to 3 bytes, the blob has 2"):
        Lines("s", "t", 0, np.array([0]), np.array([0]), b"ab", np.array([3]))


def test_events_survive_bytes():
    events = parse("081109 203530 147 INFO a.B: größer blk_1", "two", "x" * 5000).events
    again = Events.from_bytes(events.to_bytes())
    assert again.frame.equals(events.frame)
    assert again.frame.schema == EVENT_SCHEMA
    assert (again.service, again.topic, again.templates) == (events.service, events.topic, events.templates)


def test_no_events_survive_bytes():
    again = Events.from_bytes(Events.empty("pay", "logs.pay").to_bytes())
    assert len(again) == 0
    assert again.frame.schema == EVENT_SCHEMA
    assert list(again.by_bucket(4)) == []


@pytest.mark.parametrize(
    "data", [b"", b"LCEV", b"nonsense" * 9, b"LCEV\x01\x00\x02\x00\x00\x00{}", b"LCEV\x09\x00\x00\x00\x00\x00"]
)
def test_bytes_that_are_no_events_are_refused(data):
    with pytest.raises(EventsError):
        Events.from_bytes(data)


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_damaged_events_are_refused(tail):
    with pytest.raises(EventsError):
        Events.from_bytes(parse("one").events.to_bytes()[:60] + tail)


def test_buckets_hold_each_session_once_and_in_order():
    values = [f"081109 203530 1 INFO a.B: block blk_{i % 37} step {i}" for i in range(500)] + ["nameless"]
    events = parse(*values).events
    parts = dict(events.by_bucket(4))
    assert sorted(parts) == [0, 1, 2, 3]
    assert sorted(offset for part in parts.values() for offset in part.column("offset").tolist()) == list(range(501))
    sessions = [set(part.frame["session"]) for part in parts.values()]
    assert sum(map(len, sessions)) == len(set.union(*sessions)) == 38
    for part in parts.values():
        assert part.frame["offset"].is_sorted()
        assert set(part.templates) == set(part.template_ids().tolist())


def plain_hash(text: str) -> int:
    """The hash as its definition reads, one string and one word at a time."""
    everything, data = 2**64 - 1, text.encode()
    state = len(data) ^ 0x9E3779B97F4A7C15
    for at in range(0, len(data), 8):
        state ^= int.from_bytes(data[at : at + 8], "little")
        for _ in range(2):
            state = state * 0xFF51AFD7ED558CCD & everything
            state ^= state >> 32
    return state


def test_session_hashes_are_the_same_for_ever():
    values = ["", "a", "blk_-1608999687919862906", "größer als acht Bytes", "a" * 64]
    hashes = string_hashes(pl.Series(values)).tolist()
    assert hashes == [plain_hash(value) for value in values]
    assert hashes[2] == 8855788271766714358


@given(st.lists(st.text(max_size=40), max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_hash_depends_on_its_string_alone(values):
    together = string_hashes(pl.Series(values, dtype=pl.String)).tolist()
    assert together == [int(string_hashes(pl.Series([value]))[0]) for value in values]


def test_nameless_lines_go_by_partition():
    parser = Parser(ServiceSettings(service="pay"))
    first, second = (parser.parse(lines_of("x", partition=p)).events for p in (0, 1))
    assert first.session_hashes()[0] != second.session_hashes()[0]


def test_events_are_put_together_and_taken_apart():
    events = parse("one thing", "two things here", "one thing").events
    again = Events.concat([events.slice(0, 1), events.slice(1, 3)])
    assert again.frame.equals(events.frame)
    assert again.templates == events.templates
    assert len(events.slice(0, 1).templates) == 1
    assert events.take([2, 0]).column("offset").tolist() == [2, 0]
    with pytest.raises(ValueError, match="one topic"):
        Events.concat([])


# -- what cannot be parsed -------------------------------------------------------------------------


def test_dead_lines_are_kept_by_reason():
    parsed = parse("fine", None, "", " \r\n", b"caf\xe9 au lait", "also fine")
    assert [(letter.offset, letter.reason) for letter in parsed.dead] == [
        (1, "null"),
        (2, "empty"),
        (3, "empty"),
        (4, "invalid_utf8"),
    ]
    assert parsed.dead[3].head == "caf\\xe9 au lait"
    assert parsed.dead[3].detail.startswith("byte 3")
    assert parsed.events.column("offset").tolist() == [0, 5]


def test_two_broken_lines_do_not_make_a_sound_one():
    parsed = parse(b"half \xc3", b"\xa4 other", "café")  # the blob as a whole is valid UTF-8
    assert [letter.reason for letter in parsed.dead] == ["invalid_utf8", "invalid_utf8"]
    assert parsed.events.frame["line"].to_list() == ["café"]


def test_long_lines_are_cut_parsed_and_counted():
    parser = Parser(ServiceSettings(service="pay"), max_line_bytes=256)
    parsed = parser.parse(lines_of("ä" * 400, "short", "x" + "ä" * 400, None, "y" * 256))
    assert parsed.cut == 2
    assert parsed.events.frame["line"].to_list() == ["ä" * 128, "short", "x" + "ä" * 127, "y" * 256]
    assert len(parsed.dead) == 1


def test_lines_cut_at_the_source_may_end_inside_a_character():
    whole = "grün".encode()
    lines = Lines(
        "pay", "logs.pay", 0, np.arange(2), np.full(2, ARRIVAL), whole[:3] + b"ok", np.array([3, 2]), np.array([99, 2])
    )
    parsed = Parser(ServiceSettings(service="pay")).parse(lines)
    assert parsed.cut == 1
    assert parsed.events.frame["line"].to_list() == ["gr", "ok"]


@given(st.lists(st.one_of(st.none(), st.binary(max_size=60), st.text(max_size=60).map(str.encode)), max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_in_no_exception_out(values):
    parser = Parser(ServiceSettings(service="pay"), max_line_bytes=256)
    for first in range(2):
        parsed = parser.parse(lines_of(*values, first=first * 100))
        assert len(parsed.events) + len(parsed.dead) == len(values)
        assert Events.from_bytes(parsed.events.to_bytes()).frame.equals(parsed.events.frame)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["log", "time", "level", "msg", "x", "trace_id", "#"]), children, max_size=4)
    ),
    max_leaves=6,
)


@given(
    st.lists(
        st.one_of(
            JSONISH.map(json.dumps),
            st.sampled_from(['{"log":"a"},{"b":1}', '{"k":[{}', "{}]}", "{", '{"log":']),
            st.sampled_from(['{"log":"\\ud800"}', '{"log":"\\ud83d\\udc26"}', '{"log":"\\udc26 x","level":"INFO"}']),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_what_json_gives_depends_on_its_line_alone(values):
    text = pl.Series("line", values)
    braces = np.array([value.startswith("{") for value in values])
    none = np.zeros(len(values), dtype=np.bool_)
    together = unwrap(text, braces, none)
    for row, value in enumerate(values):
        alone = unwrap(pl.Series("line", [value]), braces[row : row + 1], none[:1])
        assert together.text[row] == alone.text[0]
        for name in ("time", "level", "session"):
            left, right = getattr(together, name), getattr(alone, name)
            assert (None if left is None else left[row]) == (None if right is None else right[0])


# -- headers, levels, times ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "level", "event_time", "template"),
    [
        ("081109 203530 147 INFO dfs.X: msg", "INFO", "2008-11-09T20:35:30", "msg"),
        ("2026-11-22 13:07:49,123 WARN  org.a.Shop: slow", "WARN", "2026-11-22T13:07:49.123", "slow"),
        ("2026-11-22 13:07:49,123 INFO  datanode.DataNode (X.java:w(7)) - hi", "INFO", "2026-11-22T13:07:49.123", "hi"),
        ("[2026-11-22 13:07:49,123] INFO up (kafka.Log)", "INFO", "2026-11-22T13:07:49.123", "up (kafka.Log)"),
        ("2026-11-22T14:07:49+01:00 error broken", "ERROR", "2026-11-22T13:07:49", "broken"),
        ("2026-11-22 13:07:49,123 - app - WARNING - slow", "WARN", "2026-11-22T13:07:49.123", "slow"),
        ("Nov 22 13:07:49 host sshd[24200]: hello", "", "2026-11-22T13:07:49", "hello"),
        ("E1122 13:07:49.123456       1 x.go:123] hello", "ERROR", "2026-11-22T13:07:49.123", "hello"),
        ('{"log":"at 13:07:49\\n","time":"2026-11-22T13:07:48.5Z"}', "", "2026-11-22T13:07:48.500", "at <TIME>"),
        ('{"level":30,"time":1795352868000,"msg":"hello"}', "INFO", "2026-11-22T13:07:48", "hello"),
        ('{"log":{"level":"warn"},"level":"warning","message":"hello"}', "WARN", "2026-11-22T13:07:49", "hello"),
        ("no header at all", "", "2026-11-22T13:07:49", "no header at all"),
    ],
)  # fmt: skip
def test_lines_of_many_kinds(line, level, event_time, template):
    parsed = parse(line)
    row = parsed.events.frame.row(0, named=True)
    assert row["level"] == level
    assert row["time"] == int(np.datetime64(event_time, "ms").astype(np.int64))
    assert texts(parsed) == [template]
    assert row["line"] == line


RECORD = '{"time_unix_nano": -6795364578871345152, "pod": "p", "trace_id": "0447", "log": %s, "phase": "rca"}'
INNER = (
    '{"log":"13:07:49.537 ERROR o.a.C#175 TraceID: 0447 SpanID: 06 Servlet.service() threw\\n",'
    '"stream":"stdout","time":"2026-11-22T13:07:40.538237345Z"}'
)


@pytest.mark.parametrize("line", [INNER, RECORD % json.dumps(INNER)])
def test_train_ticket_comes_in_one_or_two_wrappings(line):
    parsed = parse(line)
    row = parsed.events.frame.row(0, named=True)
    assert (row["level"], row["session"]) == ("ERROR", "0447")
    assert row["time"] == int(np.datetime64("2026-11-22T13:07:40.538", "ms").astype(np.int64))
    assert texts(parsed) == ["Servlet.service() threw"]


def test_a_stack_below_a_line_makes_no_other_template():
    head = "2026-11-22 13:07:49,123 ERROR a.B: cannot read"
    parsed = parse(
        head, head + "\njava.io.IOException: gone\n\tat a.B.c(B.java:1)", json.dumps({"log": head + "\n\tat x"})
    )
    assert texts(parsed) == ["cannot read"] * 3


def test_impossible_times_are_the_arrival():
    parsed = parse(
        "2026-11-22 13:07:49 INFO x",
        "2036-11-22 13:07:49 INFO x",
        "1969-01-01 00:00:00 INFO x",
        "2026-02-30 00:00:00 INFO x",
    )
    assert parsed.events.column("time").tolist() == [ARRIVAL] * 4
    known = np.array([True, False, True, True])
    assert possible(np.array([-1, 5, 5, 86_400_010]), np.full(4, 9), known).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("2024-02-29 00:00:00", "yyyy-MM-dd HH:mm:ss", "2024-02-29T00:00:00"),
        ("991231 235959", "yyMMdd HHmmss", "1999-12-31T23:59:59"),
        ("Feb  1 00:00:01", "MMM dd HH:mm:ss", "2027-02-01T00:00:01"),
        ("23:59:59", "HH:mm:ss", "2026-11-22T23:59:59"),
        ("00:10:00", "HH:mm:ss", "2026-11-22T00:10:00"),
        ("22/Nov/2026:13:07:49 +0130", "dd/MMM/yyyy:HH:mm:ss", "2026-11-22T11:37:49"),
    ],
)
def test_layouts(text, form, expected):
    arrival = int(np.datetime64("2026-11-22T12:00:00", "ms").astype(np.int64))
    times, known = parse_times(pl.Series([text]), layout(form), np.array([arrival]))
    assert known.all()
    assert times[0].astype("datetime64[ms]") == np.datetime64(expected)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)))
def test_iso_times_agree_with_python(moment):
    times, known = parse_times(pl.Series([moment.isoformat(" ", "milliseconds")]), ISO, np.array([0]))
    assert known[0]
    assert times[0] == int(np.datetime64(moment, "ms").astype(np.int64))


def test_numbers_are_times_by_their_size():
    values = ["1795352869", "1795352869.5", "1795352869123", "1795352869123456", "1795352869123456789", "soon", None]
    times, known = parse_any(pl.Series(values), np.zeros(7, dtype=np.int64))
    assert known.tolist() == [True] * 5 + [False] * 2
    assert times[:5].tolist() == [1795352869000, 1795352869500] + [1795352869123] * 3


def test_levels_are_written_one_way():
    levels = pl.Series(["info", "WARNING", "Err", "E", "30", None, "", "SEVERE", "whatever this may be"])
    assert canonical_levels(levels).to_list() == [
        "INFO",
        "WARN",
        "ERROR",
        "ERROR",
        "INFO",
        "",
        "",
        "ERROR",
        "WHATEVER THIS MA",
    ]


def test_a_format_that_is_not_there_is_named():
    with pytest.raises(UnknownFormatError, match="format: there is no 'log5j'; use auto, logfmt, hdfs_v1"):
        Parser(ServiceSettings(service="pay", format="log5j"))


def test_a_given_format_is_used_from_the_first_line():
    parsed = parse("2026-11-22 13:07:49,123 INFO x", format="raw")
    assert texts(parsed) == ["<TIME> INFO x"]


# -- sessions --------------------------------------------------------------------------------------


def many(line: str, n: int = 1200) -> list[str]:
    return [line.replace("%", str(i // 3)) for i in range(n)]


@pytest.mark.parametrize(
    ("lines", "rule", "session"),
    [
        (many("081109 203530 147 INFO a.B: Receiving block blk_-% from x"), "block", "blk_-399"),
        (many("12:00:00.123 INFO a.B TraceID: abc% SpanID: 1 hello"), "field", "abc399"),
        (many('{"message":"hello","trace_id":"abc%"}'), "field", "abc399"),
        (many("hello traceId=abcdefgh%"), "trace", "abcdefgh399"),
        (many("hello [req-00000000-0000-0000-0000-%a]".replace("%a", "%".rjust(1))), "none", ""),
        (many("nothing to go by %"), "none", ""),
        ([f"block blk_{i}" for i in range(1200)], "none", ""),
    ],
)
def test_identifiers_are_found_and_then_fixed(lines, rule, session):
    parser = Parser(ServiceSettings(service="pay"))
    parsed = parser.parse(lines_of(*lines))
    assert parser.session_rule == rule
    assert parsed.events.frame["session"][-1] == session


def test_a_service_may_say_what_its_identifier_is():
    options = SessionOptions(by="identifier", pattern=r"order (\d+)")
    parsed = parse("order 12 placed", "no such thing", "blk_1 order 13", session=options)
    assert parsed.events.frame["session"].to_list() == ["12", "", "13"]
    whole = parse("order 12 placed", session=SessionOptions(by="identifier", pattern=r"order \d+"))
    assert whole.events.frame["session"].to_list() == ["order 12"]


def test_windows_have_no_identifier():
    assert parse("blk_1", session=SessionOptions(by="window")).events.frame["session"].to_list() == [""]


@pytest.mark.parametrize("pattern", [None, "", "(", "(?=x)"])
def test_a_session_pattern_that_cannot_be_used_is_named(pattern):
    with pytest.raises(SessionSettingsError, match=r"session\.pattern"):
        Parser(ServiceSettings(service="pay", session=SessionOptions(by="identifier", pattern=pattern)))


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "PacketResponder 1 for block blk_-38865049064139660 terminating",
            "PacketResponder <NUM> for block blk_<ID> terminating",
        ),
        ("Receiving BP-1-127.0.0.1-17:blk_1073741825_1001", "Receiving BP-<NUM>-<IP>-<NUM>:blk_<ID>"),
        ("src: /10.250.18.114:43996", "src: /<IP>"),
        ("user a3f1b2c4-0000-4abc-8def-001122334455 in", "user <UUID> in"),
        ("GET http://x.org/a?b=1 by me@example.org", "GET http://<URL> by <EMAIL>"),
        ("since 2026-11-22 13:07:49,123 or 22/Nov/2026 or 13:07:49", "since <TIME> or <TIME> or <TIME>"),
        ("mac 00:1b:44:11:3a:b7 at 0xdeadBEEF", "mac <MAC> at <HEX>"),
        ("took 12ms and 3.5 MB, 20kB of 7", "took <DURATION> and <SIZE>, <SIZE> of <NUM>"),
        ("open /var/log/app.log and C:\\Windows\\x.dll", "open <PATH> and <PATH>"),
        ("task attempt_1445144423722_0020_m_000000_0 done", "task attempt_<ID> done"),
        ("hash e4f973acdbb84c1a", "hash <HEX>"),
        ("\tat org.a.B.c(B.java:12) failed", "<FRAME> failed"),
        ("nothing varies here", "nothing varies here"),
        ("this <_> is ours, 5 times", "this <*> is ours, <*> times"),
    ],
)
def test_masks_take_out_what_varies(message, shown):
    assert texts(parse(message, format="raw")) == [shown]


def test_a_service_has_masks_of_its_own():
    masks = (MaskOptions(name="SEAT", pattern="seat [A-Z][0-9]+"), MaskOptions(name="ANY_NUM", pattern="[0-9]+"))
    assert texts(parse("took seat C12 of 90", masks=masks)) == ["took <SEAT> of <ANY_NUM>"]


def test_a_services_own_mask_may_be_called_like_a_default_one():
    masks = (MaskOptions(name="ID", pattern="seat [A-Z][0-9]+"),)
    assert texts(parse("took seat C12 for order_7", masks=masks)) == ["took <ID> for order_<ID>"]


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", "x*", r"(a)\1"])
def test_a_mask_that_cannot_be_used_is_named(pattern):
    with pytest.raises(MaskSettingsError, match="masks: SEAT"):
        Parser(ServiceSettings(service="pay", masks=(MaskOptions(name="SEAT", pattern=pattern),)))


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "a.",
        "1.",
        "a@",
        "/a",
        "1:",
        "-",
        "ab_",
        "0x",
        "://",
        "a1",
        "%",
        "at a.",
        "blk_",
        "[",
        "\\",
        "a-b@c",
        "1_",
        "a.1-",
        "x+1+",
        "1@1-",
        "/1-",
        "C:\\-1",
        "a-1.",
        "a1.b:",
        "a:",
        "/a?",
        "Mon Jan ",
        "<1",
        "_1",
    ],
)
def test_masks_take_linear_time(piece):
    masks = Masks.build()
    seconds = []
    for size in (20_000, 80_000):
        text = pl.DataFrame({"text": [(piece * size)[:size] + "!"]})
        best = min(_seconds(lambda text=text: text.select(masks.masked(pl.col("text")))) for _ in range(3))
        seconds.append(best)
    assert seconds[1] < 8 * seconds[0] + 0.005  # 4 times the text: linear is 4, quadratic is 16
    assert seconds[1] < 0.1


def _seconds(what) -> float:
    """CPU seconds without the collector's, as ``timeit`` takes them: it walks what all tests before have left."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        what()
        return time.process_time() - start
    finally:
        gc.enable()


# -- templates -------------------------------------------------------------------------------------


def test_an_id_is_the_hash_of_service_and_birth():
    parsed = parse("took 5 steps")
    (template,) = parsed.new_templates
    assert template == Template(
        service="pay",
        id=template_hex(template_id("pay", f"took {MARK} steps")),
        text="took <NUM> steps",
        reason="born",
        example="took 5 steps",
        partition=0,
        offset=0,
    )
    assert parsed.events.frame["template"].to_list() == [int(template.id, 16)]
    assert parse("took 7 steps").new_templates[0].id == template.id
    assert template_id("other", f"took {MARK} steps") != int(template.id, 16)


def test_a_template_that_generalises_keeps_its_id_and_is_announced_again():
    parser = Parser(ServiceSettings(service="pay"))
    first = parser.parse(lines_of("user anna logged in from 10.0.0.1"))
    second = parser.parse(lines_of("user bert logged in from 10.0.0.2", first=1))
    third = parser.parse(lines_of("user carl logged in from 10.0.0.3", "user anna logged in from 10.0.0.9", first=2))
    assert first.new_templates[0].id == second.new_templates[0].id
    assert second.new_templates[0].text == "user <*> logged in from <IP>"
    assert third.new_templates == []
    assert set(third.events.template_ids().tolist()) == {int(first.new_templates[0].id, 16)}


def test_messages_of_any_length_have_a_template():
    parsed = parse("a " * 10_000, "b" * 60_000, "1 " * 9_000, "ö" * 30_000)
    assert len(parsed.events) == 4
    assert all(len(text) < 9_000 for text in texts(parsed))


def test_an_adopted_catalogue_gives_the_same_ids():
    corpus = [f"user {name} logged in from 10.0.0.{i}" for i, name in enumerate(["anna", "bert", "carl"])]
    corpus += [f"disk {i} full at 9{i}%" for i in range(3)] + ["nothing else"]
    first = Parser(ServiceSettings(service="pay"))
    parsed = first.parse(lines_of(*corpus))
    again = first.parse(lines_of(*corpus))
    catalogue = {template.id: template for template in parsed.new_templates}
    second = Parser(ServiceSettings(service="pay"))
    second.adopt([*catalogue.values(), Template(service="other", id="f" * 16, text="x")])
    adopted = second.parse(lines_of(*reversed(corpus)))
    assert adopted.events.template_ids().tolist() == again.events.template_ids().tolist()[::-1]
    assert adopted.new_templates == []
    assert second.dirty


def test_an_alias_replaces_an_id_everywhere():
    parser = Parser(ServiceSettings(service="pay"))
    old = parser.parse(lines_of("took 5 steps")).new_templates[0]
    new = Template(service="pay", id="00000000000000aa", text="took <NUM> steps")
    parser.adopt([new, old.model_copy(update={"alias_of": new.id})])
    for again in (parser, reloaded(parser)):
        events = again.parse(lines_of("took 6 steps", "took 5 steps further")).events
        assert events.template_ids()[0] == 0xAA
        assert events.templates[0xAA] == "took <NUM> steps"


def test_aliases_in_a_circle_end():
    parser = Parser(ServiceSettings(service="pay"))
    a, b = "00000000000000aa", "00000000000000bb"
    parser.adopt(
        [Template(service="pay", id=a, text="x", alias_of=b), Template(service="pay", id=b, text="x", alias_of=a)]
    )
    assert len(parser.parse(lines_of("x")).events) == 1


def test_what_another_shard_generalised_is_taken_over():
    parser = Parser(ServiceSettings(service="pay"))
    own = parser.parse(lines_of("user anna just left x1y2", "user anna just left x3y4")).new_templates[0]
    assert own.text == "user anna just left <*>"
    parser.adopt([own.model_copy(update={"text": "user <*> just left x1y2"})])
    told = parser.parse(lines_of("user bert just left x5y6")).new_templates
    assert [(template.id, template.text) for template in told] == [(own.id, "user <*> just left <*>")]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("started", "stopped", None),  # what happened
        ("a.b.Open", "a.b.Close", None),
        ("host17", "host17b", WILDCARD),
        ("eth0", "eth1", WILDCARD),
        ("eth0", "wlan0", None),
        ("localhost", f"{MARK}", WILDCARD),
        ("state=up", "state=down", None),
        ("uid=0,", "uid=17,", "uid=<*>,"),
        ("uid=<*>,", "uid=5,", "uid=<*>,"),
        ("uid=<*>,", "gid=5,", None),
        ("name=a.b.C", "name=a.b.D", "name=<*>"),
        ("user=root", "user=anna", "user=<*>"),
        ("()", "(a.b)", "(<*>)"),
        ("(dsl7)", "(a2b3)", "(<*>)"),
        ("-", "12", None),
        ("<*>", "-", None),
        (f"{MARK},", "LOCAL(0),", "<*>,"),
    ],
)
def test_what_may_differ_within_a_template(one, other, common):
    assert meet(one, other, "at") == common
    assert meet(one, one, "at") == one


def test_a_name_may_differ_behind_the_word_that_announces_it():
    assert meet("anna", "bert", "user") == WILDCARD
    assert meet("anna", "bert", "after") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"to {MARK},{MARK};{MARK} now", f"to {MARK} now"),
        (f"at -{MARK} of a-{MARK} by +{MARK}", f"at {MARK} of a-{MARK} by {MARK}"),
        (f"{MARK} bytes ({MARK}) sent", f"{MARK} bytes sent"),
        ("<SIZE> bytes (<SIZE>) sent", "<SIZE> bytes sent"),
        ("delete " + f"{MARK} " * 30 + "now", "delete <*> now"),
        ("delete " + " ".join(f"an{i}" for i in range(40)), "delete <*>"),
        ("vis=1 " * 9, "vis=1 " * 9),
        (f"four {MARK} {MARK} {MARK} {MARK}", f"four {MARK} {MARK} {MARK} {MARK}"),
    ],
)
def test_lists_and_signs_make_no_templates(text, words):
    assert words_of(text) == words.split()
    assert words_of(words) == words.split()


def test_states_are_kept_apart_and_names_are_not():
    """Eight words at one place are an enumeration; from the ninth on, they are a variable."""
    miner = Miner("pay")
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    ids, _ = miner.learn([f"machine entered state {word} again" for word in words])
    assert len(set(ids[:8])) == 8
    assert ids[8] == ids[9] == ids[0]
    assert miner.text(ids[0]) == "machine entered state <*> again"
    assert miner.learn(["machine entered state beta again"])[0] == [ids[1]]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("connection at Sun Jul  3 10:05:25 2005", "connection at <TIME>"),
        ("date: Mon, 22 Nov 2026 13:07:49 GMT", "date: <TIME>"),
        ("lifetime 00:02 or <1 sec", "lifetime <TIME> or <DURATION>"),
        ("to proxy.cse.example.hk:5070 via example.com:80", "to <HOST> via <HOST>"),
        ('"GET /v2/a/servers?x=1 HTTP/1.1" 200', '"GET <PATH>" <NUM>'),
        ("free 317.5 KB of 2 GB and 12 B", "free <SIZE> of <SIZE> and <SIZE>"),
        ("addr 2607:f140:6000:8:c6b3:1ff:fecd:467f or fe80::1ff:fecd", "addr <IP> or <IP>"),
        ("main.cpp::run called std::move", "main.cpp::run called std::move"),
        ("session 30546173_4261722401 up", "session <NUM> up"),
    ],
)
def test_more_kinds_of_variables_are_masked(message, shown):
    assert texts(parse(message, format="raw")) == [shown]


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d1", "e7", "k=<_>", "k=2", "<_>"]), max_size=6), max_size=120)
)
@settings(max_examples=100, deadline=None)
def test_the_index_finds_what_comparing_with_all_finds(messages):
    """Templates whose words of birth are not equal enough cannot win, so that nothing is lost by not looking."""
    indexed, plain = Tree(), _LookEverywhere()
    for words in messages:
        found = [tree.find(words) for tree in (indexed, plain)]
        assert found[0] == found[1]
        for tree in (indexed, plain):
            if found[0] is None:
                tree.add(words, words)
            else:
                tree.words[found[0][0]] = found[0][1]


class _LookEverywhere(Tree):
    def _candidates(self, words, enough):
        return [number for number, known in self.words.items() if len(known) == len(words)]


def test_many_dissimilar_templates_of_one_length_cost_no_more_than_few():
    random = np.random.default_rng(5)
    words = [f"w{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(5_000)]
    texts_of = [" ".join(words[i] for i in random.integers(len(words), size=12)) for _ in range(6_000)]
    miner = Miner("pay")
    first = _seconds(lambda: miner.learn(texts_of[:2_000]))
    last = _seconds(lambda: miner.learn(texts_of[4_000:]))
    assert len(miner) == 4_000
    assert last < 4 * first + 0.1


# -- state and batches -----------------------------------------------------------------------------


def reloaded(parser: Parser) -> Parser:
    again = Parser(parser.settings)
    again.load(parser.dump())
    return again


def mixed_corpus(n: int = 2600) -> list[bytes | None]:
    """Headers that change their mind, JSON, sessions, words that generalise, dead lines: what batches could disturb."""
    random = np.random.default_rng(3)
    names = ["anna", "bert", "carl", "dora", "emil", "fritz"]
    corpus: list[bytes | None] = []
    for i in range(n):
        kind = int(random.integers(9))
        name, block = names[int(random.integers(6))], int(random.integers(n // 8))
        corpus.append(
            (
                f"081109 203530 147 INFO a.B: Receiving block blk_{block} for {name}".encode(),
                f"081109 203530 147 WARN a.B: user {name} left blk_{block} after {i}".encode(),
                f"2026-11-22 13:07:49,123 INFO  a.b.C: {name} {name} waits {i}".encode(),
                json.dumps({"log": f"081109 203530 1 INFO x.Y: {name} says {i} to blk_{block}\n"}).encode(),
                f"\tat a.b.C.{name}(C.java:{i})".encode(),
                None if i % 3 else b"",
                b"\xff" + name.encode(),
                f"{name} {'and ' * int(random.integers(5))}others".encode(),
                json.dumps({"log": {"level": name}, "message": f"{name} {i}", "trace_id": f"t{block}"}).encode(),
            )[kind]
        )
    return corpus


def run(corpus: list[bytes | None], batch: int, *, crash_at: int = -1) -> list[tuple[int, int, str, str, int]]:
    parser = Parser(ServiceSettings(service="pay"))
    rows: list[tuple[int, int, str, str, int]] = []
    for first in range(0, len(corpus), batch):
        if first // batch == crash_at:
            parser = reloaded(parser)
        events = parser.parse(lines_of(*corpus[first : first + batch], first=first)).events
        rows += events.frame.select("offset", "template", "session", "level", "time").rows()
    return rows


@pytest.mark.parametrize("batch", [1, 7, 100, 999, 1000, 1001])
def test_batches_of_any_size_give_the_same_events(batch):
    corpus = mixed_corpus(1300 if batch == 1 else 2600)
    assert run(corpus, batch) == run(corpus, len(corpus))


@pytest.mark.parametrize("crash_at", [1, 9, 10, 15])
def test_a_restart_in_the_middle_changes_nothing(crash_at):
    corpus = mixed_corpus()
    assert run(corpus, 100, crash_at=crash_at) == run(corpus, len(corpus))


def test_dirty_says_when_there_is_something_to_keep():
    parser = Parser(ServiceSettings(service="pay", format="raw", session=SessionOptions(by="window")))
    assert not parser.dirty
    parser.parse(lines_of("took 5 steps"))
    assert parser.dirty
    parser.dump()
    parser.parse(lines_of("took 7 steps"))
    assert not parser.dirty
    parser.parse(lines_of("took no steps"))
    assert parser.dirty


def test_a_state_is_the_same_however_often_it_is_written():
    parser = Parser(ServiceSettings(service="pay"))
    parser.parse(lines_of(*mixed_corpus()))
    state = parser.dump()
    assert reloaded(parser).dump() == state


@pytest.mark.parametrize(
    "damage", [b"", b"LCPS", b"PK\x03\x04" * 20, b"LCPS\x63\x00" + bytes(40), b"LCPS\x01\x00" + b"\xff" * 60]
)
def test_bytes_that_are_no_state_are_refused(damage):
    with pytest.raises(ParserStateError):
        Parser(ServiceSettings(service="pay")).load(damage)


def test_another_services_lines_are_refused():
    with pytest.raises(ValueError, match="lines of service 'pay' for the parser of 'other'"):
        Parser(ServiceSettings(service="other")).parse(lines_of("x"))


def test_what_was_found_can_be_pinned():
    parser = Parser(ServiceSettings(service="pay"))
    parser.parse(lines_of(*many("081109 203530 147 INFO a.B: Receiving block blk_-% from x")))
    assert parser.resolved.format == "hdfs_v1"


def test_template_texts_hold_no_mark():
    parser = Parser(ServiceSettings(service="pay"))
    parsed = parser.parse(lines_of(*mixed_corpus()))
    assert not [text for text in parsed.events.templates.values() if MARK in text]
    assert all(re.fullmatch("[0-9a-f]{16}", template.id) for template in parsed.new_templates)
