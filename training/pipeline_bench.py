"""Lines per CPU second through Kafka and the running Flink job, and the latency at half the rate reached.

``bench_pipeline(settings, data)`` is ``logcanary bench pipeline``; ``docs/benchmarks.md`` says what is measured. It
needs the local stack, whose processes it can watch.
"""

import contextlib
import gzip
import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig
from numpy.typing import NDArray

from contracts.records import BundlePointer, Statistic
from contracts.service import DetectorOptions, ServiceSettings
from contracts.settings import AppSettings
from deploy.status import read_status
from models.registry import Registry
from parsing.events import Lines
from parsing.masks import DEFAULT_MASKS
from storage.broker import admin, consumer, end_offsets, partitions_of, producer
from storage.bulk import BulkSender
from storage.control import ControlWriter
from storage.files import open_files
from streaming.submit import cancel, submit
from training.dataset import build
from training.learner import learn

PARTITIONS = 2
LATENCY_SECONDS = 20.0
"""Length of the latency run."""
LATENCY_PASSES = 1000
"""Its lines are of passes from this one on."""
TICK_SECONDS = 0.05
WARM_UP_LINES = 500_000
"""Scored by another job before: what Java compiles in its first half minute (10 CPU seconds) is no cost of a line."""
DRAIN3_LINES = 200_000
"""drain3 alone is measured on this many lines; its rate does not change any more after the first few thousand."""
PATIENCE_SECONDS = 60.0
"""Without a line scored for this long the run has failed."""
PASS_DAYS = 3
"""Each pass over the HDFS log lies this much later: it covers 38 hours."""
TICKET_DAY = b"2023-01-29"
"""All lines of the Train Ticket log are of this day."""
MIB = 1024 * 1024

Ints = NDArray[np.int64]
Say = Callable[[str], None]


class BenchError(Exception):
    """The benchmark cannot run or did not finish; the message says why."""


# -- lines -------------------------------------------------------------------------------------------------------


class Passes(ABC):
    """Passes over a real log in which identifiers and dates are other ones each time.

    Args:
        lines: those of the file, in the order of their times.
        identifiers: what a line belongs to, one each; lines of one identifier go to one partition.
    """

    def __init__(self, lines: list[bytes], identifiers: list[bytes]) -> None:
        self._lines = lines
        numbers = {one: number for number, one in enumerate(dict.fromkeys(identifiers))}
        self.partitions: Ints = np.array([numbers[one] % PARTITIONS for one in identifiers])
        """[n] partition of each line: those of a session stay together."""

    def rewrite(self, number: int) -> list[bytes]:
        """The lines of a pass; pass 0 is the file as it is."""
        return self._changed(b"\n".join(self._lines), number).split(b"\n") if number else self._lines

    @abstractmethod
    def _changed(self, text: bytes, number: int) -> bytes:
        """The lines, with a newline between, as pass ``number`` (from 1 on) has them."""

    @abstractmethod
    def message(self, line: bytes) -> str:
        """A line without its header."""

    def batches(self, lines: int) -> Iterator[tuple[int, list[bytes]]]:
        """At least ``lines`` lines in order, as (partition, lines of a part of a pass)."""
        left, number = lines, 1
        while left > 0:
            text = self.rewrite(number)[:left]
            for start in range(0, len(text), 20_000):
                part = text[start : start + 20_000]
                where = self.partitions[start : start + len(part)]
                for partition in range(PARTITIONS):
                    yield partition, [part[row] for row in np.flatnonzero(where == partition).tolist()]
            left -= len(text)
            number += 1


