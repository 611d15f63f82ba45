"""``logcanary services`` and ``logcanary advice``: every service, and whether its bundle still fits it."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import typer

from cli.flags import Json, SomeService
from cli.shell import ProblemError, Shell, shell


def advice(context: typer.Context, *, service: SomeService = None, as_json: Json = False) -> None:
    """Say whether a service's bundle still fits, and if not, why: unknown templates, other surprise, too many alarms.

    The exporter looks back an hour, and at the verdicts of 30 days.

    Examples:
      logcanary advice
      logcanary advice --service pay --json
    """
    from cli.tables import rows_table
    from console.advice import advise_all

    state = shell(context)
    found = advise_all(state.settings)
    if service is not None and service not in found:
        raise ProblemError(f"the exporter knows no service {service}; it knows: {', '.join(sorted(found)) or 'none'}")
    shown = {name: one for name, one in sorted(found.items()) if service in (None, name)}
    rows = [{"service": name, "retrain": one.retrain, "advice": one.words} for name, one in shown.items()]
    if as_json or state.json:
        state.emit(rows)
        return
    if not rows:
        state.say("The exporter has met no service yet.")
        return
    state.out.print(rows_table(rows))


def services(context: typer.Context, *, as_json: Json = False) -> None:
    """List every service seen, with its live bundle and one advice.

    Where web.url names a console, that is asked, as by `logcanary alerts` and `verdict`; else Kafka and the exporter.

    Examples:
      logcanary services
      logcanary services -o web.url=https://console:8080 --json
    """
    from cli.remote import remote
    from cli.tables import rows_table

    state = shell(context)
    console = remote(state)
    rows = _watched(state) if console is None else console.ask("GET", "/services")
    if as_json or state.json:
        state.emit(rows)
    elif rows:
        state.out.print(rows_table(rows))
    else:
        state.say("No topic of a service yet.")


def _watched(state: Shell) -> list[dict[str, object]]:
    """Every service, as the console tells it."""
    from console.advice import watched

    return [one.model_dump() for one in watched(state.settings)]
