"""A bundle made of another without learning its model again: thresholds of newer time, or for another budget.

    newer = recalibrated(live, data.material, data.sessions, created_ms=now)
    strict = with_budget(live, BudgetOptions(false_alarm_rate=0.001), created_ms=now)

Both are bundles like any other: published, live from a stated arrival on, named by every alert, and gone back from.
"""

from collections.abc import Mapping

import numpy as np

from contracts.bundle import Manifest
from contracts.service import BudgetOptions
from models import drift
from models.bundle import Bundle, seal
from models.ensemble import Ensemble
from models.finished import Sessions
from models.learning import LearnError, Material, bars_of, calibrations, check, surprises_of

DAY_MS = 86_400_000
MOST_RATE = 0.5
"""A budget that would allow to raise more of what is normal is none."""


def recalibrated(live: Bundle, material: Material, sessions: Sessions, created_ms: int) -> Bundle:
    """The same model with thresholds of other lines; the detectors of whole sessions learn these, too.

    Args:
        live: whose model is kept.
        material: windows of normal time, none of which the model needs to have seen.
        sessions: whole sessions of it.
        created_ms: now.

    Raises:
        LearnError: there are too few lines, or the windows are not of the model's length.
        StateError: the bundle's detectors are damaged.
    """
    manifest = live.manifest
    check(material, manifest.service)
    if material.contexts.shape[1] != manifest.window:
        raise LearnError(
            f"bundle {manifest.version} looks at {manifest.window} events before, the settings say "
            f"{material.contexts.shape[1]} (detector.window): train instead of setting thresholds anew"
        )
    rows = material.judged(manifest.end_event)
    unseen = manifest.unseen_log_probability
    surprises = surprises_of(material, rows, live.vocabulary, live.model, unseen)
    ensemble = b""
    if live.ensemble:
        detectors: Ensemble[Sessions] = live.detectors()
        detectors.calibrate_and_learn(sessions)
        ensemble = detectors.dump()
    calibration = calibrations(material, rows, surprises)
    changes = {
        "created_ms": created_ms,
        "calibration": calibration,
        "surprises": drift.shares(surprises[rows]),
        "metrics": manifest.metrics | bars_of(calibration, live.false_alarm_rate),
        "data_from_ms": material.from_ms,
        "data_to_ms": material.to_ms,
    }
    return seal(manifest.model_copy(update=changes), live.vocabulary, live.model, ensemble)


def with_budget(
    live: Bundle, budget: BudgetOptions, created_ms: int, bars: Mapping[str, float] | None = None
) -> Bundle:
    """The same bundle with thresholds for another accepted rate of false alarms.

    Args:
        live: the bundle.
        budget: what is accepted now.
        created_ms: now.
        bars: thresholds set by hand in nats, for ``session`` or ``stream``; None: as the budget says.
    """
    manifest = live.manifest
    settings = manifest.settings.model_copy(update={"budget": budget})
    changes = {"created_ms": created_ms, "settings": settings, "bars": dict(bars or {}), "gate": None}
    return seal(manifest.model_copy(update=changes), live.vocabulary, live.model, live.ensemble)


def rate_of(manifest: Manifest, alerts_per_day: float) -> float:
    """The rate of false alarms that comes to so many alerts a day, at the pace of what the bundle was learnt from.

    Raises:
        LearnError: nothing is known of that pace.
    """
    days = (manifest.data_to_ms - manifest.data_from_ms) / DAY_MS
    units = manifest.sessions or manifest.windows
    if not (days > 0 and units):
        raise LearnError(f"bundle {manifest.version} does not say how many sessions a day brings: give a rate instead")
    return float(np.clip(alerts_per_day * days / units, 0, MOST_RATE))