class HdfsPasses(Passes):
    """Passes over the HDFS log: blocks, addresses and dates change.

    Args:
        raw: the file, each line ended by a newline.
    """

    def __init__(self, raw: bytes) -> None:
        lines = raw.split(b"\n")[:-1]
        super().__init__(lines, [m[0] if (m := re.search(rb"blk_-?\d+", line)) else b"" for line in lines])
        self._dates = sorted(set(re.findall(rb"(?m)^(\d{6}) ", raw)))

    def _changed(self, text: bytes, number: int) -> bytes:
        text = re.sub(rb"blk_(-?)", rb"blk_\g<1>%d" % (100 + number), text)
        text = text.replace(b"10.25", b"%d.%d" % (11 + number // 200, number % 200))
        text = b"\n" + text
        for day in reversed(self._dates):  # the newest first: no date is moved twice
            text = text.replace(b"\n%s " % day, b"\n%s " % _later(day, number * PASS_DAYS))
        return text[1:]

    def message(self, line: bytes) -> str:
        """What follows the component."""
        return line.split(b": ", 1)[-1].decode("utf-8", "replace")


class TicketPasses(Passes):
    """Passes over the lines of all services of Train Ticket: traces, UUIDs and dates change.

    Args:
        raw: the file, a JSON record a line; its ``log`` is what a container's runtime wrote.
    """

    def __init__(self, raw: bytes) -> None:
        lines = [json.loads(record)["log"].encode() for record in raw.splitlines()]
        lines.sort(key=lambda line: line[line.rfind(b'"time":"') :])
        super().__init__(lines, [m[1] if (m := re.search(rb"TraceID: ([0-9a-f]+)", line)) else b"" for line in lines])

    def _changed(self, text: bytes, number: int) -> bytes:
        day = date.fromisoformat(TICKET_DAY.decode()) + timedelta(number)
        text = re.sub(rb"TraceID: [0-9a-f]{4}", b"TraceID: %04x" % number, text)
        text = re.sub(rb"\b[0-9a-f]{4}([0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-)", rb"%04x\g<1>" % number, text)
        return text.replace(TICKET_DAY, day.isoformat().encode())

    def message(self, line: bytes) -> str:
        """What follows the ids in the runtime's record; a few of them are torn after their end."""
        record, _ = json.JSONDecoder().raw_decode(line.decode(errors="replace"))
        return re.split(r"SpanID: \w+ ", str(record["log"]), maxsplit=1)[-1]


def _later(day: bytes, days: int) -> bytes:
    year, month, of_month = (int(day[at : at + 2]) for at in (0, 2, 4))
    return (date(2000 + year, month, of_month) + timedelta(days)).strftime("%y%m%d").encode()


CORPORA: dict[str, tuple[str, Callable[[bytes], Passes]]] = {
    "hdfs": ("hdfs.log.gz", HdfsPasses),
    "trainticket": ("2023-01-29.jsonl.gz", TicketPasses),
}
"""Name of each log, its file, and how it is rewritten."""


def read_passes(data: Path, corpus: str) -> Passes:
    """Read a corpus from its folder or that folder's parent.

    Raises:
        BenchError: the file is not there, or there is no such corpus.
    """
    if corpus not in CORPORA:
        raise BenchError(f"there is no corpus {corpus!r}: --corpus takes {' or '.join(CORPORA)}")
    name, make = CORPORA[corpus]
    for path in (data / name, data / corpus / name):
        if path.is_file():
            return make(gzip.decompress(path.read_bytes()))
    raise BenchError(f"there is no {name} in {data}: --data takes its folder or that folder's parent")


# -- processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system) used so far."""

    flink_jvm: float
    python: float
    broker: float
    archiver: float

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


class Watch:
    """The processes of the local stack."""

    def __init__(self, settings: AppSettings) -> None:
        parts = {part.name: part.pid for part in read_status(settings.home.absolute()).parts}
        missing = [name for name in ("taskmanager", "jobmanager", "kafka") if not parts.get(name)]
        if missing:
            raise BenchError(f"The benchmark watches the local stack's processes; not running: {', '.join(missing)}")
        self._parts = {name: psutil.Process(pid) for name, pid in parts.items() if pid}
        self.peak_rss = 0

    def usage(self) -> Usage:
        """CPU seconds so far; workers that have ended are counted by the JVM that waited for them."""
        task, job = self._parts["taskmanager"], self._parts["jobmanager"]
        ended = task.cpu_times()
        python = ended.children_user + ended.children_system
        rss = task.memory_info().rss + job.memory_info().rss
        for child in task.children(recursive=True):
            try:
                times = child.cpu_times()
                python += times.user + times.system + times.children_user + times.children_system
                rss += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak_rss = max(self.peak_rss, rss)
        return Usage(_cpu(task) + _cpu(job), python, self._cpu_of("kafka"), self._cpu_of("archiver"))

    def _cpu_of(self, name: str) -> float:
        try:
            return _cpu(self._parts[name]) if name in self._parts else 0.0
        except psutil.NoSuchProcess:
            return 0.0


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# -- statistics --------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the statistics topic says of one log topic, kept up to date by a thread.

    Replayed batches are counted once.
    """

    settings: AppSettings
    topic: str
    scored: int = 0
    parsed: int = 0
    last_ms: int = 0
    statistics: list[tuple[Statistic, int]] = field(default_factory=list)
    """With the time each was written, ms."""
    _seen: set[tuple[str, int, int, int, int]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Tally":
        ends = end_offsets(self.settings, [self.settings.kafka.statistics])
        self._thread = threading.Thread(target=self._follow, args=(ends,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self, ends: dict[tuple[str, int], int]) -> None:
        with consumer(self.settings, fetch_max_wait_ms=50) as client:
            partitions = partitions_of(client, [self.settings.kafka.statistics])
            client.assign(partitions)
            for partition in partitions:
                client.seek(partition, ends.get((partition.topic, partition.partition), 0))
            while not self._stop.is_set():
                for records in client.poll(timeout_ms=100).values():
                    for record in records:
                        self._take(Statistic.model_validate_json(record.value), int(record.timestamp))

    def _take(self, one: Statistic, written_ms: int) -> None:
        key = (one.stage, one.partition, one.bucket, one.first_offset, one.last_offset)
        if one.topic != self.topic or key in self._seen:
            return
        self._seen.add(key)
        self.statistics.append((one, written_ms))
        if one.stage == "score":
            self.last_ms = max(self.last_ms, written_ms)
            self.scored += one.lines
        else:
            self.parsed += one.lines

    def wait(self, lines: int, watch: Watch) -> Usage:
        """Wait until this many lines were scored; returns the usage then.

        Raises:
            BenchError: nothing was scored for ``PATIENCE_SECONDS``.
        """
        seen, since = self.scored, time.monotonic()
        while True:
            usage = watch.usage()
            if self.scored >= lines:
                return usage
            if self.scored != seen:
                seen, since = self.scored, time.monotonic()
            elif time.monotonic() - since > PATIENCE_SECONDS:
                raise BenchError(f"only {self.scored:,} of {lines:,} lines were scored, and no more are coming")
            time.sleep(0.1)


# -- the benchmark -----------------------------------------------------------------------------------------------


def bench_pipeline(
    settings: AppSettings,
    data: Path,
    corpus: str = "hdfs",
    lines: int = 2_000_000,
    progress: Say = lambda words: None,
    warm_up_lines: int = WARM_UP_LINES,
    are_sessions_judged: bool = True,
) -> dict[str, Any]:
    """Measure; returns the fields of the design's table, and where the time went.

    Args:
        settings: of the running local stack.
        data: folder of the corpus, or that folder's parent.
        corpus: name of ``CORPORA``.
        lines: in Kafka before the clock starts.
        progress: called with what is going on.
        warm_up_lines: parsed before by a job of their own, for Java's compiler; 0: none.
        are_sessions_judged: whether the bundle has detectors of whole sessions beside the sequence model.

    Raises:
        BenchError: the stack does not run, or lines were lost.
    """
    watch = Watch(settings)
    passes = read_passes(data, corpus)
    service = name = f"bench-{time.strftime('%H%M%S')}"
    topic = f"{settings.kafka.log_prefix}{service}"
    bundle = _publish(settings, service, passes, are_sessions_judged, progress)
    with _topic(settings, f"{topic}-warm-up") as warm, _topic(settings, topic):
        if warm_up_lines:
            _warm_up(settings, watch, warm, passes, warm_up_lines, progress)
        size = _produce(settings, topic, passes, lines, progress)
        progress("drain3 alone")
        drain3 = drain3_rate(passes)
        with Tally(settings, topic) as tally:
            try:
                rate, figures = _throughput(settings, watch, tally, name, lines, size, progress)
                latency = _latency(settings, watch, tally, passes, rate / 2, lines, progress)
            finally:
                cancel(settings, name)
    return {
        **figures,
        **latency,
        "drain3_lines_per_second": round(drain3),
        "warm_up_lines": warm_up_lines,
        "bundle": bundle,
    }


@contextlib.contextmanager
def _topic(settings: AppSettings, topic: str) -> Iterator[str]:
    """A topic for as long as the block runs."""
    with admin(settings) as client:
        client.create_topics({topic: {"num_partitions": PARTITIONS}})
        client.wait_for_topics([topic])
    try:
        yield topic
    finally:
        with admin(settings) as client:
            client.delete_topics([topic])


def _warm_up(settings: AppSettings, watch: Watch, topic: str, passes: Passes, lines: int, progress: Say) -> None:
    """Let a job of its own run over some lines, and end it with its workers."""
    progress("warm up")
    name = topic.removeprefix(settings.kafka.log_prefix)
    _produce(settings, topic, passes, lines, progress)
    with Tally(settings, topic) as tally:
        submit(settings, name, re.escape(topic), start="earliest", from_savepoint="")
        try:
            tally.wait(lines, watch)
        finally:
            cancel(settings, name)
    watch.peak_rss = 0


def _publish(settings: AppSettings, service: str, passes: Passes, are_sessions_judged: bool, progress: Say) -> str:
    """Train on the file as it is, publish the bundle and move the pointer."""
    progress("train a bundle on one pass")
    text = passes.rewrite(0)
    arrivals = np.arange(len(text)) + time.time_ns() // 1_000_000
    batches = (
        Lines.from_list(
            service,
            f"{settings.kafka.log_prefix}{service}",
            0,
            np.arange(at, at + len(text[at : at + 20_000])),
            arrivals[at : at + 20_000],
            text[at : at + 20_000],
        )
        for at in range(0, len(text), 20_000)
    )
    detector = DetectorOptions(sessions="on" if are_sessions_judged else "off")
    options = ServiceSettings(service=service, detector=detector)
    bundle = learn(build(batches, options), options, progress)
    version = Registry(open_files(settings.hdfs), settings.hdfs.root).publish(bundle)
    with ControlWriter(settings) as control:
        moved = time.time_ns() // 1_000_000
        control.put(
            BundlePointer(service=service, version=version, author="bench", reason="bench pipeline", moved_ms=moved)
        )
    return version


def _produce(settings: AppSettings, topic: str, passes: Passes, lines: int, progress: Say) -> int:
    """Bring the lines into Kafka; returns their bytes."""
    progress(f"send {lines:,} lines")
    size = 0
    with producer(settings) as out:
        sender = BulkSender(out)
        for partition, part in passes.batches(lines):
            sender.send(topic, partition, part)
            size += sum(map(len, part))
        sender.flush()
    return size


def _throughput(
    settings: AppSettings, watch: Watch, tally: Tally, name: str, lines: int, size: int, progress: Say
) -> tuple[float, dict[str, Any]]:
    """Submit the job and wait until all lines are scored.

    The clock starts when all operators run: what was scored before is neither counted nor paid for. The *steady* rate
    is that of the second half, when Java's compiler has done most of its work and the workers' memories are filled:
    what a job costs that runs for days. What was parsed by then and not yet scored counts half.
    """
    progress("submit the job")
    began = time.monotonic()
    submit(settings, name, re.escape(tally.topic), start="earliest", from_savepoint="")
    startup, start, before, first = time.monotonic() - began, time.time(), watch.usage(), tally.scored
    progress("score")
    half = tally.wait(lines // 2, watch)
    ahead = (tally.scored + tally.parsed) / 2
    end = tally.wait(lines, watch)
    used, steady = end - before, end - half
    wall = tally.last_ms / 1000 - start
    counted = lines - first
    cpu = used.flink_jvm + used.python
    parsed, scored = ([one for one, _ in tally.statistics if one.stage == stage] for stage in ("parse", "score"))
    windows = sum(one.windows for one in scored)
    rate = counted / wall
    return rate, {
        "lines": lines,
        "lines_timed": counted,
        "bytes": size,
        "parallelism": settings.flink.parallelism,
        "startup_seconds": round(startup, 1),
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "cpu_seconds_jvm": round(used.flink_jvm, 2),
        "cpu_seconds_python": round(used.python, 2),
        "cpu_seconds_broker": round(used.broker, 2),
        "cpu_seconds_archiver": round(used.archiver, 2),
        "lines_per_second": round(rate),
        "lines_per_cpu_second": round(counted / cpu),
        "steady_lines_per_cpu_second": round((lines - ahead) / (steady.flink_jvm + steady.python)),
        "steady_cpu_seconds_jvm": round(steady.flink_jvm, 2),
        "steady_cpu_seconds_python": round(steady.python, 2),
        "peak_rss_mb": round(watch.peak_rss / MIB),
        "parse_seconds": round(sum(one.seconds for one in parsed), 2),
        "score_seconds": round(sum(one.seconds for one in scored), 2),
        "parse_batches": len(parsed),
        "score_batches": len(scored),
        "windows": windows,
        "windows_remembered_share": round(sum(one.windows_remembered for one in scored) / max(1, windows), 4),
        "detections": sum(sum(one.detections.values()) for one in scored),
        "sessions_judged": sum(one.sessions_judged for one in scored),
        "sessions_passed": sum(one.sessions_passed for one in scored),
        "sessions_learnt": sum(one.sessions_learnt for one in scored),
        "lines_without_bundle": sum(one.lines for one in scored if not one.bundle),
    }


def _latency(
    settings: AppSettings, watch: Watch, tally: Tally, passes: Passes, rate: float, lines: int, progress: Say
) -> dict[str, Any]:
    """Send at a steady rate; the time from the producer's timestamp to the statistics record that counts the line."""
    progress(f"latency at {rate:,.0f} lines/s")
    more = int(rate * LATENCY_SECONDS)
    first = len(tally.statistics)
    times: list[list[int]] = [[] for _ in range(PARTITIONS)]  # ms, of each line sent by now
    text, where = _fresh_lines(passes, more)
    starts = [end_offsets(settings, [tally.topic])[tally.topic, partition] for partition in range(PARTITIONS)]
    sent, began = 0, time.monotonic()
    with producer(settings) as out:
        sender = BulkSender(out)
        while sent < more:
            due = min(more, int((time.monotonic() - began) * rate))
            rows = np.arange(sent, due)
            now = time.time_ns() // 1_000_000
            for partition in range(PARTITIONS):
                part = [text[row] for row in rows[where[rows] == partition].tolist()]
                if part:
                    sender.send(tally.topic, partition, part)
                    times[partition] += [now] * len(part)
            sent = due
            time.sleep(TICK_SECONDS)
        sender.flush()
    tally.wait(lines + more, watch)
    waits, weights = [], []
    for one, written in tally.statistics[first:]:
        if one.stage == "score" and one.first_offset >= starts[one.partition]:
            for offset in (one.first_offset, one.last_offset):
                waits.append(written - times[one.partition][offset - starts[one.partition]])
                weights.append(one.lines / 2)
    p50, p99 = weighted_quantiles(np.array(waits), np.array(weights), (0.5, 0.99))
    return {"latency_p50_ms": p50, "latency_p99_ms": p99, "latency_lines_per_second": round(rate)}


def _fresh_lines(passes: Passes, count: int) -> tuple[list[bytes], Ints]:
    """Lines of passes that came nowhere else, with their partitions: [count].

    A block that came twice would look like a session that goes on after its end, and every second line be a finding.
    """
    number_of_passes = -(-count // len(passes.partitions))
    text = [line for number in range(number_of_passes) for line in passes.rewrite(LATENCY_PASSES + number)]
    return text[:count], np.tile(passes.partitions, number_of_passes)[:count]


def weighted_quantiles(values: "NDArray[Any]", weights: "NDArray[Any]", shares: tuple[float, ...]) -> list[int]:
    """The smallest values ([n]) that at least these shares of the weight ([n]) do not exceed.

    >>> weighted_quantiles(np.array([5, 1, 9]), np.array([1.0, 98.0, 1.0]), (0.5, 0.99))
    [1, 5]
    """
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return [int(values[order][min(int(np.searchsorted(reached, share - 1e-9)), len(values) - 1)]) for share in shares]


def drain3_rate(passes: Passes, lines: int = DRAIN3_LINES) -> float:
    """Lines per second of drain3 alone, one thread, with our masks, on messages without their header.

    The header is taken off before the clock starts, which is work the job has to do too.
    The messages are those of the first passes.
    """
    config = TemplateMinerConfig()
    config.profiling_enabled = False
    config.masking_instructions = [MaskingInstruction(pattern, name) for name, pattern in DEFAULT_MASKS]
    miner = TemplateMiner(config=config)
    messages: list[str] = []
    number = 1
    while len(messages) < lines:
        messages += [passes.message(line) for line in passes.rewrite(number)]
        number += 1
    del messages[lines:]
    began = time.perf_counter()
    for message in messages:
        miner.add_log_message(message)
    return lines / (time.perf_counter() - began)
