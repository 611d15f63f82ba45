"""One bundle applied to windows: which of them do not belong, how sure that is, and why.

    scorer = Scorer(bundle)
    scored = scorer.score(events, table.extend(events), suppression)
    send(scored.detections)

Windows judged before are answered from memory; the others are made unique and judged in one call of the model.
"""

import hashlib
import math
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.records import Before, Detection, Escalation, Expected
from models import drift
from models.alerts import worst_by_id
from models.base import expected
from models.bundle import Bundle
from models.memory import Memory, window_hashes
from models.sessions import END, PADDING, Flags, Ids, Ints, Windows
from models.verdicts import Place, Suppression, escalated
from models.vocabulary import FIRST_INDEX, UNKNOWN_INDEX
from models.wording import Wordings, is_rewording
from parsing.events import Events, template_hex

EXPECTED = 5
"""Likeliest events named with a detection."""
HEADLINE_EXPECTED = 3
HEADLINE_CHARACTERS = 80
"""Of each template in a headline; the records carry all of it."""
END_TEXT = "end of session"
MAX_TEXTS = 10_000
"""Texts of templates the bundle does not know, kept for the events before a later finding."""


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """What came out of one batch."""

    detections: list[Detection]
    windows: int
    windows_remembered: int
    unknown: int
    """Events whose template the bundle does not know,"""
    reworded: int
    """and of these, those of a known one in other words."""
    suppressed: int
    """Findings not raised because of a verdict."""
    surprises: tuple[int, ...] = ()
    """Windows by how surprising they were (``models.drift.EDGES``)."""


