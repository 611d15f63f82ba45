"""Windows of normal time in, a bundle out: vocabulary, held-back time, model, calibration. No torch here.

    collector = Collector(settings.detector.window)
    collector.add(table.extend(events), events.templates)
    bundle = learn(collector.material(lines=..., ...), settings, fit_ngram, created_ms=now)

The newest fifth is held back from the model: of the sessions by their first lines, of the streams by their windows. It
decides when training stops, whether the end of a session is an event, and the thresholds. What is learnt depends on the
lines and the seed alone, not on how the lines were cut into batches.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.bundle import Calibration, Manifest
from contracts.service import DetectorOptions, ServiceSettings
from models import drift
from models.base import Floats, SequenceModel, judge, unique_rows
from models.bundle import NO_VERSION, Bundle, code_version, seal
from models.calibration import Calibrated, calibrate
from models.detectors import session_detectors
from models.ensemble import Ensemble, doubtful
from models.finished import Sessions
from models.memory import window_hashes
from models.ngram import NGram
from models.scorer import END_TEXT
from models.sessions import END, PADDING, Flags, Ids, Ints, Windows
from models.vocabulary import UNKNOWN_INDEX, Vocabulary, entry

HELD_BACK = 0.2
"""Share of normal time that is not learnt (``protocol.md``: the last fifth of the learnt part)."""
MIN_WINDOWS = 100
"""Events below which nothing can be said about what is normal."""
MIN_ENDS = 50
"""Ended sessions, learnt and held back each, below which nothing can be said about how sessions end."""
MIN_SESSIONS = 250
"""Ended sessions, learnt and held back together, below which detectors of whole sessions are not made."""
END_COST = math.log(2)
"""Nats the end event may add to the threshold: ends that make the rarest normal session look more than twice as rare
spend the budget of false alarms on themselves, and blind the detector to odd events."""

Say = Callable[[str], None]
"""Called with a sentence about what is being done."""


class Passed(str):
    """The sentence about a pass over the windows, with its numbers for who draws a bar."""

    epoch: int
    epochs: int
    loss: float

    def __new__(cls, epoch: int, epochs: int, loss: float) -> "Passed":
        """After pass ``epoch`` of at most ``epochs``: held-back surprise in nats."""
        made = super().__new__(cls, f"Pass {epoch} of at most {epochs}: held-back surprise {loss:.4f} nats an event")
        made.epoch, made.epochs, made.loss = epoch, epochs, loss
        return made


class LearnError(ValueError):
    """Nothing can be learnt from these lines; the message says why, and what to do."""


@dataclass(frozen=True, eq=False, slots=True)
class Counted:
    """Distinct windows in lexicographic order, as positions in a vocabulary, and how often each came."""

    contexts: Ints  # [u, window]
    targets: Ints  # [u]
    counts: Ints  # [u]

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, contexts: Ints, targets: Ints, counts: Ints) -> "Counted":
        """Add up the counts of equal windows."""
        rows, where = unique_rows(np.column_stack([contexts, targets]))
        added = np.bincount(where, weights=counts, minlength=len(rows)).astype(np.int64)
        return cls(rows[:, :-1], rows[:, -1], added)

    def known(self) -> "Counted":
        """Those of targets that the vocabulary knows."""
        keep = self.targets > UNKNOWN_INDEX
        return Counted(self.contexts[keep], self.targets[keep], self.counts[keep])


Fit = Callable[[Counted, Counted, Sequence[str], DetectorOptions, Say], tuple[SequenceModel, dict[str, float]]]
"""Learns: windows learnt and held back, texts of the vocabulary, options -> a model, and figures for the manifest."""


@dataclass(frozen=True, eq=False, slots=True)
class Material:
    """The windows of a service in the order they came (n), each distinct one once (u)."""

    contexts: Ids  # [u, window]
    targets: Ids  # [u]
    which: Ints  # [n] index of the distinct window
    sessions: Ints  # [n] number of the session, counted by first lines
    streams: Flags  # [n]
    templates: dict[int, str]
    lines: int
    from_ms: int
    to_ms: int
    left_out: dict[str, int]

    def held_back(self, share: float = HELD_BACK) -> Flags:
        """[n] which windows are of held-back time: the newest share."""
        held = np.zeros(len(self.which), dtype=np.bool_)
        for streams in (False, True):
            rows = np.flatnonzero(self.streams == streams)
            order = np.arange(len(rows)) if streams else self.sessions[rows]
            first = np.unique(order)
            if len(first):
                held[rows] = order >= first[int(len(first) * (1 - share))]
        return held

    def judged(self, with_ends: bool) -> Flags:
        """[n] which windows a model judges: those of events, and of ends where these are events, too."""
        flags: Flags = (self.targets[self.which] != END) | with_ends
        return flags

    def counted(self, rows: Flags, vocabulary: Vocabulary) -> Counted:
        """The distinct ones of some of the windows ([n] flags), with their counts."""
        counts = np.bincount(self.which[rows], minlength=len(self.targets))
        kept = np.flatnonzero(counts)
        contexts, targets = vocabulary.indices(self.contexts[kept]), vocabulary.indices(self.targets[kept])
        return Counted.of(contexts, targets, counts[kept])


class Collector:
    """Gathers the windows of one batch after another, each distinct one once."""

    def __init__(self, window: int) -> None:
        self._numbers: dict[int, int] = {}
        self._contexts: list[Ids] = [np.zeros((0, window), dtype=np.uint64)]
        self._targets: list[Ids] = [np.zeros(0, dtype=np.uint64)]
        self._which: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._sessions: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._streams: list[Flags] = [np.zeros(0, dtype=np.bool_)]
        self._templates: dict[int, str] = {}

    def add(self, windows: Windows, templates: dict[int, str]) -> None:
        """Take in the windows of a batch, and the texts of its templates."""
        hashes, first, where = np.unique(
            window_hashes(windows.contexts, windows.targets), return_index=True, return_inverse=True
        )
        known = len(self._numbers)
        numbers = [self._numbers.setdefault(one, len(self._numbers)) for one in hashes.tolist()]
        of_hash = np.array(numbers, dtype=np.int64)
        new = first[of_hash >= known]
        self._contexts.append(windows.contexts[new])
        self._targets.append(windows.targets[new])
        self._which.append(of_hash[where])
        self._sessions.append(windows.serials)
        self._streams.append(windows.streams)
        self._templates |= templates

    def material(self, *, lines: int, from_ms: int, to_ms: int, left_out: dict[str, int] | None = None) -> Material:
        """All that was gathered: from ``lines`` lines that arrived between the two times (ms)."""
        return Material(
            contexts=np.concatenate(self._contexts),
            targets=np.concatenate(self._targets),
            which=np.concatenate(self._which),
            sessions=np.concatenate(self._sessions),
            streams=np.concatenate(self._streams),
            templates=self._templates,
            lines=lines,
            from_ms=from_ms,
            to_ms=to_ms,
            left_out=left_out or {},
        )


def learn(
    material: Material,
    settings: ServiceSettings,
    fit: Fit,
    *,
    created_ms: int,
    sessions: Sessions | None = None,
    say: Say = lambda words: None,
) -> Bundle:
    """Make a bundle of the windows of normal time, and of its whole sessions where there are enough.

    Raises:
        LearnError: There are too few lines, or all are alike.
    """
    detector = settings.detector
    check(material, settings.service)
    held = material.held_back()
    ends = material.targets[material.which] == END
    with_ends = _ends_wanted(material, held, ends, settings)
    say(f"The end of a session is {'an event' if with_ends else 'no event'} of the model")
    judged = material.judged(with_ends)
    vocabulary = make_vocabulary(material, ~held & judged)
    learnt = material.counted(~held & judged, vocabulary)
    kept = material.counted(held & judged, vocabulary)
    model, figures = fit(learnt, kept, vocabulary.texts, detector, say)
    unseen = unseen_log_probability(material, ~held & ~ends)
    surprises = surprises_of(material, held & judged, vocabulary, model, unseen)
    calibration = calibrations(material, held & judged, surprises)
    ensemble = learn_sessions(sessions, settings) if sessions is not None else b""
    if ensemble:
        say(f"Learnt {len(sessions or ()):,} whole sessions: {', '.join(detector.session_detectors)}")
    rate = settings.budget.false_alarm_rate / (2 if ensemble else 1)  # see ``Bundle.false_alarm_rate``
    manifest = Manifest(
        service=settings.service,
        version=NO_VERSION,
        created_ms=created_ms,
        code_version=code_version(),
        settings=settings,
        window=detector.window,
        end_event=with_ends,
        unseen_log_probability=unseen,
        data_from_ms=material.from_ms,
        data_to_ms=material.to_ms,
        lines=material.lines,
        sessions=len(np.unique(material.sessions[~material.streams])),
        windows=len(material.which),
        unique_windows=len(material.targets),
        left_out=material.left_out,
        calibration=calibration,
        metrics=figures | bars_of(calibration, rate),
        surprises=drift.shares(surprises[held & judged]),
        files=(),
    )
    return seal(manifest, vocabulary, model, ensemble)


def learn_sessions(sessions: Sessions, settings: ServiceSettings) -> bytes:
    """Make the detectors of whole sessions, encoded; empty where they are not wanted, or there are too few sessions.

    Those that ``newest`` holds back calibrate them before they are learnt, too.
    """
    if settings.detector.sessions == "off" or len(np.unique(sessions.groups())) < MIN_SESSIONS:
        return b""
    if settings.detector.doubt:
        trusted = ~doubtful(sessions.groups(), sessions.kinds(), settings.detector.doubt)
        sessions = sessions.take(np.flatnonzero(trusted))
    held = newest(sessions)
    chosen = session_detectors(settings.detector.session_detectors)
    ensemble = Ensemble(chosen, settings.budget.false_alarm_rate)
    ensemble.learn(sessions.take(np.flatnonzero(~held)))
    ensemble.calibrate_and_learn(sessions.take(np.flatnonzero(held)))
    return ensemble.dump()


def newest(sessions: Sessions, share: float = HELD_BACK) -> Flags:
    """Which states of sessions are held back: [n] all states of the share of the sessions that ended last.

    Not those that began last: of these only what came soon is known, and a bar made of them calls every long gap
    strange (measured in a week of HDFS, ``logcanary evaluate week``: 61 false alarms a day instead of 2, where the
    budget is 5).
    """
    groups, where = np.unique(sessions.groups(), return_inverse=True)
    over, row = np.full(len(groups), np.iinfo(np.int64).min), np.zeros(len(groups), dtype=np.int64)
    np.maximum.at(over, where, sessions.times[sessions.starts[1:] - 1])
    np.maximum.at(row, where, np.arange(len(sessions)))
    last = np.lexsort((row, over))[int(len(groups) * (1 - share)) :]
    held: Flags = np.isin(where, last)
    return held


def check(material: Material, service: str) -> None:
    """Refuse what nothing can be learnt from.

    Raises:
        LearnError: There are too few lines, or all are alike.
    """
    events = np.flatnonzero(material.targets[material.which] != END)
    if len(events) < MIN_WINDOWS:
        raise LearnError(
            f"service {service}: {len(events)} lines to learn from, at least {MIN_WINDOWS} are needed: "
            "wait for more, or widen the time (--from, --to)"
        )
    if len(np.unique(material.targets[np.unique(material.which[events])])) < 2:
        raise LearnError(f"service {service}: all {len(events)} lines are of one template, there is no order to learn")


def fit_ngram(
    learnt: Counted, held: Counted, texts: Sequence[str], detector: DetectorOptions, say: Say
) -> tuple[NGram, dict[str, float]]:
    """Count, and look back as far as held-back likelihood says."""
    model = NGram.learn(learnt.contexts, learnt.targets, learnt.counts, entries=len(texts), order=detector.window)
    judged = held.known() if held.known().counts.sum() else learnt
    losses = model.losses(judged.contexts, judged.targets, judged.counts)
    order = int(np.argmin(losses))
    say(f"Counted what follows the last {order} events")
    return model.shortened(order), {"order": float(order), "held_back_nats": float(losses[order])}


def make_vocabulary(material: Material, rows: Flags) -> Vocabulary:
    """The templates of some windows ([n] flags), in the order of their first lines; the end of a session is last."""
    templates = material.targets[material.which[rows]]
    distinct, first, counts = np.unique(templates, return_index=True, return_counts=True)
    order = np.lexsort((first, distinct == END))
    texts = material.templates | {END: END_TEXT}
    return Vocabulary(
        entry(int(distinct[i]), texts.get(int(distinct[i]), ""), int(counts[i]))
        for i in order
        if distinct[i] != PADDING
    )


def unseen_log_probability(material: Material, rows: Flags) -> float:
    """Logarithm of the chance that the next event is of one particular template never seen (Good and Turing).

    The chance of any is the share of the templates seen once among all events; where there is none, that of half a
    template. It is shared by at least as many unseen templates as there are seen ones.
    """
    _, counts = np.unique(material.targets[material.which[rows]], return_counts=True)
    once = np.count_nonzero(counts == 1)
    return math.log(max(once, 0.5) / (counts.sum() + 1) / len(counts))


def _ends_wanted(material: Material, held: Flags, ends: Flags, settings: ServiceSettings) -> bool:
    """Whether the end of a session is an event: as set, or as held-back time says of a model of counts.

    The counts are asked, not the model itself, because they do not depend on a seed.
    """
    wanted = settings.detector.end_event
    if wanted == "off" or not ends.any():
        return False
    if wanted == "on":
        return True
    if min(np.count_nonzero(ends & held), np.count_nonzero(ends & ~held)) < MIN_ENDS:
        return False
    bars = []
    for judged in (~ends, np.ones(len(ends), dtype=np.bool_)):
        vocabulary = make_vocabulary(material, ~held & judged)
        learnt, kept = (material.counted(rows & judged, vocabulary) for rows in (~held, held))
        model, _ = fit_ngram(learnt, kept, vocabulary.texts, settings.detector, lambda words: None)
        unseen = unseen_log_probability(material, ~held & ~ends)
        rows = held & judged & ~material.streams
        calibration = calibrations(material, rows, surprises_of(material, rows, vocabulary, model, unseen))
        bars.append(Calibrated(calibration[0], settings.budget.false_alarm_rate).bar)
    return bars[1] <= bars[0] + END_COST


def surprises_of(
    material: Material, rows: Flags, vocabulary: Vocabulary, model: SequenceModel, unseen: float
) -> Floats:
    """[n] nats of the windows asked for ([n] flags); 0 for the others."""
    asked = np.unique(material.which[rows])
    contexts, targets = vocabulary.indices(material.contexts[asked]), vocabulary.indices(material.targets[asked])
    surprises = np.zeros(len(material.targets), dtype=np.float32)
    surprises[asked] = judge(model, contexts, targets, unseen).surprises
    of_window: Floats = np.where(rows, surprises[material.which], np.float32(0))
    return of_window


def calibrations(material: Material, rows: Flags, surprises: Floats) -> tuple[Calibration, ...]:
    """Surprises ([n] nats) of held-back sessions and streams ([n] flags), where there are any."""
    made = []
    sessions = np.flatnonzero(rows & ~material.streams)
    if len(sessions):
        made.append(calibrate("session", worst_of(surprises[sessions], material.sessions[sessions])))
    if (rows & material.streams).any():
        made.append(calibrate("stream", surprises[rows & material.streams]))
    return tuple(made)


def worst_of(surprises: Floats, sessions: Ints) -> Floats:
    """The highest surprise of each session: [n] windows in, one figure for each distinct session out."""
    order = np.argsort(sessions, kind="stable")
    _, starts = np.unique(sessions[order], return_index=True)
    worst: Floats = np.maximum.reduceat(surprises[order], starts)
    return worst


def bars_of(calibration: Iterable[Calibration], rate: float) -> dict[str, float]:
    """The thresholds in nats at an accepted rate of false alarms, as figures for the manifest."""
    return {f"threshold_{one.kind}_nats": Calibrated(one, rate).bar for one in calibration}
