"""How long it takes from an archive to a live bundle, and what unique windows cost in quality.

``bench_training(settings, data)`` is ``logcanary bench training``; ``docs/benchmarks.md`` says what is measured. Kafka
and HDFS must be there; the archive is made first, of passes over a real log (``training.pipeline_bench``).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contracts.retraining import RetrainingRequest
from contracts.service import DetectorOptions, ServiceSettings
from contracts.settings import AppSettings
from models.base import unique_rows
from models.bundle import Bundle
from models.learning import Fit, Material, Passed
from models.learning import learn as learn_by
from storage.archive import batch_of, write_lines
from storage.files import open_files
from streaming.archiver import Buffer
from training.deeplog import fit
from training.evaluate import Prepared, service_settings, split_hdfs
from training.measures import measures
from training.pipeline_bench import BenchError, Passes, read_passes
from training.preparing import Stages
from training.trainer import train

LINE_MS = 1
"""Between two lines of the archive, by Kafka's timestamps."""
SPLIT = 0.8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Record:
    """A line as the archiver gets it from Kafka."""

    offset: int
    timestamp: int
    value: bytes
    key: None = None
    headers: tuple[()] = ()


def bench_training(
    settings: AppSettings, data: Path, *, lines: int = 2_000_000, progress: Say = lambda words: None
) -> dict[str, Any]:
    """Archive lines, train on them, and compare what is learnt from unique windows with what all windows give.

    Returns:
        ``lines, lines_per_second`` (from the call of ``train`` to the moved pointer), ``read_seconds,
        prepare_seconds, train_seconds, publish_seconds, wall_seconds, windows, unique_windows, bundle``; of the
        labelled log, with 80 % of the blocks learnt: what ``compare_windows`` returns.

    Raises:
        BenchError: there is no such log, or somebody archives under the service's name.
        StorageError: HDFS does not answer.
    """
    return archive_to_live(settings, read_passes(data, "hdfs"), lines, progress) | compare_windows(data, progress)


def archive_to_live(settings: AppSettings, passes: Passes, lines: int, progress: Say) -> dict[str, Any]:
    """Archive lines under a new service, train on them, and say what each stage took."""
    service = f"bench-training-{time.time_ns() // 1_000_000}"
    progress(f"Archive {lines:,} lines as service {service}")
    archived = _archive(settings, service, passes, lines)
    progress("Train")
    stages, began = Stages(), time.perf_counter()
    request = RetrainingRequest(service=service, author="bench training", reason="benchmark")
    manifest = train(settings, request, progress=progress, stages=stages)
    wall = time.perf_counter() - began
    if manifest.lines != archived:
        raise BenchError(f"{manifest.lines:,} lines were learnt from, {archived:,} were archived")
    return {
        "lines": archived,
        "wall_seconds": round(wall, 2),
        "lines_per_second": round(archived / wall),
        "read_seconds": round(stages.read, 2),
        "prepare_seconds": round(stages.prepare, 2),
        "train_seconds": round(stages.train, 2),
        "compare_seconds": round(stages.compare, 2),
        "publish_seconds": round(stages.publish, 2),
        "windows": manifest.windows,
        "unique_windows": manifest.unique_windows,
        "bundle": manifest.version,
    }


