"""A steady stream for an hour: memory does not grow, latency does not either, nothing starts again.

    python -m tests.chaos.soak --minutes 60 --rate 25000 --json soak.json

It starts a stack of its own in a temporary folder (``--home`` names another). The last quarter of the time is compared
with the second; the first is for warming up. One JSON object comes on standard output; the exit status is 1 where a
process takes more than 1.1 times the memory, the latency's 99th percentile is over 1.5 times, or a process has died.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from contracts.records import BundlePointer, Settings
from contracts.settings import AppSettings, ArchiveOptions
from deploy.parts import get_json
from deploy.paths import DeployError
from deploy.stack import down, up
from deploy.status import read_status
from models.registry import Registry
from storage.broker import admin, end_offsets, ensure_topics
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import list_jobs, submit
from tests.chaos.orders import Orders, bundle_for, options_of
from tests.chaos.strikes import ChaosError, until
from tests.chaos.traffic import Follower, Sender

PARTITIONS = 4
SAMPLE_SECONDS = 5.0
MEMORY_LIMIT, LATENCY_LIMIT = 1.1, 1.5
"""The last quarter against the second."""
LATENCY_FLOOR_MS = 100
"""A latency below this is no slowdown, whatever it was before."""
TOPIC_BYTES = 1 << 30
"""Kafka keeps about this much of each partition: the hour is not to fill the disk."""
STEP_SECONDS = 0.02
"""Event time from line to line of a partition: at 25,000 lines a second sessions rest for half a minute of real time
until their gap is over, so that the number of open ones is steady long before the second quarter."""
SEED = 1
MIB = 1024 * 1024


@dataclass
class Sample:
    """The stack at one moment."""

    seconds: float
    """Since the start."""
    memory: dict[str, float]
    """Resident memory by process, MiB."""
    pids: dict[str, int]
    waits: list[tuple[int, int]]
    """Since the sample before: milliseconds from the newest line's arrival to its score, and the lines of the batch."""


@dataclass
class Quarters:
    """What is compared: of the second and the last quarter each."""

    memory: dict[str, tuple[float, float]]
    """Median by process, MiB."""
    latency: tuple[float | None, float | None]
    """99th percentile, ms; None: nothing was scored."""
    changed: list[str]
    """Processes that were not the same all the time."""


def quarters(samples: Sequence[Sample]) -> Quarters:
    """Cut the time into four and take what is compared."""
    end = samples[-1].seconds
    second = [one for one in samples if end / 4 <= one.seconds < end / 2]
    last = [one for one in samples if one.seconds >= end * 3 / 4]
    names = {name for one in samples for name in one.pids}
    changed = [name for name in sorted(names) if len({one.pids.get(name) for one in samples}) > 1]
    kept = sorted(names - set(changed))
    memory = {name: (middle(second, name), middle(last, name)) for name in kept}
    return Quarters(memory, (p99(second), p99(last)), changed)


def middle(samples: Sequence[Sample], name: str) -> float:
    """The median memory of a process, MiB."""
    return statistics.median(one.memory[name] for one in samples)


def p99(samples: Sequence[Sample]) -> float | None:
    """The latency that 99 of 100 lines do not exceed, ms; None where no line was scored."""
    waits = sorted(wait for one in samples for wait in one.waits)
    left = sum(lines for _, lines in waits) * 0.99
    for wait, lines in waits:
        left -= lines
        if left <= 0:
            return float(wait)
    return None


def verdict(found: Quarters) -> list[str]:
    """The sentences that say what does not hold; none if all does."""
    problems = [f"{name} is not the process it was at the start" for name in found.changed]
    for name, (before, after) in found.memory.items():
        if after > MEMORY_LIMIT * before:
            problems.append(f"memory of {name}: {before:.0f} MiB in the second quarter, {after:.0f} in the last")
    before_ms, after_ms = found.latency
    if before_ms is None or after_ms is None:
        problems.append("nothing was scored in a quarter")
    elif after_ms > max(LATENCY_LIMIT * before_ms, LATENCY_FLOOR_MS):
        problems.append(f"latency (p99): {before_ms:.0f} ms in the second quarter, {after_ms:.0f} in the last")
    return problems


def measure(settings: AppSettings, since: float, waits: list[tuple[int, int]]) -> Sample:
    """Look at all processes of the stack; the TaskManager's children are told apart by their order."""
    memory, pids = {}, {}
    found = read_status(settings.home)
    processes = [(part.name, psutil.Process(part.pid)) for part in found.parts if part.pid]
    if found.supervisor:
        processes.append(("supervisor", psutil.Process(found.supervisor)))
    for name, process in list(processes):
        if name == "taskmanager":
            children = sorted(process.children(recursive=True), key=lambda one: one.pid)
            processes += [(f"taskmanager/{number}", child) for number, child in enumerate(children)]
    for name, process in processes:
        memory[name] = process.memory_info().rss / MIB
        pids[name] = process.pid
    return Sample(time.monotonic() - since, memory, pids, waits)


