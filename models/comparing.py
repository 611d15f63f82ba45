"""Two bundles of a service beside each other: what they were made of, and what they would judge by.

difference = compare(registry.load("pay", old), registry.load("pay", new))
difference.settings          # {"budget.false_alarm_rate": (0.005, 0.001)}
difference.new_templates     # known to the second only
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from contracts.bundle import VocabularyEntry
from models.bundle import Bundle, BundleError

FIGURES = ("lines", "sessions", "windows", "unique_windows", "window", "data_from_ms", "data_to_ms", "created_ms")
"""Of the manifest, compared as they are."""

Value = str | float | bool | None
Pair = tuple[Value, Value]
"""In the first and in the second; None: not there."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two bundles; what is equal is left out of ``settings`` and ``figures``."""

    settings: dict[str, Pair]
    """By the setting's name, as ``session.gap_seconds``."""
    figures: dict[str, Pair]
    """What they learnt from, how well they did on held-back time, and from which surprise on they raise (nats)."""
    new_templates: tuple[VocabularyEntry, ...]
    """Known to the second only, the most frequent first."""
    gone_templates: tuple[VocabularyEntry, ...]
    """Known to the first only, likewise."""
    common_templates: int

    @property
    def is_none(self) -> bool:
        """Whether they judge alike as far as this can tell."""
        return not (self.settings or self.figures or self.new_templates or self.gone_templates)


def compare(one: Bundle, other: Bundle) -> Difference:
    """Lay two bundles of one service beside each other.

    Raises:
        BundleError: They are of different services.
    """
    if one.manifest.service != other.manifest.service:
        raise BundleError(f"bundles of {one.manifest.service} and of {other.manifest.service} cannot be compared")
    mine = {entry.template: entry for entry in one.vocabulary.entries}
    theirs = {entry.template: entry for entry in other.vocabulary.entries}
    return Difference(
        settings=_differing(_settings(one), _settings(other)),
        figures=_differing(_figures(one), _figures(other)),
        new_templates=_by_count(theirs, mine),
        gone_templates=_by_count(mine, theirs),
        common_templates=len(mine.keys() & theirs.keys()),
    )


def _settings(bundle: Bundle) -> dict[str, Value]:
    return dict(_flat(bundle.manifest.settings.model_dump(mode="json")))


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, (str, float, int, bool, type(None))) else str(value)


def _figures(bundle: Bundle) -> dict[str, Value]:
    made = bundle.manifest
    values: dict[str, Value] = {name: getattr(made, name) for name in FIGURES}
    values |= {"end_event": made.end_event, "unseen_log_probability": made.unseen_log_probability}
    values |= {f"left_out.{why}": count for why, count in made.left_out.items()}
    values |= {f"held_back.{one.kind}s": one.held_back for one in made.calibration}
    values |= {f"bar.{one.kind}": bundle.calibrated(one.kind).bar for one in made.calibration}
    return values | dict(made.metrics)


def _differing(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, Pair]:
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _by_count(some: Mapping[str, VocabularyEntry], but: Mapping[str, VocabularyEntry]) -> tuple[VocabularyEntry, ...]:
    return tuple(sorted((some[one] for one in some.keys() - but.keys()), key=lambda entry: (-entry.count, entry.text)))
