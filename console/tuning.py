"""A service's settings as text, as an engineer changes them: read, checked, compared, before anything is set.

wanted = read("pay", 'session.by = "identifier"')
changes(view.settings_of("pay"), wanted)           # [Change("session.by", "auto", "identifier")]
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from pydantic import ValidationError

from contracts.base import Record
from contracts.mistakes import wrong
from contracts.service import ServiceSettings
from parsing.parser import Parser


class SettingsError(ValueError):
    """A text that is no service's settings; the message names line or field, and what was expected."""


class Change(Record):
    """What a setting was, and would be."""

    setting: str
    before: str
    after: str


def written(settings: ServiceSettings) -> str:
    """What differs from the defaults, as ``logcanary settings set`` takes it."""
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    values.pop("service", None)
    return tomli_w.dumps(values)


def read(service: str, text: str) -> ServiceSettings:
    """Read a text of TOML.

    Raises:
        SettingsError: it is no TOML, or no settings of this service.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"This is not TOML: {error}") from None
    if values.setdefault("service", service) != service:
        raise SettingsError(f"service is {values['service']!r}, and this is the page of {service}: leave it out")
    return usable(values)


def usable(values: Mapping[str, Any]) -> ServiceSettings:
    """Check values.

    Raises:
        SettingsError: they are no settings, or cannot be used.
    """
    try:
        wanted = ServiceSettings.model_validate(values)
        Parser(wanted)  # an expression that cannot be used: no job is to meet it
    except ValidationError as error:
        raise SettingsError("; ".join(wrong(one, ServiceSettings) for one in error.errors())) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return wanted


def changes(now: ServiceSettings, wanted: ServiceSettings) -> list[Change]:
    """Which settings would be others."""
    before, after = (dict(_flat(one.model_dump(mode="json"))) for one in (now, wanted))
    return [
        Change(setting=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "") != after.get(name, "")
    ]


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", str(value)
