"""``logcanary alerts`` and ``logcanary verdict``: what was found, and what engineers say of it."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import getpass
import time
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.flags import Json, SomeService
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from contracts.records import Detection, Verdict, VerdictValue
    from models.alerts import Alert
    from storage.control import ControlView

VALUES = ("confirmed", "false-positive", "expected", "unsure")
SETTLED = ("false-positive", "expected")
"""Alerts with these verdicts are left out of the list unless asked for."""


app = Commands(invoke_without_command=True)


@app.callback()
def alerts(
    context: typer.Context,
    *,
    service: SomeService = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those judged false-positive or expected.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=0, help="At most this many; 0 = all.")] = 50,
    as_json: Json = False,
) -> None:
    """List alerts, the newest first: the detections of one service with one detector and one template.

    Examples:
      logcanary alerts
      logcanary alerts --service pay --all
      logcanary alerts show 3fa2
      logcanary alerts --json | jq .headline
    """
    if context.invoked_subcommand is not None:
        return
    state = shell(context)
    found = read_alerts(state, service)
    shown = [alert for alert in found if everything or alert.state not in SETTLED]
    hidden = len(found) - len(shown)
    cut = shown[: top or None]
    from cli import show

    if as_json or state.json:
        for alert in cut:
            state.emit(show.alert_data(alert))
        return
    if cut:
        state.out.print(show.alert_list(cut))
    else:
        whose = f" for {service}" if service else ""
        state.say(f"No open alert{whose}. `logcanary status` and the metrics say whether lines are being scored.")
    if len(cut) < len(shown):
        state.say(f"{len(shown) - len(cut)} more: --top 0 shows all.")
    if hidden:
        state.say(f"{hidden} judged false-positive or expected: --all shows them.")


@app.command("show")
def show_(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="A detection or an alert; a unique beginning is enough.")],
    as_json: Json = False,
) -> None:
    """Show one detection with its whole evidence: the lines before, the marked line, what was expected.

    Examples:
      logcanary alerts show 3fa2
      logcanary alerts show 3fa2 --json
    """
    from cli import show
    from models.alerts import newest_verdicts, resolve
    from storage.control import read_control

    state = shell(context)
    found = resolve(read_detections(state), name)
    view = read_control(state.settings)
    verdict = newest_verdicts(_verdicts(view)).get((found.service, found.template))
    if as_json or state.json:
        state.emit({"detection": found, "verdict": verdict})
        return
    state.out.print(show.detection(found, verdict))


def verdict(
    context: typer.Context,
    *,
    name: Annotated[
        str,
        typer.Argument(metavar="ID", help="A detection, or an alert (its newest one); a beginning is enough."),
    ],
    value: Annotated[
        str, typer.Argument(help="confirmed, false-positive, expected or unsure; not needed with --undo.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: for whoever reads it next.")] = "",
    author: Annotated[str, typer.Option("--author", help="Who says so; default: the user of this machine.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said of this detection.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a detection is; it takes effect in the running job at once, and in the next training.

    false-positive and expected: that template is not raised again in that service, and is normal in training.
    confirmed: its session is left out of the normal data. unsure: neither.

    Examples:
      logcanary verdict 3fa2 confirmed --reason 'disk of dn7 was full'
      logcanary verdict 3fa2 false-positive --reason 'new in release 1.4'
      logcanary verdict 3fa2 --undo
    """
    if undo and value:
        raise ProblemError(f"--undo takes a verdict back and needs no value: leave {value!r} out")
    if not undo and value not in VALUES:
        raise ProblemError(f"verdict {value!r}: must be one of {', '.join(VALUES)}")
    from models.alerts import resolve
    from storage.control import ControlWriter, verdict_key

    state = shell(context)
    found = resolve(read_detections(state), name)
    with ControlWriter(state.settings) as control:
        if undo:
            control.delete(verdict_key(found.service, found.template, found.id))
            state.say(f"Taken back: the verdict on {found.id} ({found.service}).")
            return
        said = judge(found, cast("VerdictValue", value), reason, author or user(), int(time.time() * 1000))
        control.put(said)
    if as_json or state.json:
        state.emit(said)
    quiet = "; this template is not raised again in this service" if value in SETTLED else ""
    state.say(f"{found.service}: {value}{quiet}. `logcanary verdict {found.id} --undo` takes it back.")


def judge(found: "Detection", value: "VerdictValue", reason: str, author: str, now_ms: int) -> "Verdict":
    """Make the verdict on a detection."""
    from contracts.records import Verdict

    return Verdict(
        service=found.service,
        detection=found.id,
        template=found.template,
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        session=found.session,
        event_ms=found.event_ms,
        arrival_ms=found.arrival_ms,
        value=value,
        reason=reason,
        author=author,
        given_ms=now_ms,
    )


def read_detections(state: Shell, service: str | None = None) -> "list[Detection]":
    """Read the detections topic from its start; records that cannot be read are counted on standard error."""
    from pydantic import ValidationError

    from contracts.records import Detection
    from storage.broker import read_all

    found: list[Detection] = []
    broken = 0
    for record in read_all(state.settings, state.settings.kafka.detections):
        if record.value is None:
            continue
        try:
            detection = Detection.model_validate_json(record.value)
        except ValidationError:
            broken += 1
            continue
        if service is None or detection.service == service:
            found.append(detection)
    if broken:
        state.say(f"{broken:,} on {state.settings.kafka.detections} could not be read as detections; passed over.")
    return found


def read_alerts(state: Shell, service: str | None = None) -> "list[Alert]":
    """Group what is on the detections topic, with the verdicts of the control topic."""
    from models.alerts import group
    from storage.control import read_control

    return group(read_detections(state, service), _verdicts(read_control(state.settings)))


def _verdicts(view: "ControlView") -> "list[Verdict]":
    return [one for of_service in view.verdicts.values() for one in of_service.values()]


def user() -> str:
    """Return the name of this machine's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
