"""``logcanary``: every verb, from the local stack to a verdict."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    access,
    advising,
    archiving,
    benches,
    deadletters,
    demo,
    detecting,
    evaluating,
    evaluating_faults,
    explaining,
    inspecting,
    job,
    learn,
    preparing,
    process,
    send,
    services,
    stack,
    trainings,
    triage,
)
from cli.help import Commands
from cli.shell import Root, Shell

app = Commands(
    name="logcanary",
    cls=Root,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

QUICK, STACK, FLOW, TRIAGE, MODELS, MEASURE = (
    "The quick way in",
    "The local stack",
    "Lines in, detections out",
    "What was found",
    "Learning",
    "Measuring",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  (only for this flag)

        sys.stdout.write(f"logcanary {version('logcanary')}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings file; default: logcanary.toml."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("-o", "--set", metavar="NAME=VALUE", help="One setting, as in -o kafka.bootstrap=127.0.0.1:9092."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Data as JSON instead of tables.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where in the code a mistake came up.")] = False,
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Watch logs as they are written, say which lines do not belong and why, and learn from what engineers say.

    Look at a log of your own, with nothing else running:

      logcanary detect app.log

    Run the whole way on this machine (Kafka, Flink, HDFS, Prometheus):

      logcanary up && logcanary job submit
      logcanary replay app.log --service app && logcanary train --service app
      logcanary alerts

    Settings come from, the later wins: defaults, the running local stack, logcanary.toml or --config FILE,
    LOGCANARY_KAFKA__BOOTSTRAP=... in the environment, -o kafka.bootstrap=... on the line.
    --config, -o and --traceback may stand anywhere on the line.
    """
    context.obj = Shell(config=config, sets=tuple(sets or ()), json=as_json, traceback=traceback)


app.command(rich_help_panel=QUICK, cls=detecting.DetectCommand)(detecting.detect)

app.command(rich_help_panel=QUICK)(inspecting.inspect)
app.command(rich_help_panel=QUICK)(inspecting.parse)
app.command(rich_help_panel=QUICK)(demo.demo)

app.command(rich_help_panel=STACK)(stack.up)
app.command(rich_help_panel=STACK)(stack.down)
app.command(rich_help_panel=STACK)(stack.status)
app.command(rich_help_panel=STACK)(stack.logs)
app.add_typer(process.app, name="run", rich_help_panel=STACK)
app.add_typer(access.app, name="access", rich_help_panel=STACK)

app.add_typer(job.app, name="job", rich_help_panel=FLOW)
app.command(rich_help_panel=FLOW)(send.replay)
app.command(rich_help_panel=FLOW)(send.follow)
app.add_typer(services.app, name="settings", rich_help_panel=FLOW)

app.command(rich_help_panel=TRIAGE)(advising.services)
app.command(rich_help_panel=TRIAGE)(triage.verdict)
app.command(rich_help_panel=TRIAGE)(explaining.explain)
app.add_typer(triage.app, name="alerts", rich_help_panel=TRIAGE)
app.add_typer(deadletters.app, name="deadletters", rich_help_panel=TRIAGE)

app.command(rich_help_panel=MODELS)(learn.train)
app.command(rich_help_panel=MODELS)(preparing.prepare)
app.command(rich_help_panel=MODELS)(advising.advice)
app.add_typer(trainings.app, name="trainings", rich_help_panel=MODELS)
app.add_typer(archiving.app, name="archive", rich_help_panel=MODELS)
app.add_typer(learn.models_app, name="models", rich_help_panel=MODELS)

evaluating.app.command("trainticket")(evaluating_faults.evaluate_trainticket)
app.add_typer(evaluating.app, name="evaluate", rich_help_panel=MEASURE)
app.add_typer(benches.bench_app, name="bench", rich_help_panel=MEASURE)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
