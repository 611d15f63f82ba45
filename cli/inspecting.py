"""``logcanary inspect`` and ``logcanary parse``: what a log looks like to the parser, and the parser on its own."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Json
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.inspection import Inspection
    from cli.sources import Source
    from cli.structured import Kind, Writer
    from parsing.masks import Masks
    from parsing.parser import Parsed

EXAMPLE_SHOWN = 200
"""Characters of a template and of its example; ``--json`` has more."""
NEWEST_LINES = 10_000
"""Of a topic, where ``--limit`` says nothing."""

Where = Annotated[
    str, typer.Argument(metavar="FILE|TOPIC", help="Log file (plain, .gz, .zst; - = standard input), topic or service.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, help=f"The first N lines of a file, the newest N of a topic ({NEWEST_LINES:,})."
    ),
]
Settings = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE.toml", help="A service's settings (see settings set).")
]


def inspect(
    context: typer.Context,
    *,
    source: Where,
    limit: Limit = None,
    settings_file: Settings = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE.toml", help="Write the settings, for settings set.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="Show this many templates; 0 = all.")] = 20,
    as_json: Json = False,
) -> None:
    """Show how a log is read: format, fields, masks, session candidates, templates, and what is off about its lines.

    What is found can be written as the service's settings, changed, and put in force with `settings set`.

    Examples:
      logcanary inspect app.log
      logcanary inspect app.log.gz --limit 100000 --json | jq .sessions
      logcanary inspect pay --write pay.toml && logcanary settings set pay pay.toml
      kubectl logs deploy/pay | logcanary inspect -
    """
    from contextlib import closing

    from cli.inspection import inspect_lines
    from cli.sources import open_source
    from cli.structured import whole_file

    state = shell(context)
    opened = open_source(state, source, settings_file, limit, NEWEST_LINES)
    with closing(opened.batches(state, "Reading")) as batches:
        found = inspect_lines(opened.name, opened.settings, batches)
    if write is not None:
        with whole_file(write, "--write") as out:
            out.write(found.toml().encode())
        state.say(f"Settings written to {write}; logcanary settings set SERVICE {write} puts them in force.")
    if as_json or state.json:
        state.emit(found.data())
    else:
        for part in _drawn(found, top):
            state.out.print(part)


def parse(
    context: typer.Context,
    *,
    source: Where,
    as_json: Annotated[bool, typer.Option("--json", help="An object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated; the default.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="Parquet, with a list of parameters.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there; its ending says how, unless a flag does.")
    ] = None,
    templates: Annotated[
        Path | None, typer.Option("--templates", metavar="FILE.csv", help="Write the templates with their counts.")
    ] = None,
    limit: Limit = None,
    settings_file: Settings = None,
) -> None:
    """Parse a log into the columns of Loghub's structured files: a parser on its own.

    Columns: LineId, Date, Time, Level, Component, Content, EventId, EventTemplate, ParameterList. A file is read twice,
    so that every line has its template as all lines made it; from standard input, as the lines so far made it.
    A file that is written appears when it is whole; Ctrl-C leaves none.

    Examples:
      logcanary parse app.log --csv > app.csv
      logcanary parse app.log.gz --out app.parquet --templates app_templates.csv
      zcat app.log.gz | logcanary parse - --json | jq .EventTemplate
    """
    from cli.sources import open_source
    from cli.structured import WRITERS, whole_file

    state = shell(context)
    kind = _kind(as_json or state.json, as_csv, as_parquet, out)
    if kind == "parquet" and out is None and sys.stdout.isatty():
        raise ProblemError("--parquet is nothing for a terminal; say --out FILE")
    opened = open_source(state, source, settings_file, limit, NEWEST_LINES)
    with whole_file(out, "--out") as file:
        writer = WRITERS[kind](file)
        done = _Done()
        for parsed, masks in _parsed(state, opened, shown=out is not None):
            done.write(parsed, masks, writer)
        writer.close()
    if templates is not None:
        from cli.structured import templates_csv

        with whole_file(templates, "--templates") as file:
            file.write(templates_csv(done.texts, done.counts).encode())
    for words in done.words():
        state.say(words)


def _kind(as_json: bool, as_csv: bool, as_parquet: bool, out: Path | None) -> "Kind":
    """Return what is to be written."""
    from cli.structured import SUFFIXES

    asked: list[Kind] = []
    asked += ["json"] if as_json else []
    asked += ["csv"] if as_csv else []
    asked += ["parquet"] if as_parquet else []
    if len(asked) > 1:
        raise ProblemError("--json, --csv and --parquet exclude each other: give one of them")
    return asked[0] if asked else SUFFIXES.get(out.suffix.lower() if out else "", "csv")


class _Done:
    """What was written so far."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.counts: Counter[int] = Counter()
        self.dead: Counter[str] = Counter()
        self.changed = 0

    def write(self, parsed: "Parsed", masks: "Masks", writer: "Writer") -> None:
        """Write a batch and count it."""
        from cli.structured import structured

        rows = structured(parsed, masks)
        writer.write(rows)
        ids = parsed.events.frame["template"].value_counts()
        self.counts.update(dict(ids.iter_rows()))
        self.changed += sum(self.texts.get(one, text) != text for one, text in parsed.events.templates.items())
        self.texts |= parsed.events.templates
        self.dead.update(letter.reason for letter in parsed.dead)

    def words(self) -> Iterator[str]:
        """Say it."""
        yield f"{self.counts.total():,} lines, {len(self.texts):,} templates."
        if self.dead:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.dead.most_common())
            yield f"{self.dead.total():,} lines left out, which cannot be parsed: {reasons}."
        if self.changed:
            yield f"{self.changed:,} templates became more general after lines with them were written."


