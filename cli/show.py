"""How findings look on a terminal: one detection with its evidence, and lists of alerts. Only text in, no markup.

Log lines are foreign text: they are never read as markup, and control characters (terminal escapes) are made visible.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from contracts.records import END_TEMPLATE, WHOLE_KINDS, Detection, Said, Verdict
from models.alerts import Alert
from models.sentences import clock
from models.verdicts import BEYOND, SETTLED

if TYPE_CHECKING:
    from models.explaining import Explanation

DETECTOR_WORDS = {
    "deeplog": "next event, DeepLog LSTM",
    "deeplog.end": "end of session, DeepLog LSTM",
    "loganomaly": "next event, LogAnomaly's LSTMs of words and counts",
    "loganomaly.end": "end of session, LogAnomaly's LSTMs of words and counts",
    "ngram": "next event, n-gram",
    "ngram.end": "end of session, n-gram",
    "new_template": "never seen before",
    "count_vector": "whole session, counts like no other",
    "pca": "whole session, counts that do not go together",
    "autoencoder": "whole session, counts that an autoencoder does not give back",
    "severity": "whole session, levels and words of trouble",
    "order": "whole session, order of events",
    "missing": "whole session, what should have come and did not",
    "timing": "whole session, time between events",
}
STATE_STYLES = {
    "open": "bold yellow",
    "escalated": "bold red",
    "confirmed": "bold red",
    "false-positive": "green",
    "expected": "green",
}
END_WORDS = "(end of session)"
MAX_LINE = 2000
"""Characters of one line that a terminal shows; ``--json`` has it whole."""


def printable(text: str, limit: int = MAX_LINE) -> str:
    r"""Make foreign text safe for a terminal: control characters become visible, long text is cut.

    >>> printable("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in cut)


def percent(probability: float) -> str:
    """Write a probability so that small ones stay visible.

    >>> percent(0.713), percent(0.00004)
    ('71 %', '0.004 %')
    """
    share = 100 * probability
    return f"{share:.0f} %" if share >= 10 else f"{share:.1g} %"


def odds(surprise: float) -> str:
    """Write a surprise in nats as a chance in words.

    >>> odds(0.0), odds(9.9)
    ('1 in 1', '1 in 20,000')
    """
    chance = math.exp(min(surprise, 100.0))
    if chance >= 1e9:
        return "less than 1 in a billion"
    digits = max(0, int(math.log10(chance)))
    return f"1 in {int(round(chance, -digits)):,}"


def detection(found: Detection, verdict: Verdict | None = None, said: Sequence[Verdict] = ()) -> RenderableType:
    """Draw one detection with its whole evidence: lines before, the marked line, what was expected, where it lies.

    ``verdict`` is the one that decides, ``said`` all there are, the oldest first.
    """
    words = DETECTOR_WORDS.get(found.detector, found.detector)
    parts: list[RenderableType] = [Text(printable(found.headline), style="bold"), Text("")]
    parts.append(_sequence(found))
    if found.expected:
        parts += [Text(""), _expected(found)]
    if found.reasons:
        parts += [Text(""), *(Text(f"· {printable(why.sentence)}") for why in found.reasons)]
    parts += [Text(""), _facts(found)]
    parts += [Text(""), *_chain(said, verdict)]
    if verdict is None:
        parts.append(Text(f"logcanary verdict {found.id} confirmed|false-positive|expected|unsure --reason ...", "dim"))
    return Panel(
        Group(*parts),
        title=Text(f" {found.service} · {words} "),
        title_align="left",
        border_style="red" if verdict is None else "dim",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _sequence(found: Detection) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for before in found.before:
        table.add_row("", Text(printable(before.text), style="dim"))
    if found.kind in WHOLE_KINDS:  # its last line is among them; or there is none
        return table
    ends = found.kind == "end"
    table.add_row(
        Text(" " if ends else "▶", style="bold red"), Text(printable(found.line), style="" if ends else "red")
    )
    if ends:
        table.add_row(Text("▶", style="bold red"), Text("the session ended here", style="red"))
    return table


def _expected(found: Detection) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(width=10)
    table.add_column(overflow="fold")
    for likely in found.expected:
        text = END_WORDS if likely.template == END_TEMPLATE else printable(likely.text)
        table.add_row(percent(likely.probability), Text("█" * round(10 * likely.probability), style="cyan"), Text(text))
    return Group(Text("Expected instead", style="bold"), table)


def _facts(found: Detection) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    session = found.session or f"none: the stream of partition {found.partition}"
    facts = {
        "how unlikely": f"{odds(found.surprise)}, rank {found.rank}",
        "score": f"{found.score:.5f}, threshold {found.threshold:.5f}",
        "when": f"{clock(found.event_ms)} UTC",
        "session": session,
        "where": f"{found.topic}, partition {found.partition}, offset {found.offset}",
        "template": f"{found.template}  {found.template_text}",
        "bundle": found.bundle,
        "id": f"{found.id}  (alert {found.signature})",
    }
    for name, value in facts.items():
        table.add_row(name, Text(printable(value)))
    return table


def _chain(said: Sequence[Verdict], decides: Verdict | None) -> list[RenderableType]:
    """Who said what and when, the oldest first; what no longer holds says why."""
    lines: list[tuple[int, str, bool]] = []
    for verdict in said:
        lines += [(one.given_ms, _words(one), False) for one in verdict.earlier]
        lines.append((verdict.given_ms, _words(verdict) + covered(verdict), verdict is decides))
    lines.sort(key=lambda line: line[0])
    return [Text(printable(words), style="" if holds else "dim") for _, words, holds in lines]


def _words(one: Verdict | Said) -> str:
    reason = f": {one.reason}" if one.reason else ""
    words = f"{one.value} ({one.scope}) said by {one.author}, {clock(one.given_ms)} UTC{reason}"
    if one.undone_ms:
        return f"{words}; taken back by {one.undone_by}, {clock(one.undone_ms)} UTC"
    return words + (f"; until {clock(one.expires_ms)} UTC" if one.expires_ms else "")


def covered(verdict: Verdict) -> str:
    """Say in words what a verdict covers; nothing where it quiets nothing."""
    if verdict.value not in SETTLED or verdict.undone_ms:
        return ""
    scopes = {
        "template": "this template is not raised again in this service",
        "signature": f"this template is not raised again by {verdict.detector} in this service",
        "shape": f"sessions like this one are not raised again by {verdict.detector} in this service",
        "alert": "it is not raised again in this session" if verdict.session else "this line is not raised again",
    }
    until = f" for lines before {clock(verdict.expires_ms)} UTC" if verdict.expires_ms else ""
    often = f", but at {BEYOND:.0f} times {verdict.accepted_per_hour:g} an hour" if verdict.accepted_per_hour else ""
    return f"; {scopes[verdict.scope]}{until}{often}"


def explanation(told: "Explanation") -> RenderableType:
    """Draw why something does not belong: the sentences, the line, and the session beside a normal one."""
    parts: list[RenderableType] = [Text(printable(words)) for words in told.sentences()]
    parts += [Text(""), Text(printable(told.line), style="red")]
    if told.steps:
        parts += [
            Text(""),
            Text(
                printable(f"Beside {told.beside}: + only here, - only there" if told.beside else "The session"),
                style="bold",
            ),
            _steps(told),
        ]
    session = f"session {told.session} · " if told.session else ""
    parts += [Text(""), Text(printable(f"{session}{told.place}"), style="dim")]
    return Panel(
        Group(*parts),
        title=Text(printable(f" {told.service} · {'unusual' if told.is_raised else 'not unusual'} ")),
        title_align="left",
        border_style="red" if told.is_raised else "dim",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _steps(told: "Explanation") -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    marks, styles = {"both": " ", "here": "+", "normal": "-"}, {"both": "dim", "here": "red", "normal": "green"}
    for step in told.steps:
        style = styles[step.mark]
        pointer = Text("▶" if step.is_it else " ", style="bold red")
        table.add_row(pointer, Text(marks[step.mark], style=style), Text(printable(step.text), style=style))
    return table


def part_list(alerts: Sequence[Alert]) -> RenderableType:
    """Draw the other alerts of an incident."""
    return Group(Text("Other alerts of the incident", style="bold"), alert_list(alerts))


def similar_list(alerts: Sequence[Alert]) -> RenderableType:
    """Draw alerts that are like one, with what engineers said of them."""
    parts: list[RenderableType] = [Text("Similar earlier alerts", style="bold"), alert_list(alerts)]
    for alert in alerts:
        for line in _chain(alert.said, alert.verdict):
            parts.append(Padding(Group(Text(alert.signature[:8], style="cyan"), line), (0, 0, 0, 2)))
    return Group(*parts)


def alert_list(alerts: Sequence[Alert], clocks: Mapping[str, int] | None = None) -> RenderableType:
    """Draw alerts, two lines each: what is known of it, then its headline over the whole width.

    With ``clocks`` (event time in each service, ms) they come incident by incident, and the first of each says where it
    stands; a hook is before those that are part of the incident above.
    """
    listed, parts = set[str](), list[bool]()
    for alert in alerts:
        parts.append(clocks is not None and alert.incident.id in listed)
        listed.add(alert.incident.id)
    facts = [
        (
            f"{'└ ' if is_part else ''}{alert.signature[:8]}",
            printable(alert.service, 40),
            f"{alert.count:,} times",
            _span(alert),
            _state(alert) + ("" if is_part or clocks is None else _life(alert, clocks[alert.service])),
        )
        for alert, is_part in zip(alerts, parts, strict=True)
    ]
    widths = [max(len(row[column]) for row in facts) for column in range(5)]
    lines: list[RenderableType] = []
    for alert, (signature, service, count, span, state) in zip(alerts, facts, strict=True):
        line = Text.assemble(
            (signature.ljust(widths[0]), "cyan"),
            "  ",
            (service.ljust(widths[1]), "bold"),
            "  ",
            count.rjust(widths[2]),
            "  ",
            (span.ljust(widths[3]), "dim"),
            "  ",
            (state, STATE_STYLES.get(alert.state, "")),
        )
        lines += [line, Padding(Text(printable(" ".join(alert.headline.split()), 400)), (0, 0, 1, widths[0] + 2))]
    return Group(*lines)


def _life(alert: Alert, now_ms: int) -> str:
    flood = ", part of a flood" if alert.incident.flood else ""
    return f", {alert.incident.life(now_ms)}{flood}"


def _state(alert: Alert) -> str:
    """Its state, and how far the verdict reaches that made it so."""
    verdict = alert.verdict
    if verdict is None or verdict.value not in SETTLED:
        return alert.state
    until = f" until {clock(verdict.expires_ms)}" if verdict.expires_ms else ""
    return f"{alert.state} ({verdict.scope}{until})"


def _span(alert: Alert) -> str:
    first, last = clock(alert.first_ms), clock(alert.last_ms)
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def alert_data(alert: Alert, clocks: Mapping[str, int]) -> dict[str, object]:
    """Return an alert as plain values for ``--json``; ``clocks``: event time in each service, ms."""
    return {
        "service": alert.service,
        "signature": alert.signature,
        "detector": alert.newest.detector,
        "template": alert.newest.template,
        "template_text": alert.newest.template_text,
        "count": alert.count,
        "first_ms": alert.first_ms,
        "last_ms": alert.last_ms,
        "state": alert.state,
        "verdict": alert.verdict.model_dump() if alert.verdict else None,
        "said": [one.model_dump() for one in alert.said],
        "headline": alert.headline,
        "incident": alert.incident.id,
        "origin": alert.incident.origin[1],
        "life": alert.incident.life(clocks[alert.service]),
        "flood": alert.incident.flood,
        "newest": alert.newest.id,
        "worst": alert.worst.id,
    }
