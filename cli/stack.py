"""``logcanary up``, ``down``, ``status``, ``logs``: the local stack."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flags import Json
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from deploy.status import PartStatus, StackStatus

FOLLOW_SECONDS = 0.25
TAIL_BYTES = 256 * 1024


def up(context: typer.Context) -> None:
    """Start Kafka, HDFS, Flink, Prometheus and LogCanary's own processes on this machine.

    Free ports are found and written to .logcanary/stack.toml; everything listens on loopback only. Data of the last
    run is kept.

    Examples:
      logcanary up
      logcanary up -o home=/data/logcanary
    """
    from deploy import stack

    state = shell(context)
    running = stack.up(state.settings, lambda part: _tell(state, part))
    state.say(f"Up: Kafka at {running.kafka.bootstrap}, HDFS at {running.hdfs.url}, Flink at {running.flink.rest}.")
    state.say("`logcanary status` shows all parts, `logcanary down` stops them.")


def down(context: typer.Context) -> None:
    """Stop the local stack; its data stays.

    Example:
      logcanary down
    """
    from deploy import stack

    state = shell(context)
    was_up = stack.down(state.settings, lambda part: _tell(state, part))
    state.say("Down; the data stay." if was_up else "Nothing ran.")


def _tell(state: Shell, part: "PartStatus") -> None:
    """Say what became of a part."""
    if part.state in ("ready", "restarting", "stopped"):
        state.say(f"  {part.name:<12} {part.state} {part.address}".rstrip())


def status(
    context: typer.Context,
    *,
    memory: Annotated[bool, typer.Option("--memory", help="Also what each part takes.")] = False,
    as_json: Json = False,
) -> None:
    """Show the parts of the local stack: their state, addresses and restarts, and the jobs that are looked after.

    Exit code 1 where the stack does not run as a whole.

    Examples:
      logcanary status
      logcanary status --json | jq .state
    """
    from deploy import stack

    state = shell(context)
    found = stack.status(state.settings, memory=memory)
    if as_json or state.json:
        state.emit(found)
    else:
        _show(state, found, memory)
    if found.state != "running" or any(part.state != "ready" for part in found.parts):
        raise typer.Exit(1)


def _show(state: Shell, found: "StackStatus", memory: bool) -> None:
    from cli.tables import rows_table
    from models.sentences import clock

    state.out.print(f"The stack in {found.home} is {found.state}.", markup=False, soft_wrap=True)
    if found.error:
        state.out.print(found.error, markup=False, soft_wrap=True)
    if found.parts:
        rows = [
            {
                "part": part.name,
                "state": part.state,
                "address": part.address,
                "pid": str(part.pid or ""),
                "restarts": part.restarts,
                "since (UTC)": clock(part.since_ms) if part.since_ms else "",
                **({"MB": part.memory_mb} if memory else {}),
                "last exit": part.last_exit,
            }
            for part in found.parts
        ]
        state.out.print(rows_table(rows))
    if found.jobs:
        state.out.print(rows_table(found.jobs))


def logs(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(help="A part of the stack, as `logcanary status` names it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the file grows, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin this many lines before the end.")] = 100,
) -> None:
    """Show what a part of the local stack has logged.

    Examples:
      logcanary logs kafka
      logcanary logs taskmanager -f
    """
    from deploy import stack

    path = Path(stack.log_path(shell(context).settings, name))
    if not path.exists():
        raise ProblemError(
            f"{name} has no log yet at {path}: `logcanary status` lists the parts, `logcanary up` starts them"
        )
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read().split(b"\n")
        _write(b"\n".join(tail[-lines - 1 :]) if lines else b"")
        while follow:
            data = file.read()
            if data:
                _write(data)
            elif path.exists() and path.stat().st_size < file.tell():
                file.seek(0)  # the part was started again and began its file anew
            else:
                time.sleep(FOLLOW_SECONDS)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
