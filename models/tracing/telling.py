"""What a finding on traces says, as a sentence and as the record of a detection."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.records import Detection
from models.scorer import digest
from models.sentences import reason_of
from models.tracing.findings import Finding
from models.tracing.rates import Rates
from parsing.events import template_hex

KIND = "traces"
"""Stands in the ids of findings on traces."""
MOST_NAMED = 80
"""Characters of a template in a sentence."""

TextOf = Callable[[str, int], str]
"""Service and template id to the template's text; empty where nobody knows it."""


def headline(finding: Finding, services: Sequence[str], text_of: TextOf) -> str:
    """A finding in one sentence: where, what, how often it came lately and how often it usually does."""
    where = services[finding.blamed] if finding.blamed >= 0 else "many services"
    seen = "" if finding.blamed == finding.service else f" (seen on {services[finding.service]})"
    evidence = finding.evidence
    about = [evidence.parts[0].template] if evidence.parts else []
    texts = [text_of(services[finding.service], template) for template in (*about, *evidence.related[:1])]
    quoted = " after ".join(f'"{text[:MOST_NAMED]}"' for text in texts if text)
    usual = f"{finding.usual:.0f} lines a minute are" if finding.detector == Rates.name else f"{finding.usual:.1%} is"
    counts = f"{finding.hits} of {finding.trials} where {usual} usual"
    what = f"{evidence.reason} {quoted}".strip()
    return f"{where}{seen}: {what}, {counts} (one in {math.exp(min(finding.nats, 50.0)):,.0f}; {finding.detector})"


@dataclass(frozen=True, slots=True)
class Where:
    """Where a service was read by then: its newest line that named a trace."""

    topic: str
    partition: int
    offset: int
    arrival_ms: int


def detection(
    finding: Finding,
    services: Sequence[str],
    names: Mapping[int, str],
    text_of: TextOf,
    where: Where,
    found_ms: int,
) -> Detection:
    """The record of a finding.

    Its id depends on what is found, in which service and at what event time, so that it is the same after a crash.
    ``session`` is a trace that shows it.

    Args:
        finding: that stands.
        services: by their numbers.
        names: of traces, by their hashes, as far as they are known.
        text_of: says the texts of templates.
        where: the service that is blamed was read by then.
        found_ms: the time of day, ms since 1970 UTC.
    """
    service, seen = services[finding.blamed], services[finding.service]
    evidence = finding.evidence
    named = [part.template for part in evidence.parts[:1] if part.template] + list(evidence.related[:1])
    template = named[0] if named else 0
    about = (finding.detector, seen, evidence.reason, *map(template_hex, named))
    texts = {one: text_of(seen, one) for one in (template, *(part.template for part in evidence.parts)) if one}
    said = headline(finding, services, text_of)
    return Detection(
        id=digest(service, KIND, str(finding.at_ms), *about),
        signature=digest(service, *about),
        service=service,
        detector=finding.detector,
        kind="trace",
        topic=where.topic,
        partition=where.partition,
        offset=where.offset,
        arrival_ms=where.arrival_ms,
        event_ms=finding.at_ms,
        detected_ms=found_ms,
        session=next((names[trace] for trace in sorted(finding.traces) if trace in names), ""),
        line="",
        level="",
        template=template_hex(template),
        template_text=texts.get(template, ""),
        score=-math.expm1(-finding.nats),
        threshold=-math.expm1(-finding.bar),
        surprise=finding.nats,
        rank=1,
        expected=(),
        before=(),
        reasons=(reason_of(evidence, said, texts),),
        bundle="",
        headline=said,
    )
