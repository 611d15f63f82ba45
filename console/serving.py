"""The process behind the HTTP interface: ``python -m console.serving``."""

import logging
import signal
import threading
import time

import uvicorn

from console.api import create
from console.pages import Pages
from console.reading import Reading
from console.store import Store
from contracts.settings import AppSettings
from training.schedule import LOOK_SECONDS, start_due

HOST = "127.0.0.1"
"""Loopback alone, until the interface can tell who asks."""


def run(settings: AppSettings, stop: threading.Event) -> None:
    """Serve on ``web.console_port`` until ``stop`` is set.

    Raises:
        OSError: the port is taken; the message names the setting.
    """
    port = settings.web.console_port
    store = Store(settings.home.absolute() / "console" / "console.db")
    reading = Reading(settings, store)
    app = create(settings, Pages(settings, store, reading))
    config = uvicorn.Config(app, host=HOST, port=port, log_level="warning", server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="http")
    thread.start()
    due_at = time.monotonic() + LOOK_SECONDS
    with reading:
        while not stop.wait(0.2):
            if time.monotonic() >= due_at:
                start_due(settings)
                due_at = time.monotonic() + LOOK_SECONDS
            if not thread.is_alive():
                raise OSError(
                    f"the console cannot listen on {HOST}:{port}: set web.console_port (LOGCANARY_WEB__CONSOLE_PORT) "
                    "to a free port"
                )
    server.should_exit = True
    thread.join()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kafka", "hdfs"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(AppSettings(), stop)


if __name__ == "__main__":
    main()
