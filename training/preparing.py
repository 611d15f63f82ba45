"""One service's archive to a data set: for a training, or as a task of a batch job.

data = read_dataset(settings, request, read_control(settings))
prepare(settings, "pay", "tonight")         # ... and saved, for a training to begin with
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

from contracts.retraining import RetrainingRequest
from contracts.settings import AppSettings
from models.learning import HELD_BACK
from parsing.events import Lines
from storage.archive import HOUR_MS, ArchiveFile, archived_until, hour_of, list_files, read_files
from storage.broker import end_offsets
from storage.control import ControlView, read_control
from storage.files import Files, open_files
from storage.keeping import lease
from training import prepared
from training.dataset import Dataset, build, interleaved, lines_of
from training.learner import TrainingError
from training.runs import Progress

PATIENCE_SECONDS = 30.0
"""For an archiver to write what is due: it has just been started, or HDFS is slow."""
ASK_AGAIN_SECONDS = 0.5
"""Another process writes the archive: there is nothing to be told by."""


@dataclass
class Stages:
    """Seconds of wall clock that each stage of a training took; filled while it runs."""

    read: float = 0.0
    """Reading the archive and decoding its files."""
    prepare: float = 0.0
    """Parsing, windows, whole sessions."""
    train: float = 0.0
    """Learning, calibrating."""
    compare: float = 0.0
    """Judging the newest lines by it and by the live bundle."""
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


def prepare(settings: AppSettings, service: str, name: str) -> str:
    """Read, parse, cut and count all archived lines of a service, and save what came of it.

    Args:
        settings: where everything is.
        service: whose archive.
        name: under which a training finds it.

    Returns:
        The counts, as JSON on one line.

    Raises:
        TrainingError: nothing is archived.
        StorageError: the store does not answer; the task is tried again by who runs it.
    """
    request = RetrainingRequest(service=service, author="prepare", reason=name)
    data = read_dataset(settings, request, read_control(settings))
    files, root = open_files(settings.hdfs), settings.hdfs.root
    prepared.save(files, root, service, name, data)
    return json.dumps(prepared.counts(files, root, service, name))


def read_dataset(
    settings: AppSettings,
    request: RetrainingRequest,
    control: ControlView,
    track: Progress | None = None,
    stages: Stages | None = None,
) -> Dataset:
    """Archived lines to windows and whole sessions.

    Args:
        settings: where everything is.
        request: whose lines, of which time.
        control: the service's settings, its catalogue, what engineers said.
        track: told how far it is.
        stages: filled with what reading and preparing took.

    Raises:
        TrainingError: nothing is archived for that time.
        StorageError: the store does not answer.
    """
    track, stages, files = track or Progress(), stages or Stages(), open_files(settings.hdfs)
    archived = _archived(settings, files, request, track)
    track.update(total=lines_in(archived))
    track.stage("read")
    track.say(f"Read {lines_in(archived):,} lines from {len(archived):,} files of the archive")
    began = time.perf_counter()

    def counted(batches: Iterator[Lines]) -> Iterator[Lines]:
        for batch in batches:
            yield batch
            track.read(len(batch))

    def partition(listed: list[ArchiveFile]) -> Iterator[Lines]:
        return lines_of(read_files(files, listed, request.from_ms, request.to_ms), request.service)

    with lease(files, settings.hdfs.root, request.service, request.from_ms, request.to_ms):
        groups = groupby(archived, lambda one: (one.topic, one.partition))
        parts = [stages.reading(partition(list(group))) for _, group in groups]
        data = build(
            counted(interleaved(parts)),
            control.settings_of(request.service),
            catalogue=control.templates.get(request.service, {}).values(),
            verdicts=control.verdicts.get(request.service, {}).values(),
            without=request.without,
            max_line_bytes=settings.flink.max_line_bytes,
        )
    stages.prepare = time.perf_counter() - began - stages.read
    return data


def _archived(settings: AppSettings, files: Files, request: RetrainingRequest, track: Progress) -> list[ArchiveFile]:
    """The files to be read."""
    root = settings.hdfs.root
    archived = list_files(files, root, request.service, request.from_ms, request.to_ms)
    if not archived:
        _wait_for_first_files(settings, files, request.service, track)
        archived = list_files(files, root, request.service, request.from_ms, request.to_ms)
    if not archived:
        raise TrainingError(
            f"nothing is archived for service {request.service} in that time: is its topic "
            f"{settings.kafka.log_prefix}{request.service}, does the archiver run, and has it closed a file "
            f"yet (archive.roll_seconds = {settings.archive.roll_seconds})?"
        )
    for words in missing(archived, request.from_ms):
        track.say(words)
    chosen = sampled(archived, request.most_lines)
    if len(chosen) < len(archived):
        track.say(f"Whole hours are left out: {lines_in(archived) - lines_in(chosen):,} lines")
    return chosen


def lines_in(archived: Iterable[ArchiveFile]) -> int:
    """Lines of these files, as their names say."""
    return sum(file.last - file.first + 1 for file in archived)


def missing(archived: Sequence[ArchiveFile], from_ms: int | None) -> Iterator[str]:
    """What is not in the archive although it was asked for, in words.

    Args:
        archived: the files found, by partition and offset.
        from_ms: from when on lines were asked for.
    """
    first = min(hour_of(file) for file in archived)
    if from_ms is not None and first >= from_ms + HOUR_MS:
        yield f"The archive begins at {datetime.fromtimestamp(first / 1000, UTC):%Y-%m-%d %H:%M} UTC, later than asked"
    gaps = [
        later.first - earlier.last - 1
        for earlier, later in pairwise(archived)
        if (earlier.topic, earlier.partition) == (later.topic, later.partition) and later.first > earlier.last + 1
    ]
    if gaps:
        yield f"{sum(gaps):,} lines are missing in {len(gaps):,} places: `logcanary archive verify` says where"


def sampled(archived: Sequence[ArchiveFile], most_lines: int) -> list[ArchiveFile]:
    """Files of ``most_lines`` lines at most: whole hours are left out, evenly, and none of the newest fifth.

    Whole hours, so that sessions stay whole but for those at the edges; the newest fifth (of the hours) decides the
    thresholds and is compared with.
    """
    if not most_lines or lines_in(archived) <= most_lines:
        return list(archived)
    of_hour: dict[int, int] = {}
    for file in archived:
        of_hour[hour_of(file)] = of_hour.get(hour_of(file), 0) + file.last - file.first + 1
    hours = sorted(of_hour)
    newest = hours[int(len(hours) * (1 - HELD_BACK)) :]
    room = most_lines - sum(of_hour[hour] for hour in newest)
    older = hours[: -len(newest)]
    share = max(0.0, room / max(1, sum(of_hour[hour] for hour in older)))
    # Every hour whose running number times the share passes a whole number: evenly over the time.
    kept = {hour for number, hour in enumerate(older) if int((number + 1) * share) > int(number * share)}
    return [file for file in archived if hour_of(file) in kept or hour_of(file) in newest]


def _wait_for_first_files(settings: AppSettings, files: Files, service: str, track: Progress) -> None:
    """Where a service is so new that nothing is archived, wait for the lines that Kafka holds of it now."""
    if list_files(files, settings.hdfs.root, service):
        return
    ends = end_offsets(settings, [f"{settings.kafka.log_prefix}{service}"])
    last = {place: end - 1 for place, end in ends.items() if end}
    if not last:
        return
    roll = settings.archive.roll_seconds
    track.say(f"Wait for the archive: it closes a file after {roll} s at most (archive.roll_seconds)")
    deadline = time.monotonic() + roll + PATIENCE_SECONDS
    while archived_until(files, settings.hdfs.root, service, last) != last and time.monotonic() < deadline:
        time.sleep(ASK_AGAIN_SECONDS)
