"""A bundle's detectors of whole sessions applied to sessions that are over: which are rare, and why.

    judge = SessionScorer(scorer)                      # of one bucket: it goes on learning what was normal there
    store.extend(events, windows)
    sessions, ends = store.finished(windows, gap_ms)
    scored = judge.score(sessions, windows.ends, ends, topic, suppression)

Whether a session is raised does not depend on the batch in which it was found to be over, as long as nothing is learnt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.records import END_TEMPLATE, Before, Detection
from models.ensemble import Judged
from models.finished import Sessions
from models.running import Running
from models.scorer import END_TEXT, Scorer, digest
from models.sentences import reason_of, sentence
from models.sessions import Ends, Ints
from models.verdicts import Place, Suppression, escalated
from parsing.events import template_hex

MOST_BEFORE = 100
"""Events shown with a finding: the last ones of the session."""
DETECTOR = "session"
"""Stands in the ids of findings for whatever detector finds it rarest, which may change with the bundle."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoredSessions:
    """What came out of one batch of ended sessions."""

    detections: Sequence[Detection] = ()
    judged: int = 0
    suppressed: int = 0
    """Findings not raised because of a verdict."""
    passed: int = 0
    """Ended sessions that were not judged."""
    learnt: int = 0
    """Older sessions learnt meanwhile."""


class SessionScorer:
    """Judges the sessions of one bucket by one bundle.

    Args:
        scorer: Of the bundle; it knows the texts of templates, and under which ids they come.

    Raises:
        StateError: The bundle's detectors are damaged.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._manifest = scorer.bundle.manifest
        self._running = Running(scorer.bundle.detectors(), known=scorer.bundle.vocabulary.templates)
        self._learns = self._manifest.settings.detector.learning == "on"
        self._was_loaded = False

    @property
    def adopted(self) -> frozenset[int]:
        """Templates that the bundle does not know and a release has made normal."""
        return self._running.news

    @property
    def learnt(self) -> int:
        """Sessions learnt while running."""
        return self._running.learnt

    def dump(self) -> bytes:
        """Encode what is known now; empty where that is what the bundle knows."""
        return self._running.dump() if self.learnt or self.adopted or self._was_loaded else b""

    def load(self, data: bytes) -> None:
        """Go on from what ``dump`` wrote.

        Raises:
            StateError: The bytes are damaged, or of another format.
        """
        if data:
            self._running.load(data)
            self._was_loaded = True

    def score(
        self, sessions: Sessions, ends: Ends, rows: Ints, topic: str, suppression: Suppression | None = None
    ) -> ScoredSessions:
        """Judge sessions, then learn what is due.

        Args:
            sessions: that are over.
            ends: the last lines of these, and maybe of others.
            rows: [n] the row in ``ends`` of each session.
            topic: whose lines they are.
            suppression: what engineers have accepted: it is not raised.
        """
        if not len(sessions):
            return ScoredSessions(passed=len(ends))
        before = self.learnt
        order = np.argsort(sessions.closed, kind="stable")
        known = self._scorer.known_as(sessions.templates, sessions.owners)
        sessions = replace(sessions, templates=known, texts=self._scorer.texts(known)).take(order)
        judged = self._running.judge(sessions) if self._learns else self._running.ensemble.judge(sessions)
        found = [
            self._detection(sessions, judged, int(row), ends, int(rows[order[row]]), topic)
            for row in np.flatnonzero(judged.raised)
        ]
        asked = [(one, *(suppression.ask(Place.of(one)) if suppression else (True, None))) for one in found]
        kept = [escalated(one, why) for one, is_raised, why in asked if is_raised]
        return ScoredSessions(
            kept, len(sessions), len(found) - len(kept), passed=len(ends) - len(rows), learnt=self.learnt - before
        )

    def _detection(self, sessions: Sessions, judged: Judged, row: int, ends: Ends, end: int, topic: str) -> Detection:
        just = np.array([row])
        why = self._running.ensemble.explain(sessions.take(just), 0, judged.take(just))
        named = [one for each in why for one in (*each.related, *(part.template for part in each.parts))]
        texts = sessions.texts | self._scorer.texts(np.array(named, dtype=np.uint64))  # what is missing is in none
        reasons = tuple(reason_of(one, sentence(one, texts), texts) for one in why)
        about = reasons[0].parts[0] if reasons[0].parts else None
        template = about.template if about is not None and about.template else END_TEMPLATE
        service = self._manifest.service
        held = sessions.templates[sessions.rows(row)].tolist()
        return Detection(
            id=digest(service, topic, str(ends.partition[end]), str(ends.offset[end]), DETECTOR),
            signature=digest(service, reasons[0].detector, template),
            service=service,
            detector=reasons[0].detector,
            kind="session",
            topic=topic,
            partition=int(ends.partition[end]),
            offset=int(ends.offset[end]),
            arrival_ms=int(ends.arrival[end]),
            event_ms=int(ends.time[end]),
            detected_ms=time.time_ns() // 1_000_000,
            session=ends.session[end],
            line=ends.line[end],
            level=ends.level[end],
            template=template,
            template_text=texts.get(int(template, 16), "") if template != END_TEMPLATE else END_TEXT,
            unseen=int(template, 16) in held and self._scorer.is_unseen(int(template, 16)),
            score=float(judged.scores[row]),
            threshold=1 - self._running.ensemble.budget,
            surprise=float(judged.ensemble[row]),
            rank=1,
            expected=(),
            before=tuple(Before(template=template_hex(one), text=texts.get(one, "")) for one in held[-MOST_BEFORE:]),
            reasons=reasons,
            bundle=self._manifest.version,
            headline=reasons[0].sentence,
        )
