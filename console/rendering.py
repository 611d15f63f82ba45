"""How pages are made: templates that escape everything, and the few things they draw.

render("alerts.html", rows=[...])
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, select_autoescape

from models.sentences import clock

HERE = Path(__file__).parent


def render(name: str, **values: object) -> str:
    """A page's text from its template."""
    return _TEMPLATES.get_template(name).render(**values)


def ago(milliseconds: int, now: int) -> str:
    """How long ago a time was.

    >>> ago(0, 7_200_000)
    '2 h'
    """
    seconds = max(0, now - milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def bars(counts: list[int]) -> list[tuple[int, int, int]]:
    """Left edge, top and height of a bar for each count, 16 apart in a box 24 high.

    >>> bars([0, 2])
    [(0, 24, 0), (16, 0, 24)]
    """
    top = max(counts, default=0) or 1
    heights = [round(24 * count / top) for count in counts]
    return [(16 * number, 24 - height, height) for number, height in enumerate(heights)]


def spark(counts: Sequence[float]) -> str:
    """The points of a line through counts, in a box of 96 by 20.

    >>> spark([0, 1, 2])
    '0,19 48,10 96,1'
    """
    top, step = max(counts, default=0) or 1, 96 / max(1, len(counts) - 1)
    return " ".join(f"{number * step:.0f},{19 - 18 * count / top:.0f}" for number, count in enumerate(counts))


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_TEMPLATES.filters |= {"clock": clock, "ago": ago, "spark": spark, "bars": bars, "url": quote}
