"""Every format's examples come to what they say, alone and under ``auto``; envelopes; fields as columns."""

import json

import numpy as np
import pytest

from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.formats import FORMATS, NAMES, Example, FormatSettingsError
from parsing.parser import FIELD_SCHEMA, Parsed, Parser

ARRIVAL = 1_795_352_869_500  # 2026-11-22 13:07:49.5 UTC
EXAMPLES = [(form, example) for form in FORMATS.values() for example in form.examples]


def lines_of(*values: str | bytes | None, first: int = 0) -> Lines:
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    n = len(raw)
    return Lines.from_list("pay", "logs.pay", 0, np.arange(first, first + n), np.full(n, ARRIVAL), raw)


def parse(*values: str | bytes | None, **options: object) -> Parsed:
    return Parser(ServiceSettings(service="pay", **options), fields=True).parse(lines_of(*values))


def told(parsed: Parsed, row: int = 0) -> Example:
    """What came of a line, written as an example of it."""
    assert parsed.fields is not None
    assert dict(parsed.fields.schema) == FIELD_SCHEMA
    assert parsed.fields.height == len(parsed.events)
    event, fields = parsed.events.frame.row(row, named=True), parsed.fields.row(row, named=True)
    time = np.datetime_as_string(np.datetime64(event["time"], "ms")) if fields["dated"] else ""
    return Example(
        event["line"],
        fields["message"],
        time=str(time).removesuffix(".000"),
        level=event["level"],
        session=event["session"],
        **{name: fields[name] for name in NAMES},
    )


@pytest.mark.parametrize(("form", "example"), EXAMPLES, ids=[f"{form.name}-{e.line[:30]}" for form, e in EXAMPLES])
def test_an_example_comes_to_what_it_says(form, example):
    parsed = parse(example.line, format=form.name)
    assert told(parsed) == example
    assert parsed.fields["format"].to_list() == [form.name]
    assert not {"no_time", "impossible_time"} & parsed.odd.keys() or not example.time


@pytest.mark.parametrize(("form", "example"), EXAMPLES, ids=[f"{form.name}-{e.line[:30]}" for form, e in EXAMPLES])
def test_an_example_is_found_by_itself(form, example):
    """Whatever format is found: it comes to the same, in the first lines and once the format is fixed."""
    parser = Parser(ServiceSettings(service="pay"), fields=True)
    first = parser.parse(lines_of(*[example.line] * 1_000))
    assert parser.resolved.format == form.name
    again = parser.parse(lines_of(example.line, "no header", first=1_000))
    assert told(first, 999) == example
    assert told(again) == example
    assert told(again, 1) == Example("no header", "no header")


def record(**body: object) -> str:
    return json.dumps(body)


RECORD = {
    "timeUnixNano": "1795352869123000000",
    "severityNumber": 17,
    "body": {"stringValue": "cannot read"},
    "traceId": "0af7651916cd43dd",
    "spanId": "b7ad6b7169203331",
    "attributes": [{"key": "message", "value": {"stringValue": "not this"}}],
}
RESOURCE = {"attributes": [{"key": "host.name", "value": {"stringValue": "web1"}}]}


def otlp(*records: dict[str, object]) -> str:
    scopes = [{"scope": {"name": "com.example.Shop"}, "logRecords": list(records)}]
    return json.dumps({"resourceLogs": [{"resource": RESOURCE, "scopeLogs": scopes}]})


