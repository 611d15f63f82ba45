"""The terminal report of ``logcanary detect``: what does not belong, why, and how sure that is."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.show import DETECTOR_WORDS, END_WORDS, percent, printable
from contracts.records import END_TEMPLATE, Expected
from models.detect import Found, Report
from models.sentences import clock

LINE_LIMIT = 400
"""Characters of a neighbouring line that are shown; the marked line is shown longer."""
MARKED_LIMIT = 1200
RULE_WORDS = {
    "field": "the trace id in their records",
    "pattern": "the given expression",
    "time": "windows of time",
    "lines": "windows of lines",
}
LEAST_LIKELY = 0.01
"""What was less likely than this was not expected."""


def render(report: Report) -> Iterator[RenderableType]:
    """Yield the report piece by piece, the summary first, then one panel an alert, the likeliest first."""
    yield _summary(report)
    for number, found in enumerate(report.found, 1):
        yield _panel(found, number)
    yield Text("")
    for note in notes(report):
        yield Text(f"• {note}", style="dim")


def headline(report: Report) -> str:
    """Say in one sentence how much was found."""
    if not report.alerts:
        return f"Nothing stands out in {report.checked_lines:,} lines."
    kinds = "kind of thing does" if report.alerts == 1 else "kinds of things do"
    lines = "line" if report.detections == 1 else "lines"
    return f"{report.alerts:,} {kinds} not belong ({report.detections:,} {lines} of {report.checked_lines:,})."


def learnt_words(report: Report) -> str:
    """Say what counts as normal."""
    learnt = report.learnt
    span = ""
    if learnt.to_ms > learnt.from_ms >= 0:
        span = f", {clock(learnt.from_ms)} to {clock(learnt.to_ms)}"
    grouped = (
        f"{learnt.sessions:,} sessions by {rule_words(learnt.session_rule)}"
        if learnt.sessions
        else "no line names a session"
    )
    return f"{learnt.lines:,} lines of {learnt.origin}{span}: {learnt.templates:,} templates, {grouped}"


def rule_words(rule: str) -> str:
    """Say what finds sessions (``parsing.parser.Parser.session_rule``)."""
    if rule.startswith("found "):
        return f"{rule.removeprefix('found ')}, which recurs (found by itself)"
    return RULE_WORDS.get(rule, rule or "identifier")


def sure_words(report: Report) -> str:
    """Say how sure the findings are."""
    learnt = report.learnt
    what = "sessions" if learnt.held_back_kind == "session" else "windows"
    return (
        f"{learnt.held_back:,} {what} of it were held back: at most {percent(report.false_alarm_rate)} of them "
        f"would be raised; {percent(learnt.new_share)} of their lines had a new template"
    )


def notes(report: Report) -> list[str]:
    """Return what a reader has to know to judge the report."""
    said = list(report.notes)
    if not report.alerts and not report.learnt.origin.startswith("the baseline"):
        said.append(
            "What went wrong in the learnt part too counts as normal: a smaller --learn, or a --baseline from a quiet "
            "time, finds it."
        )
    if len(report.found) < report.alerts:
        said.append(f"{report.alerts - len(report.found):,} more with lower scores: --top 0 shows all.")
    for reason, count in report.unread.items():
        said.append(f"{count:,} lines were not read: {reason.replace('_', ' ')}.")
    return said


def _summary(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("normal", Text(learnt_words(report)))
    table.add_row("checked", Text(f"{report.checked_lines:,} lines of {report.checked}"))
    table.add_row("how sure", Text(sure_words(report)))
    table.add_row("took", Text(f"{report.seconds:.1f} s"))
    style = "bold yellow" if report.alerts else "bold green"
    return Panel(
        Group(Text(headline(report), style=style), Text(""), table),
        title=" LogCanary ",
        title_align="left",
        border_style="cyan",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _panel(found: Found, number: int) -> RenderableType:
    worst = found.alert.worst
    title = Text.assemble(
        (f" {number} ", "bold"),
        (DETECTOR_WORDS.get(worst.detector, worst.detector), ""),
        (f" · {count(found)} ", "dim"),
    )
    parts: list[RenderableType] = [
        Text(printable(title_of(found), MARKED_LIMIT), style="bold"),
        Text(""),
        _lines(found),
    ]
    if likely(found):
        parts += [Text(""), _expected(found)]
    parts += [Text(""), Text(printable(facts(found)), style="dim")]
    return Panel(Group(*parts), title=title, title_align="left", border_style="red", box=box.ROUNDED, padding=(0, 1))


def title_of(found: Found) -> str:
    """Say in a line what was found; what was expected is shown below it."""
    worst = found.alert.worst
    text = " ".join(worst.template_text.split())
    if worst.detector == "new_template":
        nearest = f" (nearest known: {' '.join(found.nearest.split())})" if found.nearest else ""
        return f"never seen before: {text}{nearest}"
    return f"unlikely here: {text}"


def likely(found: Found) -> list[Expected]:
    """Return what was expected and is likely enough to be worth a line."""
    return [one for one in found.alert.worst.expected if one.probability >= LEAST_LIKELY]


def count(found: Found) -> str:
    """Say how often and when."""
    alert = found.alert
    if alert.count == 1:
        return "once"
    first, last = clock(alert.first_ms)[:16], clock(alert.last_ms)[:16]
    when = f", {first} to {last[11:] if first[:10] == last[:10] else last}" if last > first else ""
    return f"{alert.count:,} times{when}"


def facts(found: Found) -> str:
    """Say where the worst line is and how unlikely."""
    worst = found.alert.worst
    parts = [f"{found.file}:{found.number}"]
    if worst.session:
        parts.append(f"session {worst.session}")
    parts.append(f"score {worst.score:.4f}")
    if len(found.places) > 1:
        others = ", ".join(str(number) for file, number in found.places if (file, number) != (found.file, found.number))
        parts.append(f"also at {others}" + (", ..." if found.alert.count > len(found.places) else ""))
    return " · ".join(parts)


def _lines(found: Found) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for around in found.around:
        limit = MARKED_LIMIT if around.here else LINE_LIMIT
        marked = around.here and found.alert.worst.kind == "event"
        table.add_row(
            Text("▶" if marked else " ", style="bold red"),
            str(around.number),
            Text(printable(around.line, limit), style="red" if marked else "dim"),
        )
    if found.alert.worst.kind == "end":
        table.add_row(Text("▶", style="bold red"), "", Text("the session ended here", style="red"))
    return table


def _expected(found: Found) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(width=10)
    table.add_column(overflow="fold")
    for one in likely(found):
        text = END_WORDS if one.template == END_TEMPLATE else printable(one.text, LINE_LIMIT)
        table.add_row(percent(one.probability), Text("█" * round(10 * one.probability), style="cyan"), Text(text))
    return Group(Text("Expected instead", style="bold"), table)
