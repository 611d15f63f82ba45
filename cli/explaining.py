"""``logcanary explain``: why a detection, a session or a line does not belong."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flags import Json
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from models.explaining import Explanation


def explain(
    context: typer.Context,
    *,
    name: Annotated[
        str, typer.Argument(metavar="ID|FILE", help="A detection or alert; or a log file, with --session or --line.")
    ],
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Explain this session of the file.")] = "",
    line: Annotated[int, typer.Option("--line", min=0, help="Explain the line of this number, from 1.")] = 0,
    baseline: Annotated[
        list[Path] | None,
        typer.Option("--baseline", metavar="FILE", help="Normal logs to learn from; once for each."),
    ] = None,
    learn: Annotated[
        float, typer.Option("--learn", min=0.05, max=0.95, help="Share of the lines learnt where there is no baseline.")
    ] = 0.5,
    pattern: Annotated[
        str | None, typer.Option("--pattern", metavar="REGEX", help="What names a session: first group or whole match.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why something does not belong: what was expected, what came, since when, how unusual that is.

    A session is laid beside a normal one, with the difference marked: + only here, - only there. Of a file, the nearest
    session that was learnt; of a detection from the topic, what the model expected.

    Examples:
      logcanary explain 3fa2
      logcanary explain app.log --session blk_-1608999687919862906
      logcanary explain app.log --line 301 --baseline monday.log --json
    """
    state = shell(context)
    if session and line:
        raise ProblemError("--session and --line: give one of them")
    told = _of_file(state, Path(name), session, line, baseline or [], learn, pattern) if session or line else None
    if told is None:
        if Path(name).is_file():
            raise ProblemError(f"{name} is a file: say what of it with --session ID or --line N")
        told = _of_detection(state, name)
    if as_json or state.json:
        state.emit(told.data())
        return
    from cli.show import explanation

    state.out.print(explanation(told))


def _of_file(
    state: Shell, file: Path, session: str, line: int, baseline: list[Path], learn: float, pattern: str | None
) -> "Explanation":
    from cli.detecting import settings_of_files
    from cli.files import read_text
    from models.detect import Source, study
    from models.explaining import ExplainError, explain_line, explain_session

    settings = settings_of_files(None, pattern, "--pattern")
    with state.progress(None, "Reading and learning"):
        checked = [Source(file.name, read_text(file))]
        normal = [Source(path.name, read_text(path)) for path in baseline]
        known = study(checked, normal, settings, learn=learn)
        try:
            return explain_session(known, session) if session else explain_line(known, line, len(normal))
        except ExplainError as error:
            raise ProblemError(str(error)) from error


def _of_detection(state: Shell, name: str) -> "Explanation":
    from cli.triage import is_of, read_detections
    from models.alerts import group, resolve
    from models.explaining import explain_finding

    detections = read_detections(state)
    found = resolve(detections, name)
    return explain_finding(found, next(alert for alert in group(detections) if is_of(alert, found)))
