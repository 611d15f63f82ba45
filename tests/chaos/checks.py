"""What must hold when everything is over: each function returns the sentences that say what does not, none if all does.

They are given what the stack has written and what the core says (``tests.chaos.expected``), and ask nothing else.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from contracts.records import Statistic
from contracts.settings import AppSettings
from deploy.processes import marked
from models.bundle import BundleError
from models.registry import Registry
from storage.archive import list_files, read_file
from storage.broker import read_all
from storage.control import read_control
from storage.files import open_files
from storage.keeping import verify
from tests.chaos.expected import Expected

SHOWN = 3
"""Examples in a sentence."""
MAY_DIFFER = ("detected_ms", "late")
"""Of two records of one detection: when it was made."""
NAMED = ("template", "signature", "template_text", "headline")
"""... and how a template reads that the parser has learnt, and may have generalised, between the two."""


def detections(records: Iterable[bytes], topic: str, expected: Expected) -> tuple[list[str], dict[str, int]]:
    """Compare the records of the detections' topic with what was expected; also returns how many there were."""
    found: dict[str, dict[str, object]] = {}
    total, changed = 0, set()
    for record in records:
        one = json.loads(record)
        if one["topic"] != topic:
            continue
        total += 1
        told = _told(one, expected)
        if found.setdefault(one["id"], told) != told:
            changed.add(one["id"])
    missing, extra = expected.detections - found.keys(), found.keys() - expected.detections
    problems = []
    if missing:
        problems.append(f"{len(missing)} detections are missing, e.g. {sorted(missing)[:SHOWN]}")
    if extra:
        named = [(one, found[one]["partition"], found[one]["offset"], found[one]["kind"]) for one in sorted(extra)]
        problems.append(f"{len(extra)} detections are too many, e.g. {named[:SHOWN]}")
    if changed:
        problems.append(f"{len(changed)} detections came twice and differ, e.g. {sorted(changed)[:SHOWN]}")
    counts = {"detections": len(found), "detections_expected": len(expected.detections), "detection_records": total}
    return problems, counts


def _told(one: dict[str, Any], expected: Expected) -> dict[str, object]:
    """What two records of one detection must agree in."""
    leave_out = MAY_DIFFER if one.get("template") in expected.known else MAY_DIFFER + NAMED
    told = {name: value for name, value in one.items() if name not in leave_out}
    if "before" in told:
        told["before"] = [event if event["template"] in expected.known else "learnt" for event in one["before"]]
    return told


def dead_letters(records: Iterable[bytes], topic: str, expected: Expected) -> list[str]:
    """Compare the places of the dead letters, repeated or not."""
    ones = (json.loads(record) for record in records)
    found = {(one["partition"], one["offset"]) for one in ones if one["topic"] == topic}
    if found == expected.dead:
        return []
    missing, extra = sorted(expected.dead - found), sorted(found - expected.dead)
    return [f"dead letters: {len(missing)} missing {missing[:SHOWN]}, {len(extra)} too many {extra[:SHOWN]}"]


