"""Which bundle is live: moving a service's pointer, and what stands in the way.

pointer = make_live(settings, registry, "pay", version, author="ada", reason="after release 1.4")
roll_back(settings, registry, "pay", author="ada", reason="too many alarms")
"""

import time
from collections.abc import Mapping

from contracts.records import BundlePointer
from contracts.service import BudgetOptions
from contracts.settings import AppSettings
from models.adjusting import rate_of, with_budget
from models.bundle import Bundle
from models.registry import Registry
from storage.control import ControlWriter, moved_pointer, read_control


class PromotionError(Exception):
    """A bundle is not made live; the message says why, and what to do."""


def make_live(
    settings: AppSettings, registry: Registry, service: str, version: str, author: str, reason: str
) -> BundlePointer:
    """Move a service's pointer to a version that passes its checks, and return the pointer.

    Raises:
        PromotionError: the gate found the bundle worse, and nobody says why it should be live all the same.
        BundleError: it is not there, damaged, or made by a newer release; what was live stays so.
        StorageError: the store does not answer.
    """
    bundle = registry.load(service, version)
    return _move(settings, read_control(settings).pointers.get(service), bundle, author, reason)


def roll_back(settings: AppSettings, registry: Registry, service: str, author: str, reason: str) -> BundlePointer:
    """Make the bundle live again that was live before the one that is, and return the pointer.

    Raises:
        PromotionError, BundleError, StorageError: as of ``make_live``; or there was none before.
    """
    pointer = read_control(settings).pointers.get(service)
    earlier = registry.load(service, before_this(pointer, service))
    return _move(settings, pointer, earlier, author, reason or "roll back")


def _move(settings: AppSettings, live: BundlePointer | None, bundle: Bundle, author: str, reason: str) -> BundlePointer:
    made = bundle.manifest
    if made.gate is not None and made.gate.failed and not reason.strip():
        raise PromotionError(
            f"bundle {made.version} was worse than the live one ({'; '.join(made.gate.failed)}): to make it live all "
            "the same, give a reason"
        )
    pointer = moved_pointer(live, made, author, reason)
    with ControlWriter(settings) as control:
        control.put(pointer)
    return pointer


def change_budget(
    settings: AppSettings,
    registry: Registry,
    service: str,
    author: str,
    reason: str,
    *,
    rate: float | None = None,
    alerts_per_day: float | None = None,
    bars: Mapping[str, float] | None = None,
) -> BundlePointer:
    """Publish the live bundle with thresholds for another budget, make that live, and return the pointer.

    Args:
        settings: where everything is.
        registry: of the bundles.
        service: whose budget.
        author: who changes it.
        reason: and why.
        rate: share of normal sessions that may be raised.
        alerts_per_day: or so many, at the pace of what the bundle was learnt from.
        bars: or thresholds by hand in nats, for ``session`` or ``stream``.

    Raises:
        PromotionError: there is no live bundle, or it is not said what to change.
        LearnError: alerts a day cannot be told for this bundle.
        BundleError: the live bundle cannot be read.
        StorageError: the store does not answer.
    """
    pointer = read_control(settings).pointers.get(service)
    if pointer is None:
        raise PromotionError(f"{service} has no live bundle: `logcanary train --service {service}` makes one")
    if (rate is None) + (alerts_per_day is None) + (not bars) != 2:
        raise PromotionError("give one of: a rate, alerts a day, bars by hand")
    if unknown := set(bars or {}) - {"session", "stream"}:
        raise PromotionError(f"there is no bar for {min(unknown)}: there are session and stream")
    live = registry.load(service, pointer.version)
    if alerts_per_day is not None:
        rate = rate_of(live.manifest, alerts_per_day)
    budget = live.manifest.settings.budget if rate is None else BudgetOptions(false_alarm_rate=rate)
    changed = with_budget(live, budget, time.time_ns() // 1_000_000, bars)
    registry.publish(changed)
    return _move(settings, pointer, changed, author, reason)


def before_this(pointer: BundlePointer | None, service: str) -> str:
    """The version that was live before the one that is.

    Raises:
        PromotionError: there is none.
    """
    earlier = [move.version for move in pointer.before if move.version != pointer.version] if pointer else []
    if not earlier:
        raise PromotionError(
            f"{service} has no bundle that was live before: `logcanary models list -s {service}` shows those there are"
        )
    return earlier[0]
