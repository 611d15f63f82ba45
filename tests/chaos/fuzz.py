"""A million seeded lines of every kind through parsing and scoring: none is lost, none fails, nothing grows.

    python -m tests.chaos.fuzz --lines 1000000 --seed 1

What is expected of each line is worked out here a second time, in plain Python: which lines are dead, and why. The
stages run as the job runs them, state saved and read back now and then; the stack is not needed.
"""

import argparse
import json
import math
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from contracts.records import BundlePointer, Settings
from contracts.service import DetectorOptions, MaskOptions, ServiceSettings, SessionOptions
from contracts.settings import AppSettings, FlinkOptions
from models.bundle import Bundle
from models.learning import Collector, fit_ngram, learn
from models.sessions import SessionTable
from parsing.events import Events, Lines
from parsing.formats import FORMATS
from parsing.parser import Parser
from storage.control import ControlView, key_of
from streaming.buckets import Saved
from streaming.bundles import Bundles
from streaming.stages import ParseStage, ScoreStage
from tests.packing import pack

OPTIONS = {
    one.service: one
    for one in (
        ServiceSettings(service="alpha"),
        ServiceSettings(service="beta", session=SessionOptions(by="window")),
        ServiceSettings(
            service="gamma", format="raw", session=SessionOptions(by="identifier", pattern=r"(blk_-?\d+|é)")
        ),
        ServiceSettings(service="delta", format="log4j", masks=(MaskOptions(name="WORD", pattern=r"\p{L}+x|\x00"),)),
    )
}
SERVICES = tuple(OPTIONS)
FORGET_EVERY = 50
"""Batches after which the stages are made anew from their saved state, as after a crash."""
ARRIVAL_MS = 1_800_000_000_000
LIMIT = FlinkOptions().max_line_bytes

EXAMPLES = [example.line.encode() for form in FORMATS.values() for example in form.examples]
FRAMES = (
    *(b"\tat a.B.c(B.java:1)", b"Caused by: a.B: c", b"\t... 3 more", b"Traceback (most recent call last):"),
    *(b'  File "/a.py", line 3, in f', b"    raise X", b"goroutine 1 [running]:", b"main.main()", b"\t/a.go:1 +0x1"),
)
STAMPS = (b"stdout F", b"stdout P", b"stderr F", b"stderr P", b"stdout X")
WORDS = (
    *(b"block received from node disk full retry connection reset by peer user login failed GET POST".split()),
    *("größe naïve 東京 привет مرحبا 🐦 👩‍👩‍👧 \u202eevil \u200b zero\u00a0width é".encode().split(b" ")),
)
MAGICS = (*b"LCFR LCEV LCSE LCPS PAR1 <_> <*> <NUM>".split(), b"\x00", b",", b"|", b"\x1e\x1f", b"\n")
ANSI = (b"\x1b[31m", b"\x1b[0m", b"\x1b[2J", b"\x1b]0;title\x07", b"\x1b[38;5;196m", b"\x9b1m", b"\r", b"\b\b", b"\x07")
TIMES = (
    "2026-02-30 25:61:61", "0000-00-00 00:00:00", "9999-12-31T23:59:59.999999999Z", "1969-12-31 23:59:59",
    "2026-11-22T13:07:49+99:99", "2026-11-22T13:07:49.123456789+01:00", "Feb 29 13:07:49", "Xyz 99 99:99:99",
    "1e308", "-1", "0", "1800000000", "1800000000000", "1800000000000000000", "99999999999999999999", "NaN", "inf",
    "-inf", "null", "", " ", "2024-02-29", "22/Nov/2026:13:07:49 +0000", "1800000000.123",
    "\u0662\u0660\u0662\u0666-11-22 13:07:49",  # Arabic digits
)  # fmt: skip
KEYS = ("log", "message", "msg", "time", "timestamp", "@timestamp", "ts", "level", "severity", "trace_id", "log.level")
NUMBERS = (
    "9" * 400, "-" + "9" * 40, "1e999999", "0x" + "f" * 100, "1.7976931348623157e308", "0" * 300, "5e-324",
    "\u0967\u0968\u0969",
)  # fmt: skip

Value = bytes | None
Maker = Callable[[random.Random], Value]


