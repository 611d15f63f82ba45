"""Why a line or a session does not belong, as data and in sentences, with a normal session beside it.

    told = explain_finding(found, alert)                  # a detection from the topic
    told = explain_session(study(files, [], settings, learn=0.5), "blk_1")
    told.sentences()                                      # what was expected, what came, since when, how unusual
    told.steps                                            # the session, with what a normal one has otherwise

Everything comes from what is at hand: a detection's own evidence, or a log file that the quick way in has learnt from.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from contracts.records import WHOLE_KINDS, Detection, Expected
from models.alerts import Alert
from models.base import expected
from models.detect import HELD_BACK, Study
from models.detectors import session_detectors
from models.ensemble import Ensemble
from models.finished import Sessions
from models.sentences import END_WORDS, LEAST_LIKELY, MOST_NAMED, percent, sentence, short
from models.sessions import Ids, Ints
from parsing.events import template_hex

MAX_STEPS = 200
"""Of a session so many events, those around the one explained, are laid beside as many of a normal one."""
LEAST_SESSIONS = 50
"""Of fewer learnt sessions the detectors of sessions know nothing."""
_SLOT = re.compile(r"<(?:[A-Z][A-Z0-9_]*|\*|\.\.\.)>")


class ExplainError(LookupError):
    """There is no such session or line; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Step:
    """An event of a session laid beside a normal one."""

    text: str
    mark: Literal["both", "here", "normal"]
    """``here``: only in this session; ``normal``: only in the normal one."""
    is_it: bool = False
    """The event that is explained."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a line, or the end of a session, does not belong; times are ms since 1970 UTC."""

    service: str
    session: str
    kind: Literal["event", "end", "session", "trace"]
    line: str
    template_text: str
    parameters: tuple[str, ...]
    """What the line has where its template has variables; empty where that cannot be told."""
    is_new: bool
    """The model has never seen its template."""
    is_raised: bool
    """It is less likely than the bar allows."""
    surprise: float
    """Nats."""
    expected: tuple[Expected, ...]
    counted: Literal["findings", "lines"]
    count: int
    """So many findings of the alert, or lines of the template, from the first to the last time."""
    first_ms: int
    last_ms: int
    beside: str
    """What the session is laid beside: a normal session's name, or what the model expected."""
    steps: tuple[Step, ...]
    evidence: tuple[str, ...] = ()
    """What the detectors of whole sessions say, a sentence each."""
    place: str = ""
    """File and line number, or topic, partition and offset."""

    @property
    def one_in(self) -> float:
        """How unusual it is: one in so many."""
        return math.exp(min(self.surprise, 100.0))

    def sentences(self) -> list[str]:
        """Say it, one thing a sentence; texts of templates and lines are as they are, not escaped."""
        said = [_came_words(self)] if self.kind in WHOLE_KINDS else [_expected_words(self.expected), _came_words(self)]
        if self.kind == "event" and self.parameters:
            said.append(f"The line has {', '.join(self.parameters)} where its template has variables.")
        said.append(_since_words(self))
        return [*said, *self.evidence]

    def data(self) -> dict[str, object]:
        """Return plain values, as ``logcanary explain --json`` prints them."""
        values = asdict(self) | {"expected": [one.model_dump() for one in self.expected]}
        return values | {"one_in": self.one_in, "sentences": self.sentences()}


def explain_finding(found: Detection, alert: Alert) -> Explanation:
    """Explain a detection by what it carries, and by the alert it belongs to.

    Beside the session is laid what the model expected: the same events, then the likeliest one. A whole session is
    shown by itself, with what its detectors say.
    """
    before = [(one.template, one.text) for one in found.before]
    likeliest = [(one.template, one.text or END_WORDS) for one in found.expected[:1]]
    whole = found.kind in WHOLE_KINDS
    came = (found.template, END_WORDS if found.kind == "end" else found.template_text)
    return Explanation(
        service=found.service,
        session=found.session,
        kind=found.kind,
        line=found.line,
        template_text=found.template_text,
        parameters=parameters_of(found.template_text, found.line) if found.kind == "event" else (),
        is_new=found.detector == "new_template" or found.headline.endswith("never seen before"),
        is_raised=True,
        surprise=found.surprise,
        expected=found.expected,
        counted="findings",
        count=alert.count,
        first_ms=alert.first_ms,
        last_ms=alert.last_ms,
        beside="" if whole else "what the model expected",
        steps=aligned(before, before, -1) if whole else aligned([*before, came], [*before, *likeliest], len(before)),
        evidence=tuple(why.sentence for why in found.reasons),
        place=f"{found.topic}, partition {found.partition}, offset {found.offset}",
    )


