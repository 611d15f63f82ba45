"""Which session a line belongs to: its identifier, by the service's own expression or found from its first lines."""

from dataclasses import dataclass, field

import polars as pl

from contracts.service import SessionOptions

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


class SessionSettingsError(ValueError):
    """A service's ``session`` settings cannot be used; the message names the setting and the fix."""


@dataclass(eq=False)
class SessionFinder:
    """Gives lines their session, and finds out by which rule where the settings leave that open.

    ``rule`` is None while the first lines are being looked at, a name of ``RULES``, ``pattern`` (the service's own) or
    ``none``.

    Raises:
        SessionSettingsError: ``session.pattern`` is missing or is no expression that polars can run.
    """

    options: SessionOptions
    rule: str | None = None
    lines: dict[str, int] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)
    _group: int = 0

    def __post_init__(self) -> None:
        if self.options.by == "window":
            self.rule = "none"
        elif self.options.by == "identifier":
            self.rule = "pattern"
            self._group = _groups(self.options.pattern)

    @property
    def learning(self) -> bool:
        """Whether the rule is still open."""
        return self.rule is None

    def sessions(self, raw: pl.Series, text: pl.Series, own: pl.Series | None) -> pl.Series:
        """Return each line's session: strings [n], "" for none.

        ``raw`` is the line as it arrived (where the service's own expression is tried), ``text`` the message with its
        header, ``own`` the identifier that JSON or header named (null or "" for none).
        """
        if self.rule is None:
            found = _all(text, own)
            self._observe(found)
            ids: pl.Series | None = None
            for values in found.values():
                ids = values if ids is None else ids.fill_null(values)
        elif self.rule == "pattern":
            return _tidy(raw, pl.col("id").str.extract(self.options.pattern or "", self._group))
        elif self.rule == "field":
            ids = own
        else:
            pattern = RULES.get(self.rule)
            if pattern is not None:
                return _tidy(text, pl.col("id").str.extract(pattern, 1))
            ids = None
        if ids is None:
            return pl.Series("session", [""], dtype=pl.String).new_from_index(0, len(text))
        return _tidy(ids, pl.col("id"))

    def decide(self, lines: int) -> None:
        """Fix the rule: the identifier on most of the first ``lines`` that recurs; of equals the first in ``RULES``."""
        if self.rule is not None:
            return
        best, most = "none", 0
        for name in RULES:
            carrying, distinct = self.lines.get(name, 0), len(self.ids.get(name, ()))
            if carrying >= _LEAST_SHARE * lines and carrying >= _LEAST_LINES * distinct and carrying > most:
                best, most = name, carrying
        self.rule = best
        self.lines, self.ids = {}, {}

    def _observe(self, found: dict[str, pl.Series]) -> None:
        for name, values in found.items():
            carrying = len(values) - values.null_count()
            if carrying:
                self.lines[name] = self.lines.get(name, 0) + carrying
                self.ids.setdefault(name, set()).update(values.drop_nulls().str.slice(0, LONGEST_ID).to_list())


def _tidy(values: pl.Series, ids: pl.Expr) -> pl.Series:
    return values.alias("id").to_frame().select_seq(ids.fill_null("").str.slice(0, LONGEST_ID)).to_series()


def _all(text: pl.Series, own: pl.Series | None) -> dict[str, pl.Series]:
    """Try every rule on every line: strings [n] by rule, null where there is no identifier."""
    found = {name: text.str.extract(pattern, 1) for name, pattern in RULES.items() if pattern is not None}
    if own is None:
        return found
    return {"field": own.set(own == "", None)} | found


def _groups(pattern: str | None) -> int:
    """Return which group of the service's own expression is the identifier: 1, or 0 for the whole match."""
    if not pattern:
        raise SessionSettingsError("session.pattern: needed where session.by is 'identifier'; say what finds the id")
    try:
        groups = pl.Series([""]).str.extract_groups(pattern).struct.fields
    except pl.exceptions.PolarsError as error:
        raise SessionSettingsError(f"session.pattern: {pattern!r} cannot be used: {error}") from error
    return 1 if groups else 0
