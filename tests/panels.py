"""What a dashboard's panels show, drawn from Prometheus' answers: Grafana itself is not there in the tests."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

WIDE, HIGH, COLUMNS = 470, 170, 2
PLOT_LEFT, PLOT_TOP, PLOT_WIDE, PLOT_HIGH = 12, 34, 446, 80
SERIES, CHARACTERS = 3, 66
COLOURS = ("#4c78a8", "#e45756", "#54a24b", "#b279a2", "#f58518")


class Series(NamedTuple):
    """A line of a panel."""

    name: str
    points: list[tuple[float, float]]
    """Seconds since 1970 and value."""


class Panel(NamedTuple):
    """A panel and what it shows."""

    title: str
    series: list[Series]


def series_of(answer: Any) -> list[Series]:
    """Prometheus' answer as lines; one without a number is left out."""
    found = []
    for one in answer["result"]:
        labels = {name: value for name, value in one["metric"].items() if name not in ("__name__", "instance", "job")}
        points = [(float(at), float(value)) for at, value in one.get("values", [one.get("value", (0, "NaN"))])]
        points = [(at, value) for at, value in points if math.isfinite(value)]
        if points:
            found.append(Series(", ".join(f"{name}={value}" for name, value in sorted(labels.items())), points))
    return found


def board(title: str, panels: Sequence[Panel]) -> str:
    """A dashboard as SVG."""
    rows = math.ceil(len(panels) / COLUMNS)
    parts = [f'<text x="12" y="24" font-size="17" font-weight="bold">{escape(title)}</text>']
    for number, panel in enumerate(panels):
        x, y = WIDE * (number % COLUMNS), 36 + HIGH * (number // COLUMNS)
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
    size = f'width="{WIDE * COLUMNS + 8}" height="{36 + HIGH * rows + 8}"'
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    back = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', back, *parts, "</svg>", ""])


def _panel(panel: Panel) -> str:
    parts = [f'<rect x="4" y="4" width="{WIDE - 8}" height="{HIGH - 8}" fill="none" stroke="#ccc"/>']
    parts.append(f'<text x="12" y="22" font-weight="bold">{escape(panel.title)}</text>')
    every = [point for one in panel.series for point in one.points]
    if every:
        first, last = min(at for at, _ in every), max(at for at, _ in every)
        highest = max(value for _, value in every)
        top = highest if highest > 0 else 1.0
        for colour, one in zip(COLOURS, panel.series, strict=False):
            places = [
                f"{PLOT_LEFT + PLOT_WIDE * (at - first) / max(last - first, 1):.1f},"
                f"{PLOT_TOP + PLOT_HIGH * (1 - max(value, 0) / top):.1f}"
                for at, value in one.points
            ]
            parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    shown = panel.series[:SERIES]
    for number, (colour, one) in enumerate(zip(COLOURS, shown, strict=False)):
        y = PLOT_TOP + PLOT_HIGH + 14 + 13 * number
        more = (
            f" (and {len(panel.series) - SERIES} more)" if number == SERIES - 1 and len(panel.series) > SERIES else ""
        )
        words = f"{one.points[-1][1]:.4g}  {one.name[:CHARACTERS]}{more}"
        parts.append(f'<text x="12" y="{y}" fill="{colour}">{escape(words)}</text>')
    if not panel.series:
        parts.append('<text x="12" y="60" fill="#777">nothing</text>')
    return "".join(parts)
