"""The metrics of templates, on examples small enough to be worked out by hand."""

import json

import pytest

from training.parsing_bench import (
    ParsingBenchError,
    accuracy,
    agreement,
    bench_accuracy,
    dissimilar,
    drain3,
    grouping,
    literal,
    normalised,
    ours,
)


def test_groups_count_where_they_hold_the_same_messages():
    """Labels: {0 1}, {2}, {3 4 5}. Found: {0 1}, {2 3}, {4 5}: one of three, with two of six messages."""
    assert grouping(["a", "a", "b", "c", "c", "c"], [7, 7, 8, 8, 9, 9]) == (2 / 6, 1 / 3)


def test_group_accuracy_weighs_messages_and_its_f1_weighs_groups():
    """One group of 98 is right, one of two is split: GA .98, one of three found and of two labelled."""
    ga, fga = grouping(["a"] * 98 + ["b", "b"], [1] * 98 + [2, 3])
    assert ga == pytest.approx(0.98)
    assert fga == pytest.approx(2 * 1 / (3 + 2))


def test_names_of_groups_do_not_matter():
    assert grouping(["a", "b", "a"], ["b", "a", "b"]) == (1.0, 1.0)


def test_a_template_is_right_if_all_its_messages_are_labelled_with_its_text():
    """Found "x" is right; found "y <*>" has the text of two of its three messages only; "z" is nobody's label."""
    labels = ["x", "y <*>", "y <*>", "w <*>", "y <*>"]
    found = ["x", "y <*>", "y <*>", "y <*>", "z"]
    pa, fta = agreement(labels, found)
    assert pa == 3 / 5
    assert fta == pytest.approx(2 * (1 / 3) * (1 / 3) / (1 / 3 + 1 / 3))


def test_nothing_in_common_is_nothing():
    assert grouping(["a", "a"], [1, 2]) == (0.0, 0.0)
    assert agreement(["a", "b"], ["c", "d"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("took  <NUM>  ms", "took <*> ms"),
        ("blk_<ID> of <IP>:<NUM>", "<*> of <*>"),
        ("core.<NUM>", "core.<*>"),
        ("<NUM>.<NUM>.<NUM>-rc", "<*>-rc"),
        ("#<NUM>#@host", "<*>@host"),
        ("status: 200, ok=true, user=root", "status: <*>, ok=<*>, user=<*>"),
        ("open /var/log/app.log or hdfs://<URL>", "open <*> or hdfs://<*>"),
        ("nothing varies", "nothing varies"),
        ("a <lower> b <...>", "a <lower> b <*>"),
    ],
)
def test_texts_are_compared_as_logpub_compares_them(text, same):
    assert normalised(text) == same
    assert normalised(same) == same  # labels that are corrected already stay as they are


def test_a_literal_comparison_forgives_types_and_blanks_only():
    assert literal("took  <NUM>.<NUM> s,  blk_<ID>") == "took <*>.<*> s, blk_<*>"


def test_texts_make_no_difference_to_groups():
    found = accuracy(["a 1", "a 1", "b"], [1, 1, 2], ["a <NUM>", "a <NUM>", "c"])
    assert (found.GA, found.FGA) == (1.0, 1.0)
    assert (found.PA, found.PA_literal) == (round(2 / 3, 4), 0.0)
    assert (found.FTA, found.FTA_literal) == (0.5, 0.0)


def test_both_parsers_give_ids_and_texts():
    messages = ["took 5 ms", "took 7 ms", "all done"]
    for parse in (ours, drain3):
        ids, texts = parse(messages)
        assert ids[0] == ids[1] != ids[2]
        assert [literal(text) for text in texts] == ["took <*> ms", "took <*> ms", "all done"]


def test_a_folder_of_systems_is_measured(tmp_path):
    for system in ("One", "Two"):
        folder = tmp_path / "loghub" / system
        folder.mkdir(parents=True)
        (folder / f"{system}_2k.log_structured.csv").write_text(
            'LineId,Content,EventTemplate\n1,"took 5, ms","took <*>, ms"\n2,"took 7, ms","took <*>, ms"\n3,done,done\n'
        )
    (tmp_path / "loghub" / "empty").mkdir()
    right = {"GA": 1.0, "FGA": 1.0, "PA": 1.0, "FTA": 1.0, "PA_literal": 1.0, "FTA_literal": 1.0}
    for data in (tmp_path, tmp_path / "loghub"):
        figures = bench_accuracy(data)
        assert list(figures["systems"]) == ["One", "Two"]
        assert figures["average"] == figures["drain3_average"] == right
        assert figures["systems"]["One"] == {**right, "drain3": right}
        json.dumps(figures)


@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_folder_without_labels_is_named(tmp_path, folder):
    with pytest.raises(ParsingBenchError, match=str(tmp_path)):
        bench_accuracy(tmp_path / folder)


def test_dissimilar_texts_are_templates_of_their_own():
    messages = [text.decode() for text in dissimilar(300)]
    assert {len(message.split()) for message in messages} == {12}
    assert len(set(ours(messages)[0])) == 300
