"""A week of a service: seven slices of a real log, each stretched to a day, with seeded edits of the kind that happen.

    figures = evaluate_week(Path("hdfs"), seed=0)      # normal blocks only: what is raised is an edit or a false alarm

Each slice has every eighth normal block, whole; the one before the week is learnt. Days 1 and 3 are quiet. Days 2, 6
and 7 have one fault each, always the same: five blocks within ten minutes whose writing ends with an exception. At
noon of day 4 there is a release: a tenth of the templates are worded otherwise from then on, and a new line comes with
one of them. From 10 to 12 on day 5 there is three times the traffic. From noon on day 6 the clock in the lines is an
hour ahead. At noon of day 7 a host dies: no line names it any more. Lines go through parser, sequence model and session
detectors in batches, as in the job, which learns meanwhile.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contracts.records import Detection
from contracts.service import DetectorOptions, ServiceSettings
from models.alerts import group
from models.bundle import Bundle
from models.scorer import Scorer
from models.session_scorer import SessionScorer
from models.sessions import SessionTable, gap_of
from models.whole import WholeSessions
from parsing.events import Lines
from parsing.parser import Parser
from training.dataset import build
from training.evaluate import BLOCK, Labelled
from training.learner import TrainingError, learn

DAYS = 7
FAULT_DAYS, RELEASE_DAY, PEAK_DAY, CLOCK_DAY, HOST_DAY = (2, 6, 7), 4, 5, 6, 7
QUIET_DAYS = (1, 3)
DAY_S = 86_400
NOON_S = DAY_S // 2
FAULTY, FAULT_S = 5, 600
RELEASED = 0.1
PEAK_S, PEAK_TIMES = (10 * 3_600, 12 * 3_600), 3
SHIFT_S = 3_600
BATCH_LINES = 2_000
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
FAULT_LINE = (
    b"1 WARN dfs.DataNode$DataXceiver: writeBlock %s received exception java.io.IOException: Connection reset by peer"
)
NEW_LINE = b"1 INFO dfs.DataNode$BlockAuditor: audit of %s passed with policy strict"
HEADER = re.compile(rb"(\d{6} \d{6}) (.*)")
HOST = re.compile(rb"10\.\d+\.\d+\.\d+")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the week: when it is written, seconds since the week began (the slice before it is day 0)."""

    at: float
    text: bytes
    """Without its time."""
    block: str
    template: int


