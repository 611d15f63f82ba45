"""``logcanary demo``: the whole way on this machine, with logs that real servers write and real damage."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.shell import shell


def demo(
    context: typer.Context,
    *,
    leave: Annotated[
        bool, typer.Option("--exit", envvar="DEMO_EXIT", help="End after the alert has resolved instead of staying up.")
    ] = False,
    fault: Annotated[
        Literal["replicas", "none"],
        typer.Option(
            "--fault", envvar="DEMO_FAULT", help="What is damaged; with none, no alert comes and the demo fails."
        ),
    ] = "replicas",
    home: Annotated[Path, typer.Option("--home", metavar="DIR", help="Folder of the demo's stack, made anew.")] = Path(
        ".logcanary/demo"
    ),
) -> None:
    """Start everything, learn what HDFS logs when it is well, damage replicas on its disks, and raise the alert.

    Takes about three minutes to the alert and stays up until Ctrl-C. Ends with 0 only if the detection came from the
    model, the rule fired in Prometheus and resolved, and the minute before the damage was quiet.

    Examples:
      logcanary demo
      logcanary demo --exit
      logcanary demo --exit --fault none
    """
    from cli.showcase import Demo

    Demo(shell(context).out, fault == "replicas").run(home, stay=not leave)