def soak(settings: AppSettings, minutes: float, rate: float) -> dict[str, Any]:
    """Send, watch, and return the JSON.

    Raises:
        ChaosError: the job does not run, or lines can no longer be sent.
    """
    service = "soak"
    topic = f"{settings.kafka.log_prefix}{service}"
    _prepare(settings, service, topic)
    submit(settings, service, re.escape(topic), start="earliest")
    orders = [Orders(SEED, partition, step_seconds=STEP_SECONDS) for partition in range(PARTITIONS)]
    sender = Sender(settings, topic, orders, rate, keep=False)
    follower = Follower(settings, topic)
    follower.start()
    sender.start()
    samples: list[Sample] = []
    try:
        until(lambda: min(follower.reached(PARTITIONS)) >= 0, "the first lines to be scored", sender.check)
        began, seen = time.monotonic(), len(follower.records)
        while time.monotonic() - began < minutes * 60:
            time.sleep(SAMPLE_SECONDS)
            sender.check()
            records = follower.records[seen:]
            seen += len(records)
            samples.append(measure(settings, began, [(one[0] - one[5], one[4]) for one in records]))
            print(line_of(samples[-1], sender.count), file=sys.stderr, flush=True)
        sender.stop()
        wanted = [end_offsets(settings, [topic])[topic, at] for at in range(PARTITIONS)]
        # The very last lines of a partition may be dead letters, which are not scored.
        until(lambda: all(map(near, follower.reached(PARTITIONS), wanted)), "the last lines to be scored")
    finally:
        sender.abandon()
        follower.stop()
    return _result(settings, samples, sender.count, rate, service)


def near(reached: int, end: int) -> bool:
    """Whether a partition is scored up to its last few lines."""
    return reached >= end - 10


def line_of(sample: Sample, sent: int) -> str:
    """One sample for the eye."""
    latency = p99([sample])
    wait = "nothing scored" if latency is None else f"p99 {latency:.0f} ms"
    return f"{sample.seconds:6.0f} s  {sent:,} lines  {wait}  {sum(sample.memory.values()):,.0f} MiB"


def _prepare(settings: AppSettings, service: str, topic: str) -> None:
    ensure_topics(settings)
    limits = {"retention.bytes": str(TOPIC_BYTES), "segment.bytes": str(TOPIC_BYTES // 8)}
    with admin(settings) as client:
        client.create_topics({topic: {"num_partitions": PARTITIONS, "configs": limits}})
        client.wait_for_topics([topic])
    files = open_files(settings.hdfs)
    version = Registry(files, settings.hdfs.root).publish(bundle_for(service, topic, SEED))
    files.close()
    with ControlWriter(settings) as control:
        control.put(
            Settings(settings=options_of(service)),
            BundlePointer(service=service, version=version, author="soak", reason="soak", moved_ms=1),
        )


def _result(settings: AppSettings, samples: list[Sample], sent: int, rate: float, service: str) -> dict[str, Any]:
    found = quarters(samples)
    job = next(one.id for one in list_jobs(settings) if one.name == service)
    checkpoint = get_json(f"{settings.flink.rest}/jobs/{job}/checkpoints")["latest"]["completed"]
    seconds = samples[-1].seconds
    problems = verdict(found)
    if sent < 0.95 * rate * seconds:
        problems.append(f"only {sent / seconds:,.0f} of {rate:,.0f} lines a second were sent")
    return {
        "holds": not problems,
        "problems": problems,
        "minutes": round(seconds / 60, 1),
        "lines": sent,
        "lines_per_second": round(sent / seconds),
        "memory_mib": {name: [round(one) for one in pair] for name, pair in found.memory.items()},
        "latency_p99_ms": list(found.latency),
        "checkpoint_bytes": checkpoint["state_size"] if checkpoint else None,
        "samples": [
            {
                "seconds": round(one.seconds),
                "memory_mib": {name: round(size) for name, size in one.memory.items()},
                "latency_p99_ms": p99([one]),
            }
            for one in samples
        ],
    }


def main() -> int:
    """Run, print the JSON, return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=25_000, help="lines a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the JSON goes there too")
    parser.add_argument("--home", type=Path, metavar="DIR", help="the stack's folder; else a temporary one")
    chosen = parser.parse_args()
    home = (chosen.home or Path(tempfile.mkdtemp(prefix="logcanary-soak-"))).absolute()
    asked = AppSettings(home=home, archive=ArchiveOptions(roll_seconds=60))
    try:
        result = soak(up(asked), chosen.minutes, chosen.rate)
    except (ChaosError, DeployError, RuntimeError, psutil.Error) as error:
        result = {"holds": False, "problems": [str(error)]}
    finally:
        down(asked)
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    for problem in result["problems"]:
        print(f"DOES NOT HOLD: {problem}", file=sys.stderr)
    if not result["holds"]:
        print(f"The stack's logs are in {home / 'logs'}", file=sys.stderr)
    elif not chosen.home:
        shutil.rmtree(home, ignore_errors=True)
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