def _real(rng: random.Random) -> bytes:
    """An example line with other numbers and words behind it."""
    line = bytearray(rng.choice(EXAMPLES))
    for at in range(len(line)):
        if 48 <= line[at] <= 57 and rng.random() < 0.3:
            line[at] = 48 + rng.randrange(10)
    return bytes(line) + b" " + b" ".join(rng.choices(WORDS[:16], k=rng.randrange(6)))


def _mutated(rng: random.Random) -> bytes:
    line = bytearray(_real(rng))
    for _ in range(rng.randint(1, 6)):
        at, to = sorted((rng.randrange(len(line) + 1), rng.randrange(len(line) + 1)))
        what = rng.randrange(5)
        if what == 0:
            line[at:at] = rng.randbytes(1) if rng.random() < 0.3 else bytes(rng.choices(range(32, 127), k=4))
        elif what == 1:
            del line[at : min(to, at + 8)]
        elif what == 2:
            line[at:at] = line[at:to]
        elif what == 3:
            line[at:at] = rng.choice(MAGICS + ANSI)
        elif at < len(line):
            line[at] = rng.randrange(128)
    return bytes(line)


def _bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200))


def _unicode(rng: random.Random) -> bytes:
    """Any code points, half surrogates (which are no UTF-8) now and then."""
    highest = rng.choice((0x80, 0x800, 0xD7FF, 0x10FFFF))
    text = "".join(chr(rng.randrange(highest + 1)) for _ in range(rng.randrange(60)))
    return text.encode("utf-8", "surrogatepass")


def _words(rng: random.Random) -> bytes:
    return b" ".join(rng.choices(WORDS + MAGICS, k=rng.randint(1, 12)))


