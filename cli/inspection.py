"""What a log looks like to the parser: format, fields, masks, session candidates, templates, and what is off.

Counts are kept while lines go by, batch by batch, in bounded memory; ``Inspection.data`` sums them up.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cli.show import percent, printable
from contracts.service import ServiceSettings, SessionOptions
from models.sentences import clock
from parsing.events import Lines, string_hashes, template_hex
from parsing.formats import OWN
from parsing.masks import Masks
from parsing.params import ANY, parameters
from parsing.parser import Parsed, Parser, added
from parsing.sessions import RULES

FIELDS = ("level", "host", "component", "trace", "span", "request")
MOST_VALUES = 1_000_000
"""Distinct values that are told apart, at 8 bytes each; there may be more."""
MOST_NAMED = 1_000
"""Of these, as many are counted one by one: the first that come."""
SHOWN_VALUES = 5
EXAMPLE_CHARACTERS = 1_000


@dataclass
class Tally:
    """Lines that name something, the distinct values of it, and the commonest of these."""

    lines: int = 0
    example: str = ""
    _hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    _named: "Counter[str]" = field(default_factory=Counter)

    def add(self, values: pl.Series) -> None:
        """Count a column of strings; "" and null are none."""
        values = values.drop_nulls()
        values = values.filter(values != "")
        if not len(values):
            return
        self.lines += len(values)
        self.example = self.example or values[0]
        distinct = values.value_counts().to_dict(as_series=True)
        value, count = distinct.values()
        if len(self._hashes) < MOST_VALUES:
            self._hashes = np.union1d(self._hashes, string_hashes(value))[:MOST_VALUES]
        if len(self._named) < MOST_NAMED or len(value) <= MOST_NAMED:
            for name, number in zip(value.to_list(), count.to_list(), strict=True):
                if name in self._named or len(self._named) < MOST_NAMED:
                    self._named[name] += number

    @property
    def values(self) -> int:
        """How many values there are, up to ``MOST_VALUES``."""
        return len(self._hashes)

    def common(self) -> list[list[Any]]:
        """Return the commonest values with their counts; none where no value ever came back."""
        ranked = sorted(self._named.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_VALUES]
        return [[name, number] for name, number in ranked if number > 1]


@dataclass
class _Template:
    """A template as it is counted."""

    text: str
    example: str
    count: int = 0


@dataclass
class Inspection:
    """Counts of one service's lines."""

    source: str
    settings: ServiceSettings
    """With what was found in place of ``auto``."""
    session_rule: str
    lines: int = 0
    bytes: int = 0
    cut: int = 0
    overflow: int = 0
    dated: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    dead: "Counter[str]" = field(default_factory=Counter)
    odd: dict[str, int] = field(default_factory=dict)
    formats: "Counter[str]" = field(default_factory=Counter)
    wrappings: "Counter[str]" = field(default_factory=Counter)
    fields: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in FIELDS})
    masks: dict[str, Tally] = field(default_factory=dict)
    candidates: dict[str, Tally] = field(default_factory=dict)
    sessions: Tally = field(default_factory=Tally)
    _templates: dict[int, _Template] = field(default_factory=dict)

    def add(self, lines: Lines, parsed: Parsed, masks: Masks) -> None:
        """Count a batch that was parsed with its fields."""
        assert parsed.fields is not None
        frame = parsed.events.frame
        self.lines += len(lines)
        self.bytes += len(lines.blob)
        self.cut += parsed.cut
        self.overflow += sum(parsed.overflow.values())
        self.dead.update(letter.reason for letter in parsed.dead)
        self.odd = added(self.odd, parsed.odd)
        if not frame.height:
            return
        self._count_fields(frame, parsed.fields)
        self._count_templates(parsed)
        self.sessions.add(frame["session"])
        for name, pattern in RULES.items():
            found = parsed.fields["trace"] if pattern is None else frame["line"].str.extract(pattern, 1)
            self.candidates.setdefault(name, Tally()).add(found)
        texts = frame["template"].replace_strict(parsed.events.templates, return_dtype=pl.String)
        found_by = parameters(parsed.fields["message"], texts, masks).frame
        for name, values in found_by.group_by("type", maintain_order=True).agg("text").iter_rows():
            self.masks.setdefault(name, Tally()).add(pl.Series(values, dtype=pl.String))

    def _count_fields(self, frame: pl.DataFrame, fields: pl.DataFrame) -> None:
        for counts, column in ((self.formats, "format"), (self.wrappings, "wrapping")):
            counts.update(dict(fields[column].value_counts().iter_rows()))
        for name, tally in self.fields.items():
            tally.add(frame["level"] if name == "level" else fields[name])
        dated = frame["time"].filter(fields["dated"]).to_numpy()
        if len(dated):
            self.dated += len(dated)
            first, last = int(dated.min()), int(dated.max())
            self.first_ms = first if self.first_ms is None else min(first, self.first_ms)
            self.last_ms = last if self.last_ms is None else max(last, self.last_ms)

    def _count_templates(self, parsed: Parsed) -> None:
        ids, first, counts = np.unique(parsed.events.template_ids(), return_index=True, return_counts=True)
        for template, row, count in zip(ids.tolist(), first.tolist(), counts.tolist(), strict=True):
            text = parsed.events.templates[template]
            known = self._templates.get(template)
            if known is None:
                example = parsed.events.frame["line"][row][:EXAMPLE_CHARACTERS]
                known = self._templates[template] = _Template(text, example)
            known.text = text
            known.count += count

    @property
    def format(self) -> str:
        """Name of the format that lines are to have."""
        return OWN if self.settings.format_pattern is not None else self.settings.format

    def data(self) -> dict[str, Any]:
        """Return everything as plain values for ``--json``."""
        name = self.format
        return {
            "source": self.source,
            "lines": self.lines,
            "bytes": self.bytes,
            "format": {"name": name, "lines": self.formats[name], "share": self._share(self.formats[name])},
            "formats": dict(self.formats.most_common()),
            "wrappings": {wrapping: number for wrapping, number in self.wrappings.most_common() if wrapping},
            "time": {
                "lines": self.dated,
                "share": self._share(self.dated),
                "first_ms": self.first_ms,
                "last_ms": self.last_ms,
            },
            "fields": list(self._fields()),
            "masks": list(self._masks()),
            "sessions": {"rule": self.session_rule, **self._identifiers(self.sessions)},
            "session_candidates": [
                {"rule": rule, **self._identifiers(tally)} for rule, tally in self.candidates.items() if tally.lines
            ],
            "templates": list(self._listed()),
            "guards": {
                "dead": dict(self.dead),
                "odd": self.odd,
                "cut": self.cut,
                "overflow": self.overflow,
            },
            "settings": self.settings.model_dump(mode="json", exclude_defaults=True),
        }

    def _share(self, number: int) -> float:
        return round(number / self.lines, 4) if self.lines else 0.0

    def _fields(self) -> Iterator[dict[str, Any]]:
        for name, tally in self.fields.items():
            if tally.lines:
                yield {
                    "field": name,
                    "lines": tally.lines,
                    "share": self._share(tally.lines),
                    "values": tally.values,
                    "common": tally.common(),
                    "example": tally.example,
                }

    def _masks(self) -> Iterator[dict[str, Any]]:
        for name, tally in sorted(self.masks.items(), key=lambda item: (-item[1].lines, item[0])):
            yield {"mask": name, "count": tally.lines, "values": tally.values, "example": tally.example}

    def _identifiers(self, tally: Tally) -> dict[str, Any]:
        return {
            "lines": tally.lines,
            "share": self._share(tally.lines),
            "ids": tally.values,
            "lines_per_id": round(tally.lines / tally.values, 2) if tally.values else 0.0,
            "example": tally.example,
        }

    def _listed(self) -> Iterator[dict[str, Any]]:
        for template, known in sorted(self._templates.items(), key=lambda item: (-item[1].count, item[0])):
            yield {
                "id": template_hex(template),
                "count": known.count,
                "share": self._share(known.count),
                "template": known.text,
                "example": known.example,
            }

    def toml(self) -> str:
        """Write the settings as a file that ``settings set`` takes back; what was counted stands in comments."""
        import tomli_w  # noqa: PLC0415  (only where a file is written)

        said = [
            f"Written by logcanary inspect: {self.lines:,} lines.",
            f"Format {self.format}: {self.formats[self.format]:,} lines.",
            f"Sessions by {self.session_rule}: {self.sessions.lines:,} lines, {self.sessions.values:,} identifiers.",
        ]
        values = self.settings.model_dump(mode="json", exclude_defaults=True, exclude={"service"})
        return "".join(f"# {printable(one)}\n" for one in said) + "\n" + tomli_w.dumps(values)


