"""Stacks sent line by line, and lines cut in pieces: told by their shape, accounted for, and in no session."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from models.sessions import SessionTable
from parsing.continuations import CONTINUATION_TEMPLATE, CONTINUATION_TEXT
from parsing.events import Lines
from parsing.parser import Parsed, Parser
from storage.control import ControlView
from streaming.stages import ParseStage
from tests.packing import pack

ARRIVAL = 1_795_352_869_000  # 2026-11-22 13:07:49 UTC
HEAD = "2026-11-22 13:07:49,123 ERROR a.b.Shop: cannot read"
STAMP = "2026-11-22T13:07:49.669794202Z"


def lines_of(values: list[str], first: int = 0) -> Lines:
    n = len(values)
    raw = [value.encode() for value in values]
    return Lines.from_list("pay", "logs.pay", 0, np.arange(first, first + n), np.full(n, ARRIVAL), raw)


def parse(values: list[str]) -> Parsed:
    return Parser(ServiceSettings(service="pay")).parse(lines_of(values))


def going_on(parsed: Parsed) -> list[bool]:
    return (parsed.events.template_ids() == CONTINUATION_TEMPLATE).tolist()


JAVA = [
    f"0 {HEAD}",
    "0 java.io.IOException: gone",
    "1 \tat a.B.c(B.java:1)",
    "1 \tat a.B$1.lambda$d$0(B.java:2) ~[shop.jar!/:1.0]",
    "1 \tat java.base/java.lang.Thread.run(Unknown Source)",
    "1     at jdk.internal.reflect.GeneratedMethodAccessor12.invoke(Native Method)",
    "1 at a.B.c(B.java:3)",
    "1 \tSuppressed: a.b.C: closed",
    "1 Caused by: java.net.ConnectException: refused",
    "1 Caused by: java.net.ConnectException",
    "1 \t... 23 more",
    "1 \t... 7 common frames omitted",
    f"0 {HEAD}",
]
PYTHON = [
    "0 ERROR:root:failed",
    "1 Traceback (most recent call last):",
    '1   File "/a/b.py", line 3, in f',
    "1     raise ValueError(x)",
    "1           ^^^^^^^^^^^^^",
    "1   [Previous line repeated 996 more times]",
    "0 ValueError: bad",
    "1 During handling of the above exception, another exception occurred:",
    "1   + Exception Group Traceback (most recent call last):",
    '1   |   File "/a/b.py", line 3, in <module>',
    "1   |     main()",
    "0 KeyError: 'x'",
    "0     indented all alone",
]
GO = [
    "0 panic: runtime error: index out of range [5]",
    "1 goroutine 1 [running]:",
    "1 main.(*Server).serve(0xc0000b2000, {0x1, 0x2})",
    "1 \t/app/main.go:12 +0x1d",
    "1 main.main()",
    "1 \t/app/main.go:30 +0x25",
    "1 created by net/http.(*Server).Serve in goroutine 7",
    "1 \t/usr/local/go/src/net/http/server.go:3285 +0x4b4",
    "0 main.main()-like text",
    "0 exit status 2",
    "0 call.me() without a stack is no continuation",
]
OTHERS = [
    "0 Unhandled exception. System.ArgumentException: bad",
    "1    at Shop.Cart.Buy(Int32 n, String name) in C:\\a b\\Cart.cs:line 3",
    "1    at Shop.Program.<Main>$(String[] args)",
    "1    --- End of inner exception stack trace ---",
    "0 TypeError: x is not a function",
    "1     at Object.<anonymous> (/a/b.js:1:2)",
    "1     at async Promise.all (index 0)",
    "1     at /a/b.js:1:2",
    "1 \tfrom /a/b.rb:12:in `buy'",
    "1 #0 /a/b.php(12): buy()",
    "1 #1 {main}",
    "0 thread 'main' panicked at src/main.rs:4:5:",
    "1 stack backtrace:",
    "1    0: std::panicking::begin_panic",
    "1              at /rustc/abc/library/std/src/panicking.rs:1:2",
    "0 note: run with RUST_BACKTRACE=full",
]
NONE = [
    "0 Caused by: a user who closed the door",
    "0 at noon we met (again)",
    "0 ... 23 more lines",
    "0   two blanks in front",
    "0 \tlocalhost:8080 is up",
    "0 goroutine 5 leaks",
    "0 #1 in the list",
    "0 Traceback: none",
]


def cases(*marked: list[str]) -> tuple[list[str], list[bool]]:
    every = [line for lines in marked for line in lines]
    return [line[2:] for line in every], [line[0] == "1" for line in every]


@pytest.mark.parametrize("marked", [JAVA, PYTHON, GO, OTHERS, NONE], ids=["java", "python", "go", "others", "none"])
@pytest.mark.parametrize("wrap", ["{}", '{{"log":"{}\\n"}}', STAMP + " stdout F {}"], ids=["plain", "json", "cri"])
def test_lines_of_a_stack_are_told_by_their_shape(marked, wrap):
    values, expected = cases(marked)
    if wrap.startswith("{{"):
        values = [value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") for value in values]
    parsed = parse([wrap.format(value) for value in values])
    assert going_on(parsed) == expected
    assert not parsed.dead
    assert parsed.odd.get("continuation", 0) == sum(expected)
    if any(expected):
        assert parsed.events.templates[CONTINUATION_TEMPLATE] == CONTINUATION_TEXT
    assert not any(int(template.id, 16) == CONTINUATION_TEMPLATE for template in parsed.new_templates)


def test_the_depth_of_a_stack_makes_no_template():
    shallow, deep = (
        parse([HEAD, "a.b.LostException: x", *[f"\tat a.B{n}.c(B.java:{n})" for n in range(depth)], HEAD])
        for depth in (1, 300)
    )
    assert shallow.events.templates == deep.events.templates
    assert len(shallow.new_templates) == 2


PIECES = [
    "0 stdout F whole",
    "0 stdout P begins",
    "0 stderr F other stream",
    "1 stdout P goes on",
    "0 stderr P begins too",
    "1 stdout F ends",
    "0 stdout F whole again",
    "1 stderr F ends",
    "0 stdout P begins",
    f"0 stdout F {HEAD}",
]


def test_pieces_of_a_line_go_on_with_it_in_their_stream():
    """A piece with a header is no piece: two pods may share a partition."""
    values, expected = cases(PIECES)
    assert going_on(parse([f"{STAMP} {value}" for value in values])) == expected


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_neither_batches_nor_restarts_change_what_goes_on(data):
    values, expected = cases(GO, PYTHON, JAVA, [f"{mark[:2]}{STAMP} {mark[2:]}" for mark in PIECES], OTHERS)
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=6).map(sorted))
    parser = Parser(ServiceSettings(service="pay"))
    found: list[bool] = []
    for start, stop in pairwise([0, *cuts, len(values)]):
        if start < stop:
            found += going_on(parser.parse(lines_of(values[start:stop], first=start)))
            state = parser.dump()
            parser = Parser(ServiceSettings(service="pay"))
            parser.load(state)
    assert found == expected


def test_no_session_has_a_continuation_and_windows_keep_their_rows():
    values, expected = cases(JAVA)
    events = parse(values).events
    table, plain = (SessionTable(3, 60.0, 10) for _ in range(2))
    rows = np.flatnonzero(~np.array(expected))
    windows, without = table.extend(events), plain.extend(events.take(rows))
    assert windows.rows.tolist() == rows.tolist()
    assert (windows.contexts == without.contexts).all()
    assert (windows.targets == without.targets).all()
    assert table.dump() == plain.dump()
    assert len(table.extend(parse(["\tat a.B.c(B.java:1)"]).events)) == 0


def test_every_line_is_accounted_for():
    values, expected = cases(JAVA, PYTHON)
    n = len(values)
    columns = np.zeros(n, np.int64), np.arange(n), np.full(n, ARRIVAL)
    limit = AppSettings().flink.max_line_bytes
    ((_, key, frame),) = pack(["logs.pay"] * n, *columns, [value.encode() for value in values], limit)
    out = ParseStage(AppSettings(), ControlView()).parse(key, frame, lambda: None)
    assert out.statistic.lines == n
    assert out.statistic.odd["continuation"] == sum(expected)
    assert not out.dead
