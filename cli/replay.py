"""Sends a log file to the topics of its services, flat out or at a pace (``logcanary replay``)."""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cli.shell import ProblemError
from contracts.service import ServiceSettings
from parsing.events import Lines
from parsing.parser import Parser
from storage.bulk import MAX_LINE_BYTES, BulkSender

BATCH_LINES = 10_000
SLICE_SECONDS = 0.05
"""A paced replay sends what falls due within this time in one go."""
POD_SUFFIXES = 2
"""A pod of a Kubernetes deployment is called NAME-<replica set>-<pod>."""


@dataclass(frozen=True)
class Routed:
    """A batch of lines with the service each belongs to: ``services`` and ``values`` have one length."""

    services: list[str]
    values: list[bytes]
    lost: int = 0
    """Lines that name no service, or that no broker takes."""


Router = Callable[[list[bytes]], Routed]


def to_service(service: str) -> Router:
    """Send every line as it is to one service."""
    return lambda lines: _fitting([service] * len(lines), lines, 0)


def by_field(name: str, value_field: str | None = None) -> Router:
    """Send JSON lines to the service named by a field.

    Args:
        name: field with the service's name; dots reach into nested objects (``kubernetes.labels.app``).
        value_field: send only this field's text (or its JSON, if it is none) instead of the whole line.
    """
    return lambda lines: _json(lines, lambda record: _at(record, name), value_field)


def by_pod(lines: list[bytes]) -> Routed:
    """Send JSON lines with ``pod`` and ``log``: service = pod name without its last two parts, value = ``log``.

    This is how the Train Ticket data set is laid out; its ``log`` is the container runtime's own JSON record.
    """
    return _json(lines, lambda record: service_of_pod(_at(record, "pod")), "log")


def service_of_pod(pod: object) -> str | None:
    """Return a pod's service.

    >>> service_of_pod("ts-travel-service-64469b5b48-25zj6")
    'ts-travel-service'
    """
    if not isinstance(pod, str):
        return None
    parts = pod.rsplit("-", POD_SUFFIXES)
    return parts[0] if len(parts) > POD_SUFFIXES else pod


def looks_by_pod(line: bytes) -> bool:
    """Whether a line is a JSON object with ``pod`` and ``log``."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and "pod" in record and "log" in record


def _json(lines: list[bytes], service_of: Callable[[object], object], value_field: str | None) -> Routed:
    services: list[str] = []
    values: list[bytes] = []
    lost = 0
    for line in lines:
        try:
            # surrogateescape keeps bytes that are no UTF-8 as they are.
            record = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            record = None
        service = service_of(record)
        value: object = line if value_field is None else _at(record, value_field)
        if not isinstance(service, str) or not service or value is None:
            lost += 1
            continue
        services.append(service)
        values.append(value if isinstance(value, bytes) else _encode(value))
    return _fitting(services, values, lost)


def _encode(value: object) -> bytes:
    if not isinstance(value, str):
        return json.dumps(value).encode()
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # JSON may hold half a surrogate pair, which is no UTF-8; the parser counts such a line.
        return value.encode("utf-8", "surrogatepass")


def _at(record: object, path: str) -> object:
    if isinstance(record, dict) and path in record:
        return record[path]
    for part in path.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(part)
    return record


def _fitting(services: list[str], values: list[bytes], lost: int) -> Routed:
    limit = MAX_LINE_BYTES - 512  # room for the record's own header and key
    if max(map(len, values), default=0) <= limit:
        return Routed(services, values, lost)
    kept = [row for row, value in enumerate(values) if len(value) <= limit]
    return Routed([services[row] for row in kept], [values[row] for row in kept], lost + len(values) - len(kept))


class Columns:
    """Event times and sessions of lines, by the parser of each service."""

    def __init__(self) -> None:
        self._parsers: dict[str, Parser] = {}
        self._offset = 0

    def of(self, batch: Routed) -> tuple[NDArray[np.int64], list[bytes | None]]:
        """Return the event time in ms (-1 where a line has none) and the session (None where it has none): [n] each."""
        times = np.full(len(batch.values), -1, dtype=np.int64)
        sessions: list[bytes | None] = [None] * len(batch.values)
        rows_of: dict[str, list[int]] = {}
        for row, service in enumerate(batch.services):
            rows_of.setdefault(service, []).append(row)
        for service, rows in rows_of.items():
            parser = self._parsers.get(service)
            if parser is None:
                parser = self._parsers[service] = Parser(ServiceSettings(service=service))
            # Row numbers as offsets, because dead letters leave holes.
            values = [batch.values[row] for row in rows]
            now = int(time.time() * 1000)
            lines = Lines.from_list(service, service, 0, np.asarray(rows), np.full(len(rows), now), values)
            frame = parser.parse(lines).events.frame
            where = frame["offset"].to_numpy()
            found = frame["time"].to_numpy()
            times[where] = np.where(found == now, -1, found)  # the parser gives a line without a time its arrival
            for row, session in zip(where.tolist(), frame["session"].to_list(), strict=True):
                sessions[row] = session.encode() or None
        return times, sessions


class Pace(Protocol):
    """Says when lines are due."""

    def slices(self, times: NDArray[np.int64] | None, count: int) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of rows that are due now, in order, after waiting until they are."""
        ...


class FlatOut:
    """As fast as Kafka takes them."""

    def slices(self, _times: NDArray[np.int64] | None, count: int) -> Iterator[tuple[int, int]]:
        """Yield everything at once."""
        yield 0, count


