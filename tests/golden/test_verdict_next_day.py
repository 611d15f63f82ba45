"""An alert marked *expected* does not return with the next day's lines; the same template in a burst does."""

import gzip
import re
from itertools import islice
from pathlib import Path

import numpy as np

from contracts.records import Detection, Verdict
from contracts.service import DetectorOptions, ServiceSettings
from models.alerts import group
from models.scorer import Scorer
from models.sessions import SessionTable
from models.verdicts import BEYOND, HOUR_MS, Accepted, Rates, Suppression, observed_rate, verdict_on
from parsing.events import Lines
from parsing.parser import Parser
from training.dataset import build
from training.learner import learn

LEARNT, WATCHED, BATCH = 40_000, 20_000, 5_000
SETTINGS = ServiceSettings(service="hdfs", detector=DetectorOptions(kind="ngram"))


def batches(lines: list[bytes], first: int = 0) -> list[Lines]:
    return [
        Lines.from_list(
            "hdfs",
            "logs.hdfs",
            0,
            offsets=np.arange(first + start, first + start + len(lines[start : start + BATCH])),
            arrivals=np.full(len(lines[start : start + BATCH]), 1_300_000_000_000),
            values=list(lines[start : start + BATCH]),
        )
        for start in range(0, len(lines), BATCH)
    ]


def next_day(lines: list[bytes], copy: int = 0) -> list[bytes]:
    """The lines a day later, of other blocks on other machines."""

    def line(text: bytes) -> bytes:
        later = b"%06d" % (int(text[:6]) + 1) + text[6:]
        return re.sub(rb"blk_(-?\d+)", rb"blk_\g<1>%d" % copy, later).replace(b"10.25", b"10.12")

    return [line(text) for text in lines]


class Watch:
    """The way of lines through the core, with what engineers said."""

    def __init__(self, scorer: Scorer, parser: Parser) -> None:
        self._scorer, self._parser = scorer, parser
        self._offset = 0

    def found(self, lines: list[bytes], verdicts: list[Verdict]) -> list[Detection]:
        """What is raised of lines that come after all others."""
        table = SessionTable.of(SETTINGS.detector.window, SETTINGS.session)
        suppression = Suppression(Accepted(verdicts), Rates())
        found: list[Detection] = []
        for batch in batches(lines, self._offset):
            events = self._parser.parse(batch).events
            found += self._scorer.score(events, table.extend(events), suppression).detections
        self._offset += len(lines)
        return found


def test_what_is_expected_stays_quiet_the_next_day_and_returns_in_a_burst(data_dir: Path) -> None:
    with gzip.open(data_dir / "hdfs" / "hdfs.log.gz") as file:
        lines = [line.rstrip(b"\n") for line in islice(file, LEARNT + WATCHED)]
    parser = Parser(SETTINGS)
    bundle = learn(build(batches(lines[:LEARNT]), SETTINGS, parser=parser), SETTINGS)
    watch, today = Watch(Scorer(bundle), parser), lines[LEARNT:]
    found = watch.found(today, [])
    alert = max(group(found), key=lambda one: one.count)
    assert alert.count >= 10, "the corpus has an alert with many findings"
    said = verdict_on(alert.newest, "expected", "known", "ada", 1)
    rate = observed_rate(said, found, lambda template: template)
    said = said.model_copy(update={"accepted_per_hour": rate})

    tomorrow = next_day(today)
    loud = {one.signature for one in watch.found(tomorrow, [])}
    assert alert.signature in loud, "the next day has it, too"
    quiet = {one.signature for one in watch.found(tomorrow, [said])}
    assert quiet == loud - {alert.signature}

    burst = [line for copy in range(int(2 * BEYOND)) for line in next_day(today, copy + 1)]
    again = [one for one in watch.found(burst, [said]) if one.signature == alert.signature]
    assert again
    assert all(one.escalated is not None and one.escalated.per_hour >= BEYOND / 2 * rate for one in again)
    hours = {one.event_ms // HOUR_MS for one in again}
    assert len(again) == len(hours), "once an hour at most"
