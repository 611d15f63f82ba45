"""What every command shares: the global flags, the two consoles, and mistakes told in one sentence."""

# Imports inside functions: `logcanary --help` must not pay for pydantic, polars and Kafka.
# ruff: noqa: PLC0415

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.help import Verbs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from contracts.settings import AppSettings

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
GLOBAL_FLAGS = {"--config": 1, "--set": 1, "-o": 1, "--traceback": 0}
"""Flags that may stand anywhere on the line, with the number of their values."""


class ProblemError(Exception):
    """A mistake the user can mend: one sentence that names the setting and the fix."""


@dataclass
class Shell:
    """The global flags of one call, and what is made from them on demand."""

    config: Path | None = None
    sets: tuple[str, ...] = ()
    json: bool = False
    traceback: bool = False

    @cached_property
    def settings(self) -> "AppSettings":
        """The application's settings from all sources; a mistake is a `ProblemError` that names source and field."""
        from cli.configuration import load_settings

        return load_settings(self.config, self.sets)

    @cached_property
    def out(self) -> "Console":
        """Standard output: data only."""
        from rich.console import Console

        return Console(file=sys.stdout, highlight=False, emoji=False)

    @cached_property
    def err(self) -> "Console":
        """Standard error: words and progress."""
        from rich.console import Console

        return Console(file=sys.stderr, highlight=False, emoji=False)

    def say(self, words: str) -> None:
        """Print words for the person in front of the terminal (rich markup) to standard error."""
        self.err.print(words, soft_wrap=True)

    def emit(self, data: object) -> None:
        """Print one JSON value, a line of its own, to standard output."""
        sys.stdout.write(to_json(data) + "\n")
        sys.stdout.flush()

    @contextmanager
    def progress(
        self, total: float | None, words: str, unit: str = "lines", *, shown: bool = True
    ) -> Iterator["Advance"]:
        """Show a progress bar on standard error while the block runs; silent where that is no terminal.

        Args:
            total: what counts as done, or None where nobody knows.
            words: what is going on.
            unit: what is counted.
            shown: False where it would get into the way of what is written.
        """
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=not (shown and self.err.is_terminal)) as bar:
            yield Advance(bar, bar.add_task(words, total=total, note=""), unit)


@dataclass
class Advance:
    """Moves a progress bar."""

    bar: "Progress"
    task: Any
    unit: str

    def to(self, done: float, note: str = "") -> None:
        """Set how much is done, in the unit of the bar's total."""
        self.bar.update(self.task, completed=done, note=note)


def moment(flag: str, text: str | None) -> int | None:
    """Read a time in UTC as milliseconds since 1970.

    >>> moment("--from", "1970-01-02")
    86400000

    Raises:
        ProblemError: the text is no ISO time.
    """
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(f"{flag} {text}: expected a time like 2026-01-31 or 2026-01-31T08:00:00") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def to_json(data: object) -> str:
    """Encode plain values, paths, sets and pydantic models as JSON on one line."""

    def plain(value: object) -> object:
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        if isinstance(value, (set, frozenset, tuple)):
            return list(value)
        if hasattr(value, "item"):  # a number of numpy
            return value.item()
        if hasattr(value, "__dataclass_fields__"):
            return dict(vars(value))
        return str(value)

    return json.dumps(data, default=plain, ensure_ascii=False)


def shell(context: typer.Context) -> Shell:
    """Return the shell of the running command."""
    found = context.find_root().obj
    assert isinstance(found, Shell)
    return found


def hoist(args: Sequence[str]) -> list[str]:
    """Move the global flags to the front, so that they may stand anywhere on the line.

    >>> hoist(["alerts", "-o", "kafka.bootstrap=h:1", "--json"])
    ['-o', 'kafka.bootstrap=h:1', 'alerts', '--json']
    """
    front: list[str] = []
    rest: list[str] = []
    left = list(args)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        name = word.split("=", 1)[0] if word.startswith("--") else word
        if name not in GLOBAL_FLAGS:
            rest.append(word)
        elif "=" in word:
            front.append(word)
        else:
            values = GLOBAL_FLAGS[name]
            front += [word, *left[:values]]
            left = left[values:]
    return front + rest


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Set the event on Ctrl-C or SIGTERM while the block runs, so that work can end in good order."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Root(Verbs):
    """The top command: global flags anywhere, mistakes in one sentence with exit code 1, Ctrl-C with 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  (typer keeps it to itself)
        """Take the global flags from wherever they stand."""
        return super().parse_args(ctx, hoist(args))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (as above)
        """Run the command and turn what went wrong into words."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("Stopped by Ctrl-C.\n")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (head, less) has left: nothing more to say, and nothing to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            from cli.problems import sentence

            state = ctx.obj if isinstance(ctx.obj, Shell) else Shell()
            words = sentence(error, state)
            if words is None:
                raise
            if state.traceback:
                traceback.print_exc()
            # Not through rich: the sentence may hold brackets, and must not be wrapped.
            sys.stderr.write(f"logcanary: {words}\n")
            raise typer.Exit(1) from None
