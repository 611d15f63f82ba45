"""What would not fit into memory, on purpose: huge lines, countless sessions, countless templates.

    python -m tests.chaos.memory                     # all; needs about 30 GB of disk and 20 minutes
    python -m tests.chaos.memory --only lines --records 2000
    python -m tests.chaos.memory --only tables

``lines`` sends records of 1 MB and lines of exactly the length limit, then starts a job that has to catch up with all
of it, on a stack of its own in a temporary folder. ``tables`` runs 10 million distinct sessions through a table and
100,000 dissimilar templates through a parser, in this process. One JSON object comes on standard output; the exit
status is 1 where a bound is passed, a process died or the job was started again.
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from contracts.records import Statistic
from contracts.settings import AppSettings
from deploy.parts import get_json
from deploy.stack import down, up
from deploy.status import read_status
from storage.broker import admin, end_offsets, ensure_topics, producer, read_all
from streaming.submit import cancel, submit
from tests.chaos.tables import sessions_through, templates_through

MB = 1_000_000
PARTITIONS = 4
JOB = "memory"
SAMPLE_SECONDS = 0.2
UNACKNOWLEDGED = 64
"""Records on their way to Kafka."""
PATIENCE_SECONDS = 420
"""For the job to catch up with one kind of lines."""
LIMIT_MB = {"taskmanager": 1_900, "worker": 900, "archiver": 1_300, "exporter": 400}
"""Resident memory at most. The TaskManager's is what Flink is given (``deploy.cluster.MEMORY_MB``); a worker is one
Python process beside it; the archiver's buffer is 256 MiB, and a file on its way takes it a few times over."""
PATTERN = "logs.memory-{}"


def noise(chance: random.Random, number: int) -> bytes:
    """A megabyte that no compression shrinks."""
    return b"%d " % number + chance.randbytes(MB)


