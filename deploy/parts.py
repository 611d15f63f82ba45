"""A part of the local stack: one process, how it is started, when it is ready, how it is stopped."""

import json
import signal
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.settings import AppSettings
from deploy.java import Java


@dataclass(frozen=True)
class Plan:
    """What the parts are made of: the stack's folder, ports and Java."""

    home: Path
    """Absolute folder of everything the stack writes."""
    ports: dict[str, int]
    """By the names of ``deploy.ports.USUAL``."""
    java: Java
    settings: AppSettings

    @property
    def logs(self) -> Path:
        """Folder of the parts' logs."""
        return self.home / "logs"

    def temporary(self, part: str) -> Path:
        """Return a part's folder of temporary files, emptied before every start: what is killed leaves them behind."""
        return self.home / "tmp" / part

    def jvm(self, part: str) -> list[str]:
        """Return the options of every Java process: nothing of it lies outside of the stack's folder."""
        return [f"-Djava.io.tmpdir={self.temporary(part)}", "-XX:-UsePerfData", "-Djava.awt.headless=true"]

    def address(self, name: str) -> str:
        """Return ``127.0.0.1:port``."""
        return f"127.0.0.1:{self.ports[name]}"

    def url(self, name: str) -> str:
        """Return ``http://127.0.0.1:port``."""
        return f"http://{self.address(name)}"


@dataclass(frozen=True)
class Part:
    """One process of the stack."""

    name: str
    command: Callable[[], list[str]]
    """Asked before every start: a first start may need more than the next."""
    log: Path
    """The file that says what happens; standard output and error go to ``logs/<name>.out``."""
    ready: Callable[[], bool]
    """Asked every 100 ms; may raise ``OSError`` or ``ValueError`` for no."""
    port: int = 0
    """0: it listens nowhere."""
    address: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    """Called before every start, ahead of ``command``."""
    waits_for: tuple[str, ...] = ()
    """Parts that must be ready before the first start."""
    uses: tuple[str, ...] = ()
    """Parts that must stop after this one; those of ``waits_for`` are meant too."""
    dies_with: tuple[str, ...] = ()
    """Parts whose death makes this one useless: it is killed and started again with them."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    """Time to stop by itself before it is killed."""


def get_json(url: str, timeout: float = 2.0) -> Any:  # noqa: ANN401  (JSON)
    """Return the JSON a local server answers with; raises ``OSError`` or ``ValueError``."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310  (our own addresses)
        return json.load(answer)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Say whether a local server answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310  (our own addresses)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def listens(port: int) -> bool:
    """Say whether somebody takes connections here."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2.0).close()
    except OSError:
        return False
    return True


def speaks_kafka(port: int) -> bool:
    """Say whether a broker answers an ApiVersions request: its port opens seconds before it serves.

    The request is version 0 of the protocol guide: length, api key 18, version, correlation id, no client id.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
        connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
        return len(connection.recv(8)) == 8
