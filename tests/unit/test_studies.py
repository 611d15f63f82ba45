"""The studies: that one thing changes at a time, as far as was asked, and that the page shows every point."""

import json
from xml.dom import minidom

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from training.datasets import DataSet, Side, Split
from training.learner import TrainingError
from training.studies import STUDIES, TENTHS, TWIN, bench_study

LINES = [(1, 2, 3), (1, 2, 2, 3), (1, 2, 3, 3), (4, 1, 2)]


@pytest.fixture
def split():
    """200 sessions learnt and 100 tested, every tenth an anomaly with a template of its own."""

    def side(prefix, count):
        truth = [row % 10 == 9 for row in range(count)]
        lines = [(1, 9, 3) if is_odd else LINES[row % 4] for row, is_odd in enumerate(truth)]
        return Side.of([(f"{prefix}{row}", line) for row, line in enumerate(lines)], truth)

    return Split(side("l", 200), side("t", 100), {1: "open file", 2: "read <*> bytes", 3: "closed", 9: "disk failed"})


def changed(name, split, at):
    return STUDIES[name].change(split, at, np.random.default_rng(0))


def test_contamination_and_noise_change_labels_alone(split):
    dirty = changed("contamination", split, 0.05)
    assert dirty.learnt.lines == split.learnt.lines
    assert split.learnt.truth.sum() - dirty.learnt.truth.sum() == round(0.05 * 180)
    assert not (dirty.learnt.truth & ~split.learnt.truth).any()
    noisy = changed("label_noise", split, 0.1)
    assert (noisy.learnt.truth != split.learnt.truth).sum() == 20
    for one in (dirty, noisy):
        assert one.tested is split.tested


def test_the_newest_are_kept_and_nothing_of_what_is_asked_changes(split):
    small = changed("size", split, 0.05)
    assert small.learnt.names == tuple(f"l{row}" for row in range(190, 200))
    assert small.tested is split.tested


def test_a_release_changes_one_line_of_so_many_sessions_and_its_words_remain(split):
    released = changed("unseen", split, 0.2)
    assert released.learnt is split.learnt
    differ = [(old, new) for old, new in zip(split.tested.lines, released.tested.lines, strict=True) if old != new]
    assert len(differ) == 20
    for old, new in differ:
        assert [one % TWIN for one in new] == list(old)
        assert sum(one >= TWIN for one in new) == 1


def test_a_parser_s_mistakes_are_the_same_on_both_sides(split):
    wrong = changed("parser", split, 1)
    merged = {old: new for old, new in _pairs(split, wrong) if new < TWIN and old != new}
    torn = {old for old, new in _pairs(split, wrong) if new >= TWIN}
    assert len(merged) + len(torn) == 5
    assert all(new == merged.get(old, old) for old, new in _pairs(split, wrong) if old not in torn)
    assert changed("parser", split, 0).tested.lines == split.tested.lines


def _pairs(split, wrong):
    for before, after in ((split.learnt, wrong.learnt), (split.tested, wrong.tested)):
        for old, new in zip(before.lines, after.lines, strict=True):
            yield from zip(old, new, strict=True)


def test_time_goes_on_and_what_came_before_is_learnt_where_that_is_asked(split):
    parts = [changed("drift", split, tenth) for tenth in range(1, TENTHS + 1)]
    assert [name for part in parts for name in part.tested.names] == list(split.tested.names)
    assert all(part.learnt is split.learnt for part in parts)
    third = changed("retraining", split, 3)
    assert third.learnt.names == split.learnt.names + split.tested.names[:40]
    assert third.tested.names == split.tested.names[40:60]


def test_one_command_a_study_and_a_page(split, monkeypatch, tmp_path):
    monkeypatch.setattr(DataSet, "split", lambda *_: split)
    asked = [
        "bench",
        "study",
        "contamination",
        "--data",
        str(tmp_path),
        "--models",
        "new_template,ngram",
        "--seeds",
        "2",
    ]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    curve = figures["series"]["new_template"]
    assert [row["at"] for row in curve] == list(STUDIES["contamination"].points)
    assert (curve[0]["f1"], curve[-1]["f1"]) == (1.0, 0.0), "what was learnt as normal is not raised"
    assert "new_template" in CliRunner().invoke(app, asked).stdout
    (tmp_path / "found.json").write_text(json.dumps(figures))
    CliRunner().invoke(app, ["bench", "report", str(tmp_path / "found.json"), "--out", str(tmp_path)])
    page = (tmp_path / "detection.md").read_text()
    assert "| `ngram` | 1.000 |" in page
    plot = minidom.parse(str(tmp_path / "study-contamination-hdfs.svg"))
    assert len(plot.getElementsByTagName("polyline")) == 2


def test_a_model_that_only_is_asked_otherwise_learns_once(split, monkeypatch, tmp_path):
    monkeypatch.setattr(DataSet, "split", lambda *_: split)
    learnt = []
    monkeypatch.setattr(
        "training.simple.Ngram.learn", lambda self, lines: learnt.append(setattr(self, "_known", set()))
    )
    bench_study("unseen", "hdfs", tmp_path, models=["ngram"], seeds=1)
    assert len(learnt) == 1


def test_where_nothing_can_be_learnt_the_point_says_why(split, monkeypatch, tmp_path):
    monkeypatch.setattr(DataSet, "split", lambda *_: split)
    figures = bench_study("size", "hdfs", tmp_path, models=["decision_tree"], seeds=1)
    assert [row["at"] for row in figures["series"]["decision_tree"]] == list(STUDIES["size"].points)
    none = Split(Side(split.learnt.names, split.learnt.lines, np.zeros(200, dtype=bool)), split.tested, split.texts)
    monkeypatch.setattr(DataSet, "split", lambda *_: none)
    figures = bench_study("size", "hdfs", tmp_path, models=["decision_tree"], seeds=1)
    assert "both kinds" in figures["left_out"]["decision_tree at 1"]


def test_an_unknown_study_or_model_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="there are contamination"):
        bench_study("weather", "hdfs", tmp_path)
    with pytest.raises(TrainingError, match="No model oracle"):
        bench_study("size", "hdfs", tmp_path, models=["oracle"])
