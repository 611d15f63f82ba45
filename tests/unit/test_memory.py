"""What would grow without end does not: sessions, templates, remembered texts, saved state, what waits for HDFS."""

import random
import tracemalloc

import numpy as np
import pytest

from contracts.service import ServiceSettings
from contracts.settings import ArchiveOptions
from models.memory import Memory
from models.sessions import SessionTable
from parsing import aliases, miner
from parsing.events import Lines
from parsing.miner import OVERFLOW_TEMPLATE, Miner
from parsing.parser import Parser
from storage.archive import batch_of
from streaming.archiver import Buffer
from tests.chaos.tables import session_events, sessions_through, strange_lines, templates_through
from tests.unit.test_archive_files import NOON, Line

MB = 1_000_000


def growth(work, warm=1):
    """Memory that Python and numpy hold after ``work(turn)`` was done ``warm`` times and after 8 times, in bytes."""
    tracemalloc.start()
    try:
        held = []
        for turn in range(8):
            work(turn)
            held.append(tracemalloc.get_traced_memory()[0])
        return held[warm - 1], held[-1]
    finally:
        tracemalloc.stop()


def test_sessions_are_capped_and_counted_whatever_comes():
    found = sessions_through(200_000)
    assert "problem" not in found
    assert (found["open"], found["ended"]) == (50_000, 150_000)


def test_a_full_table_takes_no_more_memory_for_further_sessions_nor_for_ones_it_never_saved():
    table = SessionTable(10, 1e9, 2_000)

    def saved(turn):
        for batch in range(5):
            table.extend(session_events((turn * 5 + batch) * 1_000, 1_000))
            table.delta()

    before, after = growth(saved, warm=2)
    assert after < 1.1 * before
    never_saved = SessionTable(10, 1e9, 2_000)
    before, after = growth(lambda turn: never_saved.extend(session_events(turn * 1_000, 1_000)), warm=4)
    assert after - before < 20_000  # the numbers of four times 1,000 sessions are 32,000 bytes


def test_what_is_saved_of_sessions_depends_on_those_that_are_open_alone():
    table = SessionTable(10, 1e9, 1_000)
    wholes, deltas = [], []
    for turn in range(6):
        table.extend(session_events(turn * 5_000, 5_000))
        deltas.append(len(table.delta()))
        wholes.append(len(table.dump()))
    assert max(wholes) < 1.05 * wholes[0]
    assert max(deltas[1:]) < 1.1 * deltas[1]


@pytest.mark.parametrize("seed", range(5))
def test_deltas_bring_back_the_table_though_they_leave_out_sessions_that_came_and_went(seed):
    chance = random.Random(seed)
    table = SessionTable(4, 1e9, 300)
    whole, changes, first = table.dump(), [], 0
    for _ in range(12):
        number = chance.randrange(1, 900)
        table.extend(session_events(first, number, chance.choice([1, 2])))
        first += number - chance.randrange(min(number, 50))  # some go on in the next batch
        if chance.random() < 0.7:
            changes.append(table.delta())
    changes.append(table.delta())
    other = SessionTable(4, 1e9, 300)
    other.load(whole)
    for change in changes:
        other.apply(change)
    assert len(other) == len(table) <= 300
    ours, theirs = table.close(), other.close()
    assert sorted(
        zip(ours.ends.session, ours.serials.tolist(), map(tuple, ours.contexts.tolist()), strict=True)
    ) == sorted(zip(theirs.ends.session, theirs.serials.tolist(), map(tuple, theirs.contexts.tolist()), strict=True))


def test_templates_are_capped_and_every_line_has_one():
    found = templates_through(40_000)
    assert "problem" not in found
    room = miner.MAX_TEMPLATES // miner.ROOM
    counts = found["templates"], found["evicted"], found["overflow"]
    assert counts == (miner.MAX_TEMPLATES, room, 40_000 - miner.MAX_TEMPLATES - room)