class Scorer:
    """Judges the windows of one service by one bundle.

    Args:
        bundle: What judges.
        memory_bits: Answers are remembered for 2 to this power windows, 16 bytes each.

    Raises:
        BundleError: The bundle's calibration is damaged.
    """

    def __init__(self, bundle: Bundle, memory_bits: int = 17) -> None:
        self.bundle = bundle
        self._detector = bundle.manifest.settings.detector
        self._streams_count = bundle.manifest.settings.session.unnamed == "stream"
        self._sessions, self._streams = bundle.calibrated("session"), bundle.calibrated("stream")
        self._memory = Memory(memory_bits)
        self._texts: dict[int, str] = {}
        self._wordings = Wordings(one.text for one in bundle.vocabulary.entries)
        self._reworded: dict[int, int] = {}  # unknown template -> position of the known one that it is in other words

    def adopt(self, texts: Mapping[int, str]) -> None:
        """Learn texts of templates (a catalogue's): known by another id, they are recognised by their exact text.

        One that is new and says nearly what a known one says is taken for that one (``models.wording``).
        """
        known = self.bundle.vocabulary
        strange = {template: text for template, text in texts.items() if self._texts.get(template) != text}
        strange = {template: text for template, text in strange.items() if template not in known}
        if known.recognise(strange):
            self._memory.clear()
        for template, text in strange.items():
            number, alike = self._wordings.nearest(text)
            if template not in known and is_rewording(text, self._wordings.texts[number] if alike else "", alike):
                self._reworded[template] = FIRST_INDEX + number
                self._memory.clear()
        self._texts |= strange
        while len(self._texts) > MAX_TEXTS:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            self._reworded.pop(oldest, None)

    def alias(self, template: int, root: int) -> None:
        """Learn that lines of a template may come under another id (an alias of the catalogue)."""
        if self.bundle.vocabulary.same(template, root):
            self._memory.clear()

    def tell_apart(self, parts: Mapping[int, int]) -> None:
        """Learn which templates were told apart from which since: a part that the bundle does not know is the whole.

        Args:
            parts: ids of parts, each with that of its whole.
        """
        for part, whole in parts.items():
            if part not in self.bundle.vocabulary:
                self.alias(part, whole)

    def known_as(self, templates: Ids, owners: Ints) -> Ids:
        """The ids under which the bundle knows templates, [n]; of those it does not know, their own.

        A template that is a known one in other words counts as that one, unless its owner (a session, a window) holds
        that one, too: then both are there.
        """
        known = self.bundle.vocabulary
        indices = known.indices(templates)
        if self._reworded and (unknown := np.flatnonzero(indices == UNKNOWN_INDEX)).size:
            became = self._reworded_as(templates[unknown])
            size = len(known) + FIRST_INDEX
            held = np.isin(owners[unknown] * size + became, owners * size + indices)
            indices[unknown] = np.where(held, UNKNOWN_INDEX, became)
        found = indices > UNKNOWN_INDEX
        ids: Ids = templates.copy()
        ids[found] = known.templates[indices[found] - FIRST_INDEX]
        return ids

    def _reworded_as(self, templates: Ids) -> Ints:
        """Positions of the known templates that these are in other words, else ``UNKNOWN_INDEX``: [n]."""
        distinct, where = np.unique(templates, return_inverse=True)
        became = np.array([self._reworded.get(one, UNKNOWN_INDEX) for one in distinct.tolist()], dtype=np.int64)
        positions: Ints = became[where.reshape(-1)]
        return positions

    def _windows_as_known(self, contexts: Ids, targets: Ids) -> tuple[Ids, Ids]:
        """Windows with the ids under which the bundle knows their templates: [n, window] and [n]."""
        if not self._reworded:
            return contexts, targets
        cells = np.column_stack([contexts, targets])
        owners = np.repeat(np.arange(len(cells), dtype=np.int64), cells.shape[1])
        cells = self.known_as(cells.reshape(-1), owners).reshape(cells.shape)
        return cells[:, :-1], cells[:, -1]

    def is_unseen(self, template: int) -> bool:
        """Whether the bundle knows neither the template nor one of which it is another wording."""
        return template not in self.bundle.vocabulary and template != END and template not in self._reworded

    def texts(self, templates: Ids) -> dict[int, str]:
        """Texts of templates, as far as they are known here."""
        known = self.bundle.vocabulary
        distinct = np.unique(templates).tolist()
        return {
            one: known.text(known.index(one)) if one in known else self._texts[one]
            for one in distinct
            if one in known or one in self._texts
        }

    def score(
        self,
        events: Events,
        windows: Windows,
        suppression: Suppression | None = None,
        adopted: AbstractSet[int] = frozenset(),
    ) -> Scored:
        """Judge the windows that ``SessionTable.extend`` made of these events (or that ``expire`` made of none).

        Args:
            events: of one bucket.
            windows: of these events.
            suppression: what engineers have accepted: it is not raised, and not explained.
            adopted: templates that the bundle does not know and a release has made normal: the model has nothing to
                say of a window that holds one, and nothing is raised of it.
        """
        self.adopt(events.templates)
        n = len(windows) if self.bundle.manifest.end_event else windows.events
        if not n:
            return Scored([], 0, 0, 0, 0, 0)
        surprises, ranks, remembered = self._judge(windows.contexts[:n], windows.targets[:n])
        raised = np.flatnonzero(self._raises(surprises, ranks, windows.streams[:n]))
        judged = raised[~_holds(windows, raised, adopted)] if adopted else raised
        wanted = self._wanted(events, windows, judged, suppression)
        kept = np.fromiter(wanted, np.int64, len(wanted))
        detections = self._explain(events, windows, kept, surprises, ranks) if len(kept) else []
        detections = [escalated(found, why) for found, why in zip(detections, wanted.values(), strict=True)]
        detections = list(worst_by_id(detections).values())
        targets = windows.targets[: windows.events]
        unknown = targets[self.bundle.vocabulary.indices(targets) == UNKNOWN_INDEX]
        return Scored(
            detections,
            windows=n,
            windows_remembered=int(np.count_nonzero(remembered)),
            unknown=len(unknown),
            reworded=int(np.count_nonzero(self._reworded_as(unknown) > UNKNOWN_INDEX)),
            suppressed=len(raised) - len(kept),
            surprises=drift.counts(surprises),
        )

    def _wanted(
        self, events: Events, windows: Windows, raised: Ints, suppression: Suppression | None
    ) -> dict[int, Escalation | None]:
        """Of the windows to be raised those that nobody has accepted; with the escalation where there are too many."""
        if not suppression:
            return dict.fromkeys(raised.tolist())
        wanted: dict[int, Escalation | None] = {}
        for window in raised.tolist():
            line, before = self._line(events, windows, window), windows.contexts[window].tolist()
            detector = self._detector_of(windows, window)
            place = Place.at(int(windows.targets[window]), detector, line, (one for one in before if one != PADDING))
            is_raised, why = suppression.ask(place)
            if is_raised:
                wanted[window] = why
        return wanted

    def _detector_of(self, windows: Windows, window: int) -> str:
        return self.bundle.model.name + (".end" if window >= windows.events else "")

    def _line(self, events: Events, windows: Windows, window: int) -> dict[str, str | int]:
        """The line that a window is about, as a row of the events' frame."""
        if window >= windows.events:
            return self._last_line(windows, window)
        return events.frame.row(int(windows.rows[window]), named=True)

    def raises(self, contexts: Ids, targets: Ids, streams: Flags) -> Flags:
        """Which windows are raised where nobody has accepted anything: [n, window], [n] and [n] in, [n] out."""
        surprises, ranks, _ = self._judge(contexts, targets)
        return self._raises(surprises, ranks, streams)

    def _raises(self, surprises: NDArray[np.float32], ranks: Ints, streams: Flags) -> Flags:
        over = self._over(surprises, ranks, streams)
        return over if self._streams_count else over & ~streams

    def _judge(self, contexts: Ids, targets: Ids) -> tuple[NDArray[np.float32], Ints, Flags]:
        """Surprise and rank of each window, and which of them were remembered: [n]."""
        hashes = window_hashes(contexts, targets)
        remembered, surprises, ranks = self._memory.find(hashes)
        missing = np.flatnonzero(~remembered)
        if len(missing):
            distinct, first, where = np.unique(hashes[missing], return_index=True, return_inverse=True)
            rows = missing[first]
            answer = self.bundle.judge(*self._windows_as_known(contexts[rows], targets[rows]))
            surprises[missing], ranks[missing] = answer.surprises[where], answer.ranks[where]
            self._memory.store(distinct, answer.surprises, answer.ranks)
        return surprises, ranks, remembered

    def _over(self, surprises: NDArray[np.float32], ranks: Ints, streams: Flags) -> Flags:
        if self._detector.rule == "top_g":
            return ranks > self._detector.top_g
        return surprises > np.where(streams, self._streams.bar, self._sessions.bar)

    def _scores(self, surprise: float, rank: int, stream: bool) -> tuple[float, float]:
        """Score and threshold. By the rule ``top_g`` the score is ``1 - 1 / rank``."""
        if self._detector.rule == "top_g":
            return 1 - 1 / rank, 1 - 1 / self._detector.top_g
        calibrated = self._streams if stream else self._sessions
        return max(calibrated.score(surprise), calibrated.threshold), calibrated.threshold

    def _explain(
        self, events: Events, windows: Windows, which: Ints, surprises: NDArray[np.float32], ranks: Ints
    ) -> list[Detection]:
        """Make the detections of the windows ``which``, with their evidence."""
        known = self.bundle.vocabulary
        distinct, where = np.unique(windows.contexts[which], axis=0, return_inverse=True)
        asked, _ = self._windows_as_known(distinct, np.full(len(distinct), PADDING, dtype=np.uint64))
        likeliest = expected(self.bundle.model, known.indices(asked), EXPECTED)
        named = [
            tuple(
                Expected(template=template_hex(known.template(i)), text=known.text(i), probability=min(1.0, chance))
                for i, chance in row
            )
            for row in likeliest
        ]
        now = time.time_ns() // 1_000_000
        return [
            self._detection(
                events, windows, window, named[context], (float(surprises[window]), int(ranks[window])), now
            )
            for window, context in zip(which.tolist(), where.reshape(-1).tolist(), strict=True)
        ]

    def _detection(
        self,
        events: Events,
        windows: Windows,
        window: int,
        likeliest: tuple[Expected, ...],
        answer: tuple[float, int],
        now: int,
    ) -> Detection:
        surprise, rank = answer
        end = window >= windows.events
        line = self._line(events, windows, window)
        template = int(windows.targets[window])
        text = END_TEXT if end else events.templates[template]
        detector = self._detector_of(windows, window)
        score, threshold = self._scores(surprise, rank, bool(windows.streams[window]))
        place = (events.service, events.topic, str(line["partition"]), str(line["offset"]), detector)
        return Detection(
            id=digest(*place),
            signature=digest(events.service, detector, template_hex(template)),
            service=events.service,
            detector=detector,
            kind="end" if end else "event",
            topic=events.topic,
            partition=line["partition"],
            offset=line["offset"],
            arrival_ms=line["arrival"],
            event_ms=line["time"],
            detected_ms=now,
            session=line["session"],
            line=line["line"],
            level=line["level"],
            template=template_hex(template),
            template_text=text,
            unseen=self.is_unseen(template),
            score=score,
            threshold=threshold,
            surprise=surprise,
            rank=rank,
            expected=likeliest,
            before=tuple(
                Before(template=template_hex(one), text=self._text(events, one))
                for one in windows.contexts[window].tolist()
                if one != PADDING
            ),
            bundle=self.bundle.manifest.version,
            headline=self._headline(likeliest, template, text, surprise),
        )

    def _last_line(self, windows: Windows, window: int) -> dict[str, str | int]:
        """The last line of the session that ended, as a row of the events' frame would be."""
        ends, row = windows.ends, window - windows.events
        return {
            "partition": int(ends.partition[row]),
            "offset": int(ends.offset[row]),
            "arrival": int(ends.arrival[row]),
            "time": int(ends.time[row]),
            "session": ends.session[row],
            "level": ends.level[row],
            "line": ends.line[row],
        }

    def _text(self, events: Events, template: int) -> str:
        known = self.bundle.vocabulary
        if template in known:
            return known.text(known.index(template))
        return events.templates.get(template) or self._texts.get(template, "")

    def _headline(self, likeliest: tuple[Expected, ...], template: int, text: str, surprise: float) -> str:
        """Say it: *expected one of A (0.71), B (0.20); saw D (p = 0.0003)*."""
        options = ", ".join(
            f"{_short(one.text)} ({one.probability:.2f})"
            for one in likeliest[:HEADLINE_EXPECTED]
            if one.probability >= 0.005
        )
        if template == END:
            came = f"the session ended (p = {math.exp(-surprise):.1g})"
        elif template in self.bundle.vocabulary:
            came = f"saw {_short(text)} (p = {math.exp(-surprise):.1g})"
        else:
            came = f"saw {_short(text)}, never seen before"
        return f"expected one of {options}; {came}" if "), " in options else f"expected {options}; {came}"


def _holds(windows: Windows, which: Ints, templates: AbstractSet[int]) -> Flags:
    """Which of the windows hold one of these templates: [n]."""
    ids = np.fromiter(templates, np.uint64, len(templates))
    held: Flags = np.isin(windows.targets[which], ids) | np.isin(windows.contexts[which], ids).any(axis=1)
    return held


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= HEADLINE_CHARACTERS else text[: HEADLINE_CHARACTERS - 1] + "…"


def digest(*parts: str) -> str:
    """64 bits of a hash over parts, as 16 hex digits; no two lists of parts are written alike."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