@dataclass
class Week:
    """The lines of all days, in order, and what was done to which blocks."""

    lines: list[Line]
    templates: dict[int, str]
    edits: dict[str, set[str]] = field(default_factory=dict)
    """Edit -> blocks; ``fault 2`` is the fault of day 2."""

    def day_of(self, line: Line) -> int:
        """0: the slice that is learnt; then 1 to 7."""
        return int(line.at // DAY_S)


def slices(log: Labelled) -> Week:
    """Deal the normal blocks out, in the order in which they begin, to a slice that is learnt and seven days.

    Each has the whole 38 hours of the log in a day: what is new in a day is an edit, not HDFS's own first deletion.
    """
    clean = log.part(0, len(log.blocks), clean=True)
    parser = Parser(ServiceSettings(service="hdfs"))
    events = parser.parse(_batch(clean.lines, range(len(clean.lines)))).events
    if len(events) != len(clean.lines):
        raise TrainingError("lines of the log cannot be parsed")
    seconds = np.array([_seconds(line) for line in clean.lines])
    templates = events.template_ids()
    begin, stretch = seconds.min(), (DAY_S - 1) / max(1.0, seconds.max() - seconds.min())
    lines = [
        Line(
            clean.owners[row] % (DAYS + 1) * DAY_S + (seconds[row] - begin) * stretch,
            clean.lines[row][14:],
            clean.blocks[clean.owners[row]].name,
            int(templates[row]),
        )
        for row in range(len(clean.lines))
    ]
    lines.sort(key=lambda one: one.at)
    return Week(lines, dict(events.templates))


def edit(week: Week, seed: int, *, release: bool = True) -> Week:
    """Do to the week what happens to services, all of it or all but the release; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    lines, edits = _peak(week.lines), dict[str, set[str]]()
    released, edits["release"] = _release(lines, week.templates, chance)
    lines = released if release else lines
    lines, edits["host"] = _host_dies(lines)
    for day in FAULT_DAYS:
        lines, edits[f"fault {day}"] = _fault(lines, day, chance)
    return Week(sorted(lines, key=lambda one: one.at), week.templates, edits)


WORDED_ANEW = b"Now"
"""What a release puts behind the longest word of a line."""


def _begins(lines: Sequence[Line]) -> dict[str, float]:
    """When the first line of each block is written; lines in order."""
    first: dict[str, float] = {}
    for line in lines:
        first.setdefault(line.block, line.at)
    return first


def _release(lines: list[Line], templates: dict[int, str], chance: random.Random) -> tuple[list[Line], set[str]]:
    """Another word in a tenth of the templates, and a line that is new behind one of them."""
    known = sorted({line.template for line in lines})
    chosen = chance.sample(known, max(1, round(RELEASED * len(known))))
    words = {one: max(re.findall(r"[A-Za-z]{4,}", templates[one]) or [""], key=len).encode() for one in chosen}
    begins = RELEASE_DAY * DAY_S + NOON_S
    made, touched = list[Line](), set[str]()
    for line in lines:
        word = words.get(line.template)
        if not word or line.at < begins:
            made.append(line)
            continue
        touched.add(line.block)
        made.append(Line(line.at, line.text.replace(word, word + WORDED_ANEW, 1), line.block, line.template))
        if line.template == chosen[0]:
            made.append(Line(line.at + 0.001, NEW_LINE % line.block.encode(), line.block, 0))
    return made, touched


def _peak(lines: list[Line]) -> list[Line]:
    """Blocks that begin in two hours come three times, under other names."""
    first = _begins(lines)
    low, high = (PEAK_DAY * DAY_S + second for second in PEAK_S)
    chosen = {block for block, at in first.items() if low <= at < high}
    made = list(lines)
    for copy in range(1, PEAK_TIMES):
        made += [
            Line(line.at + copy, line.text.replace(line.block.encode(), f"{line.block}{copy}".encode()),
                 f"{line.block}{copy}", line.template)
            for line in lines if line.block in chosen
        ]  # fmt: skip
    return made


def _host_dies(lines: list[Line]) -> tuple[list[Line], set[str]]:
    """No line names the busiest host after noon."""
    begins = HOST_DAY * DAY_S + NOON_S
    late = Counter(host for line in lines if line.at >= begins for host in HOST.findall(line.text))
    if not late:
        return lines, set()
    dead = max(late, key=lambda host: (late[host], host))
    gone = {id(line) for line in lines if line.at >= begins and dead in HOST.findall(line.text)}
    return [line for line in lines if id(line) not in gone], {line.block for line in lines if id(line) in gone}


def _fault(lines: list[Line], day: int, chance: random.Random) -> tuple[list[Line], set[str]]:
    """Five blocks that begin within ten minutes end with an exception after their third line."""
    first = _begins(lines)
    begun = sorted((at, block) for block, at in first.items() if day * DAY_S <= at < (day + 1) * DAY_S - 2 * FAULT_S)
    start = chance.choice(begun)[0]
    chosen = {block for _, block in [one for one in begun if one[0] >= start][:FAULTY]}
    made, seen = list[Line](), Counter[str]()
    for line in lines:
        if line.block in chosen:
            seen[line.block] += 1
            if seen[line.block] == 4:
                made.append(Line(line.at, FAULT_LINE % line.block.encode(), line.block, 0))
            if seen[line.block] >= 4:
                continue
        made.append(line)
    return made, chosen


class Job:
    """What the job does with lines: parser, sequence model, whole sessions; it goes on learning."""

    def __init__(self, settings: ServiceSettings, parser: Parser, bundle: Bundle) -> None:
        self._parser, self._scorer = parser, Scorer(bundle)
        self._table = SessionTable.of(bundle.manifest.window, settings.session)
        self._store, self._judge = WholeSessions(), SessionScorer(self._scorer)
        self._gap = int(gap_of(settings.session) * 1000)

    def found(self, lines: Lines) -> list[Detection]:
        """What is raised with these lines."""
        events = self._parser.parse(lines).events
        windows = self._table.extend(events)
        found = list(self._scorer.score(events, windows, adopted=self._judge.adopted).detections)
        self._store.extend(events, windows)
        sessions, rows = self._store.finished(windows, self._gap)
        self._store.shrink()
        return [*found, *self._judge.score(sessions, windows.ends, rows, lines.topic).detections]


def evaluate_week(
    data: Path, *, seed: int = 0, kind: str = "deeplog", progress: Say = lambda words: None
) -> dict[str, Any]:
    """Let a week pass; returns the figures of each day.

    Returns:
        ``days``: for each the sessions that began, those raised (on the day they were found), those raised of which
        nothing was edited (false alarms), the budget of those, the alerts (findings of one signature) and the incidents
        that they are part of;
        ``release_groups`` (incidents) and ``release_alerts``: what began at the release or later and is about blocks
        that it touched, less what is raised in the same week without it (an alert may be part of an older incident);
        ``faults``: of how many blocks each fault was reported, of five; ``host``: of how many blocks that lack lines.

    Raises:
        TrainingError: the folder lacks the log, or it is too short to learn from.
    """
    settings = ServiceSettings(service="hdfs", detector=DetectorOptions.model_validate({"kind": kind, "seed": seed}))
    progress("Cut the log into days")
    cut = slices(Labelled.read(data))
    learnt = [line for line in cut.lines if cut.day_of(line) == 0]
    progress(f"Learn from {len(learnt):,} lines")
    bundle = learn(build(_batches(learnt, 0), settings, parser=Parser(settings)), settings)
    if not bundle.ensemble:
        raise TrainingError(f"{len(learnt):,} lines are too few to learn whole sessions from")
    week = edit(cut, seed)
    found = _watched(week, settings, bundle, progress)
    progress("The same week without the release")
    without = _watched(edit(cut, seed, release=False), settings, bundle, progress)
    figures = _figures(week, found, settings.budget.false_alarm_rate) | _cost_of_release(week, found, without)
    return figures | {"seed": seed, "kind": kind}


def _watched(week: Week, settings: ServiceSettings, bundle: Bundle, progress: Say) -> dict[int, list[Detection]]:
    """What the job raises on each day."""
    parser, offset = Parser(settings), 0
    for batch in _batches([line for line in week.lines if week.day_of(line) == 0], 0):
        parser.parse(batch)
        offset += len(batch)
    job = Job(settings, parser, bundle)
    found: dict[int, list[Detection]] = {}
    for day in range(1, DAYS + 1):
        progress(f"Day {day}")
        of_day = [line for line in week.lines if week.day_of(line) == day]
        found[day] = [one for batch in _batches(of_day, offset) for one in job.found(batch)]
        offset += len(of_day)
    return found


def _cost_of_release(
    week: Week, found: dict[int, list[Detection]], without: dict[int, list[Detection]]
) -> dict[str, int]:
    """What of the alerts would not be there without the release; lines are the same lines in whatever words."""
    anew = WORDED_ANEW.decode()
    usual = {(one.detector, one.template_text) for some in without.values() for one in some}
    begins = _ms(RELEASE_DAY * DAY_S + NOON_S)
    touched = {one.signature for some in found.values() for one in some if one.session in week.edits["release"]}
    alerts = [
        alert
        for alert in group(one for some in found.values() for one in some)
        if alert.first_ms >= begins
        and alert.signature in touched
        and (alert.newest.detector, alert.newest.template_text.replace(anew, "")) not in usual
    ]
    begun = {alert.incident.id for alert in alerts if alert.incident.first_ms >= begins}
    return {"release_alerts": len(alerts), "release_groups": len(begun)}


def _figures(week: Week, found: dict[int, list[Detection]], rate: float) -> dict[str, Any]:
    begun = Counter(int(at // DAY_S) for at in _begins(week.lines).values())
    edited = set().union(*week.edits.values())
    days = [
        {
            "day": day,
            "sessions": begun[day],
            "raised": len({one.session for one in found[day]}),
            "false_alarms": len({one.session for one in found[day]} - edited),
            "budget": rate * begun[day],
            "alerts": len(alerts := group(found[day])),
            "incidents": len({one.incident.id for one in alerts}),
        }
        for day in range(1, DAYS + 1)
    ]
    raised = {one.session for some in found.values() for one in some}
    quiet = [one for one in days if one["day"] in QUIET_DAYS]
    return {
        "days": days,
        "quiet_alarms_mean": sum(one["false_alarms"] for one in quiet) / len(quiet),
        "quiet_budget_mean": sum(one["budget"] for one in quiet) / len(quiet),
        "quiet_alarms_over_budget_most": max(one["false_alarms"] / max(one["budget"], 1e-9) for one in quiet),
        "release_sessions": len(week.edits["release"]),
        "release_sessions_raised": len(raised & week.edits["release"]),
        "faults": {day: len(raised & week.edits[f"fault {day}"]) for day in FAULT_DAYS},
        "host": {"sessions": len(week.edits["host"]), "raised": len(raised & week.edits["host"])},
    }


def _batches(lines: Sequence[Line], offset: int) -> list[Lines]:
    """Lines as the job gets them, with the time of the clock that wrote them."""
    made: list[Lines] = []
    for start in range(0, len(lines), BATCH_LINES):
        some = lines[start : start + BATCH_LINES]
        texts = [_stamped(line) for line in some]
        arrivals = [_ms(line.at) for line in some]
        made.append(_batch(texts, range(offset + start, offset + start + len(some)), arrivals))
    return made


def _stamped(line: Line) -> bytes:
    ahead = SHIFT_S if CLOCK_DAY * DAY_S + NOON_S <= line.at < (CLOCK_DAY + 1) * DAY_S else 0
    moment = BEGIN + timedelta(seconds=int(line.at) + ahead)
    return f"{moment:%y%m%d %H%M%S} ".encode() + line.text


def _ms(at: float) -> int:
    return int((BEGIN.timestamp() + at) * 1000)


def _batch(texts: list[bytes], offsets: range, arrivals: list[int] | None = None) -> Lines:
    times = arrivals or [_ms(DAY_S * (DAYS + 2))] * len(texts)
    return Lines.from_list("hdfs", "logs.hdfs", 0, np.array(offsets), np.array(times), texts)


def _seconds(line: bytes) -> float:
    found = HEADER.match(line)
    if found is None or BLOCK.search(line) is None:
        raise TrainingError(f"a line of the log has no time or no block: {line[:80]!r}")
    return datetime.strptime(found[1].decode(), "%y%m%d %H%M%S").replace(tzinfo=UTC).timestamp()
