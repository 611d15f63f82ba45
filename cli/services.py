"""``logcanary settings``: a service's settings on the control topic."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.flags import Json
from cli.help import Commands
from cli.shell import ProblemError, shell

app = Commands(no_args_is_help=True, help="Settings of services: format, masks, sessions, detector, budget.")


@app.command()
def show(
    context: typer.Context,
    *,
    service: Annotated[str | None, typer.Argument(help="One service; all that have settings where left out.")] = None,
    as_json: Json = False,
) -> None:
    """Show the settings in force, as a file that `settings set` takes back.

    Examples:
      logcanary settings show pay > pay.toml
      logcanary settings show --json
    """
    from storage.control import read_control

    state = shell(context)
    view = read_control(state.settings)
    shown = [view.settings_of(service)] if service else [view.settings[name] for name in sorted(view.settings)]
    if service and service not in view.settings:
        state.say(f"{service} has no settings of its own; these are the defaults.")
    if as_json or state.json:
        state.emit(shown[0] if service else shown)
        return
    if not shown:
        state.say("No service has settings of its own; all run with the defaults.")
    import tomli_w

    for settings in shown:
        sys.stdout.write(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))


@app.command("set")
def set_(
    context: typer.Context,
    *,
    service: Annotated[str, typer.Argument(help="The service: its topic's name after logs.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="What differs from the defaults.")],
) -> None:
    r"""Put a service's settings on the control topic; running jobs take them up without a restart.

    A file holds what differs from the defaults:

      session.by = "identifier"
      session.pattern = 'order=(\d+)'
      budget.false_alarm_rate = 0.001

    Example:
      logcanary settings set pay pay.toml
    """
    from cli.configuration import service_settings
    from contracts.records import Settings
    from parsing.parser import Parser
    from storage.broker import ensure_topics
    from storage.control import ControlWriter

    state = shell(context)
    wanted = service_settings(service, file)
    try:
        Parser(wanted)
    except ValueError as error:  # an expression that cannot be used: no job is to meet it
        raise ProblemError(f"{file}: {error}") from None
    ensure_topics(state.settings)
    with ControlWriter(state.settings) as control:
        control.put(Settings(settings=wanted))
    state.say(f"Settings of {service} are on {state.settings.kafka.control}.")
