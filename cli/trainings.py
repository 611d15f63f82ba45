"""``logcanary trainings``: who asked for which training, how far it is, what came of it."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flags import Json, Service
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell
from cli.triage import user

if TYPE_CHECKING:
    from cli.remote import Remote
    from contracts.retraining import Run
    from training.runs import Runs

app = Commands(no_args_is_help=True, help="Trainings: how far they are, what came of them; cancel one.")

Id = Annotated[str | None, typer.Argument(help="Of the training; else the newest.")]
FOLLOW_SECONDS = 1.0


@app.command("list")
def list_(context: typer.Context, *, service: Service, as_json: Json = False) -> None:
    """List the trainings of a service, the newest first.

    Example:
      logcanary trainings list --service pay
    """
    from cli.tables import rows_table
    from models.sentences import clock

    state = shell(context)
    found = _runs(state).newest(service)
    if as_json or state.json:
        state.emit(found)
        return
    if not found:
        state.say(f"{service} was never trained: `logcanary train --service {service}`.")
        return
    rows = [
        {
            "training": run.id,
            "asked_UTC": clock(run.asked_ms),
            "by": run.request.author,
            "why": run.request.reason,
            "state": run.state,
            "bundle": run.version or "-",
        }
        for run in found
    ]
    state.out.print(rows_table(rows))


@app.command()
def show(
    context: typer.Context,
    *,
    service: Service,
    training: Id = None,
    until_over: Annotated[bool, typer.Option("--follow", "-f", help="Until it is over.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far a training is, or what came of it: the look at its lines, and the gate's comparison.

    Examples:
      logcanary trainings show --service pay
      logcanary trainings show --service pay 20260131T080000-1a2b3c4d --follow
    """
    state = shell(context)
    runs = _runs(state)
    run = _found(runs, service, training)
    if until_over:
        run = follow(state, runs, run, shown=not (as_json or state.json))
    if as_json or state.json:
        state.emit(run)
        return
    _print(state, run)


@app.command()
def cancel(context: typer.Context, *, service: Service, training: Id = None) -> None:
    """Cancel a training: it stops within seconds, and nothing is published.

    Example:
      logcanary trainings cancel --service pay
    """
    state = shell(context)
    runs = _runs(state)
    run = runs.cancel(service, _found(runs, service, training).id, user())
    state.say(f"Training {run.id} of {service} is asked to stop.")


def follow(state: Shell, runs: "Runs | Remote", run: "Run", *, shown: bool) -> "Run":
    """Wait until a training is over; ``shown``: with a bar."""
    with state.progress(100, "Training", "%", shown=shown) as bar:
        while run.is_active:
            bar.to(100 * _share(run), f"{run.stage}: {run.message}")
            time.sleep(FOLLOW_SECONDS)
            run = runs.get(run.request.service, run.id)
    return run


def _share(run: "Run") -> float:
    """How much of it is done: reading is half, learning most of the rest."""
    read = run.done / run.total if run.total else 0.0
    learnt = {"wait": 0.0, "read": 0.0, "compare": 0.95, "publish": 0.98}.get(run.stage)
    if learnt is None:
        learnt = 0.9 * run.epoch / run.epochs if run.epochs else 0.1
    return 0.5 * read + 0.5 * learnt


def _print(state: Shell, run: "Run") -> None:
    from cli.tables import rows_table
    from models.sentences import clock

    facts: dict[str, object] = {
        "training": run.id,
        "service": run.request.service,
        "asked by": f"{run.request.author}: {run.request.reason}",
        "state": run.state,
        "stage": f"{run.stage}: {run.message}",
    }
    facts |= {"lines read": f"{run.done:,} of {run.total:,}"} if run.total else {}
    facts |= {"passes": f"{run.epoch} of at most {run.epochs}, {run.loss:.4f} nats"} if run.loss is not None else {}
    facts |= {"seconds left": round(run.seconds_left)} if run.seconds_left is not None else {}
    facts |= {"began": clock(run.started_ms)} if run.started_ms else {}
    facts |= {"ended": clock(run.ended_ms)} if run.ended_ms else {}
    facts |= {"bundle": run.version} if run.version else {}
    facts |= {"error": run.error} if run.error else {}
    if run.sanity is not None:
        facts |= {f"worth a look {number}": words for number, words in enumerate(run.sanity.warnings, 1)}
    state.out.print(rows_table([{"what": name, "value": value} for name, value in facts.items()]))
    if run.gate is not None:
        sides = {"this": run.gate.candidate, run.gate.live or "none": run.gate.before}
        rows = [{"bundle": name, **side.model_dump()} for name, side in sides.items() if side is not None]
        state.out.print(rows_table(rows))


def _found(runs: "Runs | Remote", service: str, training: str | None) -> "Run":
    from training.runs import UnknownRunError

    if training is None:
        newest = next(iter(runs.newest(service, 1)), None)
        if newest is None:
            raise ProblemError(f"{service} was never trained: `logcanary train --service {service}`")
        return newest
    try:
        return runs.get(service, training)
    except UnknownRunError as error:
        raise ProblemError(str(error)) from None


def _runs(state: Shell) -> "Runs | Remote":
    from cli.remote import remote
    from training.runs import Runs

    return remote(state) or Runs.of(state.settings)
