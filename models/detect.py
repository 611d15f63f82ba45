"""The quick way in: learns what is normal in log files and says what does not belong, with nothing else running.

    report = detect([Source("app.log", lines)], [], ServiceSettings(service="files"))
    for found in report.found:
        print(found.alert.headline, found.file, found.number)

The same parser, session table, model and scorer as in the job see the lines: what comes first (or a baseline) is
learnt by an n-gram model, a fifth of it is held back to know how often the model would err, and the rest is judged.
Beside the model, a template that was never seen while learning is a finding of its own.
"""

import hashlib
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl

from contracts.bundle import Calibration, Manifest
from contracts.records import Before, Detection, Expected, Template
from contracts.service import ServiceSettings
from models.alerts import Alert, group
from models.base import expected, judge
from models.bundle import Bundle, code_version
from models.calibration import calibrate
from models.ngram import NGram
from models.scorer import Scorer
from models.sessions import PADDING, Ends, Flags, Ids, Ints, SessionTable, Windows
from models.vocabulary import FIRST_INDEX, UNKNOWN_INDEX, Vocabulary, entry
from models.wording import trouble_in
from parsing.continuations import told
from parsing.events import Events, Lines, template_hex
from parsing.parser import Parser
from parsing.sessions import MOST_IDS, lines_in, spread

HELD_BACK = 0.2
"""The newest share of what is learnt from, kept to calibrate on."""
LEAST_LINES = 20
"""Fewer lines than this show nothing about what is normal."""
FEW_LINES = 1_000
"""Below this the report says that it learnt from little."""
BATCH_LINES = 20_000
FORMAT_LINES = 1_000
"""Lines a file's format is found from (``parsing.formats.LEARN_LINES``)."""
ORDER = 2
"""Events looked back at. Longer contexts fit held-back lines better and yet find less: on the half of the HDFS sample
that is not learnt, F1 over blocks is .46 with one event, .44 with two and .26 with three (8,050 blocks, learnt as they
come; two were fixed after these figures were seen, so they are no held-out result); two say more in the evidence."""
NEW_TEMPLATE = "new_template"
NEW_IN_STREAM = 5.0
"""Nats by which a new template in an endless stream goes before an unusual order of known ones: most anomalies are
specific error lines rather than wrong order."""
TROUBLE_LEVELS = frozenset({"WARN", "ERROR", "CRITICAL", "FATAL", "ALERT"})
TROUBLE = (
    r"(?i)\b(?:error|errors|fail|failed|failure|fatal|exception|panic|denied|refused|corrupt|abort(?:ed)?|timed out"
    r"|killed)\b"
)
"""For lines without a level. Words change the order of a report only, never what is found."""
LINES_AROUND = 5
"""Lines shown before a finding: of its session where it has one, else of its file."""
LINES_AFTER = 2
UNSETTLED, MANY_NEW = 0.05, 20
"""A log of which more of the held-back lines had a new template never settles; where more new kinds than these come
and speak of no trouble, they are counted, not named: nobody reads a list of what is usual. Both are conventions."""
PLACES = 8
"""Places named with an alert."""
CLOSE = 0.6
"""Share of words (Jaccard) that a known template has in common with a new one to be named as its nearest."""
CONTINUATION = re.compile(rb"[ \t]+\S|Caused by: |\.\.\. \d+ more")
"""How a line begins that belongs to the record before it: an indented line, a stack trace."""
MAX_RECORD_LINES = 500


class DetectError(ValueError):
    """There is nothing to learn from, or nothing to check; the message says which, and what to do."""


@dataclass(frozen=True)
class Source:
    """A log file: its name as it is shown, and its lines without line ends."""

    name: str
    lines: Sequence[bytes]


@dataclass(frozen=True)
class Around:
    """A line near a finding; ``number`` counts lines of the file from 1."""

    number: int
    line: str
    here: bool = False


