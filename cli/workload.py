"""A file workload on HDFS under ``/demo``, and real damage to its replicas: where the demo's logs come from.

Nothing here writes a log line: HDFS does, about 25 for every file that is written, read and deleted.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from hdfs import HdfsError, InsecureClient
from urllib3.exceptions import HTTPError

FOLDER = "/demo"
FILE_BYTES = 20_000
KEEP_FILES = 60
"""Files kept for reading; older ones are deleted."""
READ_SHARE = 0.6
"""Share of turns that read a file that is already there instead of writing a new one."""


UNREADABLE = (HdfsError, HTTPError, OSError)
"""What a client meets where HDFS refuses a file, or breaks off in the middle of a damaged one."""


class Workload:
    """Writes, reads and deletes small files with a few threads until stopped.

    Args:
        url: WebHDFS address.
        user: HDFS user.
        threads: clients at work at the same time.
        pause_seconds: rest of each client between two operations; sets the rate of log lines.
    """

    def __init__(self, url: str, user: str, threads: int = 4, pause_seconds: float = 0.1) -> None:
        self._url, self._user, self._threads, self.pause_seconds = url, user, threads, pause_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._counter = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="workload")
        self.operations = 0
        self.failures = 0

    def start(self) -> None:
        """Start the clients."""
        for seed in range(self._threads):
            self._pool.submit(self._client, seed)

    def stop(self) -> None:
        """Stop the clients and wait for them."""
        self._stop.set()
        self._pool.shutdown(wait=True)

    def pause(self) -> list[str]:
        """Take all current files out of the workload's hands and return their paths."""
        with self._lock:
            names, self._names = self._names, []
        return names

    def read(self, path: str) -> bool:
        """Read a file once, as any client would; return whether that was possible. A damaged one is tried for long."""
        try:
            with InsecureClient(self._url, user=self._user).read(path) as reader:
                reader.read()
        except UNREADABLE:
            return False
        return True

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, so that HDFS has nothing left to repair."""
        client = InsecureClient(self._url, user=self._user)
        for path in paths:
            client.delete(path)

    def _client(self, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311 (a workload, not a secret)
        client = InsecureClient(self._url, user=self._user)
        while not self._stop.is_set():
            try:
                self._turn(client, rng)
                self.operations += 1
            except UNREADABLE:
                self.failures += 1
            self._stop.wait(self.pause_seconds * rng.uniform(0.5, 1.5))

    def _turn(self, client: InsecureClient, rng: random.Random) -> None:
        with self._lock:
            known = len(self._names)
            oldest = self._names.pop(0) if known > KEEP_FILES else None
            readable = rng.choice(self._names) if self._names and rng.random() < READ_SHARE else None
            self._counter += 1
            number = self._counter
        if oldest is not None:
            client.delete(oldest)
        elif readable is not None:
            with client.read(readable) as reader:
                reader.read()
        else:
            path = f"{FOLDER}/part-{number:06d}"
            client.write(path, data=rng.randbytes(FILE_BYTES), overwrite=True)
            with self._lock:
                self._names.append(path)


def blocks_of(url: str, user: str, folder: str = FOLDER) -> dict[str, list[str]]:
    """Ask the NameNode (``fsck``) for the blocks of each file below a folder: path -> ``blk_...`` names."""
    query = f"ugi={quote(user)}&path={quote(folder, safe='')}&files=1&blocks=1&locations=1"
    with urlopen(f"{url}/fsck?{query}", timeout=30) as answer:  # noqa: S310 (our own loopback address)
        report = answer.read().decode()
    found: dict[str, list[str]] = {}
    path = ""
    for line in report.splitlines():
        if line.startswith(folder + "/"):
            path = line.split(" ", 1)[0]
            found[path] = []
        elif path and (match := re.search(r"blk_\d+", line)):
            found[path].append(match.group())
    return found


def damage(data: Path, blocks: Iterable[str], seed: int = 0) -> int:
    """Overwrite 64 bytes in the middle of every replica of the given blocks on the DataNodes' disks.

    Returns:
        The number of replicas damaged. Only files named exactly after a given block are touched.
    """
    wanted = set(blocks)
    rng = random.Random(seed)  # noqa: S311 (damage, not a secret)
    damaged = 0
    for file in data.rglob("blk_*"):
        if file.name in wanted and file.is_file():
            with file.open("r+b") as replica:
                replica.seek(max(0, file.stat().st_size // 2 - 32))
                replica.write(rng.randbytes(64))
            damaged += 1
    return damaged


class NotSeenError(Exception):
    """Something that was waited for did not happen."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.5) -> None:
    """Ask ``condition()`` until it is true.

    Raises:
        NotSeenError: saying ``what`` did not happen within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NotSeenError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(every)
