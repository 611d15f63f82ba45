"""``logcanary deadletters``: the lines that could not be parsed, and sending them once more."""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flags import Json, SomeService
from cli.help import Commands
from cli.shell import ProblemError, Shell, moment, shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from contracts.records import DeadLetter
    from storage.broker import KafkaProducer, Record
    from storage.files import Files

REPLAY_OF = "logcanary-replay-of"
"""Header of a line sent again; its value is ``topic/partition/offset`` of the line it repeats."""
AT_ONCE = 500
"""Lines sent before they are marked as sent: after a crash at most so many may be sent a second time."""
LARGEST_BYTES = 64 * 1024 * 1024
"""Of a request; the library's own limit is 1 MiB."""
HEAD_SHOWN = 120
"""Characters of a line's head in the list; ``--json`` has the 1,024 bytes there are."""
REASONS = ("empty", "null", "invalid_utf8", "too_long", "error")

Place = tuple[str, int, int]
"""Topic, partition, offset."""

app = Commands(no_args_is_help=True, help="Lines that could not be parsed: see them, send them again.")

SomeReason = Annotated[
    str | None, typer.Option("--reason", metavar="REASON", help=f"Only this reason: {', '.join(REASONS)}.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only lines that arrived then or later; UTC.")
]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    service: SomeService = None,
    reason: SomeReason = None,
    since: Since = None,
    top: Annotated[int, typer.Option("--top", min=0, help="At most this many; 0 = all.")] = 50,
    as_json: Json = False,
) -> None:
    """List the lines that could not be parsed, the newest first, and how many there are of each reason.

    Examples:
      logcanary deadletters list
      logcanary deadletters list --service pay --reason invalid_utf8
      logcanary deadletters list --since 2026-01-31T08:00:00 --json | jq .head
    """
    state = shell(context)
    found = _chosen(state, service, reason, since)
    shown = found[::-1][: top or None]
    if as_json or state.json:
        for letter in shown:
            state.emit(letter)
    elif shown:
        state.out.print(table(shown))
    if not found:
        state.say("No dead letter: every line could be parsed.")
        return
    if len(shown) < len(found):
        state.say(f"{len(found) - len(shown):,} more: --top 0 shows all.")
    state.say(f"{len(found):,} dead letters: {_words(Counter(letter.reason for letter in found))}.")


@app.command()
def replay(
    context: typer.Context,
    *,
    service: SomeService = None,
    reason: SomeReason = None,
    since: Since = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent again before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look for the lines, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send lines that could not be parsed to their topics once more, byte for byte: after a fix, for instance.

    The bytes come from Kafka, or from the archive where Kafka no longer has them. A line sent again is a new line, with
    the header logcanary-replay-of; no line is sent again twice, unless --again asks for it.

    Examples:
      logcanary deadletters replay --service pay --reason error --dry-run
      logcanary deadletters replay --service pay --reason error
      logcanary deadletters replay --since 2026-01-31 --again
    """
    state = shell(context)
    letters = _chosen(state, service, reason, since)
    wanted = [letter for letter in letters if again or not letter.replayed_ms]
    outcome = Outcome(before=len(letters) - len(wanted))
    send(state, wanted, outcome, dry_run)
    if as_json or state.json:
        state.emit(
            {
                "dry_run": dry_run,
                "replayed": sum(outcome.sent.values()),
                "by_reason": dict(outcome.sent),
                "from_archive": outcome.archived,
                "missing": outcome.missing,
                "left_out": sum(outcome.left_out.values()),
                "refused": sum(outcome.refused.values()),
                "replayed_before": outcome.before,
            }
        )
    for words in outcome.words(dry_run):
        state.say(words)
    if outcome.refused:
        raise typer.Exit(1)


@dataclass
class Outcome:
    """What became of the lines that were to be sent again."""

    before: int = 0
    """Left out: sent again before."""
    sent: "Counter[str]" = field(default_factory=Counter)
    """By reason."""
    archived: int = 0
    """Of those, read from the archive."""
    missing: int = 0
    """Neither in Kafka nor in the archive."""
    left_out: "Counter[str]" = field(default_factory=Counter)
    """By why they cannot be sent."""
    refused: "Counter[str]" = field(default_factory=Counter)
    """By why Kafka did not take them."""

    def words(self, dry_run: bool) -> Iterator[str]:
        """Say it."""
        count = sum(self.sent.values())
        verb = "would be sent again" if dry_run else "sent again"
        yield f"{count:,} lines {verb}{f' ({_words(self.sent)})' if count else ''}; {self.archived:,} from the archive."
        if self.before:
            yield f"{self.before:,} left out: they were sent again before; --again sends them once more."
        if self.missing:
            yield f"{self.missing:,} not found: neither Kafka nor the archive has them any more."
        for why, number in (self.left_out + self.refused).items():
            yield f"{number:,} not sent: {why}."


def table(letters: "Sequence[DeadLetter]") -> "RenderableType":
    """Draw dead letters, one line each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from cli.show import printable
    from models.sentences import clock

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("time (UTC)", no_wrap=True)
    for name in ("service", "reason", "topic/partition/offset", "head"):
        drawn.add_column(name, overflow="fold")
    for letter in letters:
        head = printable(" ".join(letter.head.split()), HEAD_SHOWN)
        if letter.detail:
            head = f"{head} ({printable(letter.detail, HEAD_SHOWN)})"
        drawn.add_row(
            clock(letter.arrival_ms),
            Text(letter.service),
            Text(letter.reason + (", replayed" if letter.replayed_ms else "")),
            Text(where(place_of(letter))),
            Text(head or "-", style="" if head else "dim"),
        )
    return drawn


def place_of(letter: "DeadLetter") -> Place:
    """Return where a dead letter's line lies in Kafka."""
    return letter.topic, letter.partition, letter.offset


def where(place: Place) -> str:
    """Write a place.

    >>> where(("logs.pay", 0, 17))
    'logs.pay/0/17'
    """
    return "/".join(map(str, place))


def _words(counts: "Counter[str]") -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.most_common())