@dataclass(frozen=True)
class Found:
    """An alert with the place and the neighbours of its worst detection."""

    alert: Alert
    file: str
    number: int
    around: tuple[Around, ...]
    places: tuple[tuple[str, int], ...]
    """The first `PLACES` places (file, line) of the alert."""
    nearest: str = ""
    """For a new template: the known one with the most words in common, if any comes close."""


@dataclass(frozen=True)
class Learnt:
    """What counts as normal in a report."""

    origin: str
    lines: int
    templates: int
    sessions: int
    """Sessions by identifier; 0 where no line names one."""
    session_rule: str
    from_ms: int
    to_ms: int
    """Event times, milliseconds since 1970 UTC; -1 where no line has one."""
    held_back: int
    held_back_kind: Literal["session", "stream"]
    new_share: float
    """Share of held-back lines whose template was not seen before."""


@dataclass(frozen=True)
class Report:
    """What does not belong, the unlikeliest first."""

    learnt: Learnt
    checked: str
    checked_lines: int
    alerts: int
    detections: int
    found: tuple[Found, ...]
    """The first of the alerts."""
    false_alarm_rate: float
    unread: Mapping[str, int]
    """Lines that were not read, by reason."""
    passed_over: int
    """New kinds of lines that are not named: they speak of no trouble, and the log never settles."""
    notes: tuple[str, ...]
    seconds: float

    def data(self) -> dict[str, object]:
        """Return plain values, as ``logcanary detect --json`` prints them."""
        return {
            "learnt": dict(vars(self.learnt)),
            "checked": {"files": self.checked, "lines": self.checked_lines},
            "alerts_found": self.alerts,
            "detections_found": self.detections,
            "false_alarm_rate": self.false_alarm_rate,
            "unread": dict(self.unread),
            "new_kinds_passed_over": self.passed_over,
            "notes": list(self.notes),
            "seconds": self.seconds,
            "alerts": [
                {
                    "signature": found.alert.signature,
                    "headline": found.alert.headline,
                    "count": found.alert.count,
                    "first_ms": found.alert.first_ms,
                    "last_ms": found.alert.last_ms,
                    "file": found.file,
                    "line_number": found.number,
                    "places": [{"file": file, "line_number": number} for file, number in found.places],
                    "around": [dict(vars(around)) for around in found.around],
                    "nearest_known_template": found.nearest,
                    "detection": found.alert.worst.model_dump(mode="json"),
                }
                for found in self.found
            ],
        }


def detect(
    checked: Sequence[Source],
    baseline: Sequence[Source],
    settings: ServiceSettings,
    *,
    learn: float = 0.5,
    top: int = 10,
) -> Report:
    """Learn from the baseline, or from the first ``learn`` share of the lines, and judge the rest.

    Args:
        checked: files to check; several are read as one log in the order of their times.
        baseline: files that are normal; may be none.
        settings: how lines are read, grouped and judged; their service names the findings.
        learn: share of the lines learnt where there is no baseline, between 0 and 1.
        top: alerts that get a place in the report; 0 = all.

    Raises:
        DetectError: too few lines to learn from, or none to check.
        ValueError: a setting cannot be used.
    """
    began = time.perf_counter()
    known = study(checked, baseline, settings, learn=learn)
    log, cut, split, bundle, learnt = known.log, known.cut, known.split, known.bundle, known.learnt
    kinds, passed_over = _worth_naming(log, _findings(log, cut, split, bundle), learnt)
    alerts = _ordered(_alerts(log, cut, kinds, bundle, learnt), log, split)
    flagged = np.concatenate([np.zeros(0, dtype=np.int64), *(kind.rows for kind in kinds)])
    detections = len(np.unique(log.events.column("offset")[flagged]))
    checked_lines = lines_in(log.events) - lines_in(log.events.slice(0, split))
    return Report(
        learnt=learnt,
        checked=", ".join(source.name for source in checked),
        checked_lines=checked_lines,
        alerts=len(alerts),
        detections=detections,
        found=tuple(_place(log, alert, kinds, bundle) for alert in alerts[: top or None]),
        false_alarm_rate=settings.budget.false_alarm_rate,
        unread=dict(log.unread),
        passed_over=passed_over,
        notes=_notes(log, learnt, detections / checked_lines, settings.budget.false_alarm_rate, passed_over),
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True, eq=False)
class Study:
    """A log with what was learnt of it: events and windows, of which the first ``split`` are normal, and the model."""

    log: "_Log"
    cut: "_Cut"
    split: int
    bundle: Bundle
    learnt: Learnt


