"""Draws faults found against alerts an hour, as SVG without any library."""

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 56, 24, 16, 48
SERIES = (("found_related", "faulty service or a direct caller", "#1f6f8b"), ("found_own", "faulty service", "#c2571a"))


def draw(curve: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    """An SVG of the curve's points, with the default budget's marked.

    Args:
        curve: rows with ``groups_per_hour``, ``faults`` and the found ones, in the order of the budget.
        chosen: the row of the default budget.
    """
    faults = int(chosen["faults"])
    most = max(10.0, *(float(row["groups_per_hour"]) for row in curve), float(chosen["groups_per_hour"])) * 1.05

    def x(groups: float) -> float:
        return LEFT + groups / most * (WIDTH - LEFT - RIGHT)

    def y(found: float) -> float:
        return HEIGHT - BOTTOM - found / faults * (HEIGHT - TOP - BOTTOM)

    parts = [*_axes(most, faults, x, y)]
    for number, (field, words, colour) in enumerate(SERIES):
        points = " ".join(f"{x(row['groups_per_hour']):.1f},{y(row[field]):.1f}" for row in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(row["groups_per_hour"]):.1f}" cy="{y(row[field]):.1f}" r="3" fill="{colour}">'
            f"<title>{row['budget_a_day_and_service']:g} a day and service: {row[field]} of {faults} at "
            f"{row['groups_per_hour']:.1f} an hour</title></circle>"
            for row in curve
        ]
        cx, cy = x(chosen["groups_per_hour"]), y(chosen[field])
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="7" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(WIDTH - RIGHT, HEIGHT - BOTTOM - 30 + 16 * number, words, "end", colour))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _axes(most: float, faults: int, x: Any, y: Any) -> list[str]:  # noqa: ANN401  (two small functions of ours)
    step = next(size for size in (5, 10, 20, 25, 50, 100, 200, 500, 10**9) if most / size <= 8)
    parts = [f'<path d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>']
    parts += [_text(x(at), HEIGHT - BOTTOM + 18, str(at), "middle") for at in range(0, int(most) + 1, step)]
    parts += [_text(LEFT - 8, y(at) + 4, str(at), "end") for at in range(0, faults + 1, max(1, faults // 7))]
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 10, "alert groups an hour outside of faults", "middle"))
    parts.append(_text(LEFT, TOP - 8, f"faults found, of {faults}", "start"))
    return parts


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
