"""Measuring: what is printed is what was found; kinds of anomalies, intervals, sequences of a folder."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from test_detector_support import TEXTS, session, shop
from test_models_support import events_of
from typer.testing import CliRunner

from cli.main import app
from models.detectors import SESSION_DETECTORS
from models.finished import Sessions
from training.evaluate import evaluate_hdfs
from training.learner import TrainingError
from training.measures import intervals, measures, summary
from training.sequence_bench import baselines, evaluate_sequences, sessions_of
from training.session_bench import KINDS, Learnt, kinds_of, sequences_of

ENDLESS = 2**60


def test_a_summary_has_means_intervals_and_recall_by_kind():
    truth = np.array([True, True, True, False, False, False])
    runs = [np.array([True, True, False, True, False, False]), np.array([True, False, False, False, False, False])]
    kinds = {"odd_event": np.array([True, True, False, False, False, False]), "other": np.zeros(6, dtype=bool)}
    row = summary(runs, truth, np.array([0, 0, 1, 2, 3, 3]), kinds)
    assert row["precision"] == pytest.approx((2 / 3 + 1) / 2)
    assert row["recall"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert row["f1_by_seed"] == [pytest.approx(2 / 3), pytest.approx(0.5)]
    assert row["recall_by_kind"] == {"odd_event": 0.75}
    assert row["unique_sequences"] == 4
    # Distinct sequences: sessions 0, 2, 3, 4.
    assert row["f1_unique"] == pytest.approx(np.mean([2 * 1 / (2 + 2), 2 * 1 / (1 + 2)]))
    low, high = row["intervals"]["recall"]
    assert 0 <= low <= 2 / 3 <= high <= 1


def test_intervals_hold_the_figure_and_shrink_with_more_sessions():
    truth = np.arange(400) % 4 == 0
    flags = np.arange(400) % 8 == 0
    few, many = intervals(flags[:40], truth[:40])["f1"], intervals(flags, truth)["f1"]
    assert few[0] <= measures(flags, truth)["f1"] <= few[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_kinds_of_anomalies_and_numbers_of_sequences():
    lines = [(10, 11, 13, 14, 15)] * 200 + [(10,), (10, 11, 99, 13, 14), (15, 14, 13, 11, 10)]
    sessions = sessions_of(lines, TEXTS, "s")
    truth = np.arange(203) >= 200
    kinds = kinds_of(sessions, sessions.names, truth)
    assert tuple(kinds) == KINDS
    assert [np.flatnonzero(kinds[kind]).tolist() for kind in KINDS] == [[200], [201], [202]]
    assert sequences_of(sessions, sessions.names).tolist() == [0] * 200 + [1, 2, 3]


def test_the_fifth_that_ended_last_is_held_back():
    whole = shop(100)
    learnt = Learnt.of(whole, ENDLESS)
    assert len(learnt.older) == 80
    assert set(learnt.newer.names) == {f"s{i}" for i in range(80, 100)}


def test_a_session_that_began_first_and_ended_last_is_held_back_in_all_its_states():
    rows = [{"session": "long", "template": 10, "time": 0}, {"session": "long", "template": 11, "time": 100_000}]
    events = [*rows[:1], *(one for i in range(9) for one in session(f"s{i}", [10, 11], 1_000 * (i + 1))), *rows[1:]]
    learnt = Learnt.of(Sessions.of(events_of(events)), 50_000)
    assert learnt.newer.names.count("long") == 2
    assert set(learnt.newer.names) == {"long", "s8"}
    assert "long" not in learnt.older.names


def test_the_simplest_detectors_raise_what_training_has_not():
    train = [(1, 2, 3), (1, 2, 2, 3)]
    tested = [(1, 2, 3), (1, 3, 2), (1, 2), (1, 2, 9), (1, 2, 2, 2, 3)]
    found = baselines(train, tested)
    assert found["new_template_naive"].tolist() == [False, False, False, True, False]
    assert found["length"].tolist() == [False, False, True, False, True]
    assert found["count_vector_naive"].tolist() == [False, False, True, True, True]
    assert found["bigrams_naive"].tolist() == [False, True, True, True, False]


def folder(path: Path) -> Path:
    normal = [f"s{i},1 2 {'3 ' * (i % 3)}4 5" for i in range(60)]
    (path / "shop_train").write_text("\n".join(normal[:40]))
    (path / "shop_test_normal.gz").write_bytes(gzip.compress("\n".join(normal[40:]).encode()))
    (path / "shop_test_abnormal").write_text("a,1 2 9 4 5\nb,1\n")
    (path / "Shop_templates.csv").write_text("\n".join(f"step number {i}" for i in "abcdefghi"))
    return path


def test_sequences_of_a_folder_are_measured(tmp_path):
    figures = evaluate_sequences("shop", folder(tmp_path))
    assert (figures["sessions"], figures["anomalies"], figures["learnt_sessions"]) == (22, 2, 40)
    assert figures["ensemble"]["recall"] == 1
    assert figures["ensemble"]["false_alarm_rate"] == 0
    assert figures["new_template_naive"]["recall"] == 0.5


def test_sequences_that_are_not_there_are_said(tmp_path):
    with pytest.raises(TrainingError, match=r"templates\.csv"):
        evaluate_sequences("shop", tmp_path)
    (folder(tmp_path) / "shop_train").write_text("s,1 two 3")
    with pytest.raises(TrainingError, match="no file of sequences"):
        evaluate_sequences("shop", tmp_path)


def test_the_verbs_print_tables_and_json(tmp_path):
    for old in folder(tmp_path).glob("shop_*"):
        old.rename(tmp_path / old.name.replace("shop", "openstack"))
    done = CliRunner().invoke(app, ["evaluate", "openstack", "--data", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ensemble"]["recall"] == 1
    table = CliRunner(env={"COLUMNS": "140"}).invoke(app, ["evaluate", "openstack", "--data", str(tmp_path)])
    assert "count_vector_naive" in table.stdout
    assert "premature_end" in table.stdout
    assert CliRunner().invoke(app, ["evaluate", "hadoop", "--data", str(tmp_path)]).exit_code == 1


def test_one_session_is_enough_to_be_one():
    assert len(Sessions.joined([sessions_of([(1,)], {}, "s")])) == 1


STEPS = (
    "dfs.FSNamesystem: BLOCK* NameSystem.allocateBlock: /user/hdfs/part-{n} blk_{n}",
    "dfs.DataNode$DataXceiver: Receiving block blk_{n} src: /10.0.0.1:1234 dest: /10.0.0.1:50010",
    "dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_{n} terminating",
    "dfs.FSDataset: Deleting block blk_{n} file /mnt/hadoop/blk_{n}",
)
ODD = "dfs.DataNode$DataXceiver: writeBlock blk_{n} received exception java.io.IOException"


def blocks(path: Path, numbers: range, odd: set[int]) -> Path:
    """A folder of labelled blocks in the layout of HDFS, one a minute; the odd ones stop early, after an exception."""
    lines = []
    for n in numbers:
        steps = (*STEPS[:2], ODD) if n in odd else STEPS
        clock = f"{n // 60 % 24:02}{n % 60:02}"
        lines += [f"0811{9 + n // 1440:02} {clock}{i:02} 143 INFO {step.format(n=n)}" for i, step in enumerate(steps)]
    path.mkdir(exist_ok=True)
    (path / "hdfs.log.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    labels = "".join(f"blk_{n},{'Anomaly' if n in odd else 'Normal'}\n" for n in numbers)
    (path / "labels.csv").write_text("BlockId,Label\n" + labels)
    return path


@pytest.fixture(scope="module")
def learnt_and_tested(tmp_path_factory):
    base = tmp_path_factory.mktemp("blocks")
    learnt = blocks(base / "learnt", range(1_000, 1_400), {1_100, 1_200})
    return learnt, blocks(base / "tested", range(1_500, 1_600), {1_530, 1_570})


def test_blocks_are_measured_by_detector_frozen_and_learning(learnt_and_tested):
    data, test_data = learnt_and_tested
    figures = evaluate_hdfs(data, test_data=test_data, seeds=1)
    assert (figures["sessions"], figures["anomalies"], figures["learnt_sessions"]) == (100, 2, 398)
    assert figures["unfiltered"]["learnt_sessions"] == 400
    names = {kind.name for kind in SESSION_DETECTORS} | {"ensemble", "ensemble_doubting", "sequence", "job"}
    names |= {"ensemble_with_sequence", "ensemble_with_autoencoder"}
    for part in (figures, figures["unfiltered"]):
        assert names <= part["frozen"].keys() == part["learning"].keys()
        assert names | {"deeplog", "deeplog_top_g", "loganomaly", "ngram", "new_template_naive"} <= part.keys()
        assert part["ensemble_doubting"]["f1"] == part["job"]["f1"] == 1
    assert figures["ensemble"] == figures["learning"]["ensemble"]
    assert figures["ensemble"]["f1"] == 1
    assert figures["ensemble"]["recall_by_kind"] == {"odd_event": 1}
    assert figures["kinds"] == {"premature_end": 0, "odd_event": 2, "other": 0}


def test_the_table_of_blocks_names_how_each_was_learnt(learnt_and_tested):
    data, test_data = learnt_and_tested
    flags = ["--data", str(data), "--test-data", str(test_data), "--seeds", "1", "--frozen"]
    done = CliRunner(env={"COLUMNS": "150"}).invoke(app, ["evaluate", "hdfs", *flags])
    assert done.exit_code == 0, done.output
    for word in ("clean, frozen", "unfiltered, learning", "ensemble_doubting", "deeplog_top_g", "odd_event"):
        assert word in done.stdout