def study(checked: Sequence[Source], baseline: Sequence[Source], settings: ServiceSettings, *, learn: float) -> Study:
    """Read and learn as ``detect`` does, which see for what it is given and raises."""
    log = _read(checked, baseline, settings)
    split = log.baseline_rows if baseline else log.line_start(int(len(log.events) * learn))
    _check_amounts(log, split, bool(baseline))
    cut = _cut(log, settings)
    return Study(log, cut, split, *_learn(log, cut, split, settings, _origin(log, split, checked, baseline)))


# -- files to events -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Log:
    """All events in order, the baseline's first; an event's ``offset`` is the number of its record in ``places``.

    A record that names several sessions may be several events.
    """

    events: Events
    baseline_rows: int
    timed: Flags
    """[n] the line has a time of its own."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """Of each record: source and line number from 1."""
    sources: list[Source] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    catalogue: dict[str, Template] = field(default_factory=dict)
    """All templates by id, so that a line has the same one in every file."""
    session_rule: str = ""

    def line_start(self, row: int) -> int:
        """Return the first row of the line that a row is of, so that no line is learnt in part."""
        offsets = self.events.column("offset")
        while 0 < row < len(offsets) and offsets[row] == offsets[row - 1]:
            row -= 1
        return row


def _read(checked: Sequence[Source], baseline: Sequence[Source], settings: ServiceSettings) -> _Log:
    log = _Log(Events.empty(settings.service, "files"), 0, np.zeros(0, dtype=np.bool_))
    parsers: dict[str, Parser] = {}
    sides: list[list[Events]] = [[], []]
    timed: list[list[Flags]] = [[], []]
    now = int(time.time() * 1000)
    for side, sources in enumerate((baseline, checked)):
        for source in sources:
            events = _parse(log, source, settings, parsers, now)
            known = events.column("time") != now  # the parser gives a line without a time its arrival
            sides[side].append(_fill_times(events, known))
            timed[side].append(known)
    together = [_by_time(parts, flags) for parts, flags in zip(sides, timed, strict=True) if parts]
    log.events = Events.concat([events for events, _ in together])
    log.timed = np.concatenate([flags for _, flags in together])
    log.baseline_rows = len(together[0][0]) if baseline else 0
    rules = {parser.session_rule for parser in parsers.values()} - {None, "none"}
    log.session_rule = ", ".join(sorted(rule for rule in rules if rule))
    return log


def _parse(log: _Log, source: Source, settings: ServiceSettings, parsers: dict[str, Parser], now: int) -> Events:
    """Parse one file; files of one format share a parser, and all parsers share their templates."""
    number = len(log.sources)
    log.sources.append(source)
    first, records, numbers = len(log.places), *_records(source.lines)
    log.places += [(number, line) for line in numbers]
    parser = _parser_for(records[:FORMAT_LINES], settings, parsers)
    parser.adopt(log.catalogue.values())
    parts = []
    for start in range(0, len(records), BATCH_LINES):
        values = records[start : start + BATCH_LINES]
        offsets = np.arange(first + start, first + start + len(values))
        lines = Lines.from_list(settings.service, "files", number, offsets, np.full(len(values), now), values)
        parsed = parser.parse(lines)
        log.unread.update(letter.reason for letter in parsed.dead)
        log.catalogue.update((template.id, template) for template in parsed.new_templates)
        events = spread(parsed.events, settings.session)
        parts.append(events.take(told(events)) if "continuation" in parsed.odd else events)
    return Events.concat(parts) if parts else spread(Events.empty(settings.service, "files"), settings.session)


def _parser_for(records: Sequence[bytes], settings: ServiceSettings, parsers: dict[str, Parser]) -> Parser:
    probe = Parser(settings)
    probe.parse(Lines.from_list(settings.service, "files", 0, range(len(records)), [0] * len(records), records))
    found = probe.resolved.format
    if found == "auto" and parsers:  # too short to tell: read it as the file before
        return next(reversed(parsers.values()))
    parser = parsers.get(found)
    if parser is None:
        parser = parsers[found] = Parser(settings)
        parser.adopt_sessions(probe)  # or the lines that show what ties them together would be tied by nothing
    return parser


def _records(lines: Sequence[bytes]) -> tuple[list[bytes], list[int]]:
    """Join continuation lines to the record before them: records, and the number of the first line of each."""
    indented = sum(1 for line in lines[:FORMAT_LINES] if CONTINUATION.match(line))
    joining = indented < 0.9 * min(len(lines), FORMAT_LINES)  # a log that is indented as a whole has no continuations
    records: list[bytes] = []
    numbers: list[int] = []
    open_from = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if joining and records and number - open_from < MAX_RECORD_LINES and CONTINUATION.match(line):
            records[-1] += b"\n" + line
            continue
        records.append(line)
        numbers.append(number)
        open_from = number
    return records, numbers


def _fill_times(events: Events, known: Flags) -> Events:
    """Give a line without a time that of the line before it (or after it, at a file's start)."""
    if known.all() or not known.any():
        return events
    times = pl.Series("time", np.where(known, events.column("time"), -1))
    filled = times.set(times < 0, None).forward_fill().backward_fill()
    return Events(events.service, events.topic, events.frame.with_columns(filled), events.templates)


def _by_time(parts: list[Events], timed: list[Flags]) -> tuple[Events, Flags]:
    """Put files in the order of their lines' times; a single file stays as it is."""
    events, flags = Events.concat(parts), np.concatenate(timed)
    if len(parts) == 1 or not flags.any():
        return events, flags
    order = np.argsort(events.column("time"), kind="stable")
    return events.take(order), flags[order]


def _check_amounts(log: _Log, split: int, with_baseline: bool) -> None:
    total = len(log.events)
    if total == 0:
        raise DetectError("no line could be read: " + ", ".join(f"{n:,} {reason}" for reason, n in log.unread.items()))
    lines = "1 line" if total == 1 else f"{total:,} lines"
    if split < LEAST_LINES:
        where = "the baseline has" if with_baseline else f"of {lines}"
        raise DetectError(
            f"too little to learn what is normal: {where} {split:,}, at least {LEAST_LINES} are needed; give more of "
            "the log, or --baseline FILE... with normal logs"
        )
    if total == split:
        raise DetectError("nothing is left to check: give more lines, or a smaller --learn")


def _origin(log: _Log, split: int, checked: Sequence[Source], baseline: Sequence[Source]) -> str:
    if baseline:
        return "the baseline (" + ", ".join(source.name for source in baseline) + ")"
    share = split / len(log.events)
    part = "the first half" if abs(share - 0.5) < 0.005 else f"the first {share:.0%}"
    return f"{part} of {checked[0].name if len(checked) == 1 else f'{len(checked)} files'}"


# -- events to windows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cut:
    """The windows of all events: row ``i`` belongs to event ``i``. Ends are left out: a file just stops somewhere."""

    contexts: Ids
    targets: Ids
    streams: Flags
    serials: Ints

    def take(self, rows: Ints) -> Windows:
        """Return the windows of some rows, as the scorer takes them beside the events of these rows."""
        return Windows(
            contexts=self.contexts[rows],
            targets=self.targets[rows],
            rows=np.arange(len(rows)),
            streams=self.streams[rows],
            serials=self.serials[rows],
            ends=_NO_ENDS,
        )


_NOTHING = np.zeros(0, dtype=np.int64)
_NO_ENDS = Ends([], _NOTHING, _NOTHING, _NOTHING, _NOTHING, [], [])


def _cut(log: _Log, settings: ServiceSettings) -> _Cut:
    # A long look back costs memory, and the model looks no further than this.
    window = min(settings.detector.window, 10)
    table = SessionTable.of(window, settings.session.model_copy(update={"max_open": 1 << 40}))
    n = len(log.events)
    contexts = np.zeros((n, window), dtype=np.uint64)
    streams = np.zeros(n, dtype=np.bool_)
    serials = np.zeros(n, dtype=np.int64)
    for start in range(0, n, BATCH_LINES):
        windows = table.extend(log.events.slice(start, start + BATCH_LINES))
        rows = windows.rows[: windows.events] + start
        contexts[rows] = windows.contexts[: windows.events]
        streams[rows] = windows.streams[: windows.events]
        serials[rows] = windows.serials[: windows.events]
    return _Cut(contexts, log.events.template_ids(), streams, serials)


# -- learning --------------------------------------------------------------------------------------------------------


def _learn(log: _Log, cut: _Cut, split: int, settings: ServiceSettings, origin: str) -> tuple[Bundle, Learnt]:
    held = _held_back(cut, split)
    early, late = np.flatnonzero(~held), np.flatnonzero(held)
    first = _vocabulary(log, cut.targets[early])
    unseen = _unseen(cut.targets[early])
    model = _fit(cut, early, first)
    calibration, new_share = _calibrate(cut, late, model, first, unseen)
    # The model is not taught what was held back: it would then be another one than the one that was calibrated.
    times = log.events.column("time")[:split][log.timed[:split]]
    span = (int(times.min()), int(times.max())) if len(times) else (-1, -1)
    named = ~cut.streams[:split]
    manifest = Manifest(
        service=settings.service,
        # Made for one report and never published: the hash that ends a version is left at zero.
        version=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-00000000",
        created_ms=int(time.time() * 1000),
        code_version=code_version(),
        settings=settings,
        window=cut.contexts.shape[1],
        end_event=False,
        unseen_log_probability=unseen,
        data_from_ms=span[0],
        data_to_ms=span[1],
        lines=lines_in(log.events.slice(0, split)),
        sessions=len(np.unique(cut.serials[:split][named])),
        windows=split,
        unique_windows=0,
        calibration=calibration,
        files=(),
    )
    learnt = Learnt(
        origin=origin,
        lines=lines_in(log.events.slice(0, split)),
        templates=len(np.unique(cut.targets[:split])),
        sessions=manifest.sessions,
        session_rule=log.session_rule,
        from_ms=span[0],
        to_ms=span[1],
        held_back=calibration[0].held_back,
        held_back_kind=calibration[0].kind,
        new_share=new_share,
    )
    return Bundle(manifest, first, model), learnt


def _held_back(cut: _Cut, split: int) -> Flags:
    """[split] True for the newest fifth: of the sessions by their first lines, of the streams by their lines."""
    held = np.zeros(split, dtype=np.bool_)
    named = ~cut.streams[:split]
    numbers = np.unique(cut.serials[:split][named])
    if len(numbers) > 1:
        held |= named & (cut.serials[:split] >= numbers[int(len(numbers) * (1 - HELD_BACK))])
    nameless = np.flatnonzero(~named)
    held[nameless[int(len(nameless) * (1 - HELD_BACK)) :]] = True
    if held.all() or not held.any():
        held[:] = np.arange(split) >= int(split * (1 - HELD_BACK))
    return held


def _vocabulary(log: _Log, targets: Ids) -> Vocabulary:
    templates, counts = np.unique(targets, return_counts=True)
    texts = log.events.templates
    # Text recognises a template under another id; of two with one text the frequent one keeps it.
    order = np.argsort(-counts, kind="stable")
    return Vocabulary(entry(int(templates[i]), texts[int(templates[i])], int(counts[i])) for i in order.tolist())


def _unseen(targets: Ids) -> float:
    """Return the logarithm of the chance of a new template (Good-Turing): the share of templates seen once."""
    _, counts = np.unique(targets, return_counts=True)
    return math.log((np.count_nonzero(counts == 1) + 0.5) / (len(targets) + 1))


def _fit(cut: _Cut, rows: Ints, vocabulary: Vocabulary) -> NGram:
    contexts, targets = vocabulary.indices(cut.contexts[rows]), vocabulary.indices(cut.targets[rows])
    return NGram.learn(contexts, targets, np.ones(len(rows), dtype=np.int64), entries=len(vocabulary), order=ORDER)


def _calibrate(
    cut: _Cut, late: Ints, model: NGram, vocabulary: Vocabulary, unseen: float
) -> tuple[tuple[Calibration, ...], float]:
    """Calibrations of what was held back, the kind with more windows first; and its share of new templates."""
    contexts, targets = vocabulary.indices(cut.contexts[late]), vocabulary.indices(cut.targets[late])
    surprises = judge(model, contexts, targets, unseen).surprises
    streams = cut.streams[late]
    found: list[tuple[int, Calibration]] = []
    if not streams.all():
        named = np.flatnonzero(~streams)
        _, where = np.unique(cut.serials[late][named], return_inverse=True)
        worst = np.full(int(where.max()) + 1, -np.inf, dtype=np.float32)
        np.maximum.at(worst, where, surprises[named])
        found.append((len(named), calibrate("session", worst)))
    if streams.any():
        found.append((int(streams.sum()), calibrate("stream", surprises[streams])))
    found.sort(key=lambda pair: -pair[0])
    new_share = float(np.mean(targets < FIRST_INDEX)) if len(targets) else 0.0
    return tuple(calibration for _, calibration in found), new_share


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Kind:
    """All findings of one detector and one template: rows of the log, the worst first among ``samples``."""

    template: int
    new: bool
    rows: Ints
    samples: Ints
    """The worst and the first few: only these are explained, since a log may be strange as a whole."""


def _findings(log: _Log, cut: _Cut, split: int, bundle: Bundle) -> list[_Kind]:
    known = bundle.vocabulary
    contexts, targets, streams = cut.contexts[split:], cut.targets[split:], cut.streams[split:]
    surprises = bundle.judge(contexts, targets).surprises
    new = ~np.isin(targets, np.unique(cut.targets[:split]))
    unknown = known.indices(targets) < FIRST_INDEX  # new, or first seen among what was held back
    # A line right after one the model does not know is judged blindly; its cause has been named already.
    after_new = (known.indices(contexts[:, -ORDER:]) == UNKNOWN_INDEX).any(axis=1)
    bars = np.where(streams, bundle.calibrated("stream").bar, bundle.calibrated("session").bar)
    unlikely = (surprises > bars) & ~unknown & ~after_new
    found = []
    for flags, is_new in ((unlikely, False), (new, True)):
        rows = np.flatnonzero(flags)
        for template in np.unique(targets[rows]).tolist():
            mine = rows[targets[rows] == template]
            worst = mine[np.argmax(surprises[mine])]
            samples = np.unique(np.append(mine[:PLACES], worst))
            found.append(_Kind(int(template), is_new, mine + split, samples + split))
    return found


def _worth_naming(log: _Log, kinds: list[_Kind], learnt: Learnt) -> tuple[list[_Kind], int]:
    """The kinds without those that are new as everything is in this log, and how many these are."""
    if learnt.new_share <= UNSETTLED:
        return kinds, 0
    levels, lines = log.events.frame["level"], log.events.frame["line"]

    def is_troubled(kind: _Kind) -> bool:
        spoken = any(speaks_of_trouble(levels[row], lines[row]) for row in kind.samples.tolist())
        return spoken or bool(trouble_in(log.events.templates[kind.template]))

    kept = [kind for kind in kinds if not kind.new or is_troubled(kind)]
    passed_over = len(kinds) - len(kept)
    return (kept, passed_over) if passed_over > MANY_NEW else (kinds, 0)


def _alerts(log: _Log, cut: _Cut, kinds: Sequence[_Kind], bundle: Bundle, learnt: Learnt) -> list[Alert]:
    """Explain the samples of each kind, and count the rest."""
    scorer = Scorer(bundle)
    scorer.adopt(log.events.templates)
    times = log.events.column("time")
    alerts = []
    for kind in kinds:
        events, windows = log.events.take(kind.samples), cut.take(kind.samples)
        detections = _new(events, windows, bundle, learnt) if kind.new else scorer.score(events, windows).detections
        for alert in group(detections):
            seen = times[kind.rows]
            first, last = int(seen.min()), int(seen.max())
            count = len(np.unique(log.events.column("offset")[kind.rows]))
            alerts.append(replace(alert, count=count, first_ms=first, last_ms=last))
    return alerts


def _new(events: Events, windows: Windows, bundle: Bundle, learnt: Learnt) -> list[Detection]:
    """A finding for each of these lines, whose template was not learnt."""
    known = bundle.vocabulary
    likeliest = expected(bundle.model, known.indices(windows.contexts), 3)
    # One in (held-back lines + 2), as long as none of them had a new template (Laplace's rule of succession).
    surprise = -bundle.manifest.unseen_log_probability
    score = 1 - max(learnt.new_share, 1 / (learnt.lines * HELD_BACK + 2))
    found = []
    for row, options in enumerate(likeliest):
        line = events.frame.row(row, named=True)
        template = template_hex(line["template"])
        text = events.templates[line["template"]]
        place = (events.service, events.topic, str(line["partition"]), str(line["offset"]), NEW_TEMPLATE)
        found.append(
            Detection(
                id=_digest(*place),
                signature=_digest(events.service, NEW_TEMPLATE, template),
                service=events.service,
                detector=NEW_TEMPLATE,
                kind="event",
                topic=events.topic,
                partition=line["partition"],
                offset=line["offset"],
                arrival_ms=line["arrival"],
                event_ms=line["time"],
                detected_ms=bundle.manifest.created_ms,
                session=line["session"],
                line=line["line"],
                level=line["level"],
                template=template,
                template_text=text,
                score=score,
                threshold=0.0,
                surprise=surprise,
                rank=len(known) + 1,
                expected=tuple(
                    Expected(template=template_hex(known.template(i)), text=known.text(i), probability=min(1.0, chance))
                    for i, chance in options
                ),
                before=tuple(
                    Before(template=template_hex(one), text=events.templates.get(one, _text(known, one)))
                    for one in windows.contexts[row].tolist()
                    if one != PADDING
                ),
                bundle=bundle.manifest.version,
                headline=f"never seen in {learnt.lines:,} lines: {text}",
            )
        )
    return found


def _text(vocabulary: Vocabulary, template: int) -> str:
    """Return the text of a template id, empty where the vocabulary does not know it."""
    index = int(vocabulary.indices(np.array([template], dtype=np.uint64))[0])
    return vocabulary.text(index) if index >= FIRST_INDEX else ""


def _ordered(alerts: list[Alert], log: _Log, split: int) -> list[Alert]:
    """The unlikeliest first, in nats: the event's surprise, plus that of trouble being spoken of at all.

    In one endless stream many threads write in turn, so that an unusual order means little there and a line never seen
    before is what is looked for (`NEW_IN_STREAM`).
    """
    troubled = trouble(log.events.frame[:split])
    calm, calm_before = _surprise_of(1 - troubled), _surprise_of(troubled)

    def unlikely(alert: Alert) -> float:
        worst = alert.worst
        extra = NEW_IN_STREAM if worst.detector == NEW_TEMPLATE and not worst.session else 0.0
        return worst.surprise + extra + (calm_before if speaks_of_trouble(worst.level, worst.line) else calm)

    return sorted(alerts, key=lambda alert: (-unlikely(alert), alert.first_ms, alert.signature))


def trouble(frame: pl.DataFrame) -> float:
    """Return the share of lines that speak of trouble, by level or by word."""
    spoken = pl.col("level").is_in(list(TROUBLE_LEVELS)) | pl.col("line").str.contains(TROUBLE)
    share = frame.select(spoken.mean()).item()
    return float(share or 0.0)


def speaks_of_trouble(level: str, line: str) -> bool:
    """Say whether a line speaks of trouble."""
    return level in TROUBLE_LEVELS or re.search(TROUBLE, line) is not None


def _surprise_of(share: float) -> float:
    return -math.log(max(share, 1e-3))


# -- places ----------------------------------------------------------------------------------------------------------


def _place(log: _Log, alert: Alert, kinds: Sequence[_Kind], bundle: Bundle) -> Found:
    worst = alert.worst
    source, number = log.places[worst.offset]
    mine = next(
        kind for kind in kinds if (kind.template, kind.new) == (int(worst.template, 16), worst.detector == NEW_TEMPLATE)
    )
    rows = mine.rows[: PLACES * MOST_IDS]
    offsets = list(dict.fromkeys(log.events.column("offset")[rows].tolist()))[:PLACES]
    places = tuple((log.sources[log.places[at][0]].name, log.places[at][1]) for at in offsets)
    nearest = _nearest(worst.template_text, bundle.vocabulary) if worst.detector == NEW_TEMPLATE else ""
    return Found(alert, log.sources[source].name, number, _around(log, worst), places, nearest)


def _around(log: _Log, found: Detection) -> tuple[Around, ...]:
    """The lines before and after: of the session, or of the file."""
    frame = log.events.frame
    if found.session:
        mates = np.flatnonzero((frame["session"] == found.session).to_numpy())
    else:
        mates = np.flatnonzero((frame["partition"] == found.partition).to_numpy())
    at = int(np.argmax(log.events.column("offset")[mates] == found.offset))
    row = int(mates[at])
    shown = mates[max(0, at - LINES_AROUND) : at + 1 + LINES_AFTER].tolist()
    offsets, lines = frame["offset"], frame["line"]
    return tuple(Around(log.places[offsets[one]][1], lines[one], here=one == row) for one in shown)


def _nearest(text: str, vocabulary: Vocabulary) -> str:
    words = set(text.split())
    best, share = "", CLOSE
    for known in vocabulary.entries:
        others = set(known.text.split())
        common = len(words & others) / max(1, len(words | others))
        if common >= share:
            best, share = known.text, common
    return best


def _notes(log: _Log, learnt: Learnt, raised: float, rate: float, passed_over: int) -> tuple[str, ...]:
    said = []
    if passed_over:
        said.append(
            f"{learnt.new_share:.0%} of the held-back lines were of a new kind: this log never settles. "
            f"{passed_over:,} more new kinds, which speak of no trouble, are not named."
        )
    if raised > 10 * max(rate, 0.001) + learnt.new_share:
        said.append(
            f"{raised:.0%} of the checked lines stand out: they differ as a whole from what was learnt. Learn from "
            "logs nearer to them (--baseline, or a larger --learn) to see the few that matter."
        )
    if learnt.lines < FEW_LINES:
        said.append(f"Learnt from {learnt.lines:,} lines only: more of the log, or a --baseline, makes this surer.")
    if learnt.new_share > 0.01 and not passed_over:
        said.append(
            f"The log was still showing new kinds of lines when learning ended ({learnt.new_share:.1%} of them): "
            "a new line means less here."
        )
    if not log.timed.any():
        said.append("No line has a time that could be read: the order of the lines alone was used.")
    if not learnt.sessions:
        said.append("No line names a session (request, trace, block); --session REGEX says what does.")
    return tuple(said)


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
