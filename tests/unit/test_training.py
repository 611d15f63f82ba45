"""Data set, learner, evaluation: windows as online, nothing from the future, models that come back whole."""

from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from contracts.records import Verdict
from contracts.service import BudgetOptions, DetectorOptions, SequenceKind, ServiceSettings, SessionOptions
from models.bundle import Bundle
from models.learning import LearnError, worst_of
from models.registry import Registry
from parsing.events import Lines
from storage.archive import SCHEMA
from storage.files import LocalFiles
from training.dataset import Dataset, build, interleaved, lines_of
from training.evaluate import Labelled, ParsedTest, batches, split_hdfs
from training.learner import learn
from training.measures import measures

SERVICE = "shop"
STEPS = [
    "order {} received from the customer",
    "payment of order {} was taken",
    "parcel packed in the warehouse, order {}",
    "sent: order {}",
]
SETTINGS = ServiceSettings(
    service=SERVICE,
    session=SessionOptions(by="identifier", pattern=r"order ([0-9]+)", gap_seconds=1e9),
    detector=DetectorOptions(epochs=8),
    budget=BudgetOptions(false_alarm_rate=0.01),
)


def orders(numbers: range, steps: list[str] = STEPS) -> list[bytes]:
    return [f"2026-01-01 00:00:00,000 INFO  shop: {step.format(n)}".encode() for n in numbers for step in steps]


def dataset(lines: list[bytes], settings: ServiceSettings = SETTINGS, verdicts: tuple[Verdict, ...] = ()) -> Dataset:
    return build(batches(lines, SERVICE), settings, verdicts=verdicts, endless=True)


def test_windows_are_unique_with_counts_and_the_newest_fifth_is_held_back() -> None:
    data = dataset(orders(range(100, 200))).material
    assert data.lines == 400
    assert len(np.unique(data.sessions)) == 100
    assert len(data.which) == 500  # with the end of each session
    assert len(data.targets) == 5
    assert np.bincount(data.which).tolist() == [100] * 5
    held = data.held_back()
    assert held.sum() == 100
    assert set(data.sessions[held]).isdisjoint(data.sessions[~held])
    assert data.sessions[held].min() > data.sessions[~held].max()


def test_batches_do_not_matter() -> None:
    lines = orders(range(100, 140))
    pieces = (one for i in range(0, len(lines), 7) for one in _at(lines[i : i + 7], i))
    one, other = dataset(lines).material, build(pieces, SETTINGS, endless=True).material
    assert (one.targets[one.which] == other.targets[other.which]).all()
    assert (one.contexts[one.which] == other.contexts[other.which]).all()


def test_partitions_are_read_in_the_order_of_arrival() -> None:
    def partition(number: int, arrivals: list[int]) -> Lines:
        lines = [f"{number} {at}".encode() for at in arrivals]
        return Lines.from_list(SERVICE, "logs.shop", number, np.arange(len(lines)), np.array(arrivals), lines)

    batches = [partition(0, [0, 10, 5_000, 5_010]), partition(1, [2_000, 2_010, 9_000])]
    read = [(b.partition, b.arrivals.tolist()) for b in interleaved([iter([one]) for one in batches])]
    assert read == [(0, [0, 10]), (1, [2_000, 2_010]), (0, [5_000, 5_010]), (1, [9_000])]


def _at(lines: list[bytes], start: int) -> list[Lines]:
    offsets = np.arange(start, start + len(lines), dtype=np.int64)
    return [Lines.from_list(SERVICE, "logs.shop", 0, offsets, np.full(len(lines), 4_000_000_000_000), lines)]


@pytest.mark.parametrize("value", ["confirmed", "unsure"])
def test_confirmed_and_unsure_sessions_are_not_learnt(value: str) -> None:
    data = dataset(orders(range(100, 150)), verdicts=(verdict(value, "107"),))
    assert data.material.left_out == {value: 4}
    assert len(np.unique(data.material.sessions)) == 49


def test_false_positives_are_learnt() -> None:
    data = dataset(orders(range(100, 150)), verdicts=(verdict("false-positive", "107"),))
    assert data.material.left_out == {}
    assert len(np.unique(data.material.sessions)) == 50


def test_what_is_normal_for_a_time_only_is_not_learnt() -> None:
    data = dataset(orders(range(100, 150)), verdicts=(verdict("expected", "107", expires_ms=1),))
    assert data.material.left_out == {"expiring": 4}
    assert len(np.unique(data.material.sessions)) == 49


@pytest.mark.parametrize("value", ["confirmed", "unsure", "expected"])
def test_a_verdict_that_was_taken_back_leaves_nothing_out(value: str) -> None:
    data = dataset(orders(range(100, 150)), verdicts=(verdict(value, "107", expires_ms=1, undone_ms=2),))
    assert data.material.left_out == {}


def verdict(value: str, session: str, **changes: int) -> Verdict:
    return Verdict.model_validate(
        changes
        | {
            "service": SERVICE,
            "detection": "0" * 16,
            "template": "0" * 16,
            "topic": "logs.shop",
            "partition": 0,
            "offset": 1,
            "session": session,
            "event_ms": 0,
            "arrival_ms": 0,
            "value": value,
            "reason": "test",
            "author": "test",
            "given_ms": 0,
        }
    )


