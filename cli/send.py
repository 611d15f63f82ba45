"""``logcanary replay`` and ``logcanary follow``: log files to topics."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Json, Service
from cli.shell import INTERRUPTED, ProblemError, Shell, shell, stop_on_signals

if TYPE_CHECKING:
    from cli.replay import Pace, Router, Sent


def replay(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="Log file: plain, .gz, .zst; text or JSON lines.")],
    service: Annotated[str | None, typer.Option("--service", "-s", metavar="NAME", help="All lines to it.")] = None,
    service_field: Annotated[
        str | None, typer.Option("--service-field", metavar="FIELD", help="JSON lines: the field with the service.")
    ] = None,
    value_field: Annotated[
        str | None, typer.Option("--value-field", metavar="FIELD", help="JSON lines: send only this field.")
    ] = None,
    pods: Annotated[
        bool, typer.Option("--by-pod", help="JSON lines with pod and log: service = pod name less two parts.")
    ] = False,
    original: Annotated[bool, typer.Option("--original", help="At the pace of the lines' own times.")] = False,
    speed: Annotated[
        float | None, typer.Option("--speed", metavar="N", help="N times the pace of the lines' own times.")
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", metavar="N", help="N lines a second.")] = None,
    key: Annotated[
        str, typer.Option("--key", help="session: one partition a session. none: batches take turns.")
    ] = "none",
    partitions: Annotated[int, typer.Option("--partitions", min=1, help="Of a topic that has to be made.")] = 1,
    as_json: Json = False,
) -> None:
    """Send a log file's lines to the topics of their services, as fast as Kafka takes them or at a pace.

    Ctrl-C sends what is on its way and says how many lines arrived.

    Examples:
      logcanary replay app.log --service app
      logcanary replay app.log.gz --service app --speed 10
      logcanary replay app.log --service app --rate 1000
      logcanary replay shop.jsonl --service-field kubernetes.labels.app
      logcanary replay trainticket.jsonl.gz --by-pod --partitions 2 --key session
    """
    from cli.replay import choose_pace, choose_router

    if key not in ("session", "none"):
        raise ProblemError(f"--key {key}: must be session or none")
    pace = choose_pace(speed, rate, original)
    router = choose_router(service, service_field, value_field, pods)
    state = shell(context)
    started = time.monotonic()
    sent, whole = _replay(state, file, router=router, pace=pace, key=key, partitions=partitions)
    seconds = time.monotonic() - started
    if as_json or state.json:
        state.emit(
            {
                "lines": sent.lines,
                "bytes": sent.bytes,
                "lost": sent.lost,
                "seconds": seconds,
                "lines_per_second": sent.lines / seconds,
                "topics": sent.topics,
                "complete": whole,
            }
        )
    many = f"{len(sent.topics)} topics" if len(sent.topics) > 1 else "".join(sent.topics)
    state.say(
        f"{'' if whole else 'Stopped: '}{sent.lines:,} lines ({sent.bytes / 1e6:,.1f} MB) sent to {many or 'no topic'} "
        f"in {seconds:.1f} s, {sent.lines / seconds:,.0f} lines/s."
    )
    if sent.lost:
        state.say(f"{sent.lost:,} lines left out: they name no service, or are longer than a broker takes.")
    if not whole:
        raise typer.Exit(INTERRUPTED)


def _replay(
    state: Shell, file: Path, *, router: "Router | None", pace: "Pace", key: str, partitions: int
) -> "tuple[Sent, bool]":
    """Return what was sent, and whether that is the whole file."""
    from cli.files import LogFile
    from cli.replay import BATCH_LINES, Replay, by_pod, looks_by_pod
    from storage.broker import producer
    from storage.bulk import BulkSender

    with LogFile(file) as log, contextlib.ExitStack() as stack:
        batches = log.batches(BATCH_LINES)
        first = next(batches, [])
        if router is None:
            if not (first and looks_by_pod(first[0])):
                raise ProblemError(
                    f"which service do the lines of {file} belong to? Say --service NAME (or --service-field)"
                )
            router = by_pod
        client = stack.enter_context(contextlib.closing(producer(state.settings)))
        topics = stack.enter_context(contextlib.closing(Topics(state, partitions)))
        run = Replay(BulkSender(client), router, pace, topics, key)
        whole = True
        try:
            with state.progress(log.size, f"Sending {file.name}") as bar:
                for lines in _chain(first, batches):
                    run.send(lines)
                    bar.to(log.position, f"{run.sent.lines:,} lines")
        except KeyboardInterrupt:
            whole = False
        run.sender.flush()
        run.sent.lines = run.sender.sent
        return run.sent, whole


def _chain(first: list[bytes], rest: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    if first:
        yield first
    yield from rest


class Topics:
    """Makes the topics of services where they are missing, and knows their partitions."""

    def __init__(self, state: Shell, partitions: int) -> None:
        self._state, self._partitions = state, partitions
        self._known: dict[str, tuple[str, int]] = {}
        self._admin: Any = None

    def close(self) -> None:
        """Give the connection back."""
        if self._admin is not None:
            self._admin.close()

    def __call__(self, service: str) -> tuple[str, int]:
        """Return a service's topic and its number of partitions."""
        known = self._known.get(service)
        if known is None:
            known = self._known[service] = self._make(service)
        return known

    def _make(self, service: str) -> tuple[str, int]:
        from kafka.errors import TopicAlreadyExistsError

        from storage.broker import admin, service_of

        kafka = self._state.settings.kafka
        topic = kafka.log_prefix + service
        if service_of(kafka, topic) != service:
            raise ProblemError(
                f"{service!r} cannot be a service: its topic would be {topic!r}; a name has letters, digits, dots, "
                "dashes and underscores, at most 200"
            )
        self._admin = self._admin or admin(self._state.settings)
        if topic not in self._admin.list_topics():
            with contextlib.suppress(TopicAlreadyExistsError):
                self._admin.create_topics({topic: {"num_partitions": self._partitions}})
            self._admin.wait_for_topics([topic])
        found = self._admin.describe_topics([topic])
        there = len(found[0]["partitions"])
        if there != self._partitions and self._partitions > 1:
            self._state.say(f"{topic} has {there} partitions already; --partitions changes nothing.")
        return topic, there


def follow(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="The log file; it may not exist yet, and may be rotated.")],
    service: Service,
    start: Annotated[
        str | None,
        typer.Option("--record", metavar="REGEX", help="A line that does not match belongs to the record before it."),
    ] = None,
    from_end: Annotated[bool, typer.Option("--from-end", help="Skip what is in the file already.")] = False,
) -> None:
    r"""Send a log file's lines to its service's topic as they are written, until Ctrl-C.

    Examples:
      logcanary follow /var/log/app.log --service app
      logcanary follow /var/log/app.log --service app --from-end --record '\d{4}-\d\d-\d\d '
    """
    from cli.follow import ship
    from storage.broker import producer

    state = shell(context)
    try:
        record = re.compile(start.encode()) if start else None
    except re.error as error:
        raise ProblemError(f"--record {start}: not a regular expression: {error}") from None
    with contextlib.closing(Topics(state, 1)) as topics:
        topic, _ = topics(service)
    with contextlib.closing(producer(state.settings, linger_ms=20)) as out, stop_on_signals() as stop:
        state.say(f"Following {file} to {topic}; Ctrl-C ends it.")
        sent = ship(file, lambda line: out.send(topic, value=line), stop, record, from_end)
        out.flush()
    state.say(f"{sent:,} records sent to {topic}.")
    raise typer.Exit(INTERRUPTED)
