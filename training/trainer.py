"""Retraining on demand: archive to live bundle, for one service."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contracts.bundle import Manifest
from contracts.settings import AppSettings
from models.registry import Registry
from parsing.events import Lines
from storage.archive import archived_until, list_files, read_lines
from storage.broker import end_offsets
from storage.control import ControlWriter, moved_pointer, read_control
from storage.files import Files, open_files
from storage.keeping import lease
from storage.locks import LockedError, lock
from training.dataset import build, interleaved, lines_of
from training.learner import TrainingError, learn

PATIENCE_SECONDS = 30.0
"""For an archiver to write what is due: it has just been started, or HDFS is slow."""
ASK_AGAIN_SECONDS = 0.5
"""Another process writes the archive: there is nothing to be told by."""

Say = Callable[[str], None]


@dataclass
class Stages:
    """Seconds of wall clock that each stage of a training took; filled while it runs."""

    read: float = 0.0
    """Reading the archive and decoding its files."""
    prepare: float = 0.0
    """Parsing, windows, whole sessions."""
    train: float = 0.0
    """Learning, calibrating."""
    publish: float = 0.0
    """The bundle into the registry, templates and pointer onto the control topic."""

    def reading(self, batches: Iterator[Lines]) -> Iterator[Lines]:
        """The same batches; the time until each is there counts as read."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.read += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def train(
    settings: AppSettings,
    service: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    author: str,
    reason: str,
    progress: Say = lambda words: None,
    stages: Stages | None = None,
) -> Manifest:
    """Train a service from its archive, publish the bundle, and move the live pointer to it.

    Args:
        settings: where Kafka and HDFS are.
        service: whose lines.
        from_ms: lines that arrived at this time or later, milliseconds since 1970.
        to_ms: lines that arrived before this time.
        author: who asks.
        reason: why.
        progress: called with each stage in words.
        stages: filled with what each stage took.

    Raises:
        TrainingError: nothing is archived for that time, or too little; or somebody trains the service now.
        StorageError: HDFS does not answer; nothing was published.
    """
    files = open_files(settings.hdfs)
    path = f"{Registry(files, settings.hdfs.root).home(service)}/training.lock"
    try:
        with lock(files, path, author):
            window, who = (from_ms, to_ms), (author, reason)
            return _train(settings, files, service, window, who, progress, stages or Stages())
    except LockedError as error:
        first = error.holder
        raise TrainingError(
            f"{service} is being trained already, by {first.who} (process {first.pid} on {first.host}): wait until "
            f"that is done; if that process is gone, delete {path}"
        ) from None


def _train(
    settings: AppSettings,
    files: Files,
    service: str,
    window: tuple[int | None, int | None],
    who: tuple[str, str],
    progress: Say,
    stages: Stages,
) -> Manifest:
    from_ms, to_ms = window
    control = read_control(settings)
    archived = list_files(files, settings.hdfs.root, service, from_ms, to_ms)
    if not archived:
        _wait_for_first_files(settings, files, service, progress)
        archived = list_files(files, settings.hdfs.root, service, from_ms, to_ms)
    if not archived:
        raise TrainingError(
            f"nothing is archived for service {service} in that time: is its topic "
            f"{settings.kafka.log_prefix}{service}, does the archiver run, and has it closed a file yet "
            f"(archive.roll_seconds = {settings.archive.roll_seconds})?"
        )
    expected = sum(file.last - file.first + 1 for file in archived)
    progress(f"Read {expected:,} lines from {len(archived):,} files of the archive")
    places = sorted({(file.topic, file.partition) for file in archived})
    began = time.perf_counter()
    with lease(files, settings.hdfs.root, service, from_ms, to_ms):
        parts = [_partition(settings, files, service, place, from_ms, to_ms) for place in places]
        data = build(
            interleaved([stages.reading(part) for part in parts]),
            control.settings_of(service),
            catalogue=control.templates.get(service, {}).values(),
            verdicts=control.verdicts.get(service, {}).values(),
            max_line_bytes=settings.flink.max_line_bytes,
        )
    stages.prepare = time.perf_counter() - began - stages.read
    progress(f"{data.material.lines:,} lines ({data.dead:,} unreadable), {len(data.material.templates):,} templates")
    began = time.perf_counter()
    bundle = learn(data, control.settings_of(service), progress)
    stages.train = time.perf_counter() - began
    began = time.perf_counter()
    version = Registry(files, settings.hdfs.root).publish(bundle)
    progress(f"Published bundle {version}")
    live = read_control(settings).pointers.get(service)  # it may have moved meanwhile
    with ControlWriter(settings) as out:
        # The templates first: whoever scores with the bundle knows them under the ids it uses.
        out.put(
            *(one for one in data.found if one.reason == "merged" or one.id not in control.templates.get(service, {}))
        )
        out.put(moved_pointer(live, service, version, *who))
    stages.publish = time.perf_counter() - began
    return bundle.manifest


def _wait_for_first_files(settings: AppSettings, files: Files, service: str, progress: Say) -> None:
    """Where a service is so new that nothing is archived, wait for the lines that Kafka holds of it now."""
    if list_files(files, settings.hdfs.root, service):
        return
    ends = end_offsets(settings, [f"{settings.kafka.log_prefix}{service}"])
    last = {place: end - 1 for place, end in ends.items() if end}
    if not last:
        return
    roll = settings.archive.roll_seconds
    progress(f"Wait for the archive: it closes a file after {roll} s at most (archive.roll_seconds)")
    deadline = time.monotonic() + roll + PATIENCE_SECONDS
    while archived_until(files, settings.hdfs.root, service, last) != last and time.monotonic() < deadline:
        time.sleep(ASK_AGAIN_SECONDS)


def _partition(
    settings: AppSettings, files: Files, service: str, place: tuple[str, int], from_ms: int | None, to_ms: int | None
) -> Iterator[Lines]:
    """The archived lines of one partition, in offset order."""
    return lines_of(read_lines(files, settings.hdfs.root, service, from_ms, to_ms, place), service)
