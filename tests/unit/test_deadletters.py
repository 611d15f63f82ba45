"""Dead letters on the command line: one a line, byte for byte from the archive, sent with a header."""

import io

import pytest
from typer.testing import CliRunner

from cli.deadletters import (
    REASONS,
    REPLAY_OF,
    Outcome,
    archived_lines,
    headers_again,
    newest,
    place_of,
    table,
    unsendable,
    where,
)
from cli.main import app
from cli.shell import Shell
from contracts.records import DeadLetter
from storage.archive import batch_of, write_lines
from storage.broker import Record
from storage.files import open_files

ARRIVAL = 1_795_352_869_000


def letter(offset=0, replayed_ms=0, arrival=ARRIVAL, **options):
    given = {"reason": "empty", "head": "", "service": "pay", "topic": "logs.pay", "partition": 0} | options
    return DeadLetter(offset=offset, arrival_ms=arrival, replayed_ms=replayed_ms, **given)


def record(offset=0, value=b"\xff\x00", key=None, headers=(), timestamp=None):
    return Record(
        "logs.pay", 0, offset, ARRIVAL + offset if timestamp is None else timestamp, key, value, list(headers)
    )


def test_a_line_has_one_letter_and_what_was_said_last_holds():
    letters = [letter(2), letter(1, replayed_ms=9), letter(1), letter(1, replayed_ms=7), letter(2)]
    assert [(one.offset, one.replayed_ms) for one in newest(letters)] == [(1, 9), (2, 0)]


def test_an_offset_given_out_anew_is_another_line():
    letters = [letter(1, replayed_ms=9), letter(1, arrival=ARRIVAL + 5)]
    assert [(one.arrival_ms, one.replayed_ms) for one in newest(letters)] == [(ARRIVAL + 5, 0)]


def test_letters_come_by_arrival():
    letters = [letter(1, arrival=5), letter(7, arrival=3), letter(2, arrival=5, topic="logs.a")]
    assert [place_of(one) for one in newest(letters)] == [("logs.pay", 0, 7), ("logs.a", 0, 2), ("logs.pay", 0, 1)]


def test_the_reasons_are_those_of_the_record():
    from typing import get_args

    assert get_args(DeadLetter.model_fields["reason"].annotation) == REASONS


def test_a_line_sent_again_keeps_its_headers_and_says_what_it_repeats():
    said = headers_again(record(7, headers=[("a", b"1"), (REPLAY_OF, b"logs.pay/0/3"), ("a", b"\xff")]))
    assert said == [("a", b"1"), ("a", b"\xff"), (REPLAY_OF, b"logs.pay/0/7")]


@pytest.mark.parametrize(
    ("line", "sends"),
    [
        (record(value=b""), True),
        (record(value=None, key=b"k"), True),
        (record(value=None), False),
        (record(headers=[("a", None)]), False),
        (record(headers=[("a", b"")]), True),
    ],
)
def test_what_the_client_cannot_send_is_known_before(line, sends):
    assert (unsendable(line) == "") == sends


def test_the_archive_gives_lines_byte_for_byte_and_only_the_very_line(tmp_path):
    state = Shell(sets=(f"hdfs.url=file://{tmp_path}", "hdfs.root=/x"))
    files = open_files(state.settings.hdfs)
    lines = [
        record(0), record(1, b""), record(2, None, b"k"), record(4, b"x" * 100_000),
        record(3, "é\x1e🐦".encode(), b"\xfe", [("h", b"\x00"), ("h", b"2")]),
    ]  # fmt: skip
    lines.sort(key=lambda line: line.offset)
    write_lines(files, "/x", "pay", [batch_of("logs.pay", 0, lines[:3])])
    write_lines(files, "/x", "pay", [batch_of("logs.pay", 0, lines[3:])])
    wanted = [letter(line.offset, arrival=line.timestamp) for line in lines]
    found = archived_lines(state, files, wanted)
    assert found == {("logs.pay", 0, line.offset): line for line in lines}
    assert set(archived_lines(state, files, wanted[3:4])) == {("logs.pay", 0, 3)}
    other = [letter(9), letter(3, arrival=ARRIVAL + 4), letter(3, partition=1), letter(3, topic="logs.shop")]
    assert archived_lines(state, files, other) == {}


def test_the_list_shows_no_control_character_and_no_markup():
    from rich.console import Console

    console = Console(width=160, no_color=True, file=io.StringIO())
    console.print(table([letter(1, head="\x1b[2J[red]x", detail="byte 3: bad"), letter(2, replayed_ms=5)]))
    text = console.file.getvalue()
    assert "\\x1b[2J[red]x (byte 3: bad)" in text
    assert "logs.pay/0/1" in text
    assert "empty, replayed" in text
    assert "2026-11-22 13:07:49" in text


def test_the_outcome_says_everything_that_happened():
    outcome = Outcome(before=2, archived=1, missing=3)
    outcome.sent.update({"empty": 4, "error": 1})
    outcome.refused["MessageSizeTooLargeError: x"] += 1
    words = list(outcome.words(dry_run=False))
    assert words[0] == "5 lines sent again (4 empty, 1 error); 1 from the archive."
    assert [word.split()[0] for word in words] == ["5", "2", "3", "1"]
    assert "would be sent again" in next(outcome.words(dry_run=True))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["list", "--reason", "odd"], "--reason odd: must be one of empty, null, invalid_utf8, too_long, error"),
        (["replay", "--since", "monday"], "--since monday: expected a time like 2026-01-31"),
    ],
)
def test_a_mistake_is_one_sentence(args, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["deadletters", *args])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"logcanary: {words}")
    assert done.stderr.count("\n") == 1


def test_where_a_line_lies():
    assert where(place_of(letter(17))) == "logs.pay/0/17"
