"""The application's settings from file, environment and flags, with mistakes named by source and field."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cli.shell import ProblemError
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
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProblemError(f"{flag} names {path}, which does not exist") from None
    except IsADirectoryError:
        raise ProblemError(f"{flag} names {path}, which is a folder; name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path} is not valid TOML: {error}") from None


def load_settings(config: Path | None, sets: Iterable[str]) -> AppSettings:
    """Read the settings: defaults, local stack, file, environment, flags; the later wins.

    Raises:
        ProblemError: names the source, the field, what was expected and what was found.
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
    try:
        return AppSettings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        where = _source(tuple(str(part) for part in first["loc"]), flags)
        raise ProblemError(f"{where}: {wrong(first, AppSettings)}{_more(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{_toml_files()[0]} is not valid TOML: {error}") from None


def service_settings(service: str | None, path: Path) -> ServiceSettings:
    """Read one service's settings from a TOML file; ``service`` may be left out of the file.

    Args:
        service: whose they are; None: the file says, or it does not matter.
        path: the file.

    Raises:
        ProblemError: names the file, the field, what was expected and what was found.
    """
    values = read_toml(path, "the command")
    if values.setdefault("service", service or "files") != service and service is not None:
        raise ProblemError(f"{path}: service is {values['service']!r}, the command says {service!r}; make them agree")
    try:
        return ServiceSettings.model_validate(values)
    except ValidationError as error:
        raise ProblemError(f"{path}: {wrong(error.errors()[0], ServiceSettings)}{_more(error)}") from None


def wrong(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Say in words what is wrong with one field: its name, what was expected, what was found.

    Args:
        error: one entry of ``ValidationError.errors()``.
        model: the model that was to be filled; its field names are offered for a misspelt one.
    """
    path = [str(part) for part in error["loc"]]
    name = ".".join(path) or "the value"
    if error["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, path[:-1]))
        return f"{name} is not a setting; known here: {known}"
    if error["type"] == "missing":
        return f"{name} is missing"
    message = str(error["msg"])
    expected = message[0].lower() + message[1:]
    return f"{name}: {expected}, found {error['input']!r}"


def _more(error: ValidationError) -> str:
    others = error.error_count() - 1
    return f" (and {others} more)" if others else ""


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return list(model.model_fields)


def _source(path: tuple[str, ...], flags: Mapping[str, Any]) -> str:
    """Where a field's value came from, the strongest source first."""
    if _has(flags, path):
        return "-o"
    variable = "LOGCANARY_" + "__".join(path).upper()
    if variable in os.environ:
        return f"environment variable {variable}"
    for file in _toml_files():
        if file.is_file() and _has(tomllib.loads(file.read_text(encoding="utf-8")), path):
            return str(file)
    return "settings"


def _toml_files() -> list[Path]:
    """The files that `AppSettings` reads, the stronger first; only those that are there, if any is."""
    config = Path(os.environ.get("LOGCANARY_CONFIG", "logcanary.toml"))
    stack = Path(os.environ.get("LOGCANARY_HOME", ".logcanary")) / "stack.toml"
    return [file for file in (config, stack) if file.is_file()] or [config]


def _has(values: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
