"""What a finding on traces says, as a sentence and as the record of a detection."""

import math
from collections.abc import Callable, Sequence

from contracts.records import Detection, Reason, ReasonPart
from models.scorer import digest
from models.tracing.across import Raised
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


def detection(raised: Raised, services: Sequence[str], names: dict[int, str], text_of: TextOf) -> Detection:
    """The record of a finding, without the line it points to: ``topic``, ``partition``, ``offset`` and times are open.

    Its id depends on what is found, where and at what event time, so that it is the same after a crash. ``session`` is
    a trace that shows it.
    """
    finding = raised.finding
    service, seen = services[finding.blamed], services[finding.service]
    evidence = finding.evidence
    named = [part.template for part in evidence.parts[:1] if part.template] + list(evidence.related[:1])
    template = named[0] if named else 0
    about = (finding.detector, seen, evidence.reason, *map(template_hex, named))
    shown = [names[trace] for trace in sorted(finding.traces) if trace in names]
    said = headline(finding, services, text_of)
    parts = tuple(
        ReasonPart(
            template=template_hex(part.template) if part.template else "",
            text=text_of(seen, part.template) if part.template else "",
            subject=part.subject,
            observed=part.observed,
            usual=part.usual,
        )
        for part in evidence.parts
    )
    reason = Reason(detector=finding.detector, reason=evidence.reason, sentence=said, unit=evidence.unit, parts=parts)
    return Detection(
        id=digest(service, KIND, str(finding.at_ms), *about),
        signature=digest(service, *about),
        service=service,
        detector=finding.detector,
        kind="trace",
        topic="",
        partition=0,
        offset=0,
        arrival_ms=finding.at_ms,
        event_ms=finding.at_ms,
        detected_ms=finding.at_ms,
        session=shown[0] if shown else "",
        line="",
        level="",
        template=template_hex(template),
        template_text=text_of(seen, template) if template else "",
        score=-math.expm1(-finding.nats),
        threshold=-math.expm1(-finding.bar),
        surprise=finding.nats,
        rank=1,
        expected=(),
        before=(),
        reasons=(reason,),
        bundle="",
        headline=said,
    )