def compare_windows(data: Path, progress: Say = lambda words: None) -> dict[str, float]:
    """DeepLog trained on unique windows, drawn in two ways, and on every window by itself, on labelled blocks.

    Returns:
        ``f1_<way>, held_back_nats_<way>, train_seconds_<way>``, and ``same_nats_seconds_<way>``, until it held back
        what all ways reach, for ``unique_weighted`` (as services are trained),
        ``unique_root`` (drawn with the square root of their counts) and ``all_windows``; ``score_seconds_distinct`` and
        ``score_seconds_all`` of the tested windows.
    """
    _, clean, test = split_hdfs(data, SPLIT)
    prepared = Prepared.of(clean)
    tested = prepared.tested(test)
    truth = np.array([block.anomalous for block in test.blocks])
    figures: dict[str, float] = {}
    ways: dict[str, Fit] = {
        "unique_weighted": fit,
        "unique_root": partial(fit, drawn="root"),
        "all_windows": partial(fit, drawn="each"),
    }
    learn_by(prepared.dataset.material, _settings(epochs=1), fit, created_ms=0)  # what is slow once is not measured
    passes: dict[str, list[tuple[float, float]]] = {}
    for name, way in ways.items():
        progress(f"DeepLog, {name.replace('_', ' ')}")
        watch = passes.setdefault(name, [])
        began = time.perf_counter()

        def note(said: str, watch: list[tuple[float, float]] = watch, began: float = began) -> None:
            if isinstance(said, Passed):
                watch.append((time.perf_counter() - began, said.loss))

        bundle = learn_by(prepared.dataset.material, service_settings(), way, created_ms=0, say=note)
        figures[f"train_seconds_{name}"] = round(time.perf_counter() - began, 2)
        figures[f"f1_{name}"] = round(measures(tested.flagged(bundle), truth)["f1"], 4)
        figures[f"held_back_nats_{name}"] = round(bundle.manifest.metrics["held_back_nats"], 4)
    same = max(min(loss for _, loss in watch) for watch in passes.values())
    for name, watch in passes.items():
        figures[f"same_nats_seconds_{name}"] = round(next(at for at, loss in watch if loss <= same), 2)
    return figures | _scoring(bundle, prepared.dataset.material)


def _settings(epochs: int) -> ServiceSettings:
    return service_settings().model_copy(update={"detector": DetectorOptions(epochs=epochs)})


def _scoring(bundle: Bundle, material: Material) -> dict[str, float]:
    """Seconds that the model takes for windows, each distinct context once, and each as often as it came."""
    contexts = bundle.vocabulary.indices(material.contexts)[material.which]
    distinct, where = unique_rows(contexts)
    began = time.perf_counter()
    by_distinct = bundle.model.log_probabilities(distinct)[where]
    after = time.perf_counter()
    by_each = np.concatenate([bundle.model.log_probabilities(part) for part in np.array_split(contexts, 64)])
    seconds = {"score_seconds_distinct": after - began, "score_seconds_all": time.perf_counter() - after}
    if not np.allclose(by_distinct, by_each, atol=1e-3):
        raise BenchError("a context that is asked twice has two answers")
    return {name: round(one, 3) for name, one in seconds.items()}


def _archive(settings: AppSettings, service: str, passes: Passes, lines: int) -> int:
    """Write the archive as the archiver would; returns how many lines it has."""
    files, topic = open_files(settings.hdfs), f"{settings.kafka.log_prefix}{service}"
    begin = time.time_ns() // 1_000_000 - lines * LINE_MS
    buffers: dict[int, Buffer] = {}
    offsets: dict[int, int] = {}
    count = 0
    for partition, texts in _cut(passes.batches(lines), lines):
        first = offsets.get(partition, 0)
        records = [_Record(first + row, begin + (count + row) * LINE_MS, text) for row, text in enumerate(texts)]
        buffer = buffers.setdefault(partition, Buffer(settings.archive))
        for segment in buffer.add(batch_of(topic, partition, records), 0.0):
            write_lines(files, settings.hdfs.root, service, segment.batches)
        offsets[partition] = first + len(texts)
        count += len(texts)
    for buffer in buffers.values():
        if buffer.bytes:
            write_lines(files, settings.hdfs.root, service, buffer.close().batches)
    return count


def _cut(batches: Iterator[tuple[int, list[bytes]]], lines: int) -> Iterator[tuple[int, list[bytes]]]:
    """The batches that hold something, no line beyond so many."""
    for partition, texts in batches:
        kept = texts[:lines]
        lines -= len(kept)
        if kept:
            yield partition, kept
