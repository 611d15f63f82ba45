"""Vocabulary, memory, calibration, n-grams, bundle, registry and scorer, on small logs."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models_support import events_of, random_log

from contracts.bundle import Calibration
from contracts.records import END_TEMPLATE
from contracts.service import BudgetOptions, DetectorOptions, ServiceSettings
from models.base import expected, judge, unique_rows
from models.bundle import Bundle, BundleError
from models.calibration import MARGIN, Calibrated, calibrate, kept_ranks
from models.learning import Collector, LearnError, fit_ngram, learn
from models.memory import Memory, window_hashes
from models.ngram import ModelError, NGram
from models.registry import Registry
from models.scorer import Scorer
from models.sessions import END, SessionTable
from models.verdicts import Accepted, Rates, Suppression, verdict_on
from models.vocabulary import FIRST_INDEX, UNKNOWN_INDEX, Vocabulary, entry
from parsing.events import Events
from storage.files import LocalFiles

NGRAM = ServiceSettings(service="pay", detector=DetectorOptions(kind="ngram", window=5, end_event="off"))


def material_of(events, window=5, batch=1000, ends=False):
    table, collector = SessionTable(window, math.inf, 10**6), Collector(window)
    for start in range(0, len(events), batch):
        part = events.slice(start, start + batch)
        collector.add(table.extend(part), part.templates)
    if ends:
        collector.add(table.close(), {})
    return collector.material(lines=len(events), from_ms=0, to_ms=1000)


@pytest.fixture(scope="module")
def bundle():
    return learn(material_of(random_log(6000, 300, noise=0)), NGRAM, fit_ngram, created_ms=1_700_000_000_000)


# -- vocabulary and memory ---------------------------------------------------------------------------------------


def test_positions_begin_at_two_and_strangers_are_one():
    vocabulary = Vocabulary([entry(90, "a", 3), entry(7, "b", 1), entry(END, "end", 1)])
    assert vocabulary.indices(np.array([[0, 90], [7, 8], [1, 2**63]], dtype=np.uint64)).tolist() == [
        [0, 2],
        [3, 1],
        [4, 1],
    ]
    assert (vocabulary.template(3), vocabulary.text(3)) == (7, "b")


def test_a_template_under_another_id_is_known_by_its_exact_text():
    vocabulary = Vocabulary([entry(90, "user <NUM> left", 3)])
    assert not vocabulary.recognise({5: "user left"})
    assert vocabulary.recognise({5: "user <NUM> left"})
    assert vocabulary.indices(np.array([5, 6], dtype=np.uint64)).tolist() == [2, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60), st.integers(1, 6))
def test_memory_gives_back_what_was_stored_or_nothing(hashes, bits):
    memory = Memory(bits)
    distinct = np.unique(np.array([h or 1 for h in hashes], dtype=np.uint64))
    surprises = (distinct % 1000).astype(np.float32)
    ranks = (distinct % 77).astype(np.int64)
    memory.store(distinct, surprises, ranks)
    found, remembered, places = memory.find(distinct)
    assert found.any()
    assert (remembered[found] == surprises[found]).all()
    assert (places[found] == ranks[found]).all()
    memory.clear()
    assert not memory.find(distinct)[0].any()


def test_window_hashes_tell_windows_apart():
    rng = np.random.default_rng(0)
    rows = unique_rows(rng.integers(0, 5, (20_000, 6)))[0].astype(np.uint64)
    assert len(np.unique(window_hashes(rows[:, :5], rows[:, 5]))) == len(rows)


# -- calibration -------------------------------------------------------------------------------------------------


def test_no_more_than_the_accepted_share_of_held_back_sessions_is_raised():
    rng = np.random.default_rng(1)
    for n in (50, 1000, 1288, 30_000):
        worst = np.round(rng.exponential(2, n), 1).astype(np.float32)  # with ties
        for rate in (0.001, 0.005, 0.1):
            calibrated = Calibrated(calibrate("session", worst), rate)
            assert np.count_nonzero(worst > calibrated.bar) <= n * rate * 1.02 + 1
            if n <= 1001:
                assert np.count_nonzero(worst > calibrated.bar) <= n * rate


def test_scores_rise_with_surprise_and_cross_the_threshold_at_the_bar():
    worst = np.linspace(0, 10, 400, dtype=np.float32)
    calibrated = Calibrated(calibrate("session", worst), 0.005)
    scores = [calibrated.score(s) for s in np.linspace(-1, 30, 500)]
    assert scores == sorted(scores)
    assert 0 <= scores[0] < 0.01
    assert scores[-1] == pytest.approx(1)
    assert (
        calibrated.score(calibrated.bar + 1e-6) > calibrated.threshold > calibrated.score(calibrated.bar - 2 * MARGIN)
    )


def test_with_few_sessions_the_threshold_lies_past_the_worst():
    worst = np.array([1, 2, 3], dtype=np.float32)
    bar = Calibrated(calibrate("session", worst), 0.005).bar
    assert bar == pytest.approx(3 + math.log(1 / (3 * 0.005)) + MARGIN)
    assert Calibrated(calibrate("session", worst), 0).bar == pytest.approx(3 + math.log(1000) + MARGIN)


def test_at_most_1001_surprises_are_kept_and_the_highest_all():
    ranks = kept_ranks(1_000_000)
    assert len(ranks) <= 1001
    assert ranks[-20:].tolist() == list(range(20, 0, -1))
    assert ranks[0] == 1_000_000


def test_a_calibration_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="calibration"):
        Calibrated(Calibration(kind="session", held_back=5, worst=(1.0, 2.0)), 0.005)


# -- n-grams -----------------------------------------------------------------------------------------------------


def test_ngram_chances_add_to_one_and_follow_the_counts():
    contexts = np.array([[0, 2], [0, 2], [2, 3]])
    targets, counts = np.array([3, 2, 2]), np.array([8, 2, 5])
    model = NGram.learn(contexts, targets, counts, entries=3, order=2)
    asked = np.array([[0, 2], [2, 3], [1, 1], [4, 4]])
    chances = np.exp(model.log_probabilities(asked))
    assert chances.sum(axis=1) == pytest.approx(1)
    assert chances[0, 1] > chances[0, 0] > chances[0, 2] > 0
    # Order 0 by hand (Witten-Bell): 7 of 15 events are entry 0, 8 entry 1; two kinds leave 2 / 17 to the uniform.
    assert chances[3] == pytest.approx([(7 + 2 / 3) / 17, (8 + 2 / 3) / 17, (2 / 3) / 17], rel=1e-5)


def test_ngram_files_give_the_same_model_and_damage_is_refused():
    rng = np.random.default_rng(2)
    contexts, targets = rng.integers(0, 9, (500, 4)), rng.integers(2, 9, 500)
    model = NGram.learn(contexts, targets, np.ones(500, dtype=np.int64), entries=7, order=3)
    (data,) = model.files().values()
    again = NGram.read(data)
    assert (again.log_probabilities(contexts) == model.log_probabilities(contexts)).all()
    assert again.order == 3
    for harmed in (b"", data[:100], data[:-50], b"x" * 500):
        with pytest.raises(ModelError):
            NGram.read(harmed)


# -- judging -----------------------------------------------------------------------------------------------------


def test_judging_does_not_depend_on_what_is_asked_together():
    rng = np.random.default_rng(3)
    contexts, targets = rng.integers(0, 9, (300, 4)), rng.integers(1, 9, 300)
    model = NGram.learn(contexts, np.maximum(targets, 2), np.ones(300, dtype=np.int64), entries=7, order=3)
    whole = judge(model, contexts, targets, -5.0)
    for i in range(0, 300, 37):
        one = judge(model, contexts[i : i + 1], targets[i : i + 1], -5.0)
        assert one.surprises[0] == pytest.approx(whole.surprises[i], abs=1e-5)
        assert one.ranks[0] == whole.ranks[i]
    unknown = targets == 1
    assert (whole.surprises[unknown] == 5.0).all()
    assert (whole.ranks[unknown] == 8).all()
    best = expected(model, contexts[:1], 3)[0]
    assert [chance for _, chance in best] == sorted((chance for _, chance in best), reverse=True)


def test_nothing_asked_nothing_answered():
    model = NGram.learn(np.array([[0, 2]]), np.array([2]), np.array([1]), entries=1, order=1)
    answer = judge(model, np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64), -1.0)
    assert len(answer.surprises) == len(answer.ranks) == 0
    assert expected(model, np.zeros((0, 2), dtype=np.int64)) == []


# -- learning ----------------------------------------------------------------------------------------------------


def test_what_is_learnt_does_not_depend_on_the_batches():
    log = random_log(3000, 150)
    made = [learn(material_of(log, batch=batch), NGRAM, fit_ngram, created_ms=7) for batch in (100, 3000)]
    assert made[0].manifest == made[1].manifest
    assert made[0].files() == made[1].files()


def test_the_newest_fifth_is_held_back():
    material = material_of(events_of([(f"s{i // 3}", 100 + i % 3) for i in range(300)]))
    held = material.held_back()
    assert held.sum() == 60
    assert material.sessions[held].min() == 80


def test_too_little_or_too_uniform_is_refused_in_words():
    with pytest.raises(LearnError, match="at least 100"):
        learn(material_of(random_log(50, 5)), NGRAM, fit_ngram, created_ms=0)
    with pytest.raises(LearnError, match="one template"):
        learn(material_of(events_of([("a", 9)] * 200)), NGRAM, fit_ngram, created_ms=0)


def test_held_back_time_decides_on_the_end_event():
    rng = np.random.default_rng(4)
    steady, wild = [], []
    for i in range(600):
        steady += [(f"s{i}", 100 + step) for step in range(5)]
        wild += [(f"s{i}", 100 + step % 5) for step in range(5 if i < 480 else int(rng.integers(1, 40)))]
    auto = NGRAM.model_copy(update={"detector": NGRAM.detector.model_copy(update={"end_event": "auto"})})
    assert learn(material_of(events_of(steady), ends=True), auto, fit_ngram, created_ms=0).manifest.end_event
    assert not learn(material_of(events_of(wild), ends=True), auto, fit_ngram, created_ms=0).manifest.end_event


# -- bundle and registry -----------------------------------------------------------------------------------------


def test_a_bundle_comes_back_as_it_was(bundle, tmp_path):
    registry = Registry(LocalFiles(tmp_path), "/lc")
    version = registry.publish(bundle)
    again = registry.load("pay", version)
    assert again.manifest == bundle.manifest
    assert again.files() == bundle.files()
    assert registry.versions("pay") == [version]
    assert registry.services() == ["pay"]
    assert registry.versions("other") == []
    with pytest.raises(FileExistsError):
        registry.publish(bundle)


def change(path, edit):
    data = edit(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)


def newer(data):
    return json.dumps(json.loads(data) | {"format": 99}).encode()


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        ("ngram.arrow", lambda data: data[:-1], "bytes instead of"),
        ("ngram.arrow", lambda data: data[:-1] + b"!", "hash"),
        ("ngram.arrow", lambda data: None, "missing"),
        ("vocabulary.json", lambda data: data.replace(b"template 100", b"template 999"), "hash"),
        ("manifest.json", lambda data: None, "no bundle"),
        ("manifest.json", lambda data: b"{", "cannot be read"),
        ("manifest.json", lambda data: b"[]", "cannot be read"),
        ("manifest.json", newer, "is of format 99, this release reads 1: update the job, or train again"),
        ("manifest.json", lambda data: data.replace(b'"held_back": ', b'"held_back": 1'), "damaged"),
    ],
)
def test_a_bundle_that_fails_its_checks_is_refused_and_says_why(bundle, tmp_path, name, edit, reason):
    registry = Registry(LocalFiles(tmp_path), "/lc")
    version = registry.publish(bundle)
    change(tmp_path / registry.folder("pay", version).lstrip("/") / name, edit)
    with pytest.raises(BundleError, match=reason):
        registry.load("pay", version)


def test_what_is_no_version_or_not_there_is_refused(tmp_path):
    registry = Registry(LocalFiles(tmp_path), "/lc")
    with pytest.raises(BundleError, match="no version"):
        registry.load("pay", "../../etc")
    with pytest.raises(BundleError, match="no bundle"):
        registry.load("pay", "20260101T000000-00000000")


# -- scoring -----------------------------------------------------------------------------------------------------


def run(bundle, events, suppression=None, batch=10_000, scorer=None):
    scorer = scorer or Scorer(bundle)
    table = SessionTable(bundle.manifest.window, math.inf, 10**6)
    scored = []
    for start in range(0, len(events), batch):
        part = events.slice(start, start + batch)
        scored.append(scorer.score(part, table.extend(part), suppression))
    return scored


def test_a_line_that_does_not_belong_is_found_with_its_evidence(bundle):
    events = events_of([("x", 101), ("x", 102), ("x", 103), ("x", 999)], templates={999: "disk <NUM> failed"})
    (scored,) = run(bundle, events)
    (found,) = scored.detections
    assert (found.kind, found.detector, found.offset, found.session) == ("event", "ngram", 3, "x")
    assert found.template_text == "disk <NUM> failed"
    assert [one.text for one in found.before] == [f"template {i} <NUM>" for i in (101, 102, 103)]
    assert found.expected[0].text == "template 104 <NUM>"
    assert found.expected[0].probability > 0.8
    assert found.rank == len(bundle.vocabulary) + 1
    assert found.score > found.threshold == 0.995
    assert found.headline.startswith("expected template 104 <NUM> (1.00)")
    assert found.headline.endswith("; saw disk <NUM> failed, never seen before")
    assert found.bundle == bundle.manifest.version
    assert scored.unknown == 1


def test_a_known_template_in_the_wrong_place_says_how_unlikely_it_was(bundle):
    loud = Bundle(
        bundle.manifest.model_copy(
            update={"settings": NGRAM.model_copy(update={"budget": BudgetOptions(false_alarm_rate=0.5)})}
        ),
        bundle.vocabulary,
        bundle.model,
    )
    (scored,) = run(loud, events_of([("x", 101), ("x", 102), ("x", 103), ("x", 109)]))
    (found,) = scored.detections
    assert "; saw template 109 <NUM> (p = " in found.headline
    assert found.surprise == pytest.approx(-math.log(float(found.headline.split("p = ")[1].rstrip(")"))), rel=0.2)


def test_ids_follow_the_place_alone_and_signatures_the_template(bundle):
    rows = [("x", 101), ("x", 999), ("y", 101), ("y", 999)]
    (first,), (second,) = run(bundle, events_of(rows)), run(bundle, events_of(rows, templates={999: "other words"}))
    assert [one.id for one in first.detections] == [one.id for one in second.detections]
    assert len({one.id for one in first.detections}) == 2
    assert len({one.signature for one in first.detections}) == 1


def test_what_an_engineer_called_normal_is_not_raised_but_counted(bundle):
    events = events_of([("x", 101), ("x", 999)])
    (first,) = run(bundle, events)[0].detections
    (scored,) = run(bundle, events, Suppression(Accepted([expected_now(first)]), Rates()))
    assert scored.detections == []
    assert scored.suppressed == 1


def expected_now(found):
    return verdict_on(found, "expected", "because", "ada", 1)


@pytest.mark.parametrize("batch", [10_000, 7])
def test_what_is_accepted_is_raised_once_an_hour_where_it_comes_ten_times_as_often(bundle, batch):
    events = events_of([(f"s{i}", template) for i in range(40) for template in (101, 999)])
    first = run(bundle, events)[0].detections[0]
    verdict = expected_now(first).model_copy(update={"accepted_per_hour": 2.0})
    parts = run(bundle, events, Suppression(Accepted([verdict]), Rates()), batch)
    (again,) = [found for part in parts for found in part.detections]
    assert (again.escalated.per_hour, again.escalated.accepted_per_hour, again.session) == (10, 2.0, "s9")
    assert again.headline.startswith("accepted at 2 an hour, now 10 and more: expected ")
    assert sum(part.suppressed for part in parts) == 39


def test_memory_answers_what_was_judged_before_and_changes_nothing(bundle):
    log = random_log(4000, 100, seed=9)
    scorer = Scorer(bundle)
    cold, warm = run(bundle, log, scorer=scorer)[0], run(bundle, log, scorer=scorer)[0]
    tiny = run(bundle, log, batch=7, scorer=Scorer(bundle, memory_bits=1))
    plain = [one.model_copy(update={"detected_ms": 0}) for one in cold.detections]
    assert plain == [one.model_copy(update={"detected_ms": 0}) for one in warm.detections]
    assert plain == [one.model_copy(update={"detected_ms": 0}) for part in tiny for one in part.detections]
    assert plain
    assert warm.windows_remembered > 0.9 * warm.windows
    assert cold.windows_remembered == 0


def test_no_windows_nothing_found(bundle):
    scored = Scorer(bundle).score(Events.empty("pay", "logs.pay"), SessionTable(5, 10, 10).extend(events_of([])))
    assert (scored.detections, scored.windows) == ([], 0)


def test_top_g_raises_what_is_not_among_the_g_likeliest(bundle):
    detector = NGRAM.detector.model_copy(update={"rule": "top_g", "top_g": 2})
    manifest = bundle.manifest.model_copy(update={"settings": NGRAM.model_copy(update={"detector": detector})})
    (scored,) = run(Bundle(manifest, bundle.vocabulary, bundle.model), random_log(500, 20, seed=11))
    assert scored.detections
    assert all(one.rank > 2 and one.score > one.threshold == 0.5 for one in scored.detections)


def test_a_session_that_ends_too_early_is_found_where_ends_are_judged():
    steady = events_of([(f"s{i}", 100 + step) for i in range(600) for step in range(5)])
    on = NGRAM.model_copy(update={"detector": NGRAM.detector.model_copy(update={"end_event": "on"})})
    made = learn(material_of(steady, ends=True), on, fit_ngram, created_ms=0)
    table = SessionTable(5, 60, 100)
    table.extend(events_of([("x", 100), ("x", 101)]))
    scored = Scorer(made).score(Events.empty("pay", "logs.pay"), table.close())
    (found,) = scored.detections
    assert (found.kind, found.detector, found.template) == ("end", "ngram.end", END_TEMPLATE)
    assert (found.offset, found.line) == (1, "line 1")
    assert found.headline.startswith("expected template 102 <NUM>")
    assert "; the session ended (p = " in found.headline


def test_a_template_known_by_another_id_is_no_stranger(bundle):
    ids = {700 + i: f"template {100 + i} <NUM>" for i in range(12)}
    rows = [("x", 700 + (i % 12)) for i in range(1, 30)]
    (scored,) = run(bundle, events_of(rows, templates=ids))
    assert scored.unknown == 0
    assert scored.detections == []


@pytest.mark.parametrize(
    ("rows", "text", "found"),
    [
        ([101, 102, 103, 900, 105], "template 104 now <NUM>", []),
        ([101, 102, 103, 900], "template 104 failed <NUM>", [3]),  # a word of trouble is no other wording
        ([101, 102, 103, 900], "something else", [3]),
        ([101, 102, 109, 900], "template 104 now <NUM>", [2, 3]),  # judged as what it is, not waved through
        ([101, 102, 103, 104, 900], "template 104 now <NUM>", [4]),  # the one it would be is there as well
    ],
)
def test_a_known_line_in_other_words_is_judged_as_that_line(bundle, rows, text, found):
    scorer = Scorer(bundle)
    (scored,) = run(bundle, events_of([("x", one) for one in rows], templates={900: text}), scorer=scorer)
    assert [one.offset for one in scored.detections] == found
    assert scored.unknown == 1
    assert scored.reworded == (text == "template 104 now <NUM>")
    known = scorer.known_as(np.array(rows, dtype=np.uint64), np.zeros(len(rows), dtype=np.int64)).tolist()
    is_other_wording = scored.reworded and 104 not in rows
    assert known == ([104 if one == 900 else one for one in rows] if is_other_wording else rows)


def test_one_odd_order_in_held_back_time_does_not_lift_the_bar_past_what_was_never_seen():
    class Sure:
        """Is all but certain of the first entry, whatever came before."""

        name, entries = "sure", 3

        def log_probabilities(self, contexts):
            return np.tile(np.array([0.0, -60.0, -60.0], dtype=np.float32), (len(contexts), 1))

        def files(self):
            return {}

    unseen = math.log(1e-5)
    contexts = np.full((3, 2), FIRST_INDEX)
    usual, odd, never = judge(
        Sure(), contexts, np.array([FIRST_INDEX, FIRST_INDEX + 1, UNKNOWN_INDEX]), unseen
    ).surprises
    assert usual < 0.01 < odd < never
    held_back = np.array([usual] * 300 + [odd], dtype=np.float32)
    bar = Calibrated(calibrate("session", held_back), false_alarm_rate=0.0002, ceiling=-unseen).bar
    assert odd < bar < never
