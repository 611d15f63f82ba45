"""Templates told apart by a value: the same on every shard, whatever the batch, after every restart, and back again."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import Settings, Template
from contracts.service import ServiceSettings, SplitOptions
from parsing.apart import part_id, part_text, parts_of, places
from parsing.events import Lines, template_hex
from parsing.miner import template_id
from parsing.parser import Parser
from tests.unit import test_streaming_stages as job
from tests.unit.test_parsing import lines_of, mixed_corpus, reloaded
from tests.unit.test_streaming_stages import OPTIONS, SERVICE, Memory, frame, order, run, stages, tell

bundle = job.bundle
PLAIN = ServiceSettings(service="pay", format="raw")
LINES = [f"disk {n} of user {name}{n} is 4{n % 5} full now" for n, name in enumerate(["al", "bo"] * 30)]


def whole_of(options=PLAIN, lines=LINES):
    """The parser that has read the lines, and the template of the first."""
    parser = Parser(options)
    events = parser.parse(lines_of(*lines)).events
    return parser, int(events.template_ids()[0]), events.templates


def split(place=2, values=("40", "42"), lines=LINES):
    _, whole, texts = whole_of(lines=lines)
    return SplitOptions(template=template_hex(whole), text=texts[whole], place=place, values=values)


def with_splits(*splits, options=PLAIN):
    return options.model_copy(update={"splits": splits})


def ids(parser, lines, first=0, partition=0):
    return parser.parse(lines_of(*lines, first=first, partition=partition)).events.template_ids().tolist()


def test_lines_with_a_chosen_value_have_a_template_of_their_own():
    one = split()
    assert places(one.text)[2] == "<NUM>"
    parsed = Parser(with_splits(one)).parse(lines_of(*LINES))
    events, whole = parsed.events, int(one.template, 16)
    texts = [events.templates[one] for one in events.template_ids().tolist()]
    for line, shown, template in zip(LINES, texts, events.template_ids().tolist(), strict=True):
        value = line.split()[6]
        assert (f" is {value} " in shown) == (value in one.values), (line, shown)
        assert (template == part_id("pay", one, value)) == (value in one.values)
    plain = whole_of()[2]
    assert {shown for shown in texts if " is <NUM> " in shown} == set(plain.values())
    announced = [one for one in parsed.new_templates if one.split_of]
    assert {(one.text, one.reason, one.split_of) for one in announced} == {
        (part_text(one, value), "born", f"{whole:016x}") for value in one.values
    }
    assert all(f" is {found.text.split(' is ')[1].split()[0]} " in found.example for found in announced)


def test_a_part_is_not_its_whole_though_the_whole_was_born_of_its_text():
    """A template keeps the id of the text it was born of, which may be the very text of a part."""
    lines = [f"user {name} came in" for name in ("anna", "bert", "carl")]
    one = split(0, ("anna", "bert"), lines)
    assert one.text == "user <*> came in"
    assert int(one.template, 16) == template_id("pay", "user anna came in")
    found = ids(Parser(with_splits(one)), lines)
    assert len(set(found)) == 3
    assert found[2] == int(one.template, 16)


def test_a_line_that_does_not_fit_the_splits_text_stays_with_the_whole():
    lines = [f"user {name} came in" for name in ("anna", "bert", "carl")]
    one = split(0, ("anna",), lines).model_copy(update={"text": "host <*> came in"})
    assert set(ids(Parser(with_splits(one)), lines)) == {int(one.template, 16)}


def test_a_split_at_no_place_is_told():
    with pytest.raises(ValueError, match="has no variable number 9"):
        Parser(with_splits(split(place=9)))


def test_a_part_can_be_told_apart_further():
    one = split(1, ("al0",))
    part = template_hex(part_id("pay", one, "al0"))
    two = SplitOptions(template=part, text=part_text(one, "al0"), place=1, values=("40",))
    lines = [*LINES, "disk 3 of user al0 is 40 full now", "disk 3 of user al0 is 41 full now"]
    found = ids(Parser(with_splits(one, two)), lines)
    assert found[-2] == part_id("pay", two, "40")
    assert found[-1] == part_id("pay", one, "al0")


def cut(lines, bounds):
    edges = [0, *sorted(set(bounds)), len(lines)]
    return [(start, lines[start:stop]) for start, stop in pairwise(edges) if start < stop]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, len(LINES) - 1), max_size=8),
    st.lists(st.sampled_from(["40", "41", "43", "44", "7"]), min_size=1, max_size=3, unique=True),
    st.integers(0, 9),
)
def test_the_cut_into_batches_and_restarts_change_nothing(bounds, values, crash_at):
    options = with_splits(split(values=tuple(values)))
    parser, found = Parser(options), []
    for number, (first, part) in enumerate(cut(LINES, bounds)):
        parser = reloaded(parser) if number == crash_at else parser
        found += ids(parser, part, first)
    assert found == ids(Parser(options), LINES)


@pytest.mark.parametrize("batch", [7, 100, 999])
def test_a_corpus_of_all_kinds_comes_out_the_same_whatever_the_batch(batch):
    corpus, options = mixed_corpus(), ServiceSettings(service="pay")
    events = Parser(options).parse(lines_of(*corpus)).events
    often = next(one for one, text in events.templates.items() if text.startswith("user <*> left"))
    chosen = SplitOptions(template=template_hex(often), text=events.templates[often], place=0, values=("anna", "emil"))
    options = with_splits(chosen, options=options)
    whole = Parser(options).parse(lines_of(*corpus)).events
    parser, found = Parser(options), []
    for first in range(0, len(corpus), batch):
        found += ids(parser, corpus[first : first + batch], first)
    assert found == whole.template_ids().tolist()
    assert {part_id("pay", chosen, value) for value in chosen.values} < set(found)
    assert [one for one in found if one not in parts_of("pay", options.splits)] == [
        one
        for one, part in zip(events.template_ids().tolist(), found, strict=True)
        if part not in parts_of("pay", options.splits)
    ], "all other lines are as without the split"


def test_shards_agree_though_one_knows_of_the_parts_by_the_catalogue_only():
    options = with_splits(split())
    one, other = Parser(options), Parser(options)
    first = one.parse(lines_of(*LINES))
    other.adopt(first.new_templates, news=True)
    again = other.parse(lines_of(*LINES, partition=1))
    assert again.events.template_ids().tolist() == first.events.template_ids().tolist()
    assert not [found for found in again.new_templates if found.split_of], "the catalogue has them already"


def test_taken_back_the_lines_are_the_wholes_again():
    options = with_splits(split())
    parted = Parser(options)
    catalogue = parted.parse(lines_of(*LINES)).new_templates
    back = Parser(PLAIN)
    back.load(parted.dump())
    back.adopt(catalogue)
    assert ids(back, LINES) == ids(whole_of()[0], LINES)


def test_a_part_that_is_made_one_with_another_follows_its_alias():
    one = split()
    parser, root = Parser(with_splits(one)), "00000000000000aa"
    part = template_hex(part_id("pay", one, "40"))
    record = Template(service="pay", id=part, text="x", reason="merged", alias_of=root, split_of=one.template)
    parser.adopt([record, Template(service="pay", id=root, text="something else")])
    events = parser.parse(lines_of(*LINES)).events
    assert int(root, 16) in events.template_ids()
    assert int(part, 16) not in events.template_ids()


# -- the job -----------------------------------------------------------------------------------------------------------


def test_until_it_learns_again_a_bundle_judges_a_part_as_its_whole(bundle):
    """Telling templates apart raises nothing by itself; a scorer that is made later knows of it, too."""
    known = next(one for one in bundle.vocabulary.entries if "stock" in one.text)
    lines = job.text(order(number) for number in range(5, 9))
    for late in (False, True):
        parse, score = stages(bundle)
        whole = known.text.replace("reserved", "<*>")
        chosen = SplitOptions(template=known.template, text=whole, place=0, values=("reserved",))
        record = Settings(settings=OPTIONS.model_copy(update={"splits": (chosen,)}))
        if late:
            score._bundles.of(SERVICE, (bundle.manifest.version,), {})
        for stage in (parse, score):
            tell(stage, record)
        found, statistics = run(parse, score, Memory(), [frame(lines)])
        events = Parser(record.settings).parse(frame_lines(lines)).events
        part = part_id(SERVICE, chosen, "reserved")
        assert events.template_ids().tolist().count(part) == 4
        assert found == []
        assert sum(one.unknown for one in statistics) == 0


def frame_lines(lines):
    return Lines.from_list(SERVICE, f"logs.{SERVICE}", 0, np.arange(len(lines)), np.full(len(lines), 1), lines)
