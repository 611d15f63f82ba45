"""The lines around a finding, as its topic has them, or the archive once they left it; without what is redacted.

around(settings, view.settings_of("web"), found).lines     # [(41, "..."), (42, "..."), ...] by offset
"""

from typing import NamedTuple

from contracts.records import Detection
from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from parsing.redaction import Redaction
from storage.archive import list_files, read_files
from storage.broker import read_at
from storage.files import open_files

AROUND = 10
"""Lines before and after that are listed,"""
REACH = 150
"""and among which those of the session are looked for."""
MOST_CHARACTERS = 4_000
"""Of a line that is shown."""


class Around(NamedTuple):
    """Lines of one partition."""

    source: str
    """``topic`` or ``archive``."""
    lines: list[tuple[int, str]]
    """Offset and text, in order; empty: neither has them."""


def around(
    settings: AppSettings, options: ServiceSettings, found: Detection, reach: int = AROUND, *, archive: bool = True
) -> Around:
    """Read the lines around a finding's.

    Args:
        settings: where Kafka and the archive are.
        options: of the service: what is redacted.
        found: the finding.
        reach: lines before and after it.
        archive: whether they are looked for there, too.

    Raises:
        BrokerUnreachableError, StorageError: Kafka or the archive does not answer.
    """
    first, last = max(0, found.offset - reach), found.offset + reach
    records = read_at(settings, {(found.topic, found.partition): range(first, last + 1)})
    lines, source = [(one.offset, one.value) for one in records], "topic"
    if archive and found.offset not in dict(lines):
        lines, source = _archived(settings, found, first, last), "archive"
    redaction = Redaction.build(options.redact)
    return Around(source, [(offset, _text(redaction, value)) for offset, value in lines])


def near(lines: list[tuple[int, str]], offset: int) -> list[tuple[int, str]]:
    """Those of the lines that are listed."""
    return [one for one in lines if abs(one[0] - offset) <= AROUND]


def _archived(settings: AppSettings, found: Detection, first: int, last: int) -> list[tuple[int, bytes | None]]:
    files, root = open_files(settings.hdfs), settings.hdfs.root
    listed = list_files(files, root, found.service, found.arrival_ms, found.arrival_ms + 1)
    place = found.topic, found.partition
    near = [one for one in listed if (one.topic, one.partition) == place and one.overlaps(first, last)]
    rows = [
        row
        for table in read_files(files, near)
        for row in zip(table["offset"].to_pylist(), table["value"].to_pylist(), strict=True)
    ]
    return [row for row in rows if first <= row[0] <= last]


def _text(redaction: Redaction, value: bytes | None) -> str:
    text = redaction.text((value or b"").decode("utf-8", "replace"))
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
