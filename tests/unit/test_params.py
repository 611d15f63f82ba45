"""Parameters of messages: found by template, and put back together to the very message."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.service import MaskOptions
from parsing.masks import DEFAULT_MASKS, Masks
from parsing.params import ANY, PARAMETER_SCHEMA, parameters, restored
from parsing.parser import MAX_MESSAGE

MASKS = Masks.build()


def strings(*values):
    return pl.Series(values, dtype=pl.String)


def found(message, template, masks=MASKS):
    """One message's parameters as (slot, word, type, text, gap), checked for being the whole message."""
    messages, templates = strings(message), strings(template)
    params = parameters(messages, templates, masks)
    assert params.frame.schema == PARAMETER_SCHEMA
    assert restored(templates, params).to_list() == [message]
    for start, text in params.frame.select("start", "text").rows():
        assert message[start : start + len(text)] == text
    return params.frame.select("slot", "word", "type", "text", "gap").rows()


@pytest.mark.parametrize(
    ("message", "template", "expected"),
    [
        (
            "Received block blk_-42 of size 67 from /10.0.0.1",
            "Received block blk_<ID> of size <NUM> from /<IP>",
            [
                (0, 2, "ID", "-42", None),
                (1, 5, "NUM", "67", None),
                (2, 7, "IP", "10.0.0.1", None),
            ],
        ),
        ("user anna left", "user <*> left", [(0, 1, ANY, "anna", None)]),
        ("two  blanks\tand 5 ", "two blanks and <NUM>", [(0, 3, "NUM", "5", "two  blanks\tand ")]),
        ("send 1,2;3 at -4", "send <NUM> at <NUM>", [(0, 1, "NUM", "1,2;3", None), (1, 3, "NUM", "-4", None)]),
        ("uid=0, gid=a.b,", "uid=<NUM>, gid=<*>,", [(0, 0, "NUM", "0", None), (1, 1, ANY, "a.b", None)]),
        ("uid=root, x", "uid=<*>, x", [(0, 0, ANY, "root", None)]),
        ("call ()", "call (<*>)", [(0, 1, ANY, "", None)]),
        ("run node-17 now", "run <*> now", [(0, 1, ANY, "node-17", None)]),
        ("at hdfs://h:1/a/b done", "at hdfs://<URL> done", [(0, 1, "URL", "h:1/a/b", None)]),
        (
            "18846 bytes (18.4 KB), sent 3",
            "<NUM> bytes, sent <NUM>",
            [
                (0, 0, "NUM", "18846", None),
                (None, None, "SIZE", "18.4 KB", " bytes ("),
                (1, 3, "NUM", "3", "), sent "),
            ],
        ),
        (
            "delete 1 2 3 4 5 6 7 8 9 now",
            "delete <*> now",
            [(0, 1, ANY, "1 2 3 4 5 6 7 8 9", None)],
        ),
        ("10.0.0.1:x 5:y", "<IP>:x <*>:y", [(0, 0, "IP", "10.0.0.1", None), (1, 1, "NUM", "5", None)]),
        # Templates that do not fit: what the masks found is there all the same.
        ("a 5 b", "<TOO MANY TEMPLATES>", [(None, None, "NUM", "5", "a ")]),
        ("a 5 b", "a <NUM>", [(None, None, "NUM", "5", "a ")]),
        ("", "", []),
        ("nothing", "nothing", []),
        ("a <NUM> b", "a <NUM> b", [(0, 1, ANY, "<NUM>", None)]),
        ("this <_> is 5", "this <*> is <*>", [(0, 1, ANY, "<_>", None), (1, 3, "NUM", "5", None)]),
        ("größer als 7 Äpfel", "größer als <NUM> Äpfel", [(0, 2, "NUM", "7", None)]),
    ],
)
def test_a_message_is_its_template_filled_in(message, template, expected):
    assert found(message, template) == expected


def test_words_beyond_the_limit_are_one_parameter():
    message = "a " * 127 + "b c d 5"
    (rest,) = found(message, "a " * 127 + "b <...>")
    assert rest[2:4] == (ANY, "c d 5")


def test_what_lies_behind_the_limit_comes_back():
    assert found("5 " + "x" * MAX_MESSAGE, "<NUM> " + "x" * (MAX_MESSAGE - 2)) == [(0, 0, "NUM", "5", None)]


def test_a_services_own_masks_have_their_names():
    masks = Masks.build(
        [MaskOptions(name="ID", pattern="_?x[0-9]"), MaskOptions(name="SEAT", pattern="seat [A-Z][0-9]")]
    )
    assert found("a _x1 b x2 c seat A1", "a _<ID> b <ID> c <SEAT>", masks) == [
        (0, 1, "ID", "x1", None),
        (1, 3, "ID", "x2", None),
        (2, 5, "SEAT", "seat A1", None),
    ]


def test_lists_have_one_entry_a_message():
    messages = strings("a 1 2", "b", "c 3", "5 bytes (5 B)")
    params = parameters(messages, strings("a <NUM> <NUM>", "b", "c <NUM>", "<NUM> bytes"), MASKS)
    assert params.lists().to_list() == [["1", "2"], [], ["3"], ["5"]]


def test_no_messages_have_no_parameters():
    params = parameters(strings(), strings(), MASKS)
    assert params.frame.height == 0
    assert params.frame.schema == PARAMETER_SCHEMA
    assert restored(strings(), params).to_list() == []


NAMES = sorted({name for name, _ in DEFAULT_MASKS})
WORDS = st.sampled_from(
    [
        *("a", "b=", "=5", "blk_1", "://x", "5", "-5", "1,2,3", "10.0.0.1:80", "0xff", " ", "  ", "\t", "\n", "\x1c"),
        *("<_>", "<*>", "<NUM>", "<...>", "bytes (5)", "bytes (5 KB)", "ä", "\ue000", "\ue001", "(", ")", "12:00:01"),
    ]
)
TEXTS = st.text(max_size=60) | st.lists(WORDS, max_size=24).map("".join) | st.lists(WORDS, max_size=24).map(" ".join)
SLOTS = st.sampled_from([*(f"<{name}>" for name in NAMES), "<*>", "<...>", "_<ID>", "://<URL>", "b=<*>,"])
TEMPLATES = st.lists(WORDS | SLOTS, max_size=12).map(" ".join) | TEXTS


@given(st.lists(st.tuples(TEXTS, TEMPLATES), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_whatever_its_template(pairs):
    """Masks and template put the original message back together."""
    messages, templates = strings(*(text for text, _ in pairs)), strings(*(template for _, template in pairs))
    params = parameters(messages, templates, MASKS)
    assert restored(templates, params).to_list() == messages.to_list()
    for row, start, text in params.frame.select("row", "start", "text").rows():
        assert messages[row][start : start + len(text)] == text
    assert params.frame["row"].is_sorted()
