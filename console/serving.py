"""The process behind the HTTP interface: ``python -m console.serving``."""

import logging
import signal
import threading
import time

import uvicorn

from console.access import AccessError
from console.api import create
from console.audit import Journal
from console.guard import LOOPBACK
from console.pages import Pages
from console.reading import Reading
from console.store import Store
from contracts.settings import AppSettings
from training.schedule import LOOK_SECONDS, start_due


def run(settings: AppSettings, stop: threading.Event) -> None:
    """Serve on ``web.host`` and ``web.console_port`` until ``stop`` is set.

    Raises:
        AccessError: the access file cannot be used, or there is none and others than this machine could ask.
        OSError: the port is taken; the message names the setting.
    """
    web = settings.web
    host, port = web.host, web.console_port
    if host not in LOOPBACK and not web.asks:
        raise AccessError(
            f"web.host is {host}, and the console would answer anybody: name those who may use it in web.access_file"
            " (`logcanary access add NAME`), or put a proxy that knows them before it (web.proxy_header)"
        )
    store = Store(settings.home.absolute() / "console" / "console.db")
    reading = Reading(settings, store)
    journal = Journal(settings)
    pages = Pages(settings, store, reading)
    app = create(settings, pages, journal.put)
    # Whom the console trusts to say where a request comes from is web.proxy_addresses, and nobody by default.
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ssl_certfile=web.tls_certificate or None,
        ssl_keyfile=web.tls_key or None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="http")
    thread.start()
    due_at = time.monotonic() + LOOK_SECONDS
    try:
        with reading, journal:
            while not stop.wait(0.2):
                pages.site.pulse.look()
                if time.monotonic() >= due_at:
                    start_due(settings)
                    due_at = time.monotonic() + LOOK_SECONDS
                if not thread.is_alive():
                    raise OSError(
                        f"the console cannot listen on {host}:{port}: set web.console_port "
                        "(LOGCANARY_WEB__CONSOLE_PORT) to a free port"
                    )
    finally:  # pages that are fed by nobody would be worse than none: whoever watches the process starts it again
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
