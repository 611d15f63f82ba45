"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the data set.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Service = Annotated[str, typer.Option("--service", "-s", metavar="NAME", help="The service: its topic after logs.")]
SomeService = Annotated[str | None, typer.Option("--service", "-s", metavar="NAME", help="Only this service.")]
