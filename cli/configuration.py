"""The application's settings from file, environment and flags, with mistakes named by source and field."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from cli.shell import ProblemError
from contracts.mistakes import wrong
from contracts.service import ServiceSettings
from contracts.settings import AppSettings


def parse_sets(sets: Iterable[str]) -> dict[str, Any]:
    """Turn ``section.field=value`` flags into nested values.

    >>> parse_sets(["kafka.bootstrap=h:1", "flink.parallelism=4"])
    {'kafka': {'bootstrap': 'h:1'}, 'flink': {'parallelism': '4'}}

    Raises:
        ProblemError: a flag without ``=`` or with an empty name.
    """
    nested: dict[str, Any] = {}
    for pair in sets:
        name, equals, value = pair.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise ProblemError(f"-o {pair}: expected section.field=value, as in -o kafka.bootstrap=127.0.0.1:9092")
        at = nested
        for part in parts[:-1]:
            inner = at.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ProblemError(f"-o {pair}: {part} is already given a value of its own")
            at = inner
        at[parts[-1]] = value
    return nested


def read_toml(path: Path, flag: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ProblemError: the file is missing, no TOML or not UTF-8; names the file, the line, and the flag.
    """
    try:
        return tomllib.loads(text := path.read_bytes().decode())
    except FileNotFoundError:
        raise ProblemError(f"{flag} names {path}, which does not exist") from None
    except IsADirectoryError:
        raise ProblemError(f"{flag} names {path}, which is a folder; name a TOML file") from None
    except OSError as error:
        raise ProblemError(f"{flag} names {path}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte {error.object[error.start]:#04x}"
        raise ProblemError(f"{path}, line {line} is not valid TOML: expected UTF-8, found {found}") from None
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(_broken(path, text, str(error))) from None


def _broken(path: Path, text: str, message: str) -> str:
    """Say where a file is no TOML: the parser puts the place into its message alone."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place is None:
        return f"{path} is not valid TOML: {message}"
    lines = text.rstrip().split("\n")
    number = int(place[1] or len(lines))
    expected = message[0].lower() + message[1 : place.start()]
    return f"{path}, line {number} is not valid TOML: {expected}, found {lines[number - 1].strip()!r}"


def load_settings(config: Path | None, sets: Iterable[str]) -> AppSettings:
    """Read the settings: defaults, local stack, file, environment, flags; the later wins.

    Raises:
        ProblemError: names the source with the line of a file, the field, what was expected and what was found.
    """
    flags = parse_sets(sets)
    if isinstance(home := flags.get("home"), str):
        # The stack file lies in that folder, and it is read before the flags are known to pydantic.
        os.environ["LOGCANARY_HOME"] = home
    if config is not None:
        read_toml(config, "--config")
        os.environ["LOGCANARY_CONFIG"] = str(config)
    elif named := os.environ.get("LOGCANARY_CONFIG"):
        read_toml(Path(named), "LOGCANARY_CONFIG")
    for file in _toml_files():
        read_toml(file, "the command")
    try:
        return AppSettings(**flags)
    except SettingsError as error:  # a section is not the JSON that its variable should be
        fix = "give each field a variable of its own, as in LOGCANARY_KAFKA__BOOTSTRAP=127.0.0.1:9092"
        raise ProblemError(f"environment: {error}; {fix}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = _source(first["loc"], flags)
        raise ProblemError(f"{where}: {wrong(first, AppSettings)}{_more(error)}") from None


def service_settings(service: str | None, path: Path) -> ServiceSettings:
    """Read one service's settings from a TOML file; ``service`` may be left out of the file.

    Args:
        service: whose they are; None: the file says, or it does not matter.
        path: the file.

    Raises:
        ProblemError: names the file, the line, the field, what was expected and what was found.
    """
    values = read_toml(path, "the command")
    if values.setdefault("service", service or "files") != service and service is not None:
        where = _line(path, ("service",))
        raise ProblemError(f"{where}: service is {values['service']!r}, the command says {service!r}; make them agree")
    try:
        return ServiceSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = _line(path, first["loc"])
        raise ProblemError(f"{where}: {wrong(first, ServiceSettings)}{_more(error)}") from None


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    r"""Return the line, from 1, at which a TOML text first says something about a field or the section it belongs to.

    Python's parser tells no places, but it can be asked: the line is the first up to which the text has the field. Of a
    value over several lines that is the last; no text that ends inside it is TOML, so it begins after the longest that
    is.

    >>> line_of("a = 1\n[b]\nc = [\n  2,\n]", ("b", "c"))
    3
    >>> line_of("[[b]]\nc = 1\n[[b]]", ("b", 1, "missing"))
    3
    """
    lines, deepest, found, begins = text.split("\n"), 0, None, 1
    for number in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue
        if (depth := _depth(values, path)) > deepest:
            deepest, found = depth, begins
        begins = number + 1
    return found


def _more(error: ValidationError) -> str:
    others = error.error_count() - 1
    return f" (and {others} more)" if others else ""


def _source(path: Sequence[str | int], flags: Mapping[str, Any]) -> str:
    """Where a field's value came from, the strongest source first."""
    if _has(flags, path):
        return "-o"
    variable = "LOGCANARY_" + "__".join(map(str, path)).upper()
    if variable in os.environ:
        return f"environment variable {variable}"
    for file in _toml_files():
        if _has(tomllib.loads(file.read_text(encoding="utf-8")), path):
            return _line(file, path)
    return "settings"


def _toml_files() -> list[Path]:
    """The files that `AppSettings` reads, the stronger first; only those that are there."""
    config = Path(os.environ.get("LOGCANARY_CONFIG", "logcanary.toml"))
    stack = Path(os.environ.get("LOGCANARY_HOME", ".logcanary")) / "stack.toml"
    return [file for file in (config, stack) if file.is_file()]


def _line(file: Path, path: Sequence[str | int]) -> str:
    """Name a file and the line of a field in it, as far as it has one."""
    number = line_of(file.read_text(encoding="utf-8"), path)
    return f"{file}, line {number}" if number else str(file)


def _has(values: object, path: Sequence[str | int]) -> bool:
    return _depth(values, path) == len(path)


def _depth(values: object, path: Sequence[str | int]) -> int:
    """Return how many parts of a path there are."""
    for depth, part in enumerate(path):
        try:
            values = values[part]  # type: ignore[index]
        except (TypeError, LookupError):
            return depth
    return len(path)
