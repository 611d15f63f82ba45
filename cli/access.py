"""``logcanary access``: who may use the console."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flags import Json
from cli.help import Commands
from cli.shell import ProblemError, Shell, shell

if TYPE_CHECKING:
    from console.access import Person

app = Commands(no_args_is_help=True, help="Who may use the console: names, roles and tokens.")
Name = Annotated[str, typer.Argument(help="A name, as verdicts and the audit trail show it.")]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Default: web.access_file.")]


@app.command()
def add(
    context: typer.Context,
    *,
    name: Name,
    role: Annotated[
        str, typer.Option("--role", help="viewer: look; engineer: judge, train, set; admin: all.")
    ] = "viewer",
    proxied: Annotated[bool, typer.Option("--proxied", help="They come through web.proxy_header: no token.")] = False,
    file: File = None,
) -> None:
    """Name somebody and print their token, once: the file keeps what it cannot be made from again.

    A running console knows them at once. To give somebody another token or role, remove and add them.

    Examples:
      logcanary access add ada --role engineer --file people
      logcanary access add vera --proxied
    """
    from console.access import NO_TOKEN, ROLES, digest

    if not re.fullmatch(r"[^\s#]{1,100}", name):
        raise ProblemError(f"{name!r} is no name: 1 to 100 characters without blanks and #")
    if role not in ROLES:
        raise ProblemError(f"--role {role}: expected one of {', '.join(ROLES)}")
    state = shell(context)
    path, people = _people(state, file, missing=True)
    if name in people:
        raise ProblemError(f"{path} has {name} already: `logcanary access remove {name}` takes them out")
    token = secrets.token_urlsafe(32)
    _write(path, [*_lines(path), f"{name} {role} {NO_TOKEN if proxied else digest(token)}"])
    state.say(f"{name} is {role} in {path}" + ("." if proxied else "; their token, shown this once:"))
    if not proxied:
        sys.stdout.write(f"{token}\n")


@app.command("list")
def list_(context: typer.Context, *, file: File = None, as_json: Json = False) -> None:
    """List who may use the console.

    Example:
      logcanary access list
    """
    from cli.tables import rows_table

    state = shell(context)
    path, people = _people(state, file)
    rows = [{"name": one.name, "role": one.role, "token": bool(one.token)} for one in people.values()]
    if as_json or state.json:
        state.emit(rows)
    elif rows:
        state.out.print(rows_table(rows))
    else:
        state.say(f"{path} names nobody.")


@app.command()
def remove(context: typer.Context, *, name: Name, file: File = None) -> None:
    """Take somebody out; what they are signed in with ends at once.

    Example:
      logcanary access remove ada
    """
    state = shell(context)
    path, people = _people(state, file)
    if name not in people:
        raise ProblemError(f"{path} names no {name}; it names: {', '.join(people) or 'nobody'}")
    _write(path, [line for line in _lines(path) if line.partition("#")[0].split()[:1] != [name]])
    state.say(f"{name} is no longer in {path}.")


def _people(state: Shell, file: Path | None, *, missing: bool = False) -> "tuple[Path, dict[str, Person]]":
    from console.access import read_people

    told = str(file or state.settings.web.access_file)
    if not told:
        raise ProblemError(
            "where is the file? Name it with --file, or set web.access_file (LOGCANARY_WEB__ACCESS_FILE)"
        )
    path = Path(told)
    return path, {} if missing and not path.exists() else read_people(path)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _write(path: Path, lines: list[str]) -> None:
    """Put another file in its place: a console that reads meanwhile sees the old one or the new one."""
    beside = path.with_name(f"{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write("".join(f"{line}\n" for line in lines))
    beside.replace(path)
