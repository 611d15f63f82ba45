"""Logfmt: pairs such as ``ts=... level=info msg="..."``, in any order; the message is the value of ``msg``."""

from functools import cache

import polars as pl

from parsing.formats._base import Example, Format, Headers

_KEY = r"[A-Za-z_@][A-Za-z0-9_.@/-]*"
_VALUE = r'(?:"(?:[^"\\\n]|\\.)*"|[^\s"]*)'
_PAIR = rf"{_KEY}={_VALUE} +"
_KEYS = {
    "message": ("msg", "message"),
    "time": ("ts", "time", "t", "timestamp", "@timestamp"),
    "level": ("level", "lvl", "severity"),
    "trace": ("trace_id", "traceID", "traceId", "traceid", "trace"),
    "request": ("request_id", "requestId", "req_id", "correlation_id"),
    "host": ("host", "hostname", "instance"),
    "component": ("logger", "component", "caller", "source", "module"),
    "span": ("span_id", "spanID", "spanId"),
}
_LEAN = ("message", "time", "level", "trace", "request")


def _read(text: pl.Series, full: bool) -> Headers:
    """Pick the values of the keys that say something to us; the first of each kind counts."""
    found = text.alias("text").to_frame().select_seq(_picks(full))
    columns = {name: found[name] for name in found.columns if found[name].null_count() < len(text)}
    session = columns.get("trace", columns.get("request"))
    if session is not None and "request" in columns:
        session = session.fill_null(columns["request"])
    return Headers(
        None,
        columns.get("time"),
        columns.get("level"),
        session,
        columns.get("message"),
        {name: columns[name] for name in ("host", "component", "trace", "span", "request") if full and name in columns},
    )


@cache
def _picks(full: bool) -> list[pl.Expr]:
    return [_value(name) for name in (_KEYS if full else _LEAN)]


def _value(name: str) -> pl.Expr:
    keys = "|".join(_KEYS[name])
    # Only whole pairs may stand before it: what looks like a pair inside a quoted text is none.
    value = pl.col("text").str.extract(rf"^(?:{_PAIR})*?(?:{keys})=({_VALUE})", 1)
    quoted = value.str.starts_with('"')
    # What follows an escaped line end is a stack: it makes no other template.
    first_line = value.str.extract(r'^"((?:[^\\]|\\[^n])*?)(?:\\n.*)?"$', 1)
    plain = first_line.str.replace_all(r"\\(.)", "$1")
    return pl.when(quoted).then(plain).otherwise(value).alias(name)


FORMATS = (
    Format(
        "logfmt",
        rank=5,
        header=rf"(?:{_PAIR})+(?:msg|message)=",
        examples=(
            Example(
                'ts=2026-11-22T13:07:49.123Z caller=main.go:12 level=info msg="listening on \\"all\\"" port=80',
                'listening on "all"',
                time="2026-11-22T13:07:49.123",
                level="INFO",
                component="main.go:12",
            ),
            Example(
                'time="2026-11-22T14:07:49+01:00" level=warning msg=slow trace_id=0af7651916cd43dd span_id=b host=web1',
                "slow",
                time="2026-11-22T13:07:49",
                level="WARN",
                session="0af7651916cd43dd",
                host="web1",
                trace="0af7651916cd43dd",
                span="b",
            ),
            Example(
                'level=error ts=1795352869.123 msg="lost msg=no" request_id=r-1 err="time=1 gone"',
                "lost msg=no",
                time="2026-11-22T13:07:49.123",
                level="ERROR",
                session="r-1",
                request="r-1",
            ),
        ),
        read=_read,
    ),
)