def text(chance: random.Random, number: int) -> bytes:
    """A megabyte of text that shrinks to a few kilobytes on its way through Kafka."""
    word = b"%x " % chance.getrandbits(64)
    return b"2024-05-01 10:00:00 INFO request %d took " % number + word * (MB // len(word))


def full(chance: random.Random, number: int) -> bytes:
    """A line of exactly the limit: nothing is cut, and most bytes a line."""
    head = b"2024-05-01 10:00:00 INFO request %d took " % number
    return head + chance.randbytes(32_768 - len(head) // 2).hex().encode()[: 65_536 - len(head)]


KINDS: dict[str, tuple[Callable[[random.Random, int], bytes], str | None, float]] = {
    "noise": (noise, None, 0.3),
    "text": (text, "lz4", 1.0),
    "full": (full, None, 2.0),
}
"""Lines of a kind, how they are compressed, and how many there are for each of ``--records``."""


class Peaks(threading.Thread):
    """Watches the memory of all processes of the stack; ``peaks`` holds the most of each, MB."""

    def __init__(self, settings: AppSettings) -> None:
        super().__init__(name="peaks", daemon=True)
        self._settings = settings
        self._stopped = threading.Event()
        self.peaks: dict[str, float] = {}

    def run(self) -> None:
        """Look until ``stop``."""
        while not self._stopped.wait(SAMPLE_SECONDS):
            for name, process in self._processes():
                try:
                    size = process.memory_info().rss / MB
                except psutil.NoSuchProcess:
                    continue
                self.peaks[name] = max(self.peaks.get(name, 0.0), round(size, 1))

    def stop(self) -> dict[str, float]:
        """Stop and return the peaks."""
        self._stopped.set()
        self.join()
        return self.peaks

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for part in read_status(self._settings.home).parts:
            if not part.pid:
                continue
            try:
                process = psutil.Process(part.pid)
                yield part.name, process
                if part.name == "taskmanager":
                    for child in process.children(recursive=True):
                        if "python" in child.name():
                            yield "worker", child
            except psutil.NoSuchProcess:
                continue


def send(settings: AppSettings, kind: str, records: int) -> int:
    """Send the lines of one kind and return how many."""
    line, compression, share = KINDS[kind]
    topic, number = PATTERN.format(kind), int(records * share)
    with admin(settings) as client:
        client.create_topics({topic: {"num_partitions": PARTITIONS}})
        client.wait_for_topics([topic])
    chance = random.Random(kind)
    with producer(settings, compression_type=compression, max_request_size=4 * MB) as out:
        for count in range(number):
            last = out.send(topic, value=line(chance, count), partition=count % PARTITIONS)
            if count % UNACKNOWLEDGED == 0:
                last.get(60)  # the library has no bound of its own on what waits
        out.flush()
    return number


def parsed(settings: AppSettings, topic: str) -> tuple[int, dict[str, int]]:
    """Lines that came out of parsing, each once, and what the batches counted, repetitions included."""
    seen: dict[tuple[int, int], Statistic] = {}
    for record in read_all(settings, settings.kafka.statistics):
        one = Statistic.model_validate_json(record.value or b"")
        if (one.topic, one.stage) == (topic, "parse"):
            seen[one.partition, one.first_offset] = one
    lines, ends = 0, dict.fromkeys(range(PARTITIONS), 0)
    counted: dict[str, int] = {"cut": 0, "batches": len(seen), "most_lines": 0, "repeated": 0}
    for (partition, first), one in sorted(seen.items()):
        fresh = one.last_offset + 1 - max(first, ends[partition])
        lines += max(0, fresh)
        counted["repeated"] += one.lines - max(0, fresh)
        ends[partition] = max(ends[partition], one.last_offset + 1)
        counted["cut"] += one.cut
        counted["most_lines"] = max(counted["most_lines"], one.lines)
        for reason, count in one.dead.items():
            counted[reason] = counted.get(reason, 0) + count
    return lines, counted


def catch_up(settings: AppSettings, kind: str, records: int) -> dict[str, Any]:
    """Send a kind of lines, start a job behind them all, and watch it catch up."""
    topic = PATTERN.format(kind)
    print(f"sending {kind}", file=sys.stderr, flush=True)
    number = send(settings, kind, records)
    peaks = Peaks(settings)
    peaks.start()
    began = time.monotonic()
    job = submit(settings, f"{JOB}-{kind}", re.escape(topic), start="earliest")
    count, dead = 0, dict[str, int]()
    while count < number and time.monotonic() < began + PATIENCE_SECONDS:
        time.sleep(1.0)
        count, dead = parsed(settings, topic)
    seconds = time.monotonic() - began
    restarts = _restarts(settings, job)
    cancel(settings, f"{JOB}-{kind}")
    found = {"records": number, "parsed": count, "counted": dead, "seconds": round(seconds, 1), "restarts": restarts}
    result = {**found, "peak_mb": dict(sorted(peaks.stop().items()))}
    print(json.dumps({kind: result}), file=sys.stderr, flush=True)
    return result


def _restarts(settings: AppSettings, job: str) -> int:
    found = get_json(f"{settings.flink.rest}/jobs/{job}/metrics?get=numRestarts")
    return int(found[0]["value"]) if found else -1


def huge_lines(records: int, kinds: list[str], home: Path) -> dict[str, Any]:
    """All kinds of huge lines, one after another, on a stack in ``home``."""
    asked = AppSettings(home=home)
    try:
        settings = up(asked)
        ensure_topics(settings)
        results = {kind: catch_up(settings, kind, records) for kind in kinds}
        ends = end_offsets(settings, [PATTERN.format(kind) for kind in kinds])
        died = {part.name: part.restarts for part in read_status(home).parts if part.restarts}
        return {**results, "lines_in_kafka": sum(ends.values()), "died": died}
    finally:
        down(asked)


def problems(found: dict[str, Any]) -> list[str]:
    """The sentences that say what does not hold; none if all does."""
    wrong = [f"{name} died {times} times" for name, times in found.get("died", {}).items()]
    for kind in KINDS:
        one = found.get(kind)
        if one is None:
            continue
        if one["parsed"] != one["records"]:
            wrong.append(f"{kind}: {one['parsed']} of {one['records']} lines came through")
        if one["counted"]["repeated"]:
            wrong.append(f"{kind}: {one['counted']['repeated']} lines were parsed twice")
        if one["restarts"]:
            wrong.append(f"{kind}: the job was started again {one['restarts']} times")
        for name, most in LIMIT_MB.items():
            if one["peak_mb"].get(name, 0) > most:
                wrong.append(f"{kind}: {name} took {one['peak_mb'][name]} MB, {most} are allowed")
    tables = (name for name in ("sessions", "templates") if "problem" in found.get(name, {}))
    return [*wrong, *(f"{name}: {found[name]['problem']}" for name in tables)]


def main() -> int:
    """Run what is asked for and print the JSON."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--only", choices=["lines", "tables"])
    words.add_argument("--records", type=int, default=10_000, help="records of 1 MB")
    words.add_argument("--kinds", default=",".join(KINDS), help="of huge lines")
    words.add_argument("--sessions", type=int, default=10_000_000)
    words.add_argument("--templates", type=int, default=100_000)
    options = words.parse_args()
    found: dict[str, Any] = {}
    if options.only != "lines":
        found |= {"sessions": sessions_through(options.sessions), "templates": templates_through(options.templates)}
    if options.only != "tables":
        home = Path(tempfile.mkdtemp(prefix="logcanary-memory-"))
        try:
            found |= huge_lines(options.records, options.kinds.split(","), home)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    found["problems"] = problems(found)
    print(json.dumps(found, indent=2))
    return int(bool(found["problems"]))


if __name__ == "__main__":
    sys.exit(main())