WITH_TRACE = {
    "level": "ERROR",
    "time": "2026-11-22T13:07:49.123",
    "session": "0af7651916cd43dd",
    "trace": "0af7651916cd43dd",
    "span": "b7ad6b7169203331",
}
WRAPPED = [
    ("json", record(log="hello\n", stream="stdout", time="2026-11-22T13:07:49.123456789Z"), "hello", {}),
    (
        "json",
        record(log="2026-11-22 13:07:48,123 WARN  a.b.Shop: slow\n", stream="stdout", time="2026-11-22T13:07:49.123Z"),
        "slow",
        {"level": "WARN", "component": "a.b.Shop"},
    ),
    (
        "json",
        record(level="info", ts=1_795_352_869.123, logger="shop", msg="sold", hostname="web1", request_id="r-1"),
        "sold",
        {"level": "INFO", "host": "web1", "component": "shop", "session": "r-1", "request": "r-1"},
    ),
    (
        "json",
        json.dumps(
            {
                "@timestamp": "2026-11-22T13:07:49.123Z",
                "message": "sold",
                "log": {"level": "warn", "logger": "a.b.Shop"},
                "trace": {"id": "0af7"},
                "host": {"name": "web1"},
            }
        ),
        "sold",
        {"level": "WARN", "host": "web1", "component": "a.b.Shop", "session": "0af7", "trace": "0af7"},
    ),
    (
        "json",
        record(version="1.1", host="web1", short_message="sold", timestamp=1_795_352_869.123, level=4),
        "sold",
        {"level": "WARN", "host": "web1"},
    ),
    (
        "json",
        '{"MESSAGE":"sold","PRIORITY":"3","_HOSTNAME":"web1","SYSLOG_IDENTIFIER":"shop",'
        '"__REALTIME_TIMESTAMP":"1795352869123456"}',
        "sold",
        {"level": "ERROR", "host": "web1", "component": "shop"},
    ),
    ("json", json.dumps(RECORD), "cannot read", WITH_TRACE),
    ("json", json.dumps(RECORD | {"severityText": "Warn"}), "cannot read", WITH_TRACE | {"level": "WARN"}),
    ("json", json.dumps(RECORD | {"body": {"intValue": "5"}}), '{"intValue":"5"}', WITH_TRACE),
    ("otlp", otlp(RECORD), "cannot read", WITH_TRACE | {"host": "web1", "component": "com.example.Shop"}),
    ("cri", "2026-11-22T13:07:49.123669794Z stdout F sold", "sold", {}),
    (
        "cri",
        "2026-11-22T14:07:49.123+01:00 stderr F 2026-11-22 13:07:48,123 WARN  a.b.Shop: slow",
        "slow",
        {"level": "WARN", "component": "a.b.Shop"},
    ),
    ("cri", '2026-11-22T13:07:49.123Z stdout F {"level":"error","msg":"lost"}', "lost", {"level": "ERROR"}),
]  # fmt: skip


@pytest.mark.parametrize(("wrapping", "line", "message", "said"), WRAPPED, ids=[line[:40] for _, line, _, _ in WRAPPED])
def test_what_is_around_a_line_is_taken_off(wrapping, line, message, said):
    parsed = parse("before", line, "behind")
    assert told(parsed, 1) == Example(line, message, **({"time": "2026-11-22T13:07:49.123"} | said))
    assert parsed.fields["wrapping"].to_list() == ["", wrapping, ""]
    assert parsed.odd == {"no_time": 2}


def test_of_several_log_records_the_first_is_read_and_the_line_is_counted():
    parsed = parse(otlp(RECORD), otlp(RECORD, RECORD | {"body": {"stringValue": "never read"}}))
    assert parsed.fields["message"].to_list() == ["cannot read"] * 2
    assert parsed.odd == {"many_records": 1}


EVERYTHING = [example.line for _, example in EXAMPLES] + [line for _, line, _, _ in WRAPPED]


@pytest.mark.parametrize("copies", [1, 8])
def test_fields_cost_nothing_where_nobody_asks_and_change_no_event(copies):
    """Read with all groups and keys, or with those alone that the online path needs: the same events."""
    values = lines_of(*EVERYTHING * copies)
    lean = Parser(ServiceSettings(service="pay")).parse(values)
    full = Parser(ServiceSettings(service="pay"), fields=True).parse(values)
    assert lean.fields is None
    assert full.fields is not None
    assert full.fields.height == len(EVERYTHING) * copies
    assert lean.events.frame.equals(full.events.frame)
    assert lean.odd == full.odd


def test_colour_codes_are_stripped_before_anything_reads_the_line():
    red, off = "\x1b[1;31m", "\x1b[0m"
    coloured = f"{red}2026-11-22 13:07:49,123{off} {red}ERROR{off} a.b.Shop: \x1b]0;title\x07lost {red}alert{off} "
    plain = "2026-11-22 13:07:49,123 ERROR a.b.Shop: lost alert"
    parsed = parse(
        coloured, json.dumps({"log": coloured + "\n"}), plain, red, session={"by": "identifier", "pattern": "lost (.*)"}
    )
    assert parsed.fields["message"].to_list() == ["lost alert"] * 3 + [""]
    assert parsed.events.frame["level"].to_list() == ["ERROR"] * 3 + [""]
    assert parsed.events.frame["session"][0] == "alert"
    assert parsed.events.frame["line"][0] == coloured  # what arrived is shown as it arrived
    assert parsed.events.template_ids()[0] == parsed.events.template_ids()[2]


