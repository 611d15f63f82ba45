"""``logcanary job``: submit, list, cancel and stop Flink jobs."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import re
from typing import Annotated

import typer

from cli.flags import Json
from cli.help import Commands
from cli.shell import ProblemError, moment, shell

app = Commands(no_args_is_help=True, help="Flink jobs that parse and score topics.")

Name = Annotated[str, typer.Argument(help="Name or id of a job, as `logcanary job list` shows it.")]


@app.command()
def submit(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", help="The job's name; other topics need other names.")] = "main",
    topics: Annotated[str, typer.Option("--topics", metavar="REGEX", help="Topics to read, new ones included.")] = "",
    start: Annotated[
        str, typer.Option("--start", help="Where a first start begins: latest, earliest, or a time in UTC.")
    ] = "latest",
    savepoint: Annotated[
        str | None, typer.Option("--from-savepoint", metavar="ADDRESS", help="Go on from this savepoint.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget where a job of this name was.")] = False,
    drop: Annotated[
        bool, typer.Option("--allow-non-restored-state", help="Lose state that this version has no operator for.")
    ] = False,
) -> None:
    r"""Submit the job to the Flink cluster.

    Any number of jobs with topics that do not overlap may run side by side. A job that ran before goes on where it was
    stopped, or from its newest complete checkpoint; what this version cannot take over is said, and nothing is started.

    Examples:
      logcanary job submit
      logcanary job submit --name pay --topics 'logs\.pay.*'
      logcanary job submit --start earliest -o flink.parallelism=4
      logcanary job submit --fresh --start 2026-01-31T08:00
    """
    if start not in ("latest", "earliest"):
        start = str(moment("--start", start))
    if fresh and savepoint:
        raise ProblemError("--fresh forgets where the job was and --from-savepoint says where: give one of them")
    state = shell(context)
    pattern = topics or re.escape(state.settings.kafka.log_prefix) + ".*"
    try:
        re.compile(pattern)
    except re.error as error:
        raise ProblemError(f"--topics {pattern}: not a regular expression: {error}") from None
    from streaming.submit import submit as run

    begin = "" if fresh else savepoint
    job = run(
        state.settings, name=name, topics=pattern, start=start, from_savepoint=begin, allow_non_restored_state=drop
    )
    state.say(f"Job {name} runs.")
    if state.json:
        state.emit({"name": name, "job": job, "topics": pattern, "start": start})
    else:
        state.out.print(str(job), markup=False)


@app.command("list")
def list_jobs(context: typer.Context, as_json: Json = False) -> None:
    """List the jobs of the Flink cluster.

    Example:
      logcanary job list --json
    """
    from streaming import submit as jobs

    state = shell(context)
    found = list(jobs.list_jobs(state.settings))
    if as_json or state.json:
        state.emit(found)
        return
    from cli.tables import rows_table

    if not found:
        state.say("No job. `logcanary job submit` starts one.")
        return
    state.out.print(rows_table(found))


@app.command()
def cancel(context: typer.Context, name: Name) -> None:
    """Cancel a job at once; a later submit goes on from its newest checkpoint.

    Example:
      logcanary job cancel main
    """
    from streaming import submit as jobs

    state = shell(context)
    jobs.cancel(state.settings, name)
    state.say(f"Cancelled {name}.")


@app.command()
def stop(context: typer.Context, name: Name) -> None:
    """Stop a job with a savepoint, whose address is printed.

    Example:
      logcanary job stop main
    """
    from streaming import submit as jobs

    state = shell(context)
    savepoint = jobs.stop(state.settings, name)
    state.say(f"Stopped {name}.")
    state.out.print(str(savepoint), markup=False)
