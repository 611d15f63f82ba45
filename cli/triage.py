"""``logcanary alerts`` and ``logcanary verdict``: what was found, and what engineers say of it."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import getpass
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.flags import Json, SomeService
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from contracts.records import Detection, Verdict, VerdictScope, VerdictValue
    from models.alerts import Alert
    from storage.control import ControlView

VALUES = ("confirmed", "false-positive", "expected", "unsure")
STATES = ("open", "escalated", *VALUES)
SCOPES = ("alert", "shape", "signature", "template")
UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

app = Commands(invoke_without_command=True)


@app.callback()
def alerts(
    context: typer.Context,
    *,
    service: SomeService = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those judged false-positive or expected.")
    ] = False,
    wanted: Annotated[
        str, typer.Option("--state", help="Only these: open, escalated, confirmed, false-positive, expected, unsure.")
    ] = "",
    top: Annotated[int, typer.Option("--top", min=0, help="At most this many; 0 = all.")] = 50,
    as_json: Json = False,
) -> None:
    """List alerts, the newest first: the detections of one service with one detector and one template.

    Those that hang together (docs/alerts.md) are one incident: the one in which it probably began comes first, and says
    whether it is new, ongoing, escalating, quiet, resolved or regressed; the others hang below it.

    Examples:
      logcanary alerts
      logcanary alerts --service pay --all
      logcanary alerts --state escalated
      logcanary alerts show 3fa2
      logcanary alerts --json | jq .headline
    """
    if context.invoked_subcommand is not None:
        return
    if wanted and wanted not in STATES:
        raise ProblemError(f"--state {wanted!r}: must be one of {', '.join(STATES)}")
    from models.verdicts import SETTLED

    state = shell(context)
    found = [alert for alert in read_alerts(state, service) if not wanted or alert.state == wanted]
    shown = [alert for alert in found if everything or wanted or alert.state not in SETTLED]
    hidden = len(found) - len(shown)
    from cli import show
    from models.alerts import by_incident, event_clocks

    cut = by_incident(shown)[: top or None]
    clocks = event_clocks(found, int(time.time() * 1000))
    if as_json or state.json:
        for alert in cut:
            state.emit(show.alert_data(alert, clocks))
        return
    if cut:
        state.out.print(show.alert_list(cut, clocks))
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
    """Show one detection with its whole evidence, what was said of it, and similar earlier alerts.

    Examples:
      logcanary alerts show 3fa2
      logcanary alerts show 3fa2 --json
    """
    from cli import show
    from models.alerts import event_clocks, resolve, similar

    state = shell(context)
    detections = read_detections(state)
    found = resolve(detections, name)
    alerts = group_with_verdicts(state, detections)
    alert = next(one for one in alerts if is_of(one, found))
    like = similar(alert, alerts)
    others = [one for one in alerts if one.incident == alert.incident and one is not alert]
    if as_json or state.json:
        clocks = event_clocks(alerts, int(time.time() * 1000))
        data = {"detection": found, "verdict": alert.verdict, "said": alert.said, "state": alert.state}
        listed = {"incident": [alert, *others], "similar": like}
        state.emit(data | {name: [show.alert_data(one, clocks) for one in some] for name, some in listed.items()})
        return
    state.out.print(show.detection(found, alert.verdict, alert.said))
    if others:
        state.out.print(show.part_list(others))
    if like:
        state.out.print(show.similar_list(like))


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
    scope: Annotated[
        str,
        typer.Option(
            help="What it covers: template (in this service), signature (this detector's), shape (sessions alike), "
            "alert (this session)."
        ),
    ] = "template",
    expires: Annotated[str, typer.Option(help="For how long, as 30m, 12h or 7d; without it for ever.")] = "",
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="So many an hour are accepted; ten times that is raised again. Default with expected: the busiest "
            "hour so far; else 0: however many.",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option("--incident", help="The same of every alert of its incident (of the newest detection of each)."),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said of this detection.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a detection is; it takes effect in the running job at once, and in the next training.

    false-positive and expected: not raised again in its scope, and normal in training (with --expires it is left out
    of training: it is not normal for good); expected is raised again where it comes ten times as often. confirmed: its
    session is left out of the normal data. unsure: neither.

    Examples:
      logcanary verdict 3fa2 confirmed --reason 'disk of dn7 was full'
      logcanary verdict 3fa2 false-positive --reason 'new in release 1.4'
      logcanary verdict 3fa2 expected --scope signature --expires 7d --rate 30 --reason 'disk is replaced on Monday'
      logcanary verdict 3fa2 expected --incident --reason 'release 1.5'
      logcanary verdict 3fa2 --undo
    """
    if undo and value:
        raise ProblemError(f"--undo takes a verdict back and needs no value: leave {value!r} out")
    if not undo and value not in VALUES:
        raise ProblemError(f"verdict {value!r}: must be one of {', '.join(VALUES)}")
    now_ms = int(time.time() * 1000)
    _check_terms(value, scope, expires, rate)
    ends_ms = now_ms + duration(expires) if expires else 0
    from cli import show
    from models.alerts import resolve
    from models.verdicts import undone, verdict_on

    state, who = shell(context), author or user()
    detections = read_detections(state)
    named = resolve(detections, name)
    view = read_view(state, detections)
    some = _of_incident(detections, named) if whole else [named]
    known = [view.verdicts.get(one.service, {}).get((one.template, one.id)) for one in some]
    if undo:
        given = [undone(before, who, now_ms) for before in known if before is not None and not before.undone_ms]
        if not given:
            raise ProblemError(f"nothing is said of {named.id} that could be taken back")
    else:
        within, means = cast("VerdictScope", scope), (cast("VerdictValue", value), reason, who, now_ms)
        given = [
            verdict_on(one, *means, scope=within, expires_ms=ends_ms, accepted_per_hour=rate or 0, before=before)
            for one, before in zip(some, known, strict=True)
        ]
        if value == "expected" and rate is None:
            given = [_at_observed_rate(said, detections, view) for said in given]
    given = put(state, given, author, undo=undo)
    for said in given:
        if as_json or state.json:
            state.emit(said)
        if undo:
            state.say(f"Taken back: {said.value} on {said.detection} ({said.service}).")
        else:
            back = f"`logcanary verdict {said.detection} --undo` takes it back."
            state.say(f"{said.service}: {value}{show.covered(said)}. {back}")


