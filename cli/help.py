"""Help without rich: rich's own help costs a quarter of a second, and help should be there at once."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

Function = TypeVar("Function", bound=Callable[..., Any])


def keep_examples(text: str | None) -> str | None:
    r"""Mark indented paragraphs so that their lines are not joined.

    >>> keep_examples("Do it.\n\nExample:\n  logcanary up")
    'Do it.\n\n\x08\nExample:\n  logcanary up'
    """
    if text is None:
        return None
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"\b\n{part}" if "\n  " in f"\n{part}" else part for part in paragraphs)


class Verb(TyperCommand):
    """A command whose help keeps its examples as they are written."""

    def __init__(self, name: str | None = None, **options: Any) -> None:  # noqa: ANN401  (typer's many)
        super().__init__(name, **{**options, "rich_markup_mode": None})
        self.help = keep_examples(self.help)


class Verbs(TyperGroup):
    """A group of commands, listed by panel."""

    def __init__(self, name: str | None = None, **options: Any) -> None:  # noqa: ANN401  (typer's many)
        super().__init__(name=name, **{**options, "rich_markup_mode": None})
        self.help = keep_examples(self.help)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  (typer keeps these types to itself)
        """Write the commands under the headings of their panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        commands = {name: self.commands[name] for name in self.list_commands(ctx)}
        limit = formatter.width - 6 - max(map(len, commands), default=0)
        for name, command in commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                heading = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(heading, []).append((name, command.get_short_help_str(limit)))
        for heading, rows in panels.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


class Commands(typer.Typer):
    """A `typer.Typer` whose commands are `Verb` and whose groups are `Verbs`."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  (typer's many)
        options.setdefault("cls", Verbs)
        super().__init__(**options, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:  # noqa: ANN401
        """Register a command; the options are typer's."""
        options.setdefault("cls", Verb)
        return super().command(name, **options)
