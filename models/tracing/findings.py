"""What a detector that watches several services found in the last minutes, and in whose traces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.detector import Evidence, Part


@dataclass(frozen=True, slots=True)
class Finding:
    """One detector's finding on one service at one time."""

    detector: str
    service: int
    """Where it was seen."""
    blamed: int
    """Where it broke, as far as the detector can say; mostly the same."""
    signature: int
    """What it is about: findings of one service with one signature belong to one alert."""
    at_ms: int
    """Event time at which it was known."""
    nats: float
    """Minus the logarithm of its chance,"""
    bar: float
    """which is raised from here on."""
    hits: int
    """Traces (minutes, for a rate) that show it lately,"""
    trials: int
    """of so many;"""
    usual: float
    """and the usual share (or rate)."""
    evidence: Evidence
    traces: frozenset[int] = frozenset()
    """Hashes of trace ids, at most ``MAX_TRACES``; empty where it is not about traces."""


MAX_TRACES = 256
"""Of a finding: enough to see whether two findings share most of theirs."""


def finding_of(plain: Mapping[str, Any]) -> Finding:
    """A finding of what ``dataclasses.asdict`` made of one, through JSON or not.

    Raises:
        KeyError, TypeError: Something is missing, or more is there.
    """
    evidence = plain["evidence"]
    parts = tuple(Part(**part) for part in evidence["parts"])
    told = Evidence(**{**evidence, "parts": parts, "related": tuple(evidence["related"])})
    return Finding(**{**plain, "evidence": told, "traces": frozenset(plain["traces"])})
