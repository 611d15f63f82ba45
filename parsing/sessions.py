"""Which session a line belongs to: its identifier, by the service's own settings or found from its first lines."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.service import SessionOptions
from parsing import identifiers
from parsing.events import Events

SEVERAL = "\x1f"
"""Between the identifiers of a line that names several (``session.several`` is ``all``), until ``spread``."""
MOST_IDS = 100
"""Identifiers of a line that are kept. Each makes an event; HDFS deletes a hundred blocks in one line."""
COPY_CHARACTERS = 1_024
"""Of a line this much goes with its events after the first, so that a line does not grow by its identifiers."""
LONGEST_ID = 256
"""Characters of an identifier that are kept; an expression may match a whole line."""
_LEAST_SHARE = 0.2
"""Share of the first lines that must carry an identifier for it to be taken."""
_LEAST_LINES = 1.1
"""Lines per identifier, on average, among the first lines: an identifier that never comes back makes no session."""

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_IS = r"[\"']?[ ]?[:=][ ]?[\"']?"  # between a name and its value, in text or JSON

RULES: dict[str, str | None] = {
    "field": None,  # a trace or request id in the JSON around the line or in its header
    "block": r"(blk_-?[0-9]+)",
    "trace": rf"(?:[Tt]race[_.-]?[Ii][Dd]|TRACE_?ID){_IS}([0-9a-zA-Z-]{{8,64}})",
    "request": rf"(?:(req-{_UUID}))",
    "request_id": rf"(?:[Rr]equest[_.-]?[Ii][Dd]|[Cc]orrelation[_.-]?[Ii][Dd]){_IS}([0-9a-zA-Z-]{{8,64}})",
    "instance": rf"\[instance: ({_UUID})\]",
    "application": r"(?:application|job|appattempt|container|attempt)_([0-9]{10,}_[0-9]+)",
}
"""Where identifiers are looked for, in this order; the first group is the identifier."""


_QUOTE = r"\\*[\"']?"  # JSON within JSON escapes its quotes
_FIELD = (
    rf"(?:^|[^0-9A-Za-z_.-])(?:%s){_QUOTE}[ \t]{{0,3}}[:=][ \t]{{0,3}}{_QUOTE}"
    r"([^\s\"'\\,;&|(){}\[\]<>]*[^\s\"'\\,;&|(){}\[\]<>.:])"
)
"""A name and its value in JSON, JSON within JSON, logfmt or a header's text."""
_ABSENT = ("null", "None", "nil", "-")
"""What is written for a field that a line does not have."""
_HOST_KEYS = ("host", "hostname", "host_name", "host.name", "node", "node_name", "nodename", "kubernetes.host")
_SYSLOG_HOST = (
    r"^(?:<[0-9]{1,3}>)?(?:1 [!-~]+|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})) ([0-9A-Za-z][0-9A-Za-z_.:-]*) "
)


class SessionSettingsError(ValueError):
    """A service's ``session`` settings cannot be used; the message names the setting and the fix."""


