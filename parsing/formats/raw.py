"""No header: the whole line is the message."""

from parsing.formats._base import Example, Format

FORMATS = (Format("raw", rank=1_000, header="", examples=(Example("anything at all", "anything at all"),)),)