def _chosen(state: Shell, service: str | None, reason: str | None, since: str | None) -> "list[DeadLetter]":
    """Read the letters that the flags ask for, oldest first."""
    if reason is not None and reason not in REASONS:
        raise ProblemError(f"--reason {reason}: must be one of {', '.join(REASONS)}")
    from_ms = moment("--since", since)
    return [
        letter
        for letter in newest(_letters(state))
        if service in (None, letter.service)
        and reason in (None, letter.reason)
        and (from_ms is None or letter.arrival_ms >= from_ms)
    ]


def _letters(state: Shell) -> "Iterator[DeadLetter]":
    """Read the dead-letter topic from its start; records that cannot be read are counted on standard error."""
    from pydantic import ValidationError

    from contracts.records import DeadLetter
    from storage.broker import read_all

    broken = 0
    for record in read_all(state.settings, state.settings.kafka.deadletters):
        try:
            yield DeadLetter.model_validate_json(record.value or b"")
        except ValidationError:
            broken += 1
    if broken:
        state.say(f"{broken:,} on {state.settings.kafka.deadletters} could not be read as dead letters; passed over.")


def newest(letters: "Iterable[DeadLetter]") -> "list[DeadLetter]":
    """Return one letter a line, by arrival: a letter may come twice, and once more when its line was sent again."""
    found: dict[Place, DeadLetter] = {}
    for letter in letters:
        known = found.get(place_of(letter))
        # An offset is given out anew where a topic is deleted and made again: then the younger line counts.
        if known is None or (letter.arrival_ms, letter.replayed_ms) > (known.arrival_ms, known.replayed_ms):
            found[place_of(letter)] = letter
    return sorted(found.values(), key=lambda letter: (letter.arrival_ms, place_of(letter)))


def send(state: Shell, letters: "Sequence[DeadLetter]", outcome: Outcome, dry_run: bool) -> None:
    """Send the lines of these letters again and mark the letters, a few at a time; ``outcome`` says what came of it."""
    import contextlib

    from storage.broker import producer
    from storage.files import open_files

    if not letters:
        return
    with contextlib.ExitStack() as stack:
        # Kafka took these lines once: whether one is too large is for the broker to say.
        client = stack.enter_context(contextlib.closing(producer(state.settings, max_request_size=LARGEST_BYTES)))
        files = stack.enter_context(contextlib.closing(open_files(state.settings.hdfs)))
        bar = stack.enter_context(state.progress(len(letters), "Sending again"))
        left = iter(letters)
        done = 0
        while some := list(islice(left, AT_ONCE)):
            lines, archived = _originals(state, files, some)
            outcome.missing += len(some) - len(lines)
            for place in [place for place, line in lines.items() if unsendable(line)]:
                outcome.left_out[unsendable(lines.pop(place))] += 1
            found = [letter for letter in some if place_of(letter) in lines]
            taken = found
            if not dry_run:
                taken = _send(client, found, lines, outcome)
                _mark(state, client, taken)
            outcome.sent.update(letter.reason for letter in taken)
            outcome.archived += sum(place_of(letter) in archived for letter in taken)
            done += len(some)
            bar.to(done, f"{sum(outcome.sent.values()):,} lines")


