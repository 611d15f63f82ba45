"""Free ports: the usual ones where nobody has them, else any, and the same again after a restart."""

import fcntl
import json
import random
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

from deploy.paths import cache

USUAL = {
    "kafka": 9092,
    "kafka-controller": 9093,
    "hdfs": 9870,
    "hdfs-rpc": 8020,
    "flink": 8081,
    "flink-rpc": 6123,
    "flink-blobs": 6124,
    "jobmanager-metrics": 9249,
    "taskmanager-metrics": 9250,
    "prometheus": 9090,
    "alertmanager": 9094,
    "exporter": 9464,
    "console": 8080,
}
"""What each part listens on by custom; Alertmanager one further, as Kafka's controller has its 9093."""

OTHERS = range(20_000, 32_000)
"""Below the range Linux gives to outgoing connections, so that none of those takes a port between two starts."""


RELEASE_SECONDS = 3.0
"""The ports of the last run are waited for this long: a process that was killed keeps its own until its last thread has
ended, although it counts as dead before."""


class Ports:
    """Ports that are ours inside the context: a lock in the cache holds each, seen by every stack of the machine.

    A port that merely looked free could be taken by a second stack that starts at the same moment.
    """

    def __init__(self) -> None:
        self._locks: list[IO[str]] = []
        self._folder = cache() / "ports"
        self._folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._locks:
            file.close()

    def choose(self, remembered: Path, preferred: dict[str, int]) -> dict[str, int]:
        """Return a free port for every name of ``USUAL``, and write them to ``remembered`` for the next start."""
        last: dict[str, int] = json.loads(remembered.read_text()) if remembered.is_file() else {}
        chosen: dict[str, int] = {}
        patience = time.monotonic() + RELEASE_SECONDS
        for name, usual in USUAL.items():
            while name in last and not is_free(last[name]) and time.monotonic() < patience:
                time.sleep(0.05)
            wishes = [port for port in (preferred.get(name), last.get(name), usual) if port]
            chosen[name] = self._first_free([*wishes, *random.sample(OTHERS, 200)])
        remembered.write_text(json.dumps(chosen))
        return chosen

    def _first_free(self, candidates: Iterable[int]) -> int:
        for port in candidates:
            if is_free(port) and self._lock(port):
                return port
        raise OSError(f"no free port between {OTHERS.start} and {OTHERS.stop}")

    def _lock(self, port: int) -> bool:
        file = (self._folder / str(port)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._locks.append(file)
        return True


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now, on loopback and on all addresses."""
    for address in ("127.0.0.1", "0.0.0.0"):  # noqa: S104  (asked for, not listened on)
        with socket.socket() as probe:
            # As servers do: connections that linger from the last run do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
