"""``logcanary train`` and ``models``: learning, and what was learnt."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Json, Service, SomeService
from cli.help import Commands
from cli.shell import ProblemError, Shell, moment, shell
from cli.triage import user

if TYPE_CHECKING:
    from cli.remote import Remote
    from contracts.bundle import Manifest
    from contracts.records import BundlePointer
    from contracts.retraining import Run
    from models.registry import Registry

models_app = Commands(no_args_is_help=True, help="Bundles in the registry, and which of them is live.")


def train(
    context: typer.Context,
    *,
    service: Service,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From, UTC: 2026-01-31T08:00.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until, UTC.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="FROM/TO", help="A time that is left out, as of an incident; repeatable."),
    ] = None,
    most_lines: Annotated[
        int, typer.Option("--most-lines", min=0, help="Of more lines, leave whole hours out evenly; 0 = all.")
    ] = 0,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: goes into the pointer's history.")] = "trained",
    author: Annotated[str, typer.Option("--author", help="Who; default: the user of this machine.")] = "",
    prepared: Annotated[
        str, typer.Option("--prepared", metavar="NAME", help="Begin with what `logcanary prepare` made.")
    ] = "",
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Keep the live model, set its thresholds by these lines.")
    ] = False,
    insist: Annotated[bool, typer.Option("--insist", help="Make it live even where the gate finds it worse.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Train in a process of its own and return at once.")] = False,
    as_json: Json = False,
) -> None:
    """Train a service's model from the archive, publish it, and make it live unless it is worse than the live one.

    The running job takes the new bundle up without a restart. What is worse is kept, marked, and not made live.

    Examples:
      logcanary train --service pay
      logcanary train --service pay --from 2026-01-01 --to 2026-02-01 --reason 'after release 1.4'
      logcanary train --service pay --without 2026-01-12T08:00/2026-01-12T11:30 --detach
      logcanary prepare --name tonight && logcanary train --service pay --prepared tonight
      logcanary train --service pay --recalibrate --from 2026-01-31
    """
    from cli.remote import remote
    from contracts.retraining import RetrainingRequest

    state = shell(context)
    from_ms, to_ms = moment("--from", since), moment("--to", until)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise ProblemError(f"--from {since} is not before --to {until}")
    request = RetrainingRequest(
        service=service,
        author=author or user(),
        reason=reason,
        from_ms=from_ms,
        to_ms=to_ms,
        without=tuple(_span(text) for text in without or ()),
        most_lines=most_lines,
        prepared=prepared,
        recalibrate=recalibrate,
        insist=insist,
    )
    if (console := remote(state)) is not None:
        asked = console.train(request)
        if detach:
            _asked_for(state, asked, as_json)
        else:
            _followed(state, console, asked, as_json)
        return
    if detach:
        from training.background import start

        _asked_for(state, start(state.settings, request), as_json)
        return
    from training.trainer import train as run

    manifest = run(state.settings, request, progress=state.say)
    if as_json or state.json:
        state.emit(manifest)
        return
    state.out.print(f"{manifest.version}", markup=False)
    state.say(f"Live for {service}: learnt from {_learnt(manifest)}.")


def _span(text: str) -> tuple[int, int]:
    first, slash, last = text.partition("/")
    from_ms, to_ms = moment("--without", first), moment("--without", last or None)
    if not slash or from_ms is None or to_ms is None or from_ms >= to_ms:
        raise ProblemError(
            f"--without {text}: expected two times, the earlier first: 2026-01-12T08:00/2026-01-12T11:30"
        )
    return from_ms, to_ms


def _asked_for(state: Shell, run: "Run", as_json: bool) -> None:
    if as_json or state.json:
        state.emit(run)
        return
    state.out.print(run.id, markup=False)
    service = run.request.service
    state.say(f"Training {run.id} of {service} runs: `logcanary trainings show -s {service} {run.id}`.")


def _followed(state: Shell, console: "Remote", run: "Run", as_json: bool) -> None:
    """Wait for a training that the console runs, and say what came of it."""
    from cli.trainings import follow

    run = follow(state, console, run, shown=not (as_json or state.json))
    if as_json or state.json:
        state.emit(run)
    if run.state != "done":
        raise ProblemError(f"training {run.id} is {run.state}: {run.error or run.message}")
    if not (as_json or state.json):
        state.out.print(run.version, markup=False)


def _learnt(manifest: "Manifest") -> str:
    from models.sentences import clock

    return (
        f"{manifest.lines:,} lines in {manifest.sessions:,} sessions, {clock(manifest.data_from_ms)} to "
        f"{clock(manifest.data_to_ms)} UTC"
    )


@models_app.command("list")
def list_models(context: typer.Context, service: SomeService = None, as_json: Json = False) -> None:
    """List the bundles of a service, or of all, the newest last; the live one is marked.

    Examples:
      logcanary models list
      logcanary models list --service pay --json
    """
    from cli.remote import remote

    state = shell(context)
    rows: list[dict[str, Any]] = []
    if (console := remote(state)) is not None:
        for name in [service] if service else console.services():
            rows += [{"service": name, **one} for one in console.models(name)]
    else:
        registry, pointers = _registry(state)
        for name in [service] if service else _services(state):
            live = pointers[name].version if name in pointers else ""
            rows += [{"service": name, "version": one, "live": one == live} for one in registry.versions(name)]
    if as_json or state.json:
        state.emit(rows)
        return
    if not rows:
        state.say("No bundle yet. `logcanary train --service NAME` makes one from the archive.")
        return
    from cli.tables import rows_table

    state.out.print(rows_table(rows))


@models_app.command("show")
def show_model(
    context: typer.Context,
    *,
    service: Service,
    version: Annotated[str | None, typer.Argument(help="A version or its beginning; else the live one.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a bundle was made of and how well it did.

    Examples:
      logcanary models show --service pay
      logcanary models show --service pay 20260131T0800 --json
    """
    state = shell(context)
    registry, pointers = _registry(state)
    if version is None:
        if service not in pointers:
            raise ProblemError(f"{service} has no live bundle: `logcanary train --service {service}` makes one")
        version = pointers[service].version
    manifest = registry.load(service, full_version(registry.versions(service), service, version)).manifest
    if as_json or state.json:
        state.emit(manifest)
        return
    from cli.tables import rows_table
    from models.sentences import clock

    facts = {
        "version": manifest.version,
        "live": service in pointers and pointers[service].version == manifest.version,
        "made": f"{clock(manifest.created_ms)} UTC by LogCanary {manifest.code_version}",
        "detector": manifest.settings.detector.kind,
        "whole sessions": _session_detectors(manifest),
        "learnt from": _learnt(manifest),
        "windows": f"{manifest.windows:,}, {manifest.unique_windows:,} distinct, of {manifest.window} events",
        "end of session": "judged" if manifest.end_event else "not judged",
        "false alarms": f"calibrated to {manifest.settings.budget.false_alarm_rate:.2%} of normal sessions",
        **{f"held back, {one.kind}s": one.held_back for one in manifest.calibration},
        **{f"left out, {why}": count for why, count in manifest.left_out.items()},
        **manifest.metrics,
        **_gate_facts(manifest),
    }
    state.out.print(rows_table([{"what": name, "value": value} for name, value in facts.items()]))