def _of_incident(detections: "list[Detection]", named: "Detection") -> "list[Detection]":
    """A detection, and the newest one of every other alert of its incident."""
    from models.alerts import group

    alerts = group(detections)
    incident = next(one.incident for one in alerts if is_of(one, named))
    return [named, *(one.newest for one in alerts if one.incident == incident and not is_of(one, named))]


def _at_observed_rate(said: "Verdict", detections: "list[Detection]", view: "ControlView") -> "Verdict":
    """The verdict with the rate of what it covers so far."""
    from models.alerts import worst_by_id
    from models.verdicts import observed_rate

    distinct = [one for one in worst_by_id(detections).values() if one.service == said.service]
    often = observed_rate(said, distinct, partial(view.resolve, said.service))
    return said.model_copy(update={"accepted_per_hour": often})


def _check_terms(value: str, scope: str, expires: str, rate: float | None) -> None:
    if scope not in SCOPES:
        raise ProblemError(f"--scope {scope!r}: must be one of {', '.join(SCOPES)}")
    if value not in ("false-positive", "expected") and (expires or rate is not None):
        raise ProblemError(
            f"--expires and --rate say for how long and how often it is normal: not with {value or '--undo'}"
        )


def duration(text: str) -> int:
    """Read a duration such as ``7d`` as milliseconds.

    >>> duration("12h")
    43200000
    """
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal() or not int(number):
        raise ProblemError(f"--expires {text!r}: must be a number with its unit, as 30m, 12h or 7d")
    return int(number) * UNITS[unit]


def is_of(alert: "Alert", found: "Detection") -> bool:
    """Whether a detection is one of an alert's."""
    return (alert.service, alert.signature) == (found.service, found.signature)


def read_detections(state: Shell, service: str | None = None) -> "list[Detection]":
    """Read the detections topic from its start, or what the console has of it.

    Records that cannot be read are counted on standard error.
    """
    from pydantic import ValidationError

    from cli.remote import remote
    from contracts.records import Detection
    from storage.broker import read_all

    if (console := remote(state)) is not None:
        return console.detections(service)
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
    return group_with_verdicts(state, read_detections(state, service))


def group_with_verdicts(state: Shell, detections: "list[Detection]") -> "list[Alert]":
    """Group detections, with the verdicts and aliases of the control topic."""
    from models.alerts import group

    view = read_view(state, detections)
    return group(detections, (one for some in view.verdicts.values() for one in some.values()), view.resolve)


def read_view(state: Shell, detections: "list[Detection]") -> "ControlView":
    """The control topic, or what the console knows of it that bears on these detections."""
    from cli.remote import remote
    from storage.control import read_control

    console = remote(state)
    return read_control(state.settings) if console is None else console.view(one.service for one in detections)


def put(state: Shell, given: "list[Verdict]", author: str, *, undo: bool) -> "list[Verdict]":
    """Put verdicts on the control topic, or tell the console, which knows who asks where there is a token."""
    from cli.remote import remote
    from storage.control import ControlWriter

    console = remote(state)
    if console is None:
        with ControlWriter(state.settings) as control:
            control.put(*given)
        return given
    who = author or ("" if console.has_token else user())
    if undo:
        return [console.undo(one.detection, who) for one in given]
    return [
        console.say(
            one.detection,
            {
                **one.model_dump(include={"value", "reason", "scope", "accepted_per_hour"}),
                "author": who,
                "lasts_ms": one.expires_ms - one.given_ms if one.expires_ms else 0,
            },
        )
        for one in given
    ]


def user() -> str:
    """Return the name of this machine's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
