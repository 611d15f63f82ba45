"""Where ``inspect`` and ``parse`` take lines from: a log file, standard input, or the newest lines of a topic."""

# ruff: noqa: PLC0415  (imports inside: a file needs no Kafka)

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cli.files import STANDARD_INPUT, LogFile, check_text
from cli.shell import ProblemError, Shell
from contracts.service import ServiceSettings
from parsing.events import Lines

if TYPE_CHECKING:
    from storage.broker import Record

BATCH_LINES = 10_000
"""Lines parsed at once: 2.5 MB of ordinary ones."""
FILE_ENDINGS = (".log", ".txt", ".json", ".jsonl", ".ndjson", ".gz", ".zst", ".out", ".err")
"""A name with one of these is a file's; others may be a service's."""
FILE_SERVICE = "files"
"""What the service is called where lines come from a file."""


@dataclass(frozen=True)
class Source:
    """Lines that can be read more than once."""

    name: str
    settings: ServiceSettings
    """How they are read: of a topic, what the control topic says of its service."""
    file: Path | None = None
    records: "tuple[Record, ...]" = ()
    limit: int | None = None
    """At most this many lines, the first of a file."""

    @property
    def again(self) -> bool:
        """Whether the lines can be read a second time, as those of a pipe cannot."""
        return self.file is None or self.file.is_file()

    def batches(self, state: Shell, words: str | None) -> Generator[Lines]:
        """Yield the lines in order, those of a topic partition by partition; offsets count them from 0.

        Args:
            state: the call's flags.
            words: what is going on, for a progress bar; None: no bar.

        Raises:
            ProblemError: a file cannot be read, or is no text.
        """
        yield from self._of_file(state, self.file, words) if self.file is not None else self._of_topic()

    def _of_file(self, state: Shell, path: Path, words: str | None) -> Iterator[Lines]:
        now = int(time.time() * 1000)
        done = 0
        with LogFile(path) as log, state.progress(log.size or None, f"{words} {log.name}", shown=bool(words)) as bar:
            for values in log.batches(BATCH_LINES):
                if not done:
                    check_text(values, log.name)
                kept = values if self.limit is None else values[: self.limit - done]
                n = len(kept)
                service = self.settings.service
                yield Lines.from_list(service, self.name, 0, np.arange(done, done + n), np.full(n, now), kept)
                done += n
                bar.to(log.position, f"{done:,} lines")
                if n < len(values) or done == self.limit:
                    return
            if not done:
                raise ProblemError(f"{log.name} is empty: there is no line in it")

    def _of_topic(self) -> Iterator[Lines]:
        done = 0
        for partition in sorted({record.partition for record in self.records}):
            own = [record for record in self.records if record.partition == partition]
            for first in range(0, len(own), BATCH_LINES):
                some = own[first : first + BATCH_LINES]
                done += len(some)
                yield Lines.from_list(
                    self.settings.service,
                    self.name,
                    partition,
                    np.arange(done - len(some), done),
                    [record.timestamp for record in some],
                    [record.value for record in some],
                )


def open_source(state: Shell, name: str, settings_file: Path | None, limit: int | None, newest: int) -> Source:
    """Find out what a name means: ``-``, a file, a topic or a service, in this order.

    Args:
        state: the call's flags.
        name: what the command line says.
        settings_file: a service's settings, instead of the defaults or those in force.
        limit: at most this many lines; None: all of a file, ``newest`` of a topic.
        newest: of a topic, where there is no limit.

    Raises:
        ProblemError: it is neither.
    """
    from cli.configuration import service_settings

    path = Path(name)
    if path == STANDARD_INPUT or path.exists():
        settings = service_settings(None, settings_file) if settings_file else ServiceSettings(service=FILE_SERVICE)
        return Source(name, settings, file=path, limit=limit)
    return _topic(state, name, settings_file, limit or newest)


def _topic(state: Shell, name: str, settings_file: Path | None, newest: int) -> Source:
    from cli.configuration import service_settings
    from storage.broker import log_topics, newest_records, service_of
    from storage.control import read_control

    if "/" in name or name.endswith(FILE_ENDINGS):
        raise ProblemError(f"{name} does not exist")
    kafka = state.settings.kafka
    topic = name if name.startswith(kafka.log_prefix) else kafka.log_prefix + name
    service = service_of(kafka, topic)
    if service is None:
        raise ProblemError(f"{name} does not exist, and cannot be a service's name")
    try:
        there = log_topics(state.settings)
    except ConnectionError as error:
        raise ProblemError(f"there is no file {name}, and no telling whether it is a topic: {error}") from None
    if topic not in there:
        raise ProblemError(f"there is no file {name} and no topic {topic}; topics: {', '.join(there) or 'none'}")
    settings = service_settings(service, settings_file) if settings_file else None
    settings = settings or read_control(state.settings).settings_of(service)
    records = tuple(newest_records(state.settings, topic, newest))
    if not records:
        raise ProblemError(f"{topic} is empty: there is no line on it")
    return Source(topic, settings, records=records)
