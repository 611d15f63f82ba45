"""Templates that come, go and come back, whatever the batches, and one catalogue of many shards."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.records import Template
from contracts.service import ServiceSettings, SessionOptions
from parsing.aliases import Aliases
from parsing.events import Lines, template_hex
from parsing.masks import MARK
from parsing.miner import OVERFLOW_TEMPLATE, OVERFLOW_TEXT, Miner, template_id
from parsing.parser import Parser
from parsing.tree import Tree
from tests.shards import Shards

PLAIN = ServiceSettings(service="pay", format="raw", session=SessionOptions(by="window"))
GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")


def feed(miner: Miner, texts: Sequence[str]) -> list[int]:
    """Run texts through a miner, one a line."""
    ids: list[int] = []
    for start, stop in miner.spans(len(texts)):
        ids += miner.learn(list(texts[start:stop]))[0]
    return ids


def strange(first: int, number: int) -> list[str]:
    """Texts that have no word in common."""
    return [
        " ".join(f"{word}{chr(97 + n % 26)}{chr(97 + n // 26)}" for word in ("one", "two", "six"))
        for n in range(first, first + number)
    ]


# -- what goes -----------------------------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_makes_room():
    miner = Miner("pay", max_templates=8, generation_lines=10)
    old, kept, new = strange(0, 4), strange(10, 4), strange(20, 1)
    feed(miner, old + kept + kept[:2])
    feed(miner, [*kept, *new, *kept, *new])
    texts = {entry.birth for entry in miner.stock.entries.values()}
    assert texts == {*old[1:], *kept, *new}
    assert {reason for reason, _ in miner.told.values()} == {"evicted"}
    assert [text for _, text in miner.told.values()] == old[:1]


def test_a_generation_has_room_for_an_eighth_more_and_what_it_refuses_is_tried_again():
    miner = Miner("pay", max_templates=8, generation_lines=20)
    texts = strange(0, 12)
    ids = feed(miner, texts)
    assert ids[9:] == [OVERFLOW_TEMPLATE] * 3
    assert miner.text(OVERFLOW_TEMPLATE) == OVERFLOW_TEXT
    assert feed(miner, texts[9:]) == [OVERFLOW_TEMPLATE] * 3
    feed(miner, texts[8:9] * 5)  # the generation ends
    assert len(miner) == 8
    assert OVERFLOW_TEMPLATE not in miner.remembered.values()
    assert feed(miner, texts[9:10]) == [template_id("pay", texts[9])]


def test_what_comes_again_has_the_id_it_had():
    miner = Miner("pay", max_templates=8, generation_lines=10)
    plain, wide = "nothing varies in here", [f"user {name} logged in at {MARK}" for name in ("anna", "bert", "carl")]
    first = feed(miner, [plain, *wide])
    assert len(set(first[1:])) == 1
    feed(miner, strange(0, 6))
    feed(miner, [plain, *wide, *strange(0, 6)])  # all of them were useful once more
    feed(miner, strange(6, 1) * 10)
    feed(miner, strange(7, 1) * 10)
    assert len(miner) == 8
    assert not {*first} & {entry.id for entry in miner.stock.entries.values()}
    assert [entry.id for entry in miner.shelf.entries.values()] == [first[1]]  # a hash brings the other one back
    miner.told.clear()
    again, changes = miner.learn([plain])
    assert again == first[:1]
    feed(miner, strange(6, 1) * 10)
    again, changes = miner.learn([f"user dora logged in at {MARK}"])
    assert again == first[1:2]
    assert [change.reason for change in changes] == ["returned"]
    assert miner.text(again[0]) == "user <*> logged in at <*>"
    assert not len(miner.shelf)


def test_the_shelf_is_bounded_and_what_it_has_forgotten_begins_anew():
    miner = Miner("pay", max_templates=8, generation_lines=4)
    kinds = [[f"{word} user {name} here" for name in ("anna", "bert")] for word in GREEK]
    ids = [feed(miner, kind * 4)[0] for kind in kinds]
    assert len(miner.shelf) == 2
    forgotten = next(n for n in range(len(ids)) if ids[n] not in miner.shelf and ids[n] not in miner.stock)
    again = feed(miner, [kinds[forgotten][1]])
    assert again == [template_id("pay", kinds[forgotten][1])]
    assert again != [ids[forgotten]]


def test_learning_pauses_in_a_flood_and_goes_on_after_it():
    miner = Miner("pay", max_templates=32, generation_lines=40)
    useful = [f"{word} does what it has to do" for word in GREEK]
    feed(miner, useful * 2)
    flood = iter(strange(0, 600))
    paused, ids = [], []
    for _ in range(30):
        ids += feed(miner, [*useful[:8], *(next(flood) for _ in range(12))])
        paused.append(miner.generation.paused)
    assert paused[-1]
    assert sum(paused) > 20
    assert [template_id("pay", text) in miner.stock for text in useful[:8]] == [True] * 8
    born = len(set(ids)) - 9
    assert born <= 32 + 2 * 4  # of 360: what there was room for, and no more than two generations' room
    feed(miner, useful * 8)  # two generations without anything new: one that refused little is enough
    assert not miner.generation.paused
    assert OVERFLOW_TEMPLATE not in feed(miner, ["a new kind of line"])


def test_a_service_that_changes_slowly_never_pauses():
    """One new template each generation pushes out one that was not used for very long."""
    miner = Miner("pay", max_templates=32, generation_lines=40)
    for n in range(100):
        texts = strange(n, 1)
        ids = feed(miner, texts * 40)
        assert set(ids) == {template_id("pay", texts[0])}
        assert not miner.generation.paused
    assert len(miner) == 32


def test_what_is_taken_out_of_the_tree_is_found_no_more_and_the_rest_is():
    tree = Tree()
    texts = [text.split() for text in strange(0, 40)]
    numbers = [tree.add(words, words) for words in texts]
    tree.remove({number: texts[number] for number in numbers[::2]})
    assert [tree.find(words) is not None for words in texts] == [False, True] * 20
    tree.remove({number: texts[number] for number in numbers[1::2]})
    assert not tree.words
    assert not any(tree._having.values())  # nothing is left behind


# -- whatever the batches ------------------------------------------------------------------------------------------

POOL = (
    *(f"{word} is what this one is about" for word in GREEK),
    *(f"user {word} logged in at 10.0.0.{n}" for n, word in enumerate(GREEK)),
    *(f"{word} took {n} ms and x{n}y{n} more" for n, word in enumerate(GREEK)),
    *(f"disk x{n}y{n} of {word} is full" for n, word in enumerate(GREEK)),
)


def small(parser: Parser) -> Parser:
    miner = parser._miner
    miner.max_templates, miner.max_remembered, miner.generation_lines = 8, 24, 16
    return parser


def run(texts: Sequence[str], cuts: Sequence[int], *, restart: bool) -> tuple[list[int], bytes, list[str]]:
    """Ids and state after texts that came in batches, and all that was told."""
    parser, ids, told = small(Parser(ServiceSettings(service="pay", format="raw"))), list[int](), list[str]()
    for start, stop in zip([0, *cuts], [*cuts, len(texts)], strict=True):
        if restart:
            state, parser = parser.dump(), small(Parser(parser.settings))
            parser.load(state)
        lines = [text.encode() for text in texts[start:stop]]
        n = len(lines)
        parsed = parser.parse(Lines.from_list("pay", "logs.pay", 0, range(start, stop), [0] * n, lines))
        assert sum(parsed.overflow.values()) == parsed.events.template_ids().tolist().count(OVERFLOW_TEMPLATE)
        ids += parsed.events.template_ids().tolist()
        told += [
            f"{one.reason} {one.id} {one.text}" for one in parsed.new_templates if one.reason in {"evicted", "merged"}
        ]
    return ids, parser.dump(), told


@given(st.lists(st.sampled_from(POOL), min_size=1, max_size=200), st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_evictions_and_pauses_do_not_depend_on_batches_and_restarts(texts, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(texts)), max_size=8)) - {len(texts)})
    whole, state, told = run(texts, [], restart=False)
    assert len(whole) == len(texts)
    assert run(texts, cuts, restart=False)[::2] == (whole, told)
    ids, again, told_again = run(texts, cuts, restart=True)
    assert (ids, told_again) == (whole, told)
    assert again == state


# -- one catalogue -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(16, 40), st.integers(16, 40)), max_size=40), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_same_pairs_make_the_same_aliases_in_any_order(pairs, random):
    classes = []
    for _ in range(2):
        aliases = Aliases()
        links = [link for one, other in pairs if (link := aliases.unite(one, other)) is not None]
        assert all(large > small for large, small in links)
        assert all(aliases.resolve(one) == aliases.resolve(other) for one, other in pairs)
        classes.append([aliases.resolve(one) for one in range(16, 41)])
        random.shuffle(pairs)
    assert classes[0] == classes[1]
    assert all(classes[0][root - 16] == root for root in classes[0])


KINDS = (
    "user % logged in",
    "the job % has run for % now",
    "disk % of host % is nearly full",
    "% % % have all been seen before here",
    "no answer",
)


def line(kind: int, values: Sequence[int]) -> bytes:
    """A line of a kind: its variables are names that no mask takes out, so that templates generalise."""
    text = KINDS[kind]
    for value in values:
        text = text.replace("%", f"q{value}z{value}w", 1)
    return text.replace("%", "q0z0w").encode()


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("parse"),
            st.integers(0, 3),
            st.lists(
                st.tuples(st.integers(0, len(KINDS) - 1), st.lists(st.integers(1, 9), max_size=3)),
                min_size=1,
                max_size=5,
            ),
        ),
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("restart"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_shards_that_learn_and_read_in_any_order_come_to_use_the_same_ids(steps):
    """Every kind of line is one template in the end, on every shard, also where all of them made their own of it."""
    shards, given_out, asked = Shards(PLAIN), set[tuple[int, int]](), list[bytes]()
    for what, shard, with_what in steps:
        if what == "read":
            shards.catch_up(shard, with_what)
        elif what == "restart":
            shards.restart(shard)
        else:
            lines = [line(kind, values) for kind, values in with_what]
            ids = shards.parse(shard, lines).events.template_ids().tolist()
            given_out |= {(kind, template) for (kind, _), template in zip(with_what, ids, strict=True)}
            asked += lines
    shards.drain(b"no answer")
    maps = [{template: parser._miner.resolve(template) for _, template in given_out} for parser in shards.parsers]
    assert maps[0] == maps[1] == maps[2] == maps[3]
    answers = [shards.parse(shard, [*asked, b"x"]).events.template_ids().tolist() for shard in range(4)]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len({(kind, maps[0][template]) for kind, template in given_out}) == len({kind for kind, _ in given_out})


WORDS = st.lists(
    st.sampled_from(["a", "b", "c", "d1", "e7", "k=2", "k=f7", "user", "x.y", "x.z"]), min_size=1, max_size=5
)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(WORDS, min_size=1, max_size=4), st.integers(0, 5)), max_size=40))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_shards_learn_they_agree_on_aliases(steps):
    shards, given_out = Shards(PLAIN), set[int]()
    for shard, texts, records in steps:
        given_out |= set(
            shards.parse(shard, [" ".join(words).encode() for words in texts]).events.template_ids().tolist()
        )
        shards.catch_up(shard, records)
    shards.drain(b"a")
    maps = [{one: parser._miner.resolve(one) for one in given_out} for parser in shards.parsers]
    assert maps[0] == maps[1] == maps[2] == maps[3]
    assert all(root <= one and maps[0].get(root, root) == root for one, root in maps[0].items())
    # Who reads only what is left of the topic when it has been compacted knows the same.
    late = Parser(PLAIN)
    late.adopt({record.id: record for record in shards.topic}.values())
    assert {one: late._miner.resolve(one) for one in given_out} == maps[0]


def test_two_shards_that_meet_a_kind_of_line_at_a_time_tell_of_the_alias_and_give_the_smaller_id():
    shards = Shards(PLAIN, 2)
    ids = [
        int(shards.parse(p, [f"user {name} logged in".encode()]).events.template_ids()[0])
        for p, name in enumerate(("anna", "bert"))
    ]
    shards.drain(b"user anna logged in")
    merged = {(record.id, record.alias_of) for record in shards.topic if record.alias_of}
    assert merged == {(template_hex(max(ids)), template_hex(min(ids)))}
    for shard in range(2):
        events = shards.parse(shard, [b"user carl logged in", b"user bert logged in"]).events
        assert events.template_ids().tolist() == [min(ids)] * 2
        assert events.templates == {min(ids): "user <*> logged in"}


def test_an_alias_that_was_overwritten_is_told_again():
    parser = Parser(ServiceSettings(service="pay"))
    lines = Lines.from_list("pay", "logs.pay", 0, [0], [0], [b"took 5 steps"])
    old = parser.parse(lines).new_templates[0]
    parser.adopt([old.model_copy(update={"alias_of": "0" * 14 + "aa"})])
    parser.adopt([old])
    told = parser.parse(lines).new_templates
    assert [(one.id, one.alias_of, one.reason) for one in told] == [(old.id, "0" * 14 + "aa", "merged")]


def test_templates_that_one_shard_keeps_apart_stay_apart_on_all():
    """What came from one shard was told apart there; a shard that reads it does not know better."""
    one = Parser(ServiceSettings(service="pay"))
    texts = [
        b"machine x1y1 is foo now",
        b"machine x1y1 is bar now",
        b"machine x2y2 is foo now",
        b"machine x1y1 is bar9 now",
    ]
    parsed = one.parse(Lines.from_list("pay", "logs.pay", 0, range(4), [0] * 4, texts))
    other = Parser(ServiceSettings(service="pay"))
    other.adopt({record.id: record for record in parsed.new_templates}.values())
    again = other.parse(Lines.from_list("pay", "logs.pay", 1, range(2), [0] * 2, texts[:2]))
    assert again.events.template_ids().tolist() == parsed.events.template_ids().tolist()[:2]
    assert again.new_templates == []


@pytest.mark.parametrize(("reason", "known"), [("evicted", 0), ("born", 1)])
def test_what_was_let_go_elsewhere_takes_no_room_here_and_comes_back_under_its_id(reason, known):
    parser = Parser(ServiceSettings(service="pay"))
    parser.adopt([Template(service="pay", id="00000000000000aa", text="user <*> logged in", reason=reason)])
    assert parser.template_count == known
    lines = Lines.from_list("pay", "logs.pay", 0, [0], [0], [b"user dora logged in"])
    assert parser.parse(lines).events.template_ids().tolist() == [0xAA]


def test_every_template_says_why_and_from_which_line():
    parser = small(Parser(ServiceSettings(service="pay", format="raw")))
    texts = [b"user anna logged in", b"user bert logged in", *(text.encode() for text in strange(0, 30))]
    texts += [texts[-1]] * 16
    told = [
        record
        for at, text in enumerate(texts)
        for record in parser.parse(Lines.from_list("pay", "logs.pay", 3, [at], [0], [text])).new_templates
    ]
    assert [(one.reason, one.example, one.partition, one.offset) for one in told[:2]] == [
        ("born", "user anna logged in", 3, 0),
        ("generalised", "user bert logged in", 3, 1),
    ]
    assert {one.reason for one in told[2:]} == {"born", "evicted"}
