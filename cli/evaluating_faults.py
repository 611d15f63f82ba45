"""``logcanary evaluate trainticket``: injected faults in many services, found and missed."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Data, Json
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {
    "own": "found_own",
    "related": "found_related",
    "any": "found_any",
    "an hour": "groups_per_hour",
    "control": "control",
    "unlinked": "control_unlinked",
    "delay": "median_delay_seconds",
}
"""Of the tables, which fit 80 characters, and the fields they show."""


def evaluate_trainticket(
    context: typer.Context,
    *,
    data: Data,
    curve: Annotated[bool, typer.Option("--curve/--no-curve", help="Run the ensemble at other budgets too.")] = True,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the curve into an SVG file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Faults found in the logs of many services, and alerts an hour outside of faults; learns while running.

    The folder holds *.jsonl.gz (container records with pod and trace) and faults.json.

    Examples:
      logcanary evaluate trainticket --data ../shared/data/trainticket
      logcanary evaluate trainticket --data ../shared/data/trainticket --picture curve.svg --json
    """
    from training.learner import TrainingError
    from training.trainticket import evaluate_trainticket as run

    state = shell(context)
    if picture is not None and not curve:
        raise ProblemError("--picture draws the curve: leave --no-curve out")
    try:
        report = run(data, curve=curve, progress=state.say)
    except TrainingError as error:
        raise ProblemError(str(error)) from error
    if picture is not None:
        from training.curve import draw

        picture.write_text(draw(report["curve"], report["ensemble"]), encoding="utf-8")
    if as_json or state.json:
        state.emit(report)
    else:
        _print(state, report)


def _print(state: Shell, report: dict[str, Any]) -> None:
    detectors = {name: row for name, row in report.items() if isinstance(row, dict)}
    state.out.print(_table("detector", detectors))
    state.say(
        f"{report['lines']:,} lines of {report['services']} services, {report['ensemble']['faults']} faults, "
        f"{report['observed_hours']:.2f} h observed outside of them."
    )
    for words, lines in (("Missed", report["missed"]), ("Raised outside of faults", report["false_groups"])):
        state.say(f"{words}: {len(lines)}")
        for line in lines:
            state.out.print(f"  {line}", markup=False, soft_wrap=True)
    if report["curve"]:
        rows = {f"{row['budget_a_day_and_service']:g}": row for row in report["curve"]}
        state.out.print(_table("budget", rows))


def _table(first: str, rows: dict[str, dict[str, Any]]) -> "Table":
    from cli.tables import rows_table

    return rows_table(
        [{first: name, **{column: row[field] for column, field in COLUMNS.items()}} for name, row in rows.items()]
    )