def _value(rng: random.Random, depth: int) -> object:
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(3))]
    if kind == 7:
        return {rng.choice(KEYS): _value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return (
        rng.choice((None, True, False)), rng.choice(TIMES), _words(rng).decode(), rng.randrange(-(10**30), 10**30),
        rng.choice((0.1, 1e300, -0.0)), json.dumps({rng.choice(KEYS): _words(rng).decode()}),
    )[kind]  # fmt: skip


def _json(rng: random.Random) -> bytes:
    record = {rng.choice(KEYS): _value(rng, 2) for _ in range(rng.randint(0, 5))}
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode()


def _container(rng: random.Random) -> bytes:
    record = {"log": _real(rng).decode() + "\n", "stream": "stdout", "time": rng.choice(TIMES)}
    return json.dumps(record).encode()


def _broken_json(rng: random.Random) -> bytes:
    """Cut short, glued together, with foreign bytes, or with numbers and escapes that no reader agrees on."""
    line = _json(rng)
    what = rng.randrange(6)
    if what == 0:
        return line[: rng.randrange(1, len(line) + 1)]
    if what == 1:
        return line + rng.choice((b",", b"}", b"]", b"\n", b" ")) + _json(rng)
    if what == 2:
        at = rng.randrange(len(line))
        return line[:at] + rng.choice(MAGICS + ANSI) + line[at:]
    if what == 3:
        return b'{"time":%s,"msg":"x"}' % rng.choice(NUMBERS).encode()
    if what == 4:
        return b'{"msg":"\\u%04x\\ud800\\x","msg":null' % rng.randrange(65536) + rng.choice((b"}", b""))
    return b"{" + line


def _deep_json(rng: random.Random) -> bytes:
    depth = rng.choice((3, 50, 130, 600, 10_000))
    opening, inner, closing = rng.choice(((b'{"log":', b'"x"', b"}"), (b'{"a":[', b"1", b"]}"), (b"[", b"", b"]")))
    return opening * depth + inner + closing * rng.choice((depth, 0))


def _numbers(rng: random.Random) -> bytes:
    return b"value " + " ".join(rng.choices(NUMBERS + TIMES, k=rng.randint(1, 4))).encode()


def _times(rng: random.Random) -> bytes:
    """Every kind of timestamp in front of a message, in a header's place."""
    return rng.choice((b"", b"[", b"<34>1 ", b"\t")) + rng.choice(TIMES).encode() + b" INFO app.Main - " + _words(rng)


def _ansi(rng: random.Random) -> bytes:
    return b"".join(rng.choice(ANSI) + rng.choice(WORDS) for _ in range(rng.randint(1, 8)))


def _session(rng: random.Random) -> bytes:
    session = rng.choice((b"blk_%d" % rng.getrandbits(62), b"trace_id=%032x" % rng.getrandbits(128), b"blk_-7"))
    return _real(rng) + b" " + session


def _blank(rng: random.Random) -> bytes:
    return bytes(rng.choices(b" \t\r\n", k=rng.randrange(5)))


def _null(_: random.Random) -> None:
    return None


def _long_token(rng: random.Random) -> bytes:
    """One word of up to 100 kB; some end inside a character at the limit."""
    return rng.choice(("x", "é", "🐦", "\xff", "/a", "1", "a@")).encode() * rng.choice((1_000, 16_383, 33_000, 50_000))


def _many_tokens(rng: random.Random) -> bytes:
    return b" ".join(rng.choices(WORDS, k=rng.choice((200, 5_000))))


def _stack(rng: random.Random) -> bytes:
    frames = (f"\tat com.example.C{rng.randrange(99)}.run(C.java:{line})" for line in range(500))
    return _real(rng) + b"\n" + "\n".join(frames).encode()


def _frame(rng: random.Random) -> bytes:
    """One line of a stack, sent by itself."""
    return rng.choice(FRAMES)


def _stamped(rng: random.Random) -> bytes:
    """A line, or a piece of one, as a container runtime writes it."""
    return (
        b"2026-11-22T13:07:49.123456789Z " + rng.choice(STAMPS) + b" " + rng.choice((_real, _words, _json, _blank))(rng)
    )


KINDS: dict[str, tuple[int, Maker]] = {
    "real": (300, _real), "mutated": (250, _mutated), "bytes": (60, _bytes), "unicode": (60, _unicode),
    "words": (60, _words), "json": (60, _json), "container": (30, _container), "broken json": (40, _broken_json),
    "deep json": (1, _deep_json), "numbers": (20, _numbers), "times": (40, _times), "ansi": (30, _ansi),
    "session": (30, _session), "blank": (10, _blank), "null": (10, _null), "long token": (2, _long_token),
    "many tokens": (2, _many_tokens), "stack": (2, _stack), "frame": (30, _frame), "stamped": (30, _stamped),
}  # fmt: skip
"""By name: how many of each among about a thousand lines, and how one is made."""


def fuzzed(seed: int) -> Iterator[tuple[str, Value]]:
    """Lines without end, each with the name of its kind; the same for the same seed."""
    rng = random.Random(seed)
    names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    while True:
        for name in rng.choices(names, weights, k=1000):
            yield name, KINDS[name][1](rng)


def dead_reason(value: Value) -> str | None:
    """Why a line cannot be parsed, told apart one by one; None where it can."""
    if value is None:
        return "null"
    whole = len(value) <= LIMIT
    try:
        text = value[:LIMIT].decode()
    except UnicodeDecodeError as error:
        if whole or error.reason != "unexpected end of data":  # else the limit fell inside a character
            return "invalid_utf8"
        text = value[: error.start].decode()
    return None if text.rstrip(" \t\r\n") else "empty"


@dataclass
class Outcome:
    """What came of a run."""

    lines: int = 0
    events: int = 0
    scored: int = 0
    cut: int = 0
    detections: int = 0
    templates: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must not be, in words; at most a few."""
    seconds: list[float] = field(default_factory=list)
    """Spent in the stages, per batch."""
    sizes: list[int] = field(default_factory=list)
    """Lines, per batch."""
    memory: list[int] = field(default_factory=list)
    """Highest memory so far, bytes, per batch."""

    def by_quarter(self) -> tuple[list[float], list[int]]:
        """Microseconds a line, and highest memory in MiB, of each quarter of the lines."""
        bounds = np.searchsorted(np.cumsum(self.sizes), np.arange(1, 4) * self.lines / 4)
        pace = [
            round(1e6 * sum(seconds) / max(1, sum(sizes)), 1)
            for seconds, sizes in zip(np.split(self.seconds, bounds), np.split(self.sizes, bounds), strict=True)
        ]
        return pace, [self.memory[at] >> 20 for at in (*bounds, -1)]

    def says(self, words: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(words)


class Stages:
    """The two stages of one job with what Flink would keep for them."""

    def __init__(self, settings: AppSettings, bundles: dict[str, Bundle]) -> None:
        self._settings, self._bundles = settings, bundles
        self._parsers: dict[str, bytes] = {}
        self._wholes: dict[str, bytes] = {}
        self._changes: dict[str, list[bytes]] = {}
        self.forget()

    def load(self, service: str, version: str) -> Bundle:
        """Be the registry."""
        return self._bundles[service]

    def forget(self) -> None:
        """Start anew from what was saved."""
        self._parse = ParseStage(self._settings, ControlView())
        self._score = ScoreStage(self._settings, ControlView(), Bundles(self))
        for service, bundle in self._bundles.items():
            pointer = BundlePointer(
                service=service, version=bundle.manifest.version, author="fuzz", reason="fuzz", moved_ms=1
            )
            for record in (pointer, Settings(settings=OPTIONS[service])):
                for stage in (self._parse, self._score):
                    stage.control(key_of(record), record.model_dump_json().encode())

    def run(self, key: str, frame: bytes, outcome: Outcome, expected: dict[int, str]) -> None:
        """Send one frame through both stages; ``expected`` is the reason of each dead offset."""
        out = self._parse.parse(key, frame, lambda: self._parsers.get(key))
        if out.state is not None:
            self._parsers[key] = out.state
        dead = {letter.offset: letter.reason for letter in out.dead}
        if dead != expected or len(out.dead) != len(dead):
            differ = sorted(set(dead.items()) ^ set(expected.items()))
            outcome.says(f"{key}: dead letters differ from what was expected: {differ[:4]}")
        outcome.dead.update(out.statistic.dead)
        outcome.cut += out.statistic.cut
        outcome.templates = max(outcome.templates, out.statistic.templates)
        seen = sorted(dead)
        for bucket, data in out.events:
            seen += Events.from_bytes(data).column("offset").tolist()
            self._judge(bucket, data, outcome)
        first, last = out.statistic.first_offset, out.statistic.last_offset
        if sorted(seen) != list(range(first, last + 1)) or out.statistic.lines != len(seen):
            outcome.says(f"{key}: offsets {first} to {last} did not come out exactly once")
        outcome.lines += out.statistic.lines
        outcome.events += len(seen) - len(dead)

    def _judge(self, bucket: str, data: bytes, outcome: Outcome) -> None:
        saved = Saved(self._wholes.get(bucket, b""), self._changes.get(bucket, []))
        scored = self._score.score(bucket, data, lambda: saved)
        outcome.detections += len(scored.detections)
        for statistic in scored.statistics:
            outcome.scored += statistic.lines
            if statistic.bundle_refused or not statistic.bundle:
                outcome.says(f"{bucket}: not scored: {statistic.bundle_refused or 'no bundle'}")
        for detection in scored.detections:
            detection.model_dump_json()  # as the job writes it
        if scored.whole is not None:
            self._wholes[bucket], self._changes[bucket] = scored.whole, []
        elif scored.change is not None:
            self._changes.setdefault(bucket, []).append(scored.change)


def learnt(service: str) -> Bundle:
    """A small bundle learnt by counting lines that always come in one order: whatever else comes is a detection."""
    options = OPTIONS[service].model_copy(
        update={"detector": DetectorOptions(kind="ngram", window=4, end_event="off"), "session": SessionOptions()}
    )
    lines = EXAMPLES * 40
    parser, table, collector = Parser(options), SessionTable(4, math.inf, 10**6), Collector(4)
    batch = Lines.from_list(service, f"logs.{service}", 0, range(len(lines)), [ARRIVAL_MS] * len(lines), lines)
    events = parser.parse(batch).events
    collector.add(table.extend(events), events.templates)
    return learn(
        collector.material(lines=len(lines), from_ms=0, to_ms=1), options, fit_ngram, created_ms=1_700_000_000_000
    )


@contextmanager
def raised() -> Iterator[list[str]]:
    """Collect what ``Parser.parse`` raises, also what goes away once the batch is halved."""
    errors: list[str] = []
    parse = Parser.parse

    def watched(self: Parser, lines: Lines):  # type: ignore[no-untyped-def]
        try:
            return parse(self, lines)
        except Exception as error:
            head = lines.blob[:300] if len(lines) == 1 else b""
            errors.append(f"{len(lines)} lines from {lines.offsets[0]}: {type(error).__name__}: {error} {head!r}"[:600])
            raise

    Parser.parse = watched  # type: ignore[method-assign]
    try:
        yield errors
    finally:
        Parser.parse = parse  # type: ignore[method-assign]


def fuzz(lines: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Send this many lines through the stages, in batches of all sizes, over several services and partitions."""
    outcome = Outcome()
    source, rng = fuzzed(seed), random.Random(seed + 1)
    stages = Stages(AppSettings(flink=FlinkOptions()), {service: learnt(service) for service in SERVICES})
    next_offset: Counter[tuple[str, int]] = Counter()
    with raised() as errors:
        while outcome.lines < lines:
            place = rng.choice(SERVICES), rng.randrange(2)
            size = min(rng.choice((1, 20, 300, 2_000, 10_000)), lines - outcome.lines)
            values: list[Value] = []
            for _ in range(size):
                kind, value = next(source)
                outcome.kinds[kind] += 1
                values.append(value)
            began = time.perf_counter()
            _batch(stages, place, next_offset[place], values, outcome)
            outcome.seconds.append(time.perf_counter() - began)
            outcome.sizes.append(size)
            outcome.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            next_offset[place] += size
            if len(outcome.seconds) % FORGET_EVERY == 0:
                stages.forget()
                say(f"{outcome.lines:,} lines, {sum(outcome.seconds):.0f} s, {outcome.memory[-1] / 2**20:,.0f} MiB")
    for error in errors:
        outcome.says(f"the parser raised: {error}")
    return outcome


def _batch(stages: Stages, place: tuple[str, int], first: int, values: list[Value], outcome: Outcome) -> None:
    service, partition = place
    n = len(values)
    offsets = np.arange(first, first + n)
    columns = np.full(n, partition), offsets, ARRIVAL_MS + offsets
    # The source hands on at most one byte more than the limit.
    cut = [None if value is None else value[: LIMIT + 1] for value in values]
    reasons = {first + row: reason for row, value in enumerate(values) if (reason := dead_reason(value))}
    for _, key, frame in pack([f"logs.{service}"] * n, *columns, cut, LIMIT):
        here = np.frombuffer(frame, "<i8", int.from_bytes(frame[12:16], "little"), 17 + len(f"logs.{service}"))
        low, high = int(here.min()), int(here.max())
        stages.run(key, frame, outcome, {at: reason for at, reason in reasons.items() if low <= at <= high})


def verdict(outcome: Outcome, lines: int) -> list[str]:
    """What is wrong with a run, in words; nothing where all is well."""
    wrong = list(outcome.wrong)
    dead = sum(outcome.dead.values())
    if not outcome.lines == lines == outcome.events + dead:
        wrong.append(f"{lines} in, {outcome.events} parsed and {dead} dead out")
    if outcome.scored != outcome.events:
        wrong.append(f"{outcome.events} parsed, {outcome.scored} scored")
    if unknown := set(outcome.dead) - {"null", "empty", "invalid_utf8"}:
        wrong.append(f"dead by {sorted(unknown)}")
    return wrong


def main() -> None:
    """Run, print one JSON line, and fail where something was wrong."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    began = time.perf_counter()
    outcome = fuzz(asked.lines, asked.seed, lambda words: print(words, file=sys.stderr))
    wrong = verdict(outcome, asked.lines)
    pace, memory = outcome.by_quarter()
    print(json.dumps({
        "lines": outcome.lines, "parsed": outcome.events, "scored": outcome.scored, "dead": dict(outcome.dead),
        "cut": outcome.cut, "detections": outcome.detections, "templates": outcome.templates,
        "kinds": dict(outcome.kinds), "seconds": round(time.perf_counter() - began, 1),
        "seconds_in_stages": round(sum(outcome.seconds), 1),
        "microseconds_a_line_by_quarter": pace, "memory_mib_by_quarter": memory, "wrong": wrong,
    }))  # fmt: skip
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