def test_long_templates_are_capped_by_their_characters(monkeypatch):
    monkeypatch.setattr(miner, "MAX_CHARACTERS", 100_000)
    parser = Parser(ServiceSettings(service="web"))
    lines = strange_lines(random.Random(1), 400, words=100)  # about 1,000 characters each
    parsed = parser.parse(Lines.from_list("web", "logs.web", 0, range(400), [NOON] * 400, lines))
    assert 107 <= parser.template_count <= 118  # an eighth more than are kept
    assert parsed.overflow == {"full": 400 - parser.template_count}
    again = Parser(ServiceSettings(service="web"))
    again.load(parser.dump())
    # A parser that is full stays full after a restart, and knows what it knew.
    parsed_again = again.parse(Lines.from_list("web", "logs.web", 0, range(400), [NOON] * 400, lines))
    assert parsed_again.events.template_ids().tolist() == parsed.events.template_ids().tolist()
    assert again.template_count == parser.template_count
    lines = [lines[100]] * miner.GENERATION
    offsets, arrivals = range(len(lines)), [NOON] * len(lines)
    told = again.parse(Lines.from_list("web", "logs.web", 0, offsets, arrivals, lines)).new_templates
    assert 95 <= again.template_count <= 105
    assert {template.reason for template in told} == {"evicted"}


def test_ids_stay_when_a_service_is_full():
    full = Miner("web", max_templates=48)
    texts = [line.decode() for line in strange_lines(random.Random(2), 200)]
    ids, _ = full.learn(texts)
    assert ids[54:] == [OVERFLOW_TEMPLATE] * 146
    assert OVERFLOW_TEMPLATE not in ids[:54]
    assert full.learn(texts)[0] == ids


def test_the_catalogue_of_other_shards_does_not_fill_a_parser_without_end(monkeypatch):
    monkeypatch.setattr(aliases, "MAX_ALIASES", 100)
    known = Miner("web", max_templates=48)
    for number in range(1_000):
        known.adopt(1_000 + number, f"template {'x' * (number % 60)} {number:x}", None)
        known.adopt(10_000 + number, "unused", 1_000 + number)
        known.adopt(20_000 + number, f"went {'x' * (number % 60)} {number:x}", evicted=True)
    assert len(known) == 54
    assert len(known.shelf) == 12
    assert len(known.aliases.links) == 100
    assert len(known.remembered) <= 1_000


def test_remembered_texts_are_capped_and_so_is_what_is_saved():
    known = Miner("web", max_templates=50, max_remembered=1_000, generation_lines=200)
    for turn in range(20):
        texts = [f"the same number {turn * 500 + number:x}x again" for number in range(500)]
        for start, stop in known.spans(len(texts)):
            known.learn(texts[start:stop])
            assert len(known.remembered) <= 1_000
    assert known.forgotten == 10_000 - len(known.remembered)
    parser = Parser(ServiceSettings(service="web"))
    parser._miner.max_remembered, parser._miner.generation_lines = 1_000, 200
    sizes = []
    for turn in range(8):
        lines = strange_lines(random.Random(3), 5)  # the same templates again
        lines += [b"took %x%d ms" % (number, turn) for number in range(0xA000, 0xA000 + 900)]
        parser.parse(Lines.from_list("web", "logs.web", 0, range(len(lines)), [NOON] * len(lines), lines))
        sizes.append(len(parser.dump()))
    assert max(sizes[1:]) < 1.3 * sizes[1]
    assert sizes[0] < 1.5 * sizes[1], "with the first lines, as long as the session identifier is looked for"


def test_answers_remembered_of_a_model_take_the_same_room_however_many():
    memory = Memory(bits=10)
    chance = np.random.default_rng(1)

    def store(_):
        hashes = chance.integers(1, 2**63, 50_000).astype(np.uint64)
        memory.store(hashes, np.zeros(50_000, np.float32), np.ones(50_000, np.int64))

    before, after = growth(store)
    assert after - before < 100_000


def test_an_open_file_of_the_archive_is_bounded_by_its_bytes():
    options = ArchiveOptions(roll_bytes=1 * MB)
    buffer, closed = Buffer(options), []
    for offset in range(60):
        line = Line(offset, NOON, value=bytes(100_000))
        closed += buffer.add(batch_of("logs.web", 0, [line]), now=0.0)
        assert buffer.bytes < options.roll_bytes
    assert [segment.bytes for segment in closed] == [1 * MB] * 6
