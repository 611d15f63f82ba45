"""``logcanary run``: LogCanary's own processes in the foreground, as a supervisor or a container starts them."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from cli.help import Commands
from cli.shell import shell, stop_on_signals

if TYPE_CHECKING:
    from contracts.settings import AppSettings

app = Commands(no_args_is_help=True, help="LogCanary's own processes in the foreground (containers, supervisors).")


@app.command()
def archiver(context: typer.Context) -> None:
    """Copy every line from Kafka to the archive, exactly once; any number of instances share the work.

    Example:
      logcanary run archiver -o archive.roll_seconds=60
    """
    from streaming.archiver import run

    _run(context, run)


@app.command()
def exporter(context: typer.Context) -> None:
    """Serve /metrics for Prometheus.

    Example:
      logcanary run exporter -o web.exporter_port=9464
    """
    from streaming.exporter import run

    _run(context, run)


@app.command()
def console(context: typer.Context) -> None:
    """Serve the pages and the HTTP interface: alerts, verdicts, services, trainings, bundles.

    Off loopback it answers only those whom web.access_file or a proxy names.

    Examples:
      logcanary run console -o web.console_port=8080
      logcanary run console -o web.host=0.0.0.0 -o web.access_file=people
    """
    from console.serving import run

    _run(context, run)


def _run(context: typer.Context, work: "Callable[[AppSettings, threading.Event], object]") -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kafka", "hdfs"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = shell(context).settings
    with stop_on_signals() as stop:
        work(settings, stop)