# -- a service's own header ------------------------------------------------------------------------


def test_a_service_has_a_header_of_its_own():
    pattern = (
        r"(?P<host>\w+)\|(?P<time>[^|]+)\|(?P<level>[A-Z])\|(?P<component>\w+)\|(?P<trace>\w*)\|(?P<request>\w*)\| "
    )
    parsed = parse(
        "web1|22.11.2026 13:07:49|E|shop|0af7|r1| lost",
        "no header",
        format_pattern=pattern,
        format_time="dd.MM.yyyy HH:mm:ss",
    )
    line = parsed.events.frame["line"][0]
    assert told(parsed) == Example(
        line, "lost", "2026-11-22T13:07:49", "ERROR", "0af7", "web1", "shop", "0af7", "", "r1"
    )
    assert told(parsed, 1) == Example("no header", "no header")
    assert parsed.fields["format"].to_list() == ["pattern", "raw"]


@pytest.mark.parametrize(
    "time",
    ["2026-11-22 13:07:49", "1795352869", "1795352869000", "22/Nov/2026:14:07:49 +0100", "11/22/2026 1:07:49 PM"],
)
def test_the_time_of_an_own_header_is_found_by_itself(time):
    parsed = parse(f"<{time}> sold", format_pattern="<(?P<time>[^>]+)> ")
    assert told(parsed).time == "2026-11-22T13:07:49"


@pytest.mark.parametrize(
    ("pattern", "time", "said"),
    [
        ("(?P<time>", None, r"format_pattern: '\(\?P<time>' cannot be used"),
        ("(?P<time>x)(?=y)", None, "format_pattern: .* cannot be used"),
        ("[a-z]+", None, r"format_pattern: it has no named group; name what it reads"),
        ("(?P<zeit>x)", None, "format_pattern: there is no group 'zeit'"),
        ("(?P<level>[A-Z]*)", None, "format_pattern: .* matches the empty text; demand one character"),
        ("(?P<time>x)", "HH:mm", "format_time: 'HH:mm' says no time of day"),
        ("(?P<time>x)", "yyyy HH:mm:ss", "format_time: .* says half a date"),
        ("(?P<time>x)", "MM MMM dd HH:mm:ss", "format_time: .* says one number twice"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused_with_a_sentence(pattern, time, said):
    with pytest.raises(FormatSettingsError, match=said):
        Parser(ServiceSettings(service="pay", format_pattern=pattern, format_time=time))


# -- which format a service has --------------------------------------------------------------------


def test_settings_change_the_format_at_any_time():
    """The state of one format goes on under settings that say another; what was found stays found."""
    line = "2026-11-22 13:07:49,123 WARN  a.b.Shop: slow"
    parser = Parser(ServiceSettings(service="pay"))
    parser.parse(lines_of(*[line] * 1_000))
    states = [parser.dump()]
    given = {"auto": "log4j", "iso": "iso", "raw": "raw"}
    for setting, format_now in given.items():
        again = Parser(ServiceSettings(service="pay", format=setting), fields=True)
        again.load(states[0])
        assert again.parse(lines_of(line)).fields["format"].to_list() == [format_now]
    own = Parser(ServiceSettings(service="pay", format_pattern="(?P<time>[^,]+),[0-9]+ "))
    own.load(states[0])
    assert own.resolved.format == "auto"
    again = Parser(ServiceSettings(service="pay"))
    again.load(own.dump())
    assert again.resolved.format == "auto"  # what a service said itself is not what was found


def test_a_special_format_is_preferred_to_a_general_one_that_fits_a_few_lines_more():
    values = ["2026-11-22 13:07:49,123 WARN  a.b.Shop: slow"] * 950 + ["2026-11-22 13:07:49 all quiet"] * 50
    parser = Parser(ServiceSettings(service="pay"))
    parser.parse(lines_of(*values))
    assert parser.resolved.format == "log4j"


def test_stacks_among_the_first_lines_hide_neither_format_nor_identifier():
    values = (["2026-11-22 13:07:49,123 ERROR a.b.Shop: lost blk_7", *["\tat a.B.c(B.java:1)"] * 60] * 20)[:1_000]
    parser = Parser(ServiceSettings(service="pay"))
    for first in range(0, 1_000, 250):
        parser.parse(lines_of(*values[first : first + 250], first=first))
        state = parser.dump()
        parser = Parser(ServiceSettings(service="pay"))
        parser.load(state)
    assert parser.resolved.format == "log4j"
    assert parser.session_rule == "block"
