"""Lines with a known story: the sessions of a web shop, a few of which go wrong, the same for the same seed.

    streams = [Orders(seed=1, partition=partition) for partition in range(4)]
    lines = streams[0].take(1000)

All lines of a session are in one partition. Event time goes on by ``step_seconds`` a line, so that what happens
depends on the lines alone: far fewer sessions are open than ``session.max_open``, and one ends at a stated line.
"""

import random
import string
import time
from datetime import UTC, datetime, timedelta

from contracts.service import DetectorOptions, ServiceSettings, SessionOptions
from models.bundle import Bundle
from models.learning import Collector, fit_ngram, learn
from models.sessions import SessionTable
from parsing.events import Lines
from parsing.parser import Parser

BEGIN = datetime(2020, 5, 1, tzinfo=UTC)
ACTIVE = 40
"""Sessions that a partition's lines are of at any time."""
WRONG_SHARE = 0.03
"""Sessions that go wrong."""
BROKEN_SHARE = 0.0005
"""Lines that are no text at all: dead letters."""
NOVEL_SHARE = 0.002
"""Lines of a shape never seen before, where the parser is to go on learning."""
LEARNT_LINES = 20_000
WINDOW = 4
STEP_SECONDS = 0.2

# No two have the same number of words and similar ones: what a template is does not depend on what was seen first.
BASKET = "request received from 10.0.{a}.{b} for basket {c}"
STOCK = "stock of item {c} checked and {a} pieces reserved in warehouse {b}"
PRICE = "price computed in {a} ms"
PAID = "payment {c} taken by bank {b}"
RETRY = "bank {b} answered slowly so the transfer is tried once more after {a} ms"
PACKED = "parcel packed at desk {b}"
CARRIER = "parcel {c} handed over to carrier number {b} of today"
MAIL = "mail sent"
REFUSED = "card refused by issuer with code {a}: customer must choose another way of paying for basket {c}"

GOOD = (
    (BASKET, STOCK, PRICE, PAID, PACKED, CARRIER, MAIL),
    (BASKET, STOCK, PRICE, RETRY, PAID, PACKED, CARRIER, MAIL),
    (BASKET, STOCK, STOCK, PRICE, PAID, PACKED, CARRIER, MAIL),
)
WRONG = (
    (BASKET, CARRIER, STOCK, PRICE, PAID),
    (BASKET, STOCK, PRICE, PACKED, PAID, CARRIER, MAIL),
    (BASKET, STOCK, PRICE, REFUSED, PACKED, CARRIER, MAIL),
    (BASKET, STOCK, PRICE, PAID),
)
BROKEN = (b"", b"\xff\xfe\x00\xc3(")
NOVEL = (
    "{0} {1} {2} {3} {4} {5} {6}",  # a template each
    "robot of lane {0} reports state={1}.{2}",  # a template that generalises with the second line
)


class Orders:
    """The lines of one partition, without end.

    Args:
        seed: the same gives the same lines.
        partition: others give other sessions.
        wrong: share of sessions that go wrong.
        broken: share of lines that cannot be read.
        step_seconds: event time from line to line.
        novel: share of lines of a shape never seen before.
    """

    def __init__(
        self,
        seed: int,
        partition: int,
        wrong: float = WRONG_SHARE,
        broken: float = BROKEN_SHARE,
        step_seconds: float = STEP_SECONDS,
        novel: float = 0.0,
    ) -> None:
        self._random = random.Random(f"{seed}/{partition}")
        self._name = f"{seed % 2**24:06x}{partition:04x}"
        self._wrong, self._broken = wrong, broken
        self._step, self._novel = step_seconds, novel
        self._lines = self._sessions = 0
        self._active = [self._session() for _ in range(ACTIVE)]
        self._second, self._stamp = -1, ""

    def take(self, count: int) -> list[bytes]:
        """Return the next ``count`` lines."""
        return [self._line() for _ in range(count)]

    def _session(self) -> list[str]:
        """The lines of a session from the first, in reverse: what comes next is popped."""
        self._sessions += 1
        chance = self._random.random
        stories = WRONG if chance() < self._wrong else GOOD
        story = stories[int(chance() * len(stories))]
        trace = f" trace_id={self._name}{self._sessions:022x}"
        values = {"a": int(chance() * 200), "b": int(chance() * 200), "c": 10_000 + int(chance() * 80_000)}
        return [text.format(**values) + trace for text in reversed(story)]

    def _line(self) -> bytes:
        self._lines += 1
        if self._random.random() < self._broken:
            return BROKEN[self._lines % len(BROKEN)]
        chosen = int(self._random.random() * ACTIVE)
        session = self._active[chosen]
        text = session.pop()
        if self._novel and self._random.random() < self._novel:
            text = self._never_seen() + text[text.rindex(" trace_id=") :]
        if not session:
            self._active[chosen] = self._session()
        second = int(self._lines * self._step)
        if second != self._second:
            self._second = second
            self._stamp = f"{BEGIN + timedelta(seconds=second):%Y-%m-%d %H:%M:%S}"
        return f"{self._stamp} INFO {text}".encode()

    def _never_seen(self) -> str:
        words = ["".join(self._random.choices(string.ascii_lowercase, k=6)) for _ in range(7)]
        return self._random.choice(NOVEL).format(*words)


def options_of(service: str) -> ServiceSettings:
    """The settings of a service whose lines these are."""
    # What is found across traces depends on how partitions mix (docs/invariants.md, 3.7), and is no part of the core.
    detector = DetectorOptions(kind="ngram", window=WINDOW, end_event="on", traces="off")
    return ServiceSettings(service=service, session=SessionOptions(by="auto"), detector=detector)


def bundle_for(service: str, topic: str, seed: int) -> Bundle:
    """A bundle learnt by the core from orders that go well."""
    # Time goes by faster here, so that most sessions end; the last ones, half told, are not ended by force.
    options, lines = options_of(service), Orders(seed + 1, 9_999, wrong=0, broken=0, step_seconds=4).take(LEARNT_LINES)
    table = SessionTable(WINDOW, options.session.gap_seconds, options.session.max_open)
    parser, collector = Parser(options), Collector(WINDOW)
    now = time.time_ns() // 1_000_000  # a line written long after it arrived would have no usable time
    batch = Lines.from_list(service, topic, 0, range(len(lines)), [now] * len(lines), lines)
    events = parser.parse(batch).events
    collector.add(table.extend(events), events.templates)
    material = collector.material(lines=len(lines), from_ms=0, to_ms=1)
    return learn(material, options, fit_ngram, created_ms=now)
