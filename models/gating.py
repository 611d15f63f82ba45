"""The gate before promotion: a candidate beside the live bundle, on the newest held-back time and on all verdicts.

    gate = compare(candidate, live, material, sessions, reviewed)
    if gate.failed: ...                    # the candidate is kept, marked, and not made live

The newest half of held-back time is what both are asked about. For this the candidate's thresholds are set on the older
half alone and its detectors of whole sessions are learnt without the newer half, as if the training had been that much
earlier; what is published has thresholds of all of it. Both bundles are frozen. The live one may have been trained on
these very lines, which speaks for it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.bundle import Gate, Trial
from contracts.service import BudgetOptions
from models.bundle import Bundle
from models.ensemble import Ensemble
from models.finished import Sessions
from models.learning import HELD_BACK, Material, calibrations, learn_sessions, newest, surprises_of
from models.scorer import Scorer
from models.sessions import END, PADDING, Flags, Ids, Ints
from models.vocabulary import UNKNOWN_INDEX
from parsing.apart import parts_of

ONNX_DIFFERENCE = "onnx_difference_nats"
"""Name of the figure in a manifest: greatest difference between the model as trained and as saved."""
PARITY = 1e-3
"""Nats of it that do no harm: thresholds have a margin of a tenth of that, scores are read to three digits."""
NEWER = HELD_BACK / 2
DEVIATIONS = 3.0
"""So many standard deviations of a count (its square root, as of rare independent events) above what is allowed are
taken for chance."""
UNKNOWN_MORE = 0.01
PRECISION_LESS = 0.1
SIZE_MORE, SIZE_LEAST = 4, 16 << 20
SLOWER = 4
SPEED_WINDOWS = 10_000
"""Distinct windows below which no speed can be told."""
DAY_MS = 86_400_000


@dataclass(frozen=True, eq=False, slots=True)
class Reviewed:
    """A session that engineers judged, whole."""

    name: str
    is_confirmed: bool
    """Else they called it normal."""
    material: Material
    sessions: Sessions


@dataclass(frozen=True, eq=False, slots=True)
class _Asked:
    """What both bundles are asked about."""

    material: Material
    rows: Flags  # [n] windows
    sessions: Sessions
    reviewed: Sequence[Reviewed]
    days: float
    parts: Mapping[int, int]
    """Templates that are told apart by now, each with that which a bundle from before knows them as."""


def compare(
    candidate: Bundle, live: Bundle | None, material: Material, sessions: Sessions, reviewed: Sequence[Reviewed] = ()
) -> Gate:
    """Judge the newest lines by both bundles, and say whether the candidate may take the other's place.

    Args:
        candidate: learnt from ``material`` and ``sessions``.
        live: None: the service has none, and only what is wrong in itself stands in the candidate's way.
        material: windows of normal time.
        sessions: whole sessions of it.
        reviewed: sessions that engineers judged.

    Raises:
        BundleError: the live bundle's calibration is damaged.
    """
    rows = material.held_back(NEWER)
    newer = newest(sessions, NEWER) if len(sessions) else np.zeros(0, dtype=np.bool_)
    earlier = _earlier(candidate, material, rows, sessions, newer)
    days = (material.to_ms - material.from_ms) / DAY_MS * rows.sum() / max(1, len(rows))
    parts = parts_of(candidate.manifest.service, candidate.manifest.settings.splits)
    asked = _Asked(material, rows, sessions.take(np.flatnonzero(newer)), reviewed, days, parts)
    mine = _try(earlier, asked).model_copy(update={"bytes": _size(candidate)})
    theirs = _try(live, asked) if live is not None else None
    confirmed = sum(one.is_confirmed for one in reviewed)
    streams = material.streams & rows
    gate = Gate(
        live=live.manifest.version if live is not None else "",
        windows=int(rows.sum()),
        units=len(np.unique(material.sessions[rows & ~streams]))
        + int(streams.sum())
        + len(np.unique(asked.sessions.groups())),
        confirmed=confirmed,
        accepted=len(reviewed) - confirmed,
        onnx_difference=candidate.manifest.metrics.get(ONNX_DIFFERENCE, 0.0),
        candidate=mine,
        before=theirs,
    )
    distinct = len(np.unique(material.which[rows]))
    return gate.model_copy(update={"failed": tuple(_failed(gate, candidate.manifest.settings.budget, distinct))})


def _failed(gate: Gate, budget: BudgetOptions, distinct: int) -> list[str]:
    """What is worse, a sentence each."""
    mine, live = gate.candidate, gate.before
    failed = []
    if not gate.onnx_difference <= PARITY:
        failed.append(f"the saved model differs from the trained one by {gate.onnx_difference:.2g} nats")
    agreed = budget.false_alarm_rate * gate.units
    allowed = max(agreed, live.raised if live else 0)
    if live and mine.raised > allowed + DEVIATIONS * math.sqrt(allowed + 1):
        failed.append(
            f"it raises {mine.raised:,} of the newest {gate.units:,} sessions and lines, the live bundle "
            f"{live.raised:,} (budget.false_alarm_rate = {budget.false_alarm_rate} allows {agreed:,.0f})"
        )
    if live is None:
        return failed
    if mine.unknown > live.unknown + UNKNOWN_MORE:
        failed.append(
            f"it does not know the templates of {mine.unknown:.1%} of the newest events, the live {live.unknown:.1%}"
        )
    if mine.confirmed_found < live.confirmed_found:
        failed.append(
            f"it finds {mine.confirmed_found} of {gate.confirmed} confirmed faults, the live bundle "
            f"{live.confirmed_found}"
        )
    was, now = live.precision, mine.precision
    if was is not None and now is not None and now < was - PRECISION_LESS:
        failed.append(f"{now:.0%} of the reviewed sessions that it raises are faults, of the live bundle's {was:.0%}")
    if mine.bytes > max(SIZE_LEAST, SIZE_MORE * live.bytes):
        failed.append(f"it has {mine.bytes / 1e6:,.0f} MB, the live bundle {live.bytes / 1e6:,.0f}")
    if distinct >= SPEED_WINDOWS and mine.windows_per_second * SLOWER < live.windows_per_second:
        failed.append(
            f"it judges {mine.windows_per_second:,.0f} windows a second, the live bundle {live.windows_per_second:,.0f}"
        )
    return failed


def _earlier(candidate: Bundle, material: Material, newer: Flags, sessions: Sessions, over: Flags) -> Bundle:
    """The candidate as it would be without the newer half of held-back time, as far as thresholds and sessions go."""
    manifest = candidate.manifest
    rows = material.held_back() & ~newer & material.judged(manifest.end_event)
    unseen = manifest.unseen_log_probability
    surprises = surprises_of(material, rows, candidate.vocabulary, candidate.model, unseen)
    calibration = calibrations(material, rows, surprises) or manifest.calibration
    ensemble = b""
    if candidate.ensemble:
        # Too few without the newer half: better what has seen it than no whole sessions at all.
        ensemble = learn_sessions(sessions.take(np.flatnonzero(~over)), manifest.settings) or candidate.ensemble
    return Bundle(
        manifest.model_copy(update={"calibration": calibration}), candidate.vocabulary, candidate.model, ensemble
    )


def _try(bundle: Bundle, asked: _Asked) -> Trial:
    judge = _Judge(bundle, asked.parts)
    raised = judge.raised(asked.material, asked.rows, asked.sessions)
    found = [one for one in asked.reviewed if judge.raised(one.material, _all(one.material), one.sessions)]
    confirmed = sum(one.is_confirmed for one in found)
    return Trial(
        raised=raised,
        alarms_per_day=raised / asked.days if asked.days else 0.0,
        unknown=judge.unknown(asked.material, asked.rows),
        confirmed_found=confirmed,
        accepted_raised=len(found) - confirmed,
        bytes=_size(bundle),
        windows_per_second=judge.windows / judge.seconds if judge.seconds else 0.0,
    )


class _Judge:
    """A frozen bundle that counts what it raises, and how long it takes."""

    def __init__(self, bundle: Bundle, parts: Mapping[int, int]) -> None:
        self._bundle = bundle
        self._scorer = Scorer(bundle)
        self._scorer.tell_apart(parts)
        self._ensemble: Ensemble[Sessions] | None = bundle.detectors() if bundle.ensemble else None
        self.windows, self.seconds = 0, 0.0

    def raised(self, material: Material, rows: Flags, sessions: Sessions) -> int:
        """Sessions and lines that the sequence model raises in these windows, and whole sessions raised."""
        self._scorer.adopt(material.templates)
        rows = rows & material.judged(self._bundle.manifest.end_event)
        found = 0
        for streams in (False, True):
            mine = np.flatnonzero(rows & (material.streams == streams))
            hit = mine[self._over(material, np.unique(material.which[mine]), streams)[material.which[mine]]]
            found += len(hit) if streams else len(np.unique(material.sessions[hit]))
        if self._ensemble is not None and len(sessions):
            known = self._scorer.known_as(sessions.templates, sessions.owners)
            sessions = replace(sessions, templates=known, texts=self._scorer.texts(known))
            found += len(np.unique(sessions.groups()[self._ensemble.judge(sessions).raised]))
        return found

    def _over(self, material: Material, distinct: Ints, streams: bool) -> Flags:
        """[u] which of the distinct windows are raised; those that were not asked for are not."""
        over = np.zeros(len(material.targets), dtype=np.bool_)
        if len(distinct):
            contexts = _fitting(material.contexts[distinct], self._bundle.manifest.window)
            began = time.perf_counter()
            over[distinct] = self._scorer.raises(contexts, material.targets[distinct], np.full(len(distinct), streams))
            self.seconds += time.perf_counter() - began
            self.windows += len(distinct)
        return over

    def unknown(self, material: Material, rows: Flags) -> float:
        """Share of the events ([n] flags of windows) whose templates the bundle does not know."""
        self._scorer.adopt(material.templates)
        targets = material.targets[material.which[rows]]
        targets = targets[targets != END]
        distinct, counts = np.unique(targets, return_counts=True)
        known = self._scorer.known_as(distinct, np.arange(len(distinct), dtype=np.int64))
        strange = self._bundle.vocabulary.indices(known) == UNKNOWN_INDEX
        return float(counts[strange].sum() / len(targets)) if len(targets) else 0.0


def _fitting(contexts: Ids, window: int) -> Ids:
    """Contexts of another length: [n, any] in, [n, window] out, as if there had been nothing before."""
    short = window - contexts.shape[1]
    if short > 0:
        return np.pad(contexts, ((0, 0), (short, 0)), constant_values=PADDING)
    return contexts[:, -window:]


def _all(material: Material) -> Flags:
    return np.ones(len(material.which), dtype=np.bool_)


def _size(bundle: Bundle) -> int:
    return sum(map(len, bundle.files().values()))
