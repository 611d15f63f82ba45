"""Header formats: how the text in front of a message says time, level, host, component and trace; found by themselves.

A format is a ``Format`` in the ``FORMATS`` of a module of this package, with examples and what they must come to; a
test parses every example. To add one, add a module (or a ``Format`` to the module of its kind): nothing else names it.
Modules with an underscore hold what formats are made of and how they are read.
"""

from parsing.formats._base import GROUPS, NAMES, Example, Format, Headers
from parsing.formats._reading import (
    LEARN_LINES,
    FormatFinder,
    canonical_levels,
    first_fits,
    read_any_headers,
    read_headers,
)
from parsing.formats._registry import FORMATS, OWN, FormatSettingsError, UnknownFormatError, find_format, own_format

__all__ = [
    "FORMATS",
    "GROUPS",
    "LEARN_LINES",
    "NAMES",
    "OWN",
    "Example",
    "Format",
    "FormatFinder",
    "FormatSettingsError",
    "Headers",
    "UnknownFormatError",
    "canonical_levels",
    "find_format",
    "first_fits",
    "own_format",
    "read_any_headers",
    "read_headers",
]
