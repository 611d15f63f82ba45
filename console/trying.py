"""*Try it*: lines pasted into a page, parsed and judged as the job would, with nothing written anywhere.

rows = try_lines(text, settings, catalogue, bundle)
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from contracts.records import Detection, Template
from contracts.service import ServiceSettings
from models.bundle import Bundle
from models.scorer import Scorer
from models.sessions import SessionTable
from parsing.apart import parts_of
from parsing.events import Lines, template_hex
from parsing.parser import Parser
from parsing.sessions import spread

MOST_LINES = 500
MOST_BYTES = 48_000


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a line."""

    line: str
    template: str
    text: str
    session: str
    level: str
    is_new: bool
    """The service's catalogue does not have the template."""
    findings: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of all of them."""

    rows: tuple[Tried, ...]
    unreadable: int
    bundle: str
    """Version that judged; empty: the service has none, and the lines were parsed only."""


def try_lines(
    text: str, settings: ServiceSettings, catalogue: Iterable[Template] = (), bundle: Bundle | None = None
) -> Trial:
    """Parse lines, cut them into sessions, and judge them where there is a bundle.

    Sessions begin with the first line given: what came before is not known here, so that a bundle may find strange what
    the job would not.

    Args:
        text: lines; ``MOST_LINES`` are looked at.
        settings: of the service.
        catalogue: the templates it knows.
        bundle: the live one.
    """
    given = [line.rstrip("\r").encode() for line in text.split("\n") if line.strip()][:MOST_LINES]
    known = tuple(catalogue)
    if not given:
        return Trial((), 0, bundle.manifest.version if bundle else "")
    parser = Parser(settings)
    parser.adopt(known)
    arrivals = np.full(len(given), time.time_ns() // 1_000_000)
    parsed = parser.parse(Lines.from_list(settings.service, "pasted", 0, np.arange(len(given)), arrivals, given))
    events = spread(parsed.events, settings.session)
    findings: dict[int, list[Detection]] = {}
    if bundle is not None:
        made = bundle.manifest
        scorer = Scorer(bundle)
        scorer.tell_apart(parts_of(settings.service, settings.splits))
        scorer.adopt({int(one.id, 16): one.text for one in known})
        windows = SessionTable.of(made.window, made.settings.session).extend(events)
        for found in scorer.score(events, windows).detections:
            findings.setdefault(found.offset, []).append(found)
    names = {one.id for one in known}
    rows = [
        Tried(
            line=row["line"],
            template=template_hex(row["template"]),
            text=events.templates.get(row["template"], ""),
            session=row["session"],
            level=row["level"],
            is_new=template_hex(row["template"]) not in names,
            findings=tuple(findings.get(row["offset"], ())),
        )
        for row in parsed.events.frame.iter_rows(named=True)
    ]
    return Trial(tuple(rows), len(parsed.dead), bundle.manifest.version if bundle else "")
