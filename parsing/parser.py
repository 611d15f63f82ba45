"""Lines of one service to events: secrets out, then header, session, masks and template over a whole batch of columns.

Usage::

    parser = Parser(ServiceSettings(service="pay"))
    parsed = parser.parse(lines)
    send(parsed.events, parsed.dead, parsed.new_templates)
    if parser.dirty:
        state = parser.dump()  # and later: Parser(settings).load(state)

A line's template depends on the lines before it and on nothing else: not on how they were cut into batches, and not on
a dump and load between them.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import zstandard
from numpy.typing import NDArray

from contracts.records import DeadLetter, Template, TemplateReason
from contracts.service import ServiceSettings
from contracts.state import PARSER_STATE
from parsing import decode, formats, unwrap
from parsing.aliases import Aliases
from parsing.apart import Apart
from parsing.continuations import CONTINUATION_TEMPLATE, CONTINUATION_TEXT, Continuations
from parsing.events import Events, Lines, template_hex
from parsing.masks import MAX_MESSAGE, Masks
from parsing.miner import OVERFLOW_TEMPLATE, Generation, Miner
from parsing.redaction import Redaction
from parsing.sessions import SessionFinder
from parsing.stock import Mined, Stock
from parsing.times import parse_any, parse_times, possible
from parsing.words import REST

_WITHOUT_HEADER = pl.coalesce(pl.col("text").str.strip_prefix(pl.col("header")), pl.col("text"))
EXAMPLE_CHARACTERS = 1_000
"""Of the example line that a template is announced with."""

FIELD_SCHEMA: dict[str, pl.DataType] = {
    "wrapping": pl.String(),
    "format": pl.String(),
    "dated": pl.Boolean(),
    "host": pl.String(),
    "component": pl.String(),
    "trace": pl.String(),
    "span": pl.String(),
    "request": pl.String(),
    "message": pl.String(),
    "below": pl.String(),
}
"""Columns of ``Parsed.fields``; strings are "" where a line says none. ``wrapping`` is what was around the line
(``json``, ``otlp``, ``cri``, the outermost), ``format`` the header format that fits it; ``dated`` whether the event's
time was said by the line. ``message`` is the first line of the innermost message without its header, ``below`` what
follows it."""

_MAGIC = b"LCPS"
_HEADER = struct.Struct("<4sHIII")  # magic, format, bytes of metadata before compression, remembered texts, aliases
_LARGEST_STATE = 1 << 30  # bytes; more is no state of ours


class ParserStateError(ValueError):
    """Bytes that are not a parser's state, or of a newer format than this code reads."""


@dataclass(frozen=True, eq=False, slots=True)
class Parsed:
    """What came out of one batch: lines in = events + dead letters."""

    events: Events
    dead: list[DeadLetter]
    new_templates: list[Template]
    """What came, changed or went, for the catalogue; with the line that did it, where one did."""
    cut: int
    """Lines cut to the length limit."""
    overflow: dict[str, int] = field(default_factory=dict)
    """Lines without a template of their own, by ``contracts.records.OverflowReason``."""
    odd: dict[str, int] = field(default_factory=dict)
    """Lines that were parsed although something about them is off, by ``contracts.records.OddReason``."""
    forgotten: int = 0
    """Masked texts whose template is remembered no more."""
    fields: pl.DataFrame | None = None
    """What else the events' lines say, row by row (``FIELD_SCHEMA``), where it was asked for."""


@dataclass(frozen=True, eq=False, slots=True)
class _Read:
    """What was read of some lines before masking: columns [n]."""

    header: pl.Series | None
    text: pl.Series
    time: NDArray[np.int64]
    level: pl.Series
    session: pl.Series
    odd: dict[str, int]
    continued: NDArray[np.bool_] | None
    """Which lines go on with one before them; None where none does."""
    fields: pl.DataFrame | None

    def only(self, rows: NDArray[np.int64]) -> "_Read":
        """The same with the texts of these rows alone, for mining."""
        index = pl.Series("rows", rows)
        header = None if self.header is None else self.header[index]
        return replace(self, header=header, text=self.text[index], continued=None)

    def messages(self) -> tuple[pl.DataFrame, pl.Expr]:
        """Return the columns that the messages are in, and how to take them out, whole."""
        if self.header is None:
            return pl.DataFrame([self.text.alias("text")]), pl.col("text")
        return pl.DataFrame([self.text.alias("text"), self.header.alias("header")]), _WITHOUT_HEADER