@dataclass
class AtRate:
    """A fixed number of lines a second."""

    rate: float
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    _start: float | None = None
    _sent: int = 0

    def slices(self, _times: NDArray[np.int64] | None, count: int) -> Iterator[tuple[int, int]]:
        """Yield slices of `SLICE_SECONDS`."""
        start = self._start = self.now() if self._start is None else self._start
        step = max(1, round(self.rate * SLICE_SECONDS))
        for first in range(0, count, step):
            stop = min(count, first + step)
            wait = start + self._sent / self.rate - self.now()
            if wait > 0:
                self.sleep(wait)
            self._sent += stop - first
            yield first, stop


@dataclass
class AtEventTime:
    """At the pace of the lines' own times, or a multiple of it; a line without a time follows the one before it."""

    speed: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    _start: float | None = None
    _first_ms: int = -1
    _newest_ms: int = -1

    def slices(self, times: NDArray[np.int64] | None, count: int) -> Iterator[tuple[int, int]]:
        """Yield the rows that fall due together."""
        assert times is not None
        # Time never runs backwards: a line that is late goes out at once.
        clock = np.maximum.accumulate(np.concatenate([[self._newest_ms], times]))[1:]
        if self._first_ms < 0 and (known := clock[clock >= 0]).size:
            self._first_ms = int(known[0])
        self._newest_ms = int(clock[-1]) if count else self._newest_ms
        start = self._start = self.now() if self._start is None else self._start
        due = np.maximum(clock - self._first_ms, 0) / 1000 / self.speed
        at = 0
        while at < count:
            wait = start + due[at] - self.now()
            if wait > 0:
                self.sleep(float(wait))
            reached = max(self.now() - start, float(due[at])) + SLICE_SECONDS
            stop = max(at + 1, int(np.searchsorted(due, reached, side="right")))
            yield at, stop
            at = stop


@dataclass
class Sent:
    """What was sent so far."""

    lines: int = 0
    bytes: int = 0
    lost: int = 0
    topics: dict[str, int] = field(default_factory=dict)


@dataclass
class Replay:
    """Sends batches of lines; the pieces are a router, a pace, and a sender.

    Attributes:
        partitions_of: makes a service's topic where it is missing and returns its name and number of partitions.
        key: ``session`` puts the lines of one session on one partition, ``none`` rotates whole batches over them.
    """

    sender: BulkSender
    router: Router
    pace: Pace
    partitions_of: Callable[[str], tuple[str, int]]
    key: str = "none"
    sent: Sent = field(default_factory=Sent)
    _columns: Columns = field(default_factory=Columns)
    _turn: int = 0

    def send(self, lines: list[bytes]) -> None:
        """Route, pace and send one batch."""
        batch = self.router(lines)
        self.sent.lost += batch.lost
        times: NDArray[np.int64] | None = None
        keys: list[bytes | None] | None = None
        if isinstance(self.pace, AtEventTime) or self.key == "session":
            times, sessions = self._columns.of(batch)
            keys = sessions if self.key == "session" else None
        for start, stop in self.pace.slices(times, len(batch.values)):
            self._slice(batch, start, stop, keys)
        self._turn += 1

    def _slice(self, batch: Routed, start: int, stop: int, keys: Sequence[bytes | None] | None) -> None:
        named = set(batch.services[start:stop])
        if keys is None and len(named) == 1:  # the usual case, without a look at each line
            topic, partitions = self.partitions_of(named.pop())
            self._send(topic, self._turn % partitions, batch.values[start:stop], None)
            return
        groups: dict[tuple[str, int], list[int]] = {}
        for row in range(start, stop):
            topic, partitions = self.partitions_of(batch.services[row])
            key = keys[row] if keys else None
            # crc32 as the hash: quick, and the same in every run.
            partition = (zlib.crc32(key) if key else self._turn) % partitions
            groups.setdefault((topic, partition), []).append(row)
        for (topic, partition), rows in groups.items():
            own = [keys[row] for row in rows] if keys else None
            self._send(topic, partition, [batch.values[row] for row in rows], own)

    def _send(self, topic: str, partition: int, values: list[bytes], keys: list[bytes | None] | None) -> None:
        self.sender.send(topic, partition, values, keys)
        self.sent.lines += len(values)
        self.sent.bytes += sum(map(len, values))
        self.sent.topics[topic] = self.sent.topics.get(topic, 0) + len(values)


def choose_pace(speed: float | None, rate: float | None, original: bool) -> Pace:
    """Return the pace the flags ask for.

    Raises:
        ProblemError: more than one is asked for, or a figure is not above zero.
    """
    if sum((speed is not None, rate is not None, original)) > 1:
        raise ProblemError("--original, --speed and --rate exclude each other: give one, or none for flat out")
    for flag, figure in (("--speed", speed), ("--rate", rate)):
        if figure is not None and figure <= 0:
            raise ProblemError(f"{flag} {figure:g}: must be more than 0")
    if rate is not None:
        return AtRate(rate)
    if speed is not None or original:
        return AtEventTime(speed or 1.0)
    return FlatOut()


def choose_router(service: str | None, service_field: str | None, value_field: str | None, pods: bool) -> Router | None:
    """Return the router the flags ask for, or None where the file has to say.

    Raises:
        ProblemError: more than one is asked for.
    """
    if sum((service is not None, service_field is not None, pods)) > 1:
        raise ProblemError("--service, --service-field and --by-pod exclude each other: give one of them")
    if service is not None:
        return to_service(service)
    if service_field is not None:
        return by_field(service_field, value_field)
    return by_pod if pods else None