def test_worst_of_sessions() -> None:
    figures = np.array([1.0, 5.0, 2.0, 3.0], dtype=np.float32)
    assert worst_of(figures, np.array([7, 3, 7, 3])).tolist() == [5.0, 2.0]


def test_archive_tables_become_the_same_lines() -> None:
    values = [b"a\x00b", None, b"", "ü".encode(), b"\xff"]
    table = pa.table(
        {
            field.name: pa.array(
                {
                    "topic": ["logs.shop"] * 5,
                    "partition": [3] * 5,
                    "offset": [4, 5, 7, 8, 9],
                    "timestamp": [1, 2, 3, 4, 5],
                    "value": values,
                }.get(field.name, [None] * 5),
                type=field.type,
            )
            for field in SCHEMA
        }
    )
    (lines,) = lines_of([table], SERVICE)
    assert [lines.line(row) for row in range(len(lines))] == values
    assert lines.offsets.tolist() == [4, 5, 7, 8, 9]
    assert lines.partition == 3


@pytest.mark.parametrize("kind", get_args(SequenceKind))
def test_a_bundle_comes_back_whole_and_finds_what_was_left_out(kind: str, tmp_path: Path) -> None:
    detector = DetectorOptions.model_validate({"kind": kind, "epochs": 8})
    settings = SETTINGS.model_copy(update={"detector": detector})
    bundle = learn(dataset(orders(range(100, 400)), settings), settings)
    registry = Registry(LocalFiles(tmp_path), "/logcanary")
    registry.publish(bundle)
    again = registry.load(SERVICE, bundle.manifest.version)
    lines = orders(range(500, 520)) + orders(range(600, 601), [STEPS[0], STEPS[3], STEPS[2]])
    found = [_detect(one, lines) for one in (bundle, again)]
    assert found[0] == found[1]
    assert {session for session, _, _ in found[0]} == {"600"}
    assert all(expected for _, _, expected in found[0])


def _detect(bundle: Bundle, lines: list[bytes]) -> list[tuple[str, int, tuple[str, ...]]]:
    labelled = Labelled(lines, [0] * len(lines), [])
    from parsing.parser import Parser

    parser = Parser(bundle.manifest.settings)
    tested = ParsedTest(labelled, [parser.parse(batch).events for batch in batches(lines, SERVICE)])
    return [(d.session, d.offset, tuple(e.text for e in d.expected)) for d in tested.detections(bundle)]


def test_the_same_seed_gives_the_same_model() -> None:
    data = dataset(orders(range(100, 200)))
    first, again = learn(data, SETTINGS), learn(data, SETTINGS)
    assert first.files() == again.files()
    other = learn(data, SETTINGS.model_copy(update={"detector": DetectorOptions(epochs=8, seed=1)}))
    assert first.files()["model.onnx"] != other.files()["model.onnx"]


def test_ends_are_judged_where_sessions_end_alike_and_not_where_they_do_not() -> None:
    regular = learn(dataset(orders(range(100, 400))), SETTINGS)
    assert regular.manifest.end_event
    rng = np.random.default_rng(0)
    # In the newest fifth, and only there, most sessions stop somewhere in the middle.
    ragged = orders(range(100, 340)) + [
        line for n in range(340, 400) for line in orders(range(n, n + 1), STEPS[: rng.integers(1, 5)])
    ]
    assert not learn(dataset(ragged), SETTINGS).manifest.end_event


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (orders(range(1, 3)), "at least 100"),
        ([b"always the same"] * 500, "one template"),
    ],
)
def test_too_little_to_learn_is_said(lines: list[bytes], words: str) -> None:
    with pytest.raises(LearnError, match=words):
        learn(dataset(lines), SETTINGS)


def test_measures() -> None:
    truth = np.array([True, True, False, False])
    assert measures(np.array([True, False, False, True]), truth) == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "false_alarm_rate": 0.5,
    }
    assert measures(np.zeros(4, dtype=bool), truth)["precision"] == 0.0


def test_a_block_belongs_to_the_side_of_its_first_line(data_dir: Path) -> None:
    as_it_comes, clean, test = split_hdfs(data_dir / "hdfs", 0.8)
    assert len(as_it_comes.blocks) == 6440
    assert len(test.blocks) == 1610
    assert not {b.name for b in as_it_comes.blocks} & {b.name for b in test.blocks}
    assert not any(block.anomalous for block in clean.blocks)
    assert len(as_it_comes.lines) + len(test.lines) == 165_563


def test_lines_without_a_session_are_judged_only_where_wanted() -> None:
    lines = [
        line
        for n in range(100, 300)
        for line in [b"2026-01-01 00:00:00,000 INFO  shop: tick", *orders(range(n, n + 1))]
    ]
    strange = [b"2026-01-01 00:00:01,000 ERROR shop: never seen before", *orders(range(500, 501), [STEPS[0], STEPS[3]])]
    for unnamed, found in (("stream", {"", "500"}), ("ignore", {"500"})):
        session = SETTINGS.session.model_copy(update={"unnamed": unnamed})
        settings = SETTINGS.model_copy(update={"session": session})
        bundle = learn(dataset(lines, settings), settings)
        assert {session for session, _, _ in _detect(bundle, strange)} == found
