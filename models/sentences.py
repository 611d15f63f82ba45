"""What a detector has to say, in a sentence.

Usage::

    words = sentence(evidence, texts)      # evidence of a detector, with texts of templates
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from contracts.records import Reason, ReasonPart
from models.detector import Evidence, Part
from models.sessions import END
from parsing.events import template_hex

MOST_NAMED = 3
"""Likeliest events named."""
LEAST_LIKELY = 0.005
"""What was less likely than this was not expected."""
MAX_WORDS = 120
"""Characters of each template in a sentence; the data has all of it."""
LEAST_APART = 0.5
"""Events by which a count differs, to be worth naming."""
END_WORDS = "the end of the session"


def sentence(why: Evidence, texts: Mapping[int, str]) -> str:
    """Say in a sentence what a detector has to say (``models.detectors``, ``models.tracing``).

    Args:
        why: the evidence.
        texts: of templates, by id; one that is not there is shown by its id.

    Raises:
        KeyError: A reason that no detector has.
    """

    def named(template: int) -> str:
        text = texts.get(template, "")
        return short(text) if text else END_WORDS if template == END else template_hex(template)

    words = WORDS[why.reason](why, named)
    return f"{words[:1].upper()}{words[1:]}."


def reason_of(why: Evidence, words: str, texts: Mapping[int, str]) -> Reason:
    """What a detector has to say as a record, with the sentence that says it."""
    parts = tuple(
        ReasonPart(
            template=template_hex(part.template) if part.template else "",
            text=texts.get(part.template, ""),
            subject=part.subject,
            observed=part.observed,
            usual=part.usual,
        )
        for part in why.parts
    )
    return Reason(detector=why.detector, reason=why.reason, sentence=words, unit=why.unit, parts=parts)


Named = Callable[[int], str]


def _new(why: Evidence, named: Named) -> str:
    nearest = f"; the nearest known one is {named(why.related[0])}" if why.related else ""
    return f"{named(why.parts[0].template)} is in no normal session{nearest}"


def _rare(why: Evidence, named: Named) -> str:
    return f"{named(why.parts[0].template)} is in {percent(why.parts[0].usual)} of the normal sessions"


def _counts(why: Evidence, named: Named) -> str:
    apart = _apart(why)
    rows = [f"{named(part.template)} {_times(part.observed)} instead of {_times(part.usual)}" for part in apart[:3]]
    beside = "the nearest normal session" if why.reason == "unusual_counts" else "what usually comes with the rest"
    return f"compared with {beside}: {', '.join(rows)}" if rows else "the session has an unusual mix of events"


def _given_back(why: Evidence, named: Named) -> str:
    rows = [f"{named(one.template)} came {_times(one.observed)}, not {_times(one.usual)}" for one in _apart(why)[:3]]
    return f"unlike what an autoencoder gives back of it: {'; '.join(rows)}" if rows else "its counts are given back"


def _apart(why: Evidence) -> list[Part]:
    """The counts that differ enough to be worth naming; all where none does."""
    return [part for part in why.parts if abs(part.observed - part.usual) >= LEAST_APART] or list(why.parts)


def _order(why: Evidence, named: Named) -> str:
    if not why.parts:
        return "the session is unlikely as a whole"
    came, *usual = why.parts
    after = f"after {', '.join(named(one) for one in why.related)} " if why.related else ""
    likely = [part for part in usual[:MOST_NAMED] if part.usual >= LEAST_LIKELY]
    options = ", ".join(f"{named(part.template)} ({percent(part.usual)})" for part in likely)
    instead = f"; expected {options}" if options else ""
    return f"{after}came {named(came.template)} ({percent(came.usual)}){instead}"


def _stopped(why: Evidence, named: Named) -> str:
    rows = ", ".join(f"{named(part.template)} ({percent(part.usual)})" for part in why.parts[:MOST_NAMED])
    where = f" after {named(why.related[0])}" if why.related else ""
    return f"it stopped{where}" + (f"; what followed elsewhere: {rows}" if rows else "")


def _slow(why: Evidence, named: Named) -> str:
    if not why.parts:
        return "the session is slow as a whole"
    part = why.parts[0]
    before = f" after {named(why.related[0])}" if why.related else ""
    if why.unit == "chance":
        return f"{named(part.template)} came late{before} in {_shares(part)}"
    return f"{named(part.template)} came {part.observed:,.0f} ms{before}; 99 of 100 come within {part.usual:,.0f} ms"


def _slow_unseen(why: Evidence, named: Named) -> str:
    part = why.parts[0]
    return (
        f"{named(part.template)} came {part.observed:,.0f} ms after {named(why.related[0])}, as it never did; "
        f"99 of 100 events come within {part.usual:,.0f} ms of the one before"
    )


def _severe(why: Evidence, named: Named) -> str:
    if not why.parts:
        return "it speaks of no trouble"
    part = why.parts[0]
    return f"{part.subject!r} is in {percent(part.usual)} of the normal sessions: {named(part.template)}"


def _rate(why: Evidence, _: Named) -> str:
    part = why.parts[0]
    return f"a {why.reason}: {part.observed:,.0f} events in a minute where {part.usual:,.1f} are usual"


def _share(words: str) -> Callable[[Evidence, Named], str]:
    """Words for a share of traces, with ``{}`` for the template they are about."""

    def say(why: Evidence, named: Named) -> str:
        part = why.parts[0]
        return f"{words.format(named(part.template))} in {_shares(part)}"

    return say


WORDS: dict[str, Callable[[Evidence, Named], str]] = {
    "new": _new,
    "rare": _rare,
    "unusual_counts": _counts,
    "unusual_mix": _counts,
    "not_given_back": _given_back,
    "unusual_order": _order,
    "unlikely": _order,
    "stopped_early": _stopped,
    "slow": _slow,
    "slow_unseen": _slow_unseen,
    "severe": _severe,
    "burst": _rate,
    "drop": _rate,
    "silence": _rate,
    "trace_template": _share("{} came"),
    "unexpected": _share("{} came instead of the usual line"),
    "ended_early": _share("a span ended early"),
    "missing_callee": _share("a service that is called before {} was not called"),
    "span_shape": _share("a span that begins with {} went another way"),
    "trace_level": _share("lines of another level came"),
}
"""By the reason of the evidence: how it is said."""


def short(text: str) -> str:
    """A template's text in quotes, cut where it is long."""
    text = " ".join(text.split())
    return f'"{text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"}"'


def percent(share: float) -> str:
    """Write a share so that small ones stay visible."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1g} %"


def _times(count: float) -> str:
    if abs(count - round(count)) < 0.05:  # a usual count is a mean
        return {0: "never", 1: "once"}.get(round(count), f"{round(count):,} times")
    return f"{count:.3g} times"


def _shares(part: Part) -> str:
    return f"{percent(part.observed)} of the latest traces, usually in {percent(part.usual)}"


def clock(milliseconds: int) -> str:
    """Write a time in UTC to the second; what lies outside of the calendar is written as the number it is.

    >>> clock(0)
    '1970-01-01 00:00:00'
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