def _session_detectors(manifest: "Manifest") -> str:
    """The detectors of whole sessions that a bundle holds."""
    from models.bundle import ENSEMBLE

    has_some = any(file.name == ENSEMBLE for file in manifest.files)
    return ", ".join(manifest.settings.detector.session_detectors) if has_some else "not judged"


def _gate_facts(manifest: "Manifest") -> dict[str, str]:
    """What the gate and the look at its lines said, as rows."""
    facts = {}
    if manifest.gate is not None:
        verdict = "worse: " + "; ".join(manifest.gate.failed) if manifest.gate.failed else "passed"
        facts["gate"] = f"{verdict} (beside {manifest.gate.live or 'none'})"
    if manifest.sanity is not None and manifest.sanity.warnings:
        facts["worth a look"] = "; ".join(manifest.sanity.warnings)
    return facts


@models_app.command()
def promote(
    context: typer.Context,
    *,
    service: Service,
    version: Annotated[str, typer.Argument(help="The version to make live, or its beginning: also to roll back.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: goes into the pointer's history.")] = "",
    author: Annotated[str, typer.Option("--author", help="Who; default: the user of this machine.")] = "",
) -> None:
    """Make a bundle live, or roll back to an older one; the running job takes it up without a restart.

    Example:
      logcanary models promote --service pay 20260131T080000-1a2b3c4d --reason 'roll back'
    """
    from cli.remote import remote
    from models.promotion import make_live

    state = shell(context)
    if (console := remote(state)) is not None:
        chosen = full_version([one["version"] for one in console.models(service)], service, version)
        said = _said(console, author, reason)
        _moved(state, console.move(service, f"models/{chosen}/promotion", said))
        return
    registry, _ = _registry(state)
    chosen = full_version(registry.versions(service), service, version)
    _moved(state, make_live(state.settings, registry, service, chosen, author or user(), reason))