def _parsed(state: Shell, opened: "Source", shown: bool) -> "Iterator[tuple[Parsed, Masks]]":
    """Parse the lines, the second time they are read where they can be read twice."""
    from contextlib import closing
    from itertools import chain

    from cli.inspection import settled
    from contracts.service import SessionOptions
    from parsing.masks import Masks
    from parsing.parser import Parser

    learnt = b""
    with closing(opened.batches(state, "Learning" if shown else None)) as batches:
        first = next(batches)
        # Nothing is said about sessions, so they are not looked for.
        settings = settled(opened.settings, first)[0].model_copy(update={"session": SessionOptions(by="window")})
        parser, masks = Parser(settings, fields=True), Masks.build(settings.masks)
        if not opened.again:
            yield from ((parser.parse(lines), masks) for lines in chain([first], batches))
            return
        learner = Parser(settings)
        for lines in chain([first], batches):
            learner.parse(lines)
        learnt = learner.dump()
    parser.load(learnt)
    with closing(opened.batches(state, "Parsing" if shown else None)) as batches:
        yield from ((parser.parse(lines), masks) for lines in batches)


def _drawn(found: "Inspection", top: int) -> "Iterator[RenderableType]":
    """Draw what was found: a paragraph, then tables."""
    from rich.text import Text

    from cli.inspection import MASK_WORDS, span
    from cli.show import percent, printable
    from cli.tables import rows_table

    data = found.data()
    form, sessions, guards = data["format"], data["sessions"], data["guards"]
    others = [f"{number:,} {name}" for name, number in data["formats"].items() if name != form["name"]]
    off = [f"{number:,} {name}" for kind in ("dead", "odd") for name, number in guards[kind].items() if number]
    off += [f"{guards[name]:,} {name}" for name in ("cut", "overflow") if guards[name]]
    facts = {
        "lines": f"{data['lines']:,} ({data['bytes'] / 1e6:,.1f} MB) of {data['source']}",
        "format": f"{form['name']}, fits {percent(form['share'])}" + (f"; {', '.join(others)}" if others else ""),
        "wrapped in": ", ".join(f"{name} ({number:,})" for name, number in data["wrappings"].items()),
        "times": span(data["time"]),
        "sessions": f"by {data['sessions']['rule']}: " + _tied(sessions) if sessions["lines"] else "none found",
        "templates": f"{len(data['templates']):,}",
        "off": ", ".join(off) or "nothing",
    }
    for name, value in facts.items():
        if value:
            yield Text.assemble((f"{name:<12}", "dim"), printable(value))
    tables = {
        "Fields": [
            {
                "field": one["field"],
                "lines": one["lines"],
                "values": one["values"],
                "commonest": ", ".join(f"{name} ({number:,})" for name, number in one["common"]) or one["example"],
            }
            for one in data["fields"]
        ],
        "Masks and words that vary": [
            one | {"mask": MASK_WORDS.get(one["mask"], one["mask"])} for one in data["masks"]
        ],
        "Session candidates": [
            {"rule": one["rule"], "share": percent(one["share"])}
            | {name: one[name] for name in ("ids", "lines_per_id", "example")}
            for one in data["session_candidates"]
        ],
    }
    for heading, rows in tables.items():
        if rows:
            yield Text(f"\n{heading}", style="bold")
            yield rows_table(rows)
    yield Text("\nTemplates", style="bold")
    yield _templates(data["templates"][: top or None])
    if 0 < top < len(data["templates"]):
        yield Text(f"{len(data['templates']) - top:,} more templates: --top 0 shows all.", style="dim")


def _templates(rows: list[dict[str, Any]]) -> "RenderableType":
    """Draw templates with their counts, each above an example of its lines."""
    from rich.table import Table
    from rich.text import Text

    from cli.show import percent, printable

    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(f"{row['count']:,}", percent(row["share"]), Text(printable(row["template"], EXAMPLE_SHOWN)))
        table.add_row("", "", Text(printable(" ".join(row["example"].split()), EXAMPLE_SHOWN), style="dim"))
    return table


def _tied(sessions: dict[str, Any]) -> str:
    from cli.show import percent

    share, ids, each = (sessions[name] for name in ("share", "ids", "lines_per_id"))
    return f"{percent(share)} of the lines, {ids:,} identifiers, {each:g} lines each"
