"""Bad input of every kind: a dead letter with its reason, or scored and counted by reason; the next line is handled."""

import json
from typing import get_args

import numpy as np
import pytest

from contracts.records import OddReason, Statistic
from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from parsing.events import Lines
from parsing.parser import Parser
from storage.control import ControlView
from streaming.exporter import Metrics
from streaming.stages import ParseStage
from tests.packing import pack

ARRIVAL = 1_795_352_869_000  # 2026-11-22 13:07:49 UTC
GOOD = "2026-11-22 13:07:49,123 INFO a.B: all is well"
RECORD = {"timeUnixNano": "1795352869000000000", "body": {"stringValue": "x"}}
STACK = GOOD + "".join(f"\n\tat com.example.Shop.buy(Shop.java:{line})" for line in range(500))


def parse(*values, **options):
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    n = len(raw)
    lines = Lines.from_list("pay", "logs.pay", 0, np.arange(n), np.full(n, ARRIVAL), raw)
    return Parser(ServiceSettings(service="pay", **options)).parse(lines)


@pytest.mark.parametrize(
    ("value", "odd"),
    [
        (GOOD, {}),
        ("no time here", {"no_time": 1}),
        ("2026-02-30 25:61:61 INFO a.B: x", {"impossible_time": 1}),
        ("1969-12-31 23:59:59 INFO a.B: x", {"impossible_time": 1}),
        ("2036-11-22 13:07:49 INFO a.B: x", {"impossible_time": 1}),
        (json.dumps({"msg": "x", "time": "never"}), {"impossible_time": 1}),
        (json.dumps({"msg": "x", "time": "2026-11-22T13:07:49Z"}), {}),
        (json.dumps({"msg": "x", "time": 1_795_352_869}), {}),
        (json.dumps({"log": GOOD + "\n"}), {}),
        (json.dumps({"msg": "x"}), {"no_time": 1}),
        (json.dumps({"other": "x"}), {"no_time": 1}),
        ('{"msg": "x", "time": "2026-11-22T13:07:49Z"', {"broken_json": 1, "no_time": 1}),
        ("{ block of a configuration", {"broken_json": 1, "no_time": 1}),
        ('{"a":' * 10_000, {"broken_json": 1, "no_time": 1, "long": 1}),
        (GOOD + " and so on" * 100, {"long": 1}),
        (GOOD + " " + "x" * 4_100, {"long": 1}),
        (GOOD + " and so on" * 40, {}),
        (STACK, {"many_lines": 1}),
        (json.dumps({"log": STACK}), {"many_lines": 1}),
        ("\tat com.example.Shop.buy(Shop.java:7)", {"continuation": 1}),
        (json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [RECORD, RECORD]}]}]}), {"many_records": 1}),
    ],
)
def test_what_is_off_about_a_line_is_counted(value, odd):
    parsed = parse(value)
    assert parsed.odd == odd
    assert len(parsed.events) == 1
    assert parse(GOOD, value, GOOD).odd == odd  # neighbours make no difference


def test_counts_do_not_depend_on_batches():
    values = [
        GOOD,
        "plain",
        "{no",
        STACK,
        "2036-01-01 00:00:00 INFO a.B: x",
    ] * 400  # past the lines that teach a format
    assert parse(*values).odd == {"no_time": 800, "broken_json": 400, "many_lines": 400, "impossible_time": 400}
    assert parse(*values, format="raw").odd == {"no_time": 2000, "broken_json": 400, "many_lines": 400}


def statistic_of(*values):
    limit = AppSettings().flink.max_line_bytes
    n = len(values)
    columns = np.zeros(n, np.int64), np.arange(n), np.full(n, ARRIVAL)
    ((_, key, frame),) = pack(["logs.pay"] * n, *columns, [v and v[: limit + 1] for v in values], limit)
    out = ParseStage(AppSettings(), ControlView()).parse(key, frame, lambda: None)
    return out.statistic, {letter.offset: letter.reason for letter in out.dead}


def test_every_kind_of_bad_input_is_counted_by_reason_on_the_metrics_page():
    values = [
        GOOD.encode(), b"", None, b"\xff", b"x" * 100_000, b"no time", b"2036-11-22 13:07:49 INFO a.B: x",
        b'{"log": "x', STACK.encode(), GOOD.encode(),
    ]  # fmt: skip
    statistic, dead = statistic_of(*values)
    assert dead == {1: "empty", 2: "null", 3: "invalid_utf8"}
    assert statistic.dead == {"empty": 1, "null": 1, "invalid_utf8": 1}
    assert statistic.odd == {"no_time": 3, "impossible_time": 1, "broken_json": 1, "many_lines": 1, "long": 1}
    assert statistic.cut == 1
    metrics = Metrics()
    metrics.statistic(Statistic.model_validate_json(statistic.model_dump_json()))
    for name, of in (("deadletters", statistic.dead), ("odd_lines", statistic.odd)):
        for reason, number in of.items():
            labels = {"service": "pay", "reason": reason}
            assert metrics.registry.get_sample_value(f"logcanary_{name}_total", labels) == number
    assert metrics.registry.get_sample_value("logcanary_cut_lines_total", {"service": "pay"}) == 1


def test_the_series_of_every_reason_are_there_before_anything_is_off():
    metrics = Metrics()
    metrics.know("pay")
    for reason in get_args(OddReason):
        labels = {"service": "pay", "reason": reason}
        assert metrics.registry.get_sample_value("logcanary_odd_lines_total", labels) == 0