def explain_session(known: Study, name: str) -> Explanation:
    """Explain the session's strangest event: one the model has never seen before, else the most surprising one.

    Raises:
        ExplainError: No line of the files checked has that session.
    """
    sessions = known.log.events.frame["session"]
    rows = np.flatnonzero((sessions == name).to_numpy()) if name else np.zeros(0, dtype=np.int64)
    if not len(rows):
        some = [one for one in sessions[known.split :].unique(maintain_order=True).head(4).to_list() if one]
        raise ExplainError(
            f"no line names a session {name!r}"
            + (
                f"; sessions are, for instance, {', '.join(some)}"
                if some
                else ": none names one (--pattern says what does)"
            )
        )
    surprises = known.bundle.judge(known.cut.contexts[rows], known.cut.targets[rows]).surprises
    new = ~np.isin(known.cut.targets[rows], known.cut.targets[: known.split])
    row = int(rows[np.lexsort((-surprises, ~new))[0]])
    return _explain_row(known, row, rows)


def explain_line(known: Study, number: int, source: int = 0) -> Explanation:
    """Explain a line by its number, counted from 1 in a file; files are counted from 0, those of the baseline first.

    Raises:
        ExplainError: There is no such line, or it is none of its own (blank, or part of a stack trace).
    """
    log, frame = known.log, known.log.events.frame
    record = next((i for i, place in enumerate(log.places) if place == (source, number)), -1)
    at = np.flatnonzero(log.events.column("offset") == record).tolist()
    if not at:
        file = log.sources[source]
        raise ExplainError(
            f"line {number:,} of {file.name} is no line of its own: it has {len(file.lines):,}, and a blank line or "
            "one that goes on with the line before is none"
        )
    name = frame["session"][at[0]]
    same = frame["session"] == name if name else (frame["session"] == "") & (frame["partition"] == source)
    return _explain_row(known, at[0], np.flatnonzero(same.to_numpy()))


