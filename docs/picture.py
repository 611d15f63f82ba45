"""Draws ``docs/alert.svg``: what ``logcanary detect`` really says of a log in which one order was shipped unpaid.

    python docs/picture.py

The log is made here, so that nobody's data lies in the repository; the report is not.
"""

import io
import random
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cli.report import render  # noqa: E402  (run as a script: the project is not on the path before)
from contracts.service import DetectorOptions, ServiceSettings  # noqa: E402
from models.detect import Source, detect  # noqa: E402

ORDERS = 3_000
UNPAID = 2_471
WIDTH = 104


def shop(seed: int = 7) -> list[bytes]:
    """Write the log of a shop: orders that overlap, each in five steps; one goes out unpaid."""
    rng = random.Random(seed)  # noqa: S311  (an example, not a secret)
    start = datetime(2026, 1, 31, 8, tzinfo=UTC)
    said: list[tuple[float, str]] = []
    for number in range(ORDERS):
        request, items, price = f"a{rng.getrandbits(44):011x}", rng.randint(1, 9), rng.randint(500, 90_000) / 100
        steps = [
            f"INFO  shop.Cart - request_id={request} checkout of {items} items from 10.0.{rng.randint(0, 9)}.7",
            f"INFO  shop.Stock - request_id={request} {items} items reserved in warehouse {rng.randint(1, 4)}",
            f"INFO  shop.Payment - request_id={request} charged {price:.2f} EUR",
            f"INFO  shop.Mail - request_id={request} confirmation sent",
            f"INFO  shop.Parcel - request_id={request} handed to carrier {rng.randint(1, 3)}",
        ]
        if rng.random() < 0.05:
            steps.insert(2, f"WARN  shop.Payment - request_id={request} card declined, asking again")
        if number == UNPAID:
            del steps[2]
        at = number * 1.1
        for step in steps:
            at += rng.expovariate(2.0)
            said.append((at, step))
    return [f"{start + timedelta(seconds=at):%Y-%m-%d %H:%M:%S} {step}".encode() for at, step in sorted(said)]


def main() -> None:
    """Draw."""
    settings = ServiceSettings(service="shop", detector=DetectorOptions(kind="ngram"))
    report = detect([Source("shop.log", shop())], [], settings, top=1)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print("[bold]$[/] logcanary detect shop.log --top 1")
    for part in list(render(report))[:2]:
        console.print(part)
    svg = console.export_svg(title="logcanary", theme=DIMMED_MONOKAI, unique_id="logcanary")
    # rich loads a font from a content network; a picture in a repository should load nothing.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    (HERE / "alert.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
