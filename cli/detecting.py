"""``logcanary detect``: what does not belong in log files, with nothing else running."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Json
from cli.help import Verb
from cli.shell import ProblemError, shell

if TYPE_CHECKING:
    from contracts.service import ServiceSettings

BASELINE = "--baseline"


class DetectCommand(Verb):
    """Lets ``--baseline`` take all the words that follow it, as a shell's ``*.log`` gives them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  (typer keeps it to itself)
        """Repeat the flag for every file after it."""
        return super().parse_args(ctx, spread(args))


def spread(args: list[str]) -> list[str]:
    """Put ``--baseline`` before each of the words that follow it, up to the next flag.

    >>> spread(["new.log", "--baseline", "a.log", "b.log", "--json"])
    ['new.log', '--baseline', 'a.log', '--baseline', 'b.log', '--json']
    """
    out: list[str] = []
    inside = False
    for word in args:
        if word.startswith("-") and word != "-":
            inside = word == BASELINE
            if not inside:
                out.append(word)
        else:
            out += [BASELINE, word] if inside else [word]
    if args and args[-1] == BASELINE:
        out.append(BASELINE)  # the parser says that it needs a file
    return out


def detect(
    context: typer.Context,
    *,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Log files: plain, .gz or .zst, any format.")],
    baseline: Annotated[
        list[Path] | None,
        typer.Option(BASELINE, metavar="FILE...", help="Normal logs to learn from, instead of the first part of FILE."),
    ] = None,
    learn: Annotated[
        float, typer.Option("--learn", min=0.05, max=0.95, help="Share of the lines learnt where there is no baseline.")
    ] = 0.5,
    top: Annotated[int, typer.Option("--top", min=0, help="Show this many alerts; 0 = all.")] = 10,
    session: Annotated[
        str | None, typer.Option("--session", metavar="REGEX", help="What names a session: first group or whole match.")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE.toml", help="A service's settings (see settings set).")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write the report as one HTML file.")
    ] = None,
    as_json: Json = False,
) -> None:
    r"""Say which lines of log files do not belong, and why. No server, no JVM, no torch.

    Learns what is normal from the baseline, or from the earlier part of the files, and holds a fifth of that back to
    know how often it would be wrong. Several files are read as one log in the order of their times.

    Examples:
      logcanary detect app.log
      logcanary detect today.log --baseline monday.log tuesday.log.gz
      logcanary detect app.log --session 'request_id=(\w+)' --html report.html
      logcanary detect app.log --json | jq '.alerts[].headline'
    """
    from cli.files import read_text
    from models.detect import Source
    from models.detect import detect as run

    state = shell(context)
    settings = settings_of_files(settings_file, session)
    with state.progress(None, "Reading and learning"):
        checked = [Source(path.name, read_text(path)) for path in files]
        learnt = [Source(path.name, read_text(path)) for path in baseline or []]
        report = run(checked, learnt, settings, learn=learn, top=top)
    if html is not None:
        from cli.page import page

        try:
            html.write_text(page(report), encoding="utf-8")
        except OSError as error:
            raise ProblemError(f"--html {html}: cannot be written: {error.strerror}") from None
        state.say(f"Report written to {html}.")
    if as_json or state.json:
        state.emit(report.data())
    elif html is None:
        from cli.report import render

        for part in render(report):
            state.out.print(part)


def settings_of_files(file: Path | None, session: str | None, flag: str = "--session") -> "ServiceSettings":
    """Settings of the files' service: an n-gram, because it learns in a moment; ``flag`` gave ``session``."""
    import re

    from cli.configuration import service_settings
    from contracts.service import DetectorOptions, ServiceSettings, SessionOptions

    settings = service_settings(None, file) if file else ServiceSettings(service="files")
    changes: dict[str, object] = {"detector": DetectorOptions(**{**settings.detector.model_dump(), "kind": "ngram"})}
    if session is not None:
        try:
            re.compile(session)
        except re.error as error:
            raise ProblemError(f"{flag} {session}: not a regular expression: {error}") from None
        given = {"by": "identifier", "pattern": session, "field": None}
        changes["session"] = SessionOptions(**{**settings.session.model_dump(), **given})
    return settings.model_copy(update=changes)