def _explain_row(known: Study, row: int, rows: Ints) -> Explanation:
    """Explain the event of a row within its session, whose events are ``rows``."""
    log, cut, vocabulary = known.log, known.cut, known.bundle.vocabulary
    event = log.events.frame.row(row, named=True)
    target, here = int(cut.targets[row]), np.array([row])
    surprise = float(known.bundle.judge(cut.contexts[here], cut.targets[here]).surprises[0])
    is_stream = bool(cut.streams[row])
    bar = known.bundle.calibrated("stream" if is_stream else "session").bar
    is_new = not bool((cut.targets[: known.split] == target).any())
    (likeliest,) = expected(known.bundle.model, vocabulary.indices(cut.contexts[here]), MOST_NAMED)
    kind = np.flatnonzero(cut.targets == target)
    times = log.events.column("time")[kind]
    at = int(np.searchsorted(rows, row))
    begin = max(0, min(at - MAX_STEPS // 2, len(rows) - MAX_STEPS))
    shown = rows[begin : begin + MAX_STEPS]
    mine = [(template_hex(one), log.events.templates[one]) for one in cut.targets[shown].tolist()]
    learnt = _learnt_sessions(known, event["session"])
    beside, theirs = _nearest(learnt, cut.targets[rows]) if not is_stream else ("", [])
    source, number = log.places[event["offset"]]
    text = log.events.templates[target]
    return Explanation(
        service=log.events.service,
        session=event["session"],
        kind="event",
        line=event["line"],
        template_text=text,
        parameters=parameters_of(text, event["line"]),
        is_new=is_new,
        is_raised=is_new or surprise > bar,
        surprise=surprise,
        expected=tuple(
            Expected(template=template_hex(vocabulary.template(i)), text=vocabulary.text(i), probability=min(1.0, p))
            for i, p in likeliest
        ),
        counted="lines",
        count=len(np.unique(log.events.column("offset")[kind])),
        first_ms=int(times.min()),
        last_ms=int(times.max()),
        beside=f"session {beside}" if beside else "",
        steps=aligned(mine, theirs[begin : begin + MAX_STEPS], at - begin) if beside else (),
        evidence=_evidence(known, learnt, event["session"]) if not is_stream else (),
        place=f"{log.sources[source].name}:{number}",
    )


# -- a normal session beside it --------------------------------------------------------------------------------------


def aligned(mine: Sequence[tuple[str, str]], normal: Sequence[tuple[str, str]], at: int) -> tuple[Step, ...]:
    """Lay a session's events (template, text) beside a normal one's; ``at`` is the event that is explained.

    As ``difflib`` matches them: what both have in one order, and between it what only one of them has.
    """
    steps: list[Step] = []
    ids = [template for template, _ in normal], [template for template, _ in mine]
    for _, a, a_end, b, b_end in SequenceMatcher(None, *ids, autojunk=False).get_opcodes():
        both = normal[a][0] == mine[b][0] if a < a_end and b < b_end else False
        if not both:
            steps += [Step(text, "normal") for _, text in normal[a:a_end]]
        steps += [Step(mine[i][1], "both" if both else "here", i == at) for i in range(b, b_end)]
    return tuple(steps)


def _learnt_sessions(known: Study, name: str) -> Sessions:
    """The sessions that lie whole in what was learnt, but the one of that name."""
    names = known.log.events.frame["session"]
    later = names[known.split :].unique().to_list()
    learnt = names[: known.split]
    whole = np.flatnonzero(((learnt != "") & ~learnt.is_in([*later, name])).to_numpy())
    return Sessions.of(known.log.events.take(whole))


def _nearest(learnt: Sessions, templates: Ids) -> tuple[str, list[tuple[str, str]]]:
    """Name and events of the learnt session whose counts of templates are nearest, the newest of equals; or nothing.

    What it has beside this session's templates counts together, in whatever kinds it comes.
    """
    if not len(learnt):
        return "", []
    _, newest = np.unique(learnt.bags()[::-1], return_index=True)
    distinct = learnt.take(np.sort(len(learnt) - 1 - newest))
    ids, mine = np.unique(templates, return_counts=True)
    width = len(ids) + 1  # what this session does not have is one column
    columns = np.minimum(np.searchsorted(ids, distinct.templates), len(ids) - 1)
    columns = np.where(ids[columns] == distinct.templates, columns, len(ids))
    flat = np.bincount(distinct.owners * width + columns, minlength=len(distinct) * width)
    counts = flat.reshape(len(distinct), width)
    apart = np.abs(np.log1p(counts) - np.log1p(np.append(mine, 0))).sum(axis=1)
    row = len(distinct) - 1 - int(apart[::-1].argmin())
    events = distinct.templates[distinct.rows(row)].tolist()
    return distinct.names[row], [(template_hex(one), distinct.texts[one]) for one in events]


# -- the detectors of whole sessions ---------------------------------------------------------------------------------


def _evidence(known: Study, learnt: Sessions, name: str) -> tuple[str, ...]:
    """What the detectors of sessions say of the whole session, if any finds it rare; learnt as ``evaluate`` learns."""
    if len(learnt) < LEAST_SESSIONS:
        return ()
    newer = int(len(learnt) * (1 - HELD_BACK))
    settings = known.bundle.manifest.settings
    ensemble = Ensemble(session_detectors(settings.detector.session_detectors), settings.budget.false_alarm_rate)
    ensemble.learn(learnt.take(np.arange(newer)))
    ensemble.calibrate_and_learn(learnt.take(np.arange(newer, len(learnt))))
    events = known.log.events
    one = Sessions.of(events.take(np.flatnonzero((events.frame["session"] == name).to_numpy())))
    judged = ensemble.judge(one)
    if not judged.raised[0] and not (judged.rarity[0] > ensemble.bar).any():
        return ("No detector of whole sessions finds this one rare.",)
    return tuple(sentence(why, events.templates) for why in ensemble.explain(one, 0))


# -- words -----------------------------------------------------------------------------------------------------------


def parameters_of(template: str, line: str) -> tuple[str, ...]:
    """What a line has where its template has variables, read from the line's end, since headers stand before it.

    Empty where the line does not fit, as one that was cut. Blanks count as one.

    >>> parameters_of("Received <NUM> bytes from <IP>", "10:00 INFO  Received 42  bytes from 10.0.0.1")
    ('42', '10.0.0.1')
    """
    pieces, text = _SLOT.split(" ".join(template.split())), " ".join(line.split())
    if len(pieces) == 1 or not text.endswith(pieces[-1]):
        return ()
    values: list[str] = []
    stop = len(text) - len(pieces[-1])
    for number, piece in reversed(list(enumerate(pieces[:-1]))):
        at = text.rfind(piece if number or piece else " ", 0, stop)
        if at < 0 and (number or piece):
            return ()
        start = at + len(piece) if number or piece else at + 1
        values.append(text[start:stop])
        stop = at
    return tuple(reversed(values)) if all(values) else ()


def _expected_words(likely: Sequence[Expected]) -> str:
    options = [
        f"{short(one.text) if one.text else END_WORDS} ({percent(one.probability)})"
        for one in likely[:MOST_NAMED]
        if one.probability >= LEAST_LIKELY
    ]
    if not options:
        return "Nothing in particular was expected here."
    return f"Expected {'one of ' if len(options) > 1 else ''}{', '.join(options)}."


def _came_words(told: Explanation) -> str:
    one_in = f"one in {told.one_in:,.0f}" if told.one_in < 1e9 else "less than one in a billion"
    unusual = f"; that is {one_in}" + ("" if told.is_raised else ", which is not unusual enough to be raised")
    if told.kind == "trace":
        return f"What the service did in the traces of the last minutes is rare: {one_in}."
    if told.kind == "session":
        return f"The session is over, and as a whole it is rare: {one_in}."
    if told.kind == "end":
        return f"The session ended, and none of it came{unusual}."
    if told.is_new:
        return f"Came {short(told.template_text)}, which was never seen before{unusual}."
    return f"Came {short(told.template_text)}{unusual}."


def _since_words(told: Explanation) -> str:
    what = "This was found" if told.counted == "findings" else "A line of this template came"
    if told.count == 1:
        return f"{what} once, at {_clock(told.first_ms)} UTC."
    return f"{what} {told.count:,} times, since {_clock(told.first_ms)} UTC, last at {_clock(told.last_ms)} UTC."


def _clock(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
