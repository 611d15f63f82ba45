"""``logcanary archive``: what is archived, whether it is complete, and what is old enough to go."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flags import Json, SomeService
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from storage.files import Files

app = Commands(no_args_is_help=True, help="The raw lines in HDFS: list, verify, expire.")


@app.command("ls")
def list_(context: typer.Context, *, service: SomeService = None, as_json: Json = False) -> None:
    """List what is archived: files, lines, bytes, from when to when.

    Examples:
      logcanary archive ls
      logcanary archive ls --service pay --json
    """
    from cli.tables import rows_table
    from models.sentences import clock
    from storage.keeping import holdings

    state = shell(context)
    files = _files(state)
    root = state.settings.hdfs.root
    found = [one for name in _services(state, files, service) if (one := holdings(files, root, name))]
    if as_json or state.json:
        for one in found:
            state.emit(asdict(one))
        return
    if not found:
        state.say("Nothing is archived yet: the archiver closes a file after archive.roll_seconds.")
        return
    times = ({"from_UTC": clock(one.from_ms), "to_UTC": clock(one.to_ms)} for one in found)
    plain = ({name: value for name, value in asdict(one).items() if not name.endswith("_ms")} for one in found)
    state.out.print(rows_table([row | more for row, more in zip(plain, times, strict=True)]))


@app.command()
def verify(
    context: typer.Context,
    *,
    service: SomeService = None,
    names: Annotated[bool, typer.Option("--names", help="Look at the files' names only: fast, proves less.")] = False,
    as_json: Json = False,
) -> None:
    """Prove that no offset is missing and none is there twice: every file is read, every offset counted.

    The exit status is 1 where something is wrong.

    Examples:
      logcanary archive verify
      logcanary archive verify --service pay --names --json
    """
    from cli.tables import rows_table
    from storage.archive import ArchiveFile, list_files
    from storage.keeping import Report
    from storage.keeping import verify as run

    state = shell(context)
    files, root = _files(state), state.settings.hdfs.root
    services = _services(state, files, service)
    reports: list[Report] = []
    total = 0 if names else sum(len(list_files(files, root, name)) for name in services)
    with state.progress(total, "Reading", "files", shown=not names) as bar:
        done = 0

        def reading(file: ArchiveFile) -> None:
            nonlocal done
            done += 1
            bar.to(done, file.topic)

        for name in services:
            reports += run(files, root, name, opened=not names, progress=reading)
    if as_json or state.json:
        for one in reports:
            state.emit(asdict(one) | {"holds": one.holds})
    elif reports:
        shown = ({name: value for name, value in asdict(one).items() if name != "problems"} for one in reports)
        state.out.print(rows_table([*shown]))
    for one in reports:
        for words in one.problems:
            state.err.print(f"{one.topic}, partition {one.partition}: {words}", markup=False, soft_wrap=True)
    lines = sum(one.lines for one in reports)
    if not all(one.holds for one in reports):
        raise ProblemError(f"the archive does not hold every offset once; {lines:,} lines were counted")
    state.say(f"{lines:,} lines, each there once." if reports else "Nothing is archived yet.")


@app.command()
def expire(
    context: typer.Context,
    *,
    service: SomeService = None,
    days: Annotated[
        float | None,
        typer.Option("--days", min=0, help="Older than so many days; default: the setting archive.retention_days."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete hours of the archive that are older than the retention; what a training reads at this moment stays.

    Nothing deletes by itself: run it by a schedule of yours.

    Examples:
      logcanary archive expire --days 90 --dry-run
      logcanary archive expire --service pay
    """
    from storage.keeping import DAY_MS
    from storage.keeping import expire as run

    state = shell(context)
    kept = days if days is not None else state.settings.archive.retention_days
    if kept is None:
        raise ProblemError(
            "for how long are lines kept? Give --days, or set archive.retention_days "
            "(LOGCANARY_ARCHIVE__RETENTION_DAYS)"
        )
    files, now_ms = _files(state), time.time_ns() // 1_000_000
    before_ms = now_ms - int(kept * DAY_MS)
    for name in _services(state, files, service):
        gone = run(files, state.settings.hdfs.root, name, before_ms, now_ms, dry_run=dry_run)
        if as_json or state.json:
            state.emit({"service": name, "dry_run": dry_run} | asdict(gone))
        held = f"; {gone.kept:,} are being read and stay" if gone.kept else ""
        state.say(f"{name}: {gone.files:,} files, {gone.bytes:,} bytes {'would go' if dry_run else 'deleted'}{held}.")


def _files(state: Shell) -> "Files":
    from storage.files import open_files

    return open_files(state.settings.hdfs)


def _services(state: Shell, files: "Files", service: str | None) -> list[str]:
    """The service asked for, or all that have an archive."""
    from storage.archive import services

    known = services(files, state.settings.hdfs.root)
    if service is not None and service not in known:
        raise ProblemError(f"nothing is archived for service {service}; `logcanary archive ls` lists what is")
    return known if service is None else [service]
