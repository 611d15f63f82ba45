"""Tables of plain rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cli.show import printable


def rows_table(rows: Sequence[Any]) -> Table:
    """Draw mappings, dataclasses or records as a table; the first row's fields are the columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    plain = [as_row(row) for row in rows]
    names = list(plain[0]) if plain else []
    for name in names:
        number = all(isinstance(row.get(name), (int, float)) for row in plain)
        table.add_column(name.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in plain:
        table.add_row(*(cell(row.get(name)) for name in names))
    return table


def as_row(row: object) -> dict[str, Any]:
    """Return a row as a mapping."""
    if hasattr(row, "model_dump"):
        return dict(row.model_dump(mode="json"))
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    assert isinstance(row, Mapping)
    return dict(row)


def cell(value: object) -> Text:
    """Write one value."""
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, float):
        return Text(f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}")
    return Text(printable(str(value), 300))