def scored(records: Iterable[Statistic], topic: str, expected: Expected) -> list[str]:
    """Each line that can be read was judged, by its own bucket, at least once; each batch was judged whole.

    A batch says its first and last offset and how many lines it had. Batches are cut otherwise after a restart, so
    each is held against the offsets its bucket is to judge: as many as lie between the two must be in it.
    """
    problems = []
    covered = {key: np.zeros(len(offsets), dtype=np.bool_) for key, offsets in expected.scored.items()}
    parsed = [np.zeros(lines, dtype=np.bool_) for lines in expected.lines]
    for one in records:
        if one.topic != topic or not one.lines:
            continue
        if one.stage == "parse":
            parsed[one.partition][one.first_offset : one.last_offset + 1] = True
            if one.lines != one.last_offset - one.first_offset + 1:
                problems.append(f"a batch of {one.lines} lines from {one.first_offset} to {one.last_offset} was parsed")
            continue
        offsets = expected.scored.get((one.partition, one.bucket), np.zeros(0, dtype=np.int64))
        first, last = np.searchsorted(offsets, one.first_offset), np.searchsorted(offsets, one.last_offset, "right")
        if last - first != one.lines:
            problems.append(
                f"bucket {one.bucket} of partition {one.partition} judged {one.lines} of {last - first} lines "
                f"from {one.first_offset} to {one.last_offset}"
            )
        else:
            covered[one.partition, one.bucket][first:last] = True
        if not one.bundle:
            problems.append(
                f"{one.lines} lines from {one.first_offset} of partition {one.partition} were judged without "
                f"the bundle: {one.bundle_refused or 'none known'}"
            )
    unparsed = sum(int(np.count_nonzero(~seen)) for seen in parsed)
    unscored = sum(int(np.count_nonzero(~seen)) for seen in covered.values())
    if unparsed:
        problems.insert(0, f"{unparsed} lines were never parsed")
    if unscored:
        problems.insert(0, f"{unscored} lines were never scored")
    return [*problems[: 2 * SHOWN], *([f"and {len(problems) - 2 * SHOWN} more"] if len(problems) > 2 * SHOWN else [])]


def same_lines(found: Mapping[int, Sequence[bytes | None]], sent: Sequence[Sequence[bytes]], where: str) -> list[str]:
    """Compare lines byte for byte, in order."""
    problems = []
    for partition, lines in enumerate(sent):
        have = found.get(partition, ())
        if len(have) != len(lines):
            problems.append(f"{where}: partition {partition} holds {len(have)} lines, {len(lines)} were sent")
        different = next((at for at, (one, other) in enumerate(zip(have, lines, strict=False)) if one != other), None)
        if different is not None:
            problems.append(f"{where}: line {different} of partition {partition} is not the one that was sent")
    return problems


def in_topic(settings: AppSettings, topic: str, sent: Sequence[Sequence[bytes]]) -> list[str]:
    """The topic holds what was sent; all else is compared with it."""
    found: dict[int, list[bytes | None]] = {}
    for record in read_all(settings, topic):
        lines = found.setdefault(record.partition, [])
        if record.offset != len(lines):
            return [f"{topic}: offset {record.offset} of partition {record.partition} after {len(lines)} lines"]
        lines.append(record.value)
    return same_lines(found, sent, topic)


def in_archive(settings: AppSettings, service: str, sent: Sequence[Sequence[bytes]]) -> tuple[list[str], int]:
    """The archive holds every offset once, byte for byte, and files neither overlap nor leave gaps; and how many."""
    files = open_files(settings.hdfs)
    found: dict[int, list[bytes | None]] = {}
    try:
        problems = [words for one in verify(files, settings.hdfs.root, service) for words in one.problems]
        listed = list_files(files, settings.hdfs.root, service)
        for file in listed:
            found.setdefault(file.partition, []).extend(read_file(files, file)["value"].to_pylist())
    finally:
        files.close()
    return [*problems[:SHOWN], *same_lines(found, sent, "archive")], len(listed)


def bundles_readable(settings: AppSettings) -> list[str]:
    """Every live pointer names a bundle that can be read: a trainer that is killed leaves none half there."""
    files = open_files(settings.hdfs)
    problems = []
    try:
        registry = Registry(files, settings.hdfs.root)
        for service, pointer in read_control(settings).pointers.items():
            try:
                registry.load(service, pointer.version)
            except (OSError, BundleError) as error:
                problems.append(f"the live bundle of {service} cannot be read: {error}")
        for service in registry.services():
            for version in registry.versions(service):
                try:
                    registry.load(service, version)
                except (OSError, BundleError) as error:
                    problems.append(f"bundle {version} of {service} is listed and cannot be read: {error}")
    finally:
        files.close()
    return problems


def nothing_left(settings: AppSettings) -> list[str]:
    """After ``down`` no process of the stack lives."""
    left = marked(settings.home.absolute())
    return [f"{len(left)} processes are left after down: {[process.cmdline()[:3] for process in left]}"] if left else []
