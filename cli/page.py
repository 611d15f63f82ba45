"""The HTML report of ``logcanary detect``: one file, no scripts, nothing loaded, light and dark."""

from html import escape

from cli.report import count, facts, headline, learnt_words, likely, notes, sure_words, title_of
from cli.show import DETECTOR_WORDS, END_WORDS, percent, printable
from contracts.records import END_TEMPLATE
from models.detect import Found, Report

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --paper: #fcfcfd; --card: #fff; --line: #d9d9e0;
  --bad: #ce2c31; --bad-paper: #feebec; --bar: #0d74ce; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #b0b4ba; --paper: #111113; --card: #18191b;
  --line: #363a3f; --bad: #ff9592; --bad-paper: #3b1219; --bar: #70b8ff; } }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; }
dt { color: var(--soft); } dd { margin: 0; }
article { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--bad); border-radius: 6px;
  padding: 1rem 1.25rem; margin: 1.25rem 0; }
.what, .where, footer { color: var(--soft); font-size: .875rem; } .what { margin: 0 0 .25rem; }
table { border-collapse: collapse; width: 100%; font: .8125rem/1.5 ui-monospace, monospace; }
td { padding: .1rem .5rem; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; }
td.n { color: var(--soft); text-align: right; width: 1%; white-space: nowrap; }
tr.here td { background: var(--bad-paper); color: var(--bad); }
td.bar { width: 6rem; }
td.bar i { display: block; height: .7em; margin-top: .35em; background: var(--bar); border-radius: 2px; }
h3 { font-size: .875rem; margin: 1rem 0 .25rem; }
"""


def page(report: Report) -> str:
    """Return the report as one HTML document; every foreign text in it is escaped."""
    rows = {
        "normal": learnt_words(report),
        "checked": f"{report.checked_lines:,} lines of {report.checked}",
        "how sure": sure_words(report),
    }
    facts_list = "".join(f"<dt>{escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows.items())
    articles = "\n".join(_article(found, number) for number, found in enumerate(report.found, 1))
    remarks = "".join(f"<li>{_text(note)}</li>" for note in notes(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing in the page runs or loads: a log line that slipped through could do nothing either.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>LogCanary: {_text(headline(report))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_text(headline(report))}</h1>\n<dl>{facts_list}</dl>\n</header>\n"
        f"<main>\n{articles}\n</main>\n<footer><ul>{remarks}</ul></footer>\n</body>\n</html>\n"
    )


def _article(found: Found, number: int) -> str:
    worst = found.alert.worst
    words = DETECTOR_WORDS.get(worst.detector, worst.detector)
    lines = "".join(
        f"<tr{' class=here' if around.here and worst.kind == 'event' else ''}>"
        f'<td class="n">{around.number}</td><td>{_text(around.line)}</td></tr>'
        for around in found.around
    )
    if worst.kind == "end":
        lines += '<tr class="here"><td class="n"></td><td>the session ended here</td></tr>'
    expected = ""
    if likely(found):
        bars = "".join(
            f'<tr><td class="n">{percent(one.probability)}</td>'
            f'<td class="bar"><i style="width:{100 * one.probability:.1f}%"></i></td>'
            f"<td>{_text(END_WORDS if one.template == END_TEMPLATE else one.text)}</td></tr>"
            for one in likely(found)
        )
        expected = f"<h3>Expected instead</h3><table>{bars}</table>"
    return (
        f'<article id="a{number}"><p class="what">{number} · {_text(words)} · {_text(count(found))}</p>'
        f"<h2>{_text(title_of(found))}</h2><table>{lines}</table>{expected}"
        f'<p class="where">{_text(facts(found))}</p></article>'
    )


def _text(text: str) -> str:
    return escape(printable(text))