def inspect_lines(source: str, settings: ServiceSettings, batches: Iterator[Lines]) -> Inspection:
    """Look at all lines: format and sessions are found in the first batch, then everything is read by them."""
    first = next(batches)
    pinned, rule = settled(settings, first)
    found = Inspection(source, pinned, rule)
    # What names no session for good must not be given one while a parser still looks.
    read = pinned if rule != "none" else pinned.model_copy(update={"session": SessionOptions(by="window")})
    parser, masks = Parser(read, fields=True), Masks.build(pinned.masks)
    for lines in chain([first], batches):
        found.add(lines, parser.parse(lines), masks)
    return found


def settled(settings: ServiceSettings, first: Lines) -> tuple[ServiceSettings, str]:
    """Return the settings with what the first lines say in place of ``auto``, and what finds sessions."""
    parser = Parser(settings)
    parser.parse(first)
    parser.settle()
    found, rule = parser.resolved, parser.session_rule or "none"
    pattern = RULES.get(rule)
    if found.session.by == "auto" and pattern is not None:
        session = found.session.model_copy(update={"by": "identifier", "pattern": pattern})
        found = found.model_copy(update={"session": session})
    return found, rule


def span(times: Mapping[str, Any]) -> str:
    """Write from when to when.

    >>> span({"first_ms": 0, "last_ms": 61_000, "share": 0.5})
    '1970-01-01 00:00:00 to 1970-01-01 00:01:01, on 50 % of the lines'
    """
    if times["first_ms"] is None:
        return "no line says one"
    return f"{clock(times['first_ms'])} to {clock(times['last_ms'])}, on {percent(times['share'])} of the lines"


MASK_WORDS = {ANY: "(words)"}
"""How a type that is no mask's is shown."""
