"""All formats there are, by name; and a service's own."""

from importlib import import_module
from pkgutil import iter_modules

import polars as pl

from parsing.formats._base import GROUPS, Format
from parsing.times import LayoutError, layout

OWN = "pattern"
"""Name of a service's own format (``format_pattern`` in its settings)."""


class FormatSettingsError(ValueError):
    """A service's ``format_pattern`` or ``format_time`` cannot be used; the message names the setting and the fix."""


class UnknownFormatError(FormatSettingsError):
    """A service's ``format`` names no format."""


def _found() -> dict[str, Format]:
    package = import_module(__package__)
    names = [found.name for found in iter_modules(package.__path__) if not found.name.startswith("_")]
    modules = [import_module(f"{__package__}.{name}") for name in names]
    forms = sorted((form for module in modules for form in module.FORMATS), key=lambda form: form.rank)
    return {form.name: form for form in forms}


FORMATS: dict[str, Format] = _found()
"""Every header format by name, in the order in which they are tried."""


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UnknownFormatError: There is none; the message names the setting and those there are.
    """
    if name not in FORMATS:
        raise UnknownFormatError(f"format: there is no {name!r}; use auto, {', '.join(FORMATS)}")
    return FORMATS[name]


def own_format(pattern: str, time: str | None) -> Format:
    """Make a service's own format of an expression for its header, and of a layout of the time in it, if it needs one.

    Raises:
        FormatSettingsError: The expression or the layout cannot be used.
    """
    try:
        found = pl.Series([""]).str.extract_groups(f"^(?P<header>{pattern})").struct.unnest()
    except pl.exceptions.PolarsError as error:
        raise FormatSettingsError(f"format_pattern: {pattern!r} cannot be used: {error}") from error
    names = [name for name in found.columns if name != "header" and not name.isdecimal()]
    unknown = [name for name in names if name not in GROUPS]
    if unknown or not names:
        said = f"there is no group {unknown[0]!r}" if unknown else "it has no named group"
        raise FormatSettingsError(
            f"format_pattern: {said}; name what it reads (?P<time>...), one of {', '.join(GROUPS)}"
        )
    if found["header"][0] is not None:
        raise FormatSettingsError(f"format_pattern: {pattern!r} matches the empty text; demand one character")
    try:
        times = None if time is None else layout(time)
    except LayoutError as error:
        raise FormatSettingsError(f"format_time: {error}") from error
    return Format(OWN, 0, pattern, times)
