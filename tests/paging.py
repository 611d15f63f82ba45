"""A receiver of Alertmanager's notifications, and Alertmanager's shipped configuration that tells it, soon."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from deploy.paths import PROJECT
from tests.machine import patience

SHIPPED = PROJECT / "deploy" / "alertmanager" / "alertmanager.yml"


class Pager:
    """Notifications as they come; ``url`` is where they are sent, its path the receiver's name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: queue.Queue[dict[str, Any]] = queue.Queue()
        self.passed: list[dict[str, Any]] = []

    def wait(self, receiver: str, status: str, alert: str, seconds: float) -> dict[str, Any]:
        """The next notification of this kind; what comes before it is kept in ``passed``.

        ``seconds`` are those of the reference machine."""
        while True:
            found = self.came.get(timeout=patience(seconds))
            names = {one["labels"]["alertname"] for one in found["alerts"]}
            if (found["receiver"], found["status"]) == (receiver, status) and alert in names:
                return found
            self.passed.append(found)


@contextmanager
def pager() -> Iterator[Pager]:
    """Listen on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            own.came.put(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        own = Pager(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield own
        finally:
            server.shutdown()
            thread.join()


def telling(url: str) -> str:
    """The shipped configuration with this receiver everywhere, and with seconds where it has minutes."""
    shipped = yaml.safe_load(SHIPPED.read_text())
    for route in (shipped["route"], *shipped["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in shipped["receivers"]:
        receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
    return yaml.safe_dump(shipped)