@dataclass(eq=False, slots=True)
class _Mined:
    """The templates of some lines: [n] ids, and what mining them did."""

    templates: NDArray[np.uint64]
    changes: dict[int, tuple[TemplateReason, str, int]] = field(default_factory=dict)
    """What is to be announced by template: reason, newest text, and the row that did it, or -1."""
    overflow: dict[str, int] = field(default_factory=dict)

    def change(self, template: int, reason: TemplateReason, text: str, row: int) -> None:
        """Note what is to be announced; of two changes of one template the later counts, but news stay news."""
        why, _, where = self.changes.pop(template, (reason, text, -1))
        self.changes[template] = why if reason == "generalised" else reason, text, row if row >= 0 else where


class Parser:
    """Everything it takes to parse one service; ``parse`` is the one verb.

    Args:
        settings: of the service.
        max_line_bytes: of a line at most so much is parsed.
        fields: whether ``Parsed.fields`` is wanted too, which takes longer.

    Raises:
        ValueError: A setting of the service cannot be used; the message names it.
    """

    def __init__(self, settings: ServiceSettings, max_line_bytes: int = 65_536, *, fields: bool = False) -> None:
        self.settings = settings
        self._full = fields
        self.dirty = False
        """Whether the state changed since the last ``dump`` or ``load``."""
        self._max_line_bytes = max_line_bytes
        self.redaction = Redaction.build(settings.redact)
        """What is taken out of every line before anything else reads it."""
        self._masks = Masks.build(settings.masks)
        self._apart = Apart.build(settings, self._masks)
        self._miner = Miner(settings.service)
        self._sessions = SessionFinder(settings.session)
        self._finder = formats.FormatFinder()
        self._format = _given_format(settings)
        self._continuations = Continuations()
        self._seen = 0
        """Lines seen while something was still open ..."""
        self._continued = 0
        """... and how many of them went on with the one before."""

    @property
    def template_count(self) -> int:
        """How many templates this shard knows."""
        return len(self._miner)

    @property
    def learning_paused(self) -> bool:
        """Whether nothing is learnt, because most of what was learnt last went again unused."""
        return self._miner.generation.paused

    @property
    def resolved(self) -> ServiceSettings:
        """The settings with what was found from the first lines in place of ``auto``, as far as it is found."""
        settings = self.settings
        if self._format is not None and settings.format == "auto" and self._format.name in formats.FORMATS:
            settings = settings.model_copy(update={"format": self._format.name})
        return settings.model_copy(update={"session": self._sessions.resolved})

    @property
    def session_rule(self) -> str | None:
        """What finds sessions; None while that is open.

        A name of ``parsing.sessions.RULES``, ``found`` with the expression, ``none``, or what the settings say:
        ``pattern``, ``field`` with its name, ``host``, ``time``, ``lines``.
        """
        return self._sessions.said

    def parse(self, lines: Lines) -> Parsed:
        """Parse a batch. Never fails on what is in the lines: what cannot be parsed becomes a dead letter.

        Raises:
            ValueError: The lines are another service's.
        """
        if lines.service != self.settings.service:
            raise ValueError(f"lines of service {lines.service!r} for the parser of {self.settings.service!r}")
        lines = self.redaction.lines(lines)
        left = formats.LEARN_LINES - self._seen
        if not self._learning or len(lines) <= left:
            return self._parse(lines)
        first, rest = self._parse(lines.slice(0, left)), self._parse(lines.slice(left, len(lines)))
        return Parsed(
            Events.concat([first.events, rest.events]),
            first.dead + rest.dead,
            first.new_templates + rest.new_templates,
            first.cut + rest.cut,
            added(first.overflow, rest.overflow),
            added(first.odd, rest.odd),
            first.forgotten + rest.forgotten,
            None if first.fields is None or rest.fields is None else pl.concat([first.fields, rest.fields]),
        )

    def adopt(self, templates: Iterable[Template], *, news: bool = False) -> None:
        """Take over templates and aliases of the catalogue; those of other services are passed over.

        ``news`` says that they were not in the catalogue until now: then those that another shard has made of a kind of
        line that is known here become one with ours.
        """
        for template in templates:
            if template.service != self.settings.service:
                continue
            self.dirty = True
            alias = None if template.alias_of is None else int(template.alias_of, 16)
            evicted = template.reason == "evicted"
            if template.split_of is not None:  # a part is told by the settings, and matches no line by itself
                self._apart.known.add(int(template.id, 16))
                if alias is not None:
                    self._miner.adopt(int(template.id, 16), "", alias)
                continue
            self._miner.adopt(int(template.id, 16), template.text, alias, evicted=evicted, raced=news)

    def adopt_sessions(self, other: "Parser") -> None:
        """Take over the expression that another parser found to tie lines together, if it did."""
        self._sessions.adopt(other._sessions)

    def settle(self) -> None:
        """Fix what is still open by the lines seen so far, as where a log ends before ``LEARN_LINES``."""
        if self._learning and self._seen:
            self._fix()
            self.dirty = True

    def dump(self) -> bytes:
        """Encode the state.

        4 bytes ``LCPS``, format (u16), bytes of metadata, number of remembered texts, number of aliases (u32 each);
        then, compressed with zstd: metadata (JSON), the remembered texts' keys and templates, the aliases and what they
        stand for (u64 each). All numbers are little-endian.
        """
        sessions = self._sessions
        metadata = json.dumps(
            {
                "seen": self._seen,
                "continued": [self._continued, self._continuations.state],
                "format": None if self._format is None else self._format.name,
                "fits": self._finder.counts,
                "session_rule": sessions.rule,
                "session_pattern": sessions.pattern,
                "session_first": sessions.first,
                "session_lines": sessions.lines,
                "session_ids": {name: sorted(ids) for name, ids in sessions.ids.items()},
                "templates": _listed(self._miner.stock),
                "shelf": _listed(self._miner.shelf),
                "generation": asdict(self._miner.generation),
                "used": sorted(self._miner.seen),
                "to_announce": [[one, *why] for one, why in self._miner.told.items()],
            }
        ).encode()
        remembered, aliases = self._miner.remembered, self._miner.aliases.links
        numbers = np.fromiter(
            [*remembered.keys(), *remembered.values(), *aliases.keys(), *aliases.values()], dtype="<u8"
        )
        self.dirty = False
        header = _HEADER.pack(_MAGIC, PARSER_STATE, len(metadata), len(remembered), len(aliases))
        return header + zstandard.ZstdCompressor(level=1).compress(metadata + numbers.tobytes())

    def load(self, data: bytes) -> None:
        """Take over a state that ``dump`` wrote. The settings stay this parser's own.

        Raises:
            ParserStateError: The bytes are no state, or of a newer format.
        """
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise ParserStateError("these bytes are no parser state: they do not begin with LCPS")
        _, version, length, remembered, aliases = _HEADER.unpack_from(data)
        if version != PARSER_STATE:
            raise ParserStateError(
                f"parser state of format {version}, this version reads format {PARSER_STATE}: start the version that"
                " wrote it, or begin anew with --fresh"
            )
        size = length + 16 * (remembered + aliases)
        if size > _LARGEST_STATE:
            raise ParserStateError(f"parser state of {size} bytes: more than a parser can have")
        try:
            body = zstandard.ZstdDecompressor().decompress(data[_HEADER.size :], max_output_size=size)
            if len(body) != size:
                raise ValueError(f"{len(body)} bytes instead of {size}")
            self._restore(json.loads(body[:length]), np.frombuffer(body[length:], dtype="<u8"), remembered, aliases)
        except (ValueError, KeyError, TypeError, AttributeError, zstandard.ZstdError) as error:
            raise ParserStateError(f"parser state cannot be read: {error}") from error
        self.dirty = False

    def _restore(self, metadata: dict[str, Any], numbers: NDArray[np.uint64], remembered: int, aliases: int) -> None:
        keys, templates, old, new = (
            part.tolist() for part in np.split(numbers, np.cumsum([remembered, remembered, aliases]))
        )
        self._miner = Miner(
            self.settings.service,
            self._miner.max_templates,
            self._miner.max_remembered,
            self._miner.generation_lines,
            stock=Stock(Mined(int(one, 16), *rest) for one, *rest in metadata["templates"]),
            shelf=Stock(Mined(int(one, 16), *rest) for one, *rest in metadata["shelf"]),
            remembered=dict(zip(keys, templates, strict=True)),
            aliases=Aliases(dict(zip(old, new, strict=True))),
            generation=Generation(**metadata["generation"]),
            seen=set(metadata["used"]),
            told={one: (reason, text) for one, reason, text in metadata["to_announce"]},
        )
        self._seen = int(metadata["seen"])
        self._continued, self._continuations.state = map(int, metadata["continued"])
        self._finder.counts = {str(name): int(count) for name, count in metadata["fits"].items()}
        if _given_format(self.settings) is None and metadata["format"] in formats.FORMATS:
            self._format = formats.find_format(metadata["format"])
        self._sessions = SessionFinder(self.settings.session)
        if self._sessions.learning:
            self._sessions.rule = metadata["session_rule"]
            self._sessions.pattern = str(metadata.get("session_pattern", ""))
            self._sessions.first = [str(line) for line in metadata.get("session_first", [])]
            self._sessions.lines = {str(name): int(count) for name, count in metadata["session_lines"].items()}
            self._sessions.ids = {str(name): set(ids) for name, ids in metadata["session_ids"].items()}

    @property
    def _learning(self) -> bool:
        return self._format is None or self._sessions.learning

    def _parse(self, lines: Lines) -> Parsed:
        """Parse lines that are all before, or all behind, the line at which format and session rule are fixed."""
        learning = self._learning
        text = decode.decode(lines, self._max_line_bytes)
        dead = decode.dead_letters(lines, text.dead)
        if len(text.rows):
            arrivals = lines.arrivals[text.rows]
            read = self._read(text, arrivals)
            mined = self._mine_told(read)
            events = self._events(lines, text, arrivals, read, mined.templates)
            announced, odd, fields = self._announce(mined.changes, lines, text), read.odd, read.fields
            if long := _cut_short(read, events):
                odd["long"] = long
        else:
            mined, odd = _Mined(np.zeros(0, dtype=np.uint64)), {}
            events, announced = Events.empty(lines.service, lines.topic), []
            fields = pl.DataFrame(schema=FIELD_SCHEMA) if self._full else None
        if learning:
            self.dirty = True
            self._seen += len(lines)
            self._continued += odd.get("continuation", 0)
            if self._seen >= formats.LEARN_LINES:
                self._fix()
        forgotten, self._miner.forgotten = self._miner.forgotten, 0
        return Parsed(events, dead, announced, text.cut, mined.overflow, odd, forgotten, fields)

    def _fix(self) -> None:
        """Settle what was open: the first lines have been seen. The depth of stacks among them decides nothing."""
        lines = self._seen - self._continued
        if self._format is None:
            self._format = formats.find_format(self._finder.decide(lines))
        self._sessions.decide(lines)

    def _read(self, text: decode.Text, arrivals: NDArray[np.int64]) -> _Read:
        """Take JSON and header off the lines: time, level and session out, the message left."""
        braces = (text.starts & 0xFF) == ord("{")
        record = unwrap.unwrap(text.stripped, braces, text.dated, self._full)
        odd: dict[str, int] = {
            "broken_json": unwrap.broken(text.stripped, braces, record),
            "many_records": record.many,
        }
        first_lines, starts = record.text, text.starts if record.text is text.stripped else None
        may_have_more = text.newlines or starts is None
        if may_have_more and (more := int(first_lines.str.contains("\n", literal=True).sum())):
            odd["many_lines"] = more
            # What follows the first line is a stack: it makes no other template.
            first_lines, starts = first_lines.str.strip_chars_start("\r\n").str.splitn("\n", 2).struct[0], None
        headers = self._headers(first_lines)
        continued = self._continued_lines(first_lines, starts, record.pieces, headers)
        time, known = arrivals, np.zeros(len(arrivals), dtype=np.bool_)
        if record.time is not None:
            time, known = parse_any(record.time, arrivals)
        if not known.all():
            time, known = self._header_times(headers, arrivals, time, known)
        level, own = headers.level, headers.session
        if record.level is not None:
            level = record.level if level is None else level.fill_null(record.level)
        if record.session is not None:
            own = record.session if own is None else own.set(own == "", None).fill_null(record.session)
        believed = possible(time, arrivals, known)
        if not believed.all():
            odd |= _odd_times(believed, continued, record.time, headers.time)
        if continued is not None:
            odd["continuation"] = int(np.count_nonzero(continued))
        message = first_lines if headers.message is None else headers.message.fill_null(first_lines)
        return _Read(
            headers.header,
            message,
            np.where(believed, time, arrivals),
            _constant("", len(arrivals)) if level is None else formats.canonical_levels(level),
            self._sessions.sessions(text.stripped, first_lines, own),
            {reason: number for reason, number in odd.items() if number},
            continued,
            self._fields(text, record, headers, message, believed) if self._full else None,
        )

    def _headers(self, text: pl.Series) -> formats.Headers:
        """Read headers of the service's format, or of the first that fits each line while that is not yet known."""
        if self._format is not None:
            return formats.read_headers(text, self._format, self._full)
        fitting = formats.first_fits(text)
        self._finder.observe(fitting)
        return formats.read_any_headers(text, fitting, self._full)

    def _continued_lines(
        self,
        text: pl.Series,
        starts: NDArray[np.uint16] | None,
        pieces: unwrap.Pieces | None,
        headers: formats.Headers,
    ) -> NDArray[np.bool_] | None:
        """Say which lines go on with one before them; a line with a header does not."""
        state = self._continuations.state
        bare = None if headers.header is None else headers.header.is_null().to_numpy()
        continued = self._continuations.find(text, starts, pieces, bare)
        self.dirty |= self._continuations.state != state
        return continued

    def _fields(
        self,
        text: decode.Text,
        record: unwrap.Unwrapped,
        headers: formats.Headers,
        message: pl.Series,
        dated: NDArray[np.bool_],
    ) -> pl.DataFrame:
        """Put together what the online path has no use for."""
        n = len(text.rows)
        columns = [
            unwrap.wrapping(text.stripped, record).alias("wrapping"),
            self._format_names(headers, n).alias("format"),
            pl.Series("dated", dated),
        ]
        for name in formats.NAMES:
            found, outer = headers.fields.get(name), record.fields.get(name)
            if found is None or outer is None:
                found = found if outer is None else outer
            else:
                found = found.set(found == "", None).fill_null(outer)
            columns.append((_constant("", n) if found is None else found.fill_null("")).alias(name))
        parts = pl.DataFrame(
            [
                message.alias("text"),
                (headers.header if headers.header is not None else _constant(None, n)).alias("header"),
            ]
        )
        bare = pl.coalesce(pl.col("text").str.strip_prefix(pl.col("header")), pl.col("text"))
        columns.append(parts.select_seq(bare).to_series().alias("message"))
        lines = record.text.str.strip_chars_start("\r\n").str.splitn("\n", 2).struct[1]
        columns.append(lines.fill_null("").alias("below"))
        return pl.DataFrame(columns)

    def _format_names(self, headers: formats.Headers, n: int) -> pl.Series:
        """Return the name of the format that fits each line: [n]."""
        if headers.of_format is not None:
            names = np.full(n, "raw", dtype=object)
            for name, rows in headers.of_format.items():
                names[rows] = name
            return pl.Series("format", names, dtype=pl.String)
        name = "raw" if self._format is None else self._format.name
        read = headers.message if headers.header is None else headers.header
        if read is None:
            return _constant("raw", n)
        return _constant(name, n).set(read.is_null(), "raw")

    def _header_times(
        self, headers: formats.Headers, arrivals: NDArray[np.int64], time: NDArray[np.int64], known: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Read the headers' times, and take them where none is known yet."""
        if headers.time is None:
            return time, known
        groups = headers.of_format
        if groups is None:
            found, readable = _times(headers.time, self._format, arrivals)
        else:
            found, readable = arrivals.copy(), np.zeros(len(arrivals), dtype=np.bool_)
            for name, rows in groups.items():
                form = formats.find_format(name)
                found[rows], readable[rows] = _times(headers.time[rows], form, arrivals[rows])
        return np.where(known, time, found), known | readable

    def _mine_told(self, read: _Read) -> _Mined:
        """``_mine`` without the lines that go on with one before them, which all have one template."""
        if read.continued is None:
            return self._mine(read)
        told = np.flatnonzero(~read.continued)
        templates = np.full(len(read.continued), CONTINUATION_TEMPLATE, dtype=np.uint64)
        if not len(told):
            return _Mined(templates)
        mined = self._mine(read.only(told))
        templates[told] = mined.templates
        changes = {
            template: (reason, text, int(told[row]) if row >= 0 else row)
            for template, (reason, text, row) in mined.changes.items()
        }
        return _Mined(templates, changes, mined.overflow)

    def _mine(self, read: _Read) -> _Mined:
        """Find each line's template."""
        frame, whole = read.messages()
        message = whole.str.slice(0, MAX_MESSAGE)
        masked = frame.select_seq(self._masks.masked(message)).to_series()
        # Rust's hash is good within a process only; what is remembered goes by a hash of our own.
        hashes = masked.hash().to_numpy()
        mined = _Mined(np.empty(len(masked), dtype=np.uint64))
        miner = self._miner
        for start, stop in miner.spans(len(masked)):
            self._retell(mined)  # what the end of the span before has done
            _, first, code = np.unique(hashes[start:stop], return_index=True, return_inverse=True)
            order = np.argsort(first)  # texts are learnt in the order of the lines, whatever the batch
            rows = start + first[order]
            ids = self._learn(masked, rows, frame, message, mined)
            of_distinct = np.empty(len(ids), dtype=np.uint64)
            of_distinct[order] = np.array(ids, dtype=np.uint64)
            mined.templates[start:stop] = of_distinct[code]
            if OVERFLOW_TEMPLATE in miner.seen:
                lines = int(np.count_nonzero(mined.templates[start:stop] == OVERFLOW_TEMPLATE))
                reason = "paused" if miner.generation.paused else "full"
                mined.overflow = added(mined.overflow, {reason: lines} if lines else {})
        self.dirty |= miner.ended
        self._retell(mined)
        if self._apart:
            self._tell_apart(mined, frame, message)
        return mined

    def _tell_apart(self, mined: _Mined, frame: pl.DataFrame, message: pl.Expr) -> None:
        """Give lines the templates of the parts that theirs are told apart into."""

        def messages(rows: NDArray[np.int64]) -> pl.Series:
            return frame[rows].select_seq(message).to_series()

        for part, row in self._apart.tell(mined.templates, messages, self._miner.resolve).items():
            if part not in self._apart.known:
                self._apart.known.add(part)
                mined.change(part, "born", self._apart.texts[part], row)

    def _learn(
        self, masked: pl.Series, rows: NDArray[np.int64], frame: pl.DataFrame, message: pl.Expr, mined: _Mined
    ) -> list[int]:
        """Return the template ids of the distinct texts at these rows."""
        texts, known = masked[rows].to_list(), len(self._miner.remembered)
        ids, changes = self._miner.learn(texts)
        self.dirty |= len(self._miner.remembered) > known
        born = [change for change in changes if change.reason == "born"]
        if born:
            messages = frame[rows[[change.row for change in born]]].select_seq(message).to_series()
            named = self._masks.name(messages, [texts[change.row] for change in born])
            for change, text in zip(born, named, strict=True):
                self._miner.show(change.template, text)
        for change in changes:
            mined.change(change.template.id, change.reason, change.template.named, int(rows[change.row]))
        return ids

    def _retell(self, mined: _Mined) -> None:
        """Move what the miner has to tell the catalogue to what is announced."""
        waiting, self._miner.told = self._miner.told, {}
        for template, (reason, text) in waiting.items():
            mined.change(template, reason, text, -1)

    def _announce(
        self, changes: Mapping[int, tuple[TemplateReason, str, int]], lines: Lines, text: decode.Text
    ) -> list[Template]:
        """Write the records of templates that came, changed or went."""
        announced = []
        for template, (reason, newest, row) in changes.items():
            root = self._miner.resolve(template)
            record = Template(
                service=self.settings.service,
                id=template_hex(template),
                text=newest,
                reason=reason,
                alias_of=None if root == template else template_hex(root),
                split_of=template_hex(self._apart.whole[template]) if template in self._apart.whole else None,
            )
            if row >= 0:
                where = {"partition": lines.partition, "offset": int(lines.offsets[text.rows[row]])}
                record = record.model_copy(update={"example": text.line[row][:EXAMPLE_CHARACTERS], **where})
            announced.append(record)
        return announced

    def _events(
        self,
        lines: Lines,
        text: decode.Text,
        arrivals: NDArray[np.int64],
        read: _Read,
        templates: NDArray[np.uint64],
    ) -> Events:
        """Put the columns together."""
        n = len(text.rows)
        offsets = lines.offsets[text.rows]
        session = self._sessions.windows(read.session, read.time, offsets, lines.partition)
        frame = pl.DataFrame(
            [
                pl.Series("offset", offsets),
                pl.Series("partition", np.full(n, lines.partition, dtype=np.int32)),
                pl.Series("arrival", arrivals),
                pl.Series("time", read.time),
                read.level.alias("level"),
                session.alias("session"),
                pl.Series("template", templates),
                text.line.alias("line"),
            ]
        )
        parts = self._apart.texts
        texts = {one: parts.get(one) or self._miner.text(one) for one in np.unique(templates).tolist()}
        if read.continued is not None:
            texts[CONTINUATION_TEMPLATE] = CONTINUATION_TEXT
        return Events(lines.service, lines.topic, frame, texts)


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Add counts by reason."""
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {**one, **other}}


def _cut_short(read: _Read, events: Events) -> int:
    """Count the lines that have more characters or more words than make a template."""
    ending = [template for template, text in events.templates.items() if text.endswith(REST)]
    long = np.zeros(len(events), dtype=np.bool_)
    if ending:
        long |= np.isin(events.template_ids(), np.array(ending, dtype=np.uint64))
    rows = (read.text.str.len_bytes() > MAX_MESSAGE).arg_true()
    if len(rows):
        frame, whole = read.messages()
        long[rows] |= frame[rows].select((whole.str.len_chars() > MAX_MESSAGE).alias("long"))["long"].to_numpy()
    return int(np.count_nonzero(long))


def _listed(stock: Stock) -> list[list[Any]]:
    return [[template_hex(e.id), e.birth, e.masked, e.named, e.since, e.used] for e in stock.entries.values()]


def _given_format(settings: ServiceSettings) -> formats.Format | None:
    """Return the format that the settings say, None where it is to be found."""
    if settings.format_pattern is not None:
        return formats.own_format(settings.format_pattern, settings.format_time)
    return None if settings.format == "auto" else formats.find_format(settings.format)


def _times(
    values: pl.Series, form: formats.Format | None, arrivals: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read the times of one format's headers."""
    layout = None if form is None else form.times
    return parse_any(values, arrivals) if layout is None else parse_times(values, layout, arrivals)


def _odd_times(
    believed: NDArray[np.bool_], continued: NDArray[np.bool_] | None, *claims: pl.Series | None
) -> dict[str, int]:
    """Count the lines whose time is their arrival: because they claim none, or because what they claim cannot be.

    A line that goes on with another need not claim any.
    """
    claimed = np.zeros(len(believed), dtype=np.bool_)
    for claim in claims:
        if claim is not None:
            claimed |= claim.is_not_null().to_numpy()
    impossible = int(np.count_nonzero(claimed & ~believed))
    silent = ~believed & ~claimed if continued is None else ~believed & ~claimed & ~continued
    return {"no_time": int(np.count_nonzero(silent)), "impossible_time": impossible}


def _constant(value: str | None, n: int) -> pl.Series:
    return pl.Series([value], dtype=pl.String).new_from_index(0, n)