@dataclass(eq=False)
class SessionFinder:
    """Gives lines their session, and finds out by which rule where the settings leave that open.

    ``rule`` is None while the first lines are being looked at, a name of ``RULES``, ``found`` (an expression found by
    how its values behave), ``none``, or what the settings say: ``pattern``, ``field``, ``host``, ``time``, ``lines``.

    Raises:
        SessionSettingsError: A setting is missing, says nothing here, or is no expression that polars can run.
    """

    options: SessionOptions
    rule: str | None = None
    pattern: str = ""
    """The expression in use, where the rule has one; its group is the identifier."""
    lines: dict[str, int] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    """The first lines, cut, while the rule is open."""
    _group: int = 1

    def __post_init__(self) -> None:
        _check(self.options)
        by = self.options.by
        if by == "auto":
            return
        self.rule = {"window": "none", "identifier": "pattern", "field": "named field"}.get(by, by)
        if by == "identifier":
            self.pattern = self.options.pattern or ""
            self._group = _groups(self.pattern)
        elif by == "field":
            self.pattern = _field_pattern(self.options.field or "")
        elif by == "host":
            self.pattern = _field_pattern(*_HOST_KEYS)

    @property
    def learning(self) -> bool:
        """Whether the rule is still open."""
        return self.rule is None

    @property
    def said(self) -> str | None:
        """The rule in words: its name, with the field or the expression that was found."""
        if self.rule == "named field":
            return f"field {self.options.field}"
        return f"found {self.pattern}" if self.rule == "found" else self.rule

    @property
    def resolved(self) -> SessionOptions:
        """The settings with the expression that was found in place of ``auto``, as far as one was."""
        pattern = self.pattern if self.rule == "found" else RULES.get(self.rule or "")
        if self.options.by != "auto" or not pattern:
            return self.options
        return self.options.model_copy(update={"by": "identifier", "pattern": pattern})

    def sessions(self, raw: pl.Series, text: pl.Series, own: pl.Series | None) -> pl.Series:
        """Return each line's session: strings [n], "" for none; several identifiers with ``SEVERAL`` between.

        ``raw`` is the line as it arrived (where the service's own expression is tried), ``text`` the message with its
        header, ``own`` the identifier that JSON or header named (null or "" for none).
        """
        if self.rule is None:
            found = self._all(text, own)
            self._observe(found, raw)
            ids: pl.Series | None = None
            for values in found.values():
                ids = values if ids is None else ids.fill_null(values)
        elif self.rule == "field":
            ids = own
        elif self.rule in RULES:
            return self._tidy(text, self._ids(RULES[self.rule] or ""))
        elif self.rule == "found":
            # Word boundaries by ASCII: Unicode's would throw polars' fast engine out at the first letter beyond ASCII.
            return self._tidy(raw, self._ids(self.pattern.replace(r"\b", r"(?-u:\b)")))
        elif self.rule == "pattern":
            return self._tidy(raw, self._ids(self.pattern))
        elif self.rule in ("named field", "host"):
            ids = self._tidy(raw, self._ids(self.pattern))
            ids = ids.set(ids.is_in(_ABSENT), "")
            if self.rule == "host":
                ids = raw.str.extract(_SYSLOG_HOST, 1).fill_null(ids)
        else:
            ids = None
        if ids is None:
            return pl.Series("session", [""], dtype=pl.String).new_from_index(0, len(text))
        return self._tidy(ids, pl.col("id"))

    def windows(
        self, sessions: pl.Series, times: NDArray[np.int64], offsets: NDArray[np.int64], partition: int
    ) -> pl.Series:
        """Return the fixed window of each line where the settings ask for them, else ``sessions``: strings [n].

        A window's name depends on the line alone: on its event time, or on its offset. So no state says which window is
        open, and every shard, restart and training cuts alike.

        Args:
            sessions: what ``sessions`` returned.
            times: event times, ms.
            offsets: of the lines.
            partition: of the lines.
        """
        if self.rule == "time":
            width = round(self.options.window_seconds * 1000)
            starts = pl.Series("session", times // width * width).cast(pl.Datetime("ms"))
            written = starts.dt.strftime("%Y-%m-%dT%H:%M:%S" + ("%.3fZ" if width % 1000 else "Z"))
            return written + f"/{partition}"
        if self.rule == "lines":
            many = self.options.window_lines
            starts = pl.Series("session", offsets // many * many)
            return starts.cast(pl.String) + "-" + (starts + many - 1).cast(pl.String) + f"/{partition}"
        return sessions

    def decide(self, lines: int) -> None:
        """Fix the rule: the known identifier on most of the first ``lines`` that recurs, else what behaves like one.

        Of known ones on as many lines, the first in ``RULES``.
        """
        if self.rule is not None:
            return
        best, most = "none", 0
        for name in RULES:
            carrying, distinct = self.lines.get(name, 0), len(self.ids.get(name, ()))
            if carrying >= _LEAST_SHARE * lines and carrying >= _LEAST_LINES * distinct and carrying > most:
                best, most = name, carrying
        if best == "none" and (pattern := identifiers.discover(self.first)):
            best, self.pattern = "found", pattern
        self.rule = best
        self.lines, self.ids, self.first = {}, {}, []

    def adopt(self, other: "SessionFinder") -> None:
        """Take over the expression that another finder found, if it did and this one is still looking."""
        if self.rule is None and other.rule == "found":
            self.rule, self.pattern = other.rule, other.pattern
            self.lines, self.ids, self.first = {}, {}, []

    def _observe(self, found: dict[str, pl.Series], raw: pl.Series) -> None:
        self.first += raw.str.slice(0, identifiers.LINE_CHARACTERS).to_list()
        for name, values in found.items():
            carrying = len(values) - values.null_count()
            if carrying:
                self.lines[name] = self.lines.get(name, 0) + carrying
                self.ids.setdefault(name, set()).update(values.drop_nulls().str.slice(0, LONGEST_ID).to_list())

    def _all(self, text: pl.Series, own: pl.Series | None) -> dict[str, pl.Series]:
        """Try every rule on every line: strings [n] by rule, null where there is no identifier."""
        patterns = [self._ids(pattern).alias(name) for name, pattern in RULES.items() if pattern is not None]
        found = {column.name: column for column in text.alias("id").to_frame().select_seq(patterns)}
        if own is None:
            return found
        return {"field": own.set(own == "", None)} | found

    def _tidy(self, values: pl.Series, ids: pl.Expr) -> pl.Series:
        ids = ids.fill_null("")
        if self.options.several != "all":  # of all, each was cut before they were joined
            ids = ids.str.slice(0, LONGEST_ID)
        return values.alias("id").to_frame().select_seq(ids).to_series()

    def _ids(self, pattern: str) -> pl.Expr:
        """What an expression finds in column ``id``: the first, the last or all that differ; null where nothing."""
        if self.options.several == "first":
            return pl.col("id").str.extract(pattern, self._group)
        matches = pl.col("id").str.extract_all(pattern)
        if self.options.several == "last":
            return matches.list.last().str.extract(pattern, self._group)
        each = matches.list.eval(pl.element().str.extract(pattern, self._group).str.slice(0, LONGEST_ID))
        distinct = each.list.drop_nulls().list.unique(maintain_order=True).list.head(MOST_IDS)
        return pl.when(distinct.list.len() > 0).then(distinct.list.join(SEVERAL))


def spread(events: Events, options: SessionOptions) -> Events:
    """Return an event for each session that a line names, where the settings ask for it; else the events as they are.

    The events of a line follow one another; ``copy`` is true for all but the first, so that lines can be counted.
    """
    if options.several != "all":
        return events
    names = events.frame["session"].str.split(SEVERAL)
    rows = np.repeat(np.arange(len(events)), names.list.len().to_numpy())
    copy = np.zeros(len(rows), dtype=np.bool_)
    copy[1:] = rows[1:] == rows[:-1]
    frame = events.frame[pl.Series("rows", rows)].with_columns(
        names.explode(),
        pl.Series("copy", copy),
        pl.when(pl.lit(pl.Series(copy)))
        .then(pl.col("line").str.slice(0, COPY_CHARACTERS))
        .otherwise(pl.col("line"))
        .alias("line"),
    )
    return Events(events.service, events.topic, frame, events.templates)


def lines_in(events: Events) -> int:
    """How many lines the events are of."""
    return len(events) - int(events.frame["copy"].sum()) if "copy" in events.frame.columns else len(events)


def _check(options: SessionOptions) -> None:
    """Raise where the settings do not go together."""
    if options.by == "field" and not options.field:
        raise SessionSettingsError(
            "session.field: needed where session.by is 'field'; say which field names the session"
        )
    if options.by != "field" and options.field:
        raise SessionSettingsError(
            f"session.field: says nothing where session.by is {options.by!r}; set that to 'field'"
        )


def _groups(pattern: str | None) -> int:
    """Return which group of the service's own expression is the identifier: 1, or 0 for the whole match."""
    if not pattern:
        raise SessionSettingsError("session.pattern: needed where session.by is 'identifier'; say what finds the id")
    try:
        groups = pl.Series([""]).str.extract_groups(pattern).struct.fields
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().rpartition("\n")[2]  # what comes before draws the place
        raise SessionSettingsError(f"session.pattern: {pattern!r} cannot be used: {reason}") from error
    return 1 if groups else 0


def _field_pattern(*names: str) -> str:
    """Write an expression for the value of the first of these fields; of ``a.b`` also for that of b within a."""
    forms = []
    for name in names:
        forms.append(identifiers.escaped(name))
        outer, _, inner = name.partition(".")
        if inner:
            within = r"\\*[\"'][ \t]{0,3}:[ \t]{0,3}\{[^{}]*?[\"']"
            forms.append(identifiers.escaped(outer) + within + identifiers.escaped(inner))
    return _FIELD % "|".join(forms)