def _originals(
    state: Shell, files: "Files", letters: "Sequence[DeadLetter]"
) -> "tuple[dict[Place, Record], Set[Place]]":
    """Read the lines of letters, from Kafka or else from the archive; also says which the archive had to give."""
    from storage.broker import read_at

    of_place = {place_of(letter): letter for letter in letters}
    offsets: dict[tuple[str, int], list[int]] = {}
    for topic, partition, offset in of_place:
        offsets.setdefault((topic, partition), []).append(offset)
    found: dict[Place, Record] = {}
    for record in read_at(state.settings, offsets):
        place = record.topic, record.partition, record.offset
        # A topic made anew gives the same offsets to other lines.
        if record.timestamp == of_place[place].arrival_ms:
            found[place] = record
    absent = [letter for place, letter in of_place.items() if place not in found]
    archived = archived_lines(state, files, absent) if absent else {}
    return found | archived, archived.keys()


def archived_lines(state: Shell, files: "Files", letters: "Sequence[DeadLetter]") -> "dict[Place, Record]":
    """Read the lines of letters from the archive, as far as it has them."""
    from storage.archive import list_files, read_file
    from storage.broker import service_of

    wanted: dict[tuple[str, int], dict[int, DeadLetter]] = {}
    for letter in letters:
        wanted.setdefault((letter.topic, letter.partition), {})[letter.offset] = letter
    found: dict[Place, Record] = {}
    for (topic, partition), by_offset in wanted.items():
        service = service_of(state.settings.kafka, topic)
        if service is None:
            continue
        times = [letter.arrival_ms for letter in by_offset.values()]
        for file in list_files(files, state.settings.hdfs.root, service, min(times), max(times) + 1):
            here = [at for at in by_offset if file.overlaps(at, at)]
            if (file.topic, file.partition) != (topic, partition) or not here:
                continue
            for record in _rows(read_file(files, file), here):
                if record.timestamp == by_offset[record.offset].arrival_ms:
                    found[topic, partition, record.offset] = record
    return found


def _rows(lines: Any, offsets: Sequence[int]) -> "Iterator[Record]":  # noqa: ANN401  (a table of pyarrow)
    """Give rows of an archive file as records."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from storage.broker import Record

    for row in lines.filter(pc.is_in(lines["offset"], pa.array(offsets, pa.int64()))).to_pylist():
        headers = [(header["key"], header["value"]) for header in row.pop("headers")]
        yield Record(**row, headers=headers)


def _send(
    client: "KafkaProducer", letters: "Sequence[DeadLetter]", lines: "dict[Place, Record]", outcome: Outcome
) -> "list[DeadLetter]":
    """Send lines to the partitions they were in; returns the letters whose lines Kafka has now."""
    from storage.broker import KafkaError

    waiting = []
    for letter in letters:
        record = lines[place_of(letter)]
        try:
            future = client.send(
                record.topic,
                key=record.key,
                value=record.value,
                headers=headers_again(record),
                partition=record.partition,
            )
        except KafkaError as error:
            outcome.refused[_why(error)] += 1
            continue
        waiting.append((letter, future))
    client.flush()
    taken = []
    for letter, future in waiting:
        try:
            future.get(0)
        except KafkaError as error:
            outcome.refused[_why(error)] += 1
        else:
            taken.append(letter)
    return taken


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def unsendable(record: "Record") -> str:
    """Say why the client library cannot send a record as it was; empty where it can."""
    if record.value is None and record.key is None:
        return "no key and no value, which Kafka's client for Python does not send"
    if any(value is None for _, value in record.headers):
        return "a header without a value, which Kafka's client for Python does not send"
    return ""


def headers_again(record: "Record") -> list[tuple[str, bytes | None]]:
    """Return the headers of a line that is sent again: its own, and which line it repeats."""
    own = [(name, value) for name, value in record.headers if name != REPLAY_OF]
    return [*own, (REPLAY_OF, where((record.topic, record.partition, record.offset)).encode())]


def _mark(state: Shell, client: "KafkaProducer", letters: "Sequence[DeadLetter]") -> None:
    """Write on the dead-letter topic that these were sent again."""
    now = int(time.time() * 1000)
    sent = [
        client.send(
            state.settings.kafka.deadletters,
            key=letter.service.encode(),
            value=letter.model_copy(update={"replayed_ms": now}).model_dump_json().encode(),
        )
        for letter in letters
    ]
    client.flush()
    for future in sent:
        future.get(0)
