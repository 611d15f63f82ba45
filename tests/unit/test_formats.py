"""Every format's examples come to what they say, alone and under ``auto``; envelopes; fields as columns."""

import json

import numpy as np
import polars as pl
import pytest

from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.formats import FORMATS, NAMES, Example
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