@models_app.command()
def rollback(
    context: typer.Context,
    *,
    service: Service,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: goes into the pointer's history.")] = "roll back",
    author: Annotated[str, typer.Option("--author", help="Who; default: the user of this machine.")] = "",
) -> None:
    """Make the bundle live again that was live before this one; the running job takes it up without a restart.

    Example:
      logcanary models rollback --service pay --reason 'too many alarms since noon'
    """
    from cli.remote import remote
    from models.promotion import roll_back

    state = shell(context)
    if (console := remote(state)) is not None:
        _moved(state, console.move(service, "rollback", _said(console, author, reason)))
        return
    registry, _ = _registry(state)
    _moved(state, roll_back(state.settings, registry, service, author or user(), reason))


@models_app.command()
def budget(
    context: typer.Context,
    *,
    service: Service,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0, max=0.5, help="Share of normal sessions that may be raised.")
    ] = None,
    alerts: Annotated[
        float | None, typer.Option("--alerts-per-day", min=0, help="At the pace of what the bundle was learnt from.")
    ] = None,
    bar: Annotated[
        list[str] | None,
        typer.Option("--bar", metavar="KIND=NATS", help="By hand: session=14.5 or stream=9; repeatable."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: goes into the pointer's history.")] = "budget",
    author: Annotated[str, typer.Option("--author", help="Who; default: the user of this machine.")] = "",
    as_json: Json = False,
) -> None:
    """Give the live bundle thresholds for another budget of false alarms; nothing is learnt, nothing restarts.

    It becomes a bundle of its own, so that every alert names what scored it, and `models rollback` goes back. The next
    training takes the budget from the service's settings (`logcanary settings set`).

    Examples:
      logcanary models budget --service pay --rate 0.001
      logcanary models budget --service pay --alerts-per-day 5 --reason 'too many since noon'
      logcanary models budget --service pay --bar session=14.5
    """
    from cli.remote import remote
    from models.promotion import change_budget

    state = shell(context)
    bars = dict(_bar(text) for text in bar or ())
    if (console := remote(state)) is not None:
        wanted = {"false_alarm_rate": rate, "alerts_per_day": alerts, "bars": bars}
        pointer = console.move(service, "budget", _said(console, author, reason) | wanted)
    else:
        registry, _ = _registry(state)
        pointer = change_budget(
            state.settings, registry, service, author or user(), reason, rate=rate, alerts_per_day=alerts, bars=bars
        )
    if as_json or state.json:
        state.emit(pointer)
        return
    state.out.print(pointer.version, markup=False)


def _said(console: "Remote", author: str, reason: str) -> dict[str, object]:
    """Who and why, as the console is told; whom it knows by a token needs no name."""
    return {"author": author or ("" if console.has_token else user()), "reason": reason}


def _bar(text: str) -> tuple[str, float]:
    kind, _, nats = text.partition("=")
    try:
        return kind, float(nats)
    except ValueError:
        raise ProblemError(f"--bar {text}: expected session=NATS or stream=NATS, as session=14.5") from None


@models_app.command()
def history(context: typer.Context, *, service: Service, as_json: Json = False) -> None:
    """Show which bundles were live from when on, the newest first, and who moved the pointer last, and why.

    Example:
      logcanary models history --service pay
    """
    state = shell(context)
    live = _registry(state)[1].get(service)
    if live is None:
        raise ProblemError(f"{service} has no live bundle: `logcanary train --service {service}` makes one")
    if as_json or state.json:
        state.emit(live)
        return
    from cli.tables import rows_table
    from models.sentences import clock

    moves = [(live.version, live.from_ms), *((move.version, move.from_ms) for move in live.before)]
    rows = [{"version": version, "live_from_UTC": clock(from_ms)} for version, from_ms in moves]
    state.out.print(rows_table(rows))
    state.err.print(f"Moved last by {live.author}: {live.reason}", markup=False, soft_wrap=True)


@models_app.command()
def diff(
    context: typer.Context,
    *,
    service: Service,
    version: Annotated[str, typer.Argument(help="A version or its beginning.")],
    other: Annotated[str | None, typer.Argument(help="What it is compared with; else the live one.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="At most so many templates of a kind; 0 = all.")] = 20,
    as_json: Json = False,
) -> None:
    """Compare two bundles: settings, what they learnt from, figures, bars, and templates that only one of them knows.

    Examples:
      logcanary models diff --service pay 20260131T0800
      logcanary models diff --service pay 20260131T0800 20260201 --json
    """
    from dataclasses import asdict

    from models.comparing import compare

    state = shell(context)
    registry, pointers = _registry(state)
    versions = registry.versions(service)
    if other is None and service not in pointers:
        raise ProblemError(f"{service} has no live bundle to compare with: name a second version")
    second = full_version(versions, service, other) if other is not None else pointers[service].version
    first = full_version(versions, service, version)
    found = compare(registry.load(service, first), registry.load(service, second))
    if as_json or state.json:
        state.emit({"first": first, "second": second} | asdict(found))
        return
    from cli.tables import rows_table

    if found.is_none:
        state.say(f"No difference between {first} and {second}.")
        return
    pairs = (found.settings | found.figures).items()
    if pairs:
        state.out.print(rows_table([{"what": name, first: mine, second: theirs} for name, (mine, theirs) in pairs]))
    for words, entries in (("only in " + first, found.gone_templates), ("only in " + second, found.new_templates)):
        if entries:
            rows = [{"template": one.template, "lines": one.count, "text": one.text} for one in entries[: top or None]]
            state.out.print(f"{len(entries):,} templates {words}", markup=False)
            state.out.print(rows_table(rows))
    state.say(f"{found.common_templates:,} templates are known to both.")


def _moved(state: Shell, pointer: "BundlePointer") -> None:
    from storage.control import SWAP_SECONDS

    before = f" (before: {pointer.before[0].version})" if pointer.before else ""
    state.say(
        f"Live for {pointer.service}: {pointer.version}{before}, for lines that arrive from {SWAP_SECONDS:.0f} s from "
        "now on."
    )


def full_version(versions: list[str], service: str, name: str) -> str:
    """Return the one version that begins with a name.

    Raises:
        ProblemError: none does, or several do.
    """
    fits = [version for version in versions if version == name] or [v for v in versions if v.startswith(name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise ProblemError(f"{name} fits {len(fits)} versions of {service} ({', '.join(fits[:3])} ...): give more")
    raise ProblemError(f"{service} has no bundle {name}: `logcanary models list -s {service}` shows those there are")


def _services(state: Shell) -> list[str]:
    """Return the services that have a folder in the registry."""
    from storage.files import open_files

    hdfs = state.settings.hdfs
    return sorted(found.name for found in open_files(hdfs).list(f"{hdfs.root.rstrip('/')}/registry") if found.is_dir)


def _registry(state: Shell) -> "tuple[Registry, dict[str, BundlePointer]]":
    from models.registry import Registry
    from storage.control import read_control
    from storage.files import open_files

    hdfs = state.settings.hdfs
    return Registry(open_files(hdfs), hdfs.root), read_control(state.settings).pointers
