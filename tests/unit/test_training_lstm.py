"""Networks of the next event: their tree of beginnings, their ONNX form, and the contract all sequence models keep."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models_support import events_of, random_log

from contracts.service import DetectorOptions, SequenceKind, ServiceSettings
from models.base import ModelError, judge, unique_rows
from models.bundle import Bundle
from models.gating import ONNX_DIFFERENCE
from models.learning import Collector, Counted, fit_ngram, learn
from models.network import Network
from models.scorer import Scorer
from models.sessions import SessionTable
from storage.files import LocalFiles
from training import learner, loganomaly
from training.deeplog import DeepLog, fit
from training.next_event import Prefixes, _Rows

WINDOW = 5
FITS = {"deeplog": fit, "loganomaly": loganomaly.fit, "ngram": fit_ngram}


def material_of(events):
    table, collector = SessionTable(WINDOW, math.inf, 10**6), Collector(WINDOW)
    collector.add(table.extend(events), events.templates)
    return collector.material(lines=len(events), from_ms=0, to_ms=1000)


def settings_of(kind, seed=0):
    return ServiceSettings(
        service="pay", detector=DetectorOptions(kind=kind, window=WINDOW, seed=seed, epochs=6, end_event="off")
    )


def learnt(kind, seed=0):
    return learn(material_of(random_log(3000, 150, noise=0.01)), settings_of(kind, seed), FITS[kind], created_ms=0)


@pytest.fixture(scope="module", params=list(FITS))
def bundle(request):
    return learnt(request.param)


# -- the contract, for every sequence model ----------------------------------------------------------------------


def test_the_chances_of_a_context_add_to_one_and_depend_on_it_alone(bundle):
    contexts = np.random.default_rng(0).integers(0, 2 + len(bundle.vocabulary), (600, WINDOW))
    log_p = bundle.model.log_probabilities(contexts)
    assert log_p.dtype == np.float32
    assert log_p.shape == (600, len(bundle.vocabulary)) == (600, bundle.model.entries)
    assert np.exp(log_p).sum(axis=1) == pytest.approx(1, abs=1e-4)
    alone = np.concatenate([bundle.model.log_probabilities(contexts[i : i + 1]) for i in range(0, 600, 50)])
    assert alone == pytest.approx(log_p[::50], abs=2e-5)


def test_no_contexts_no_answers(bundle):
    assert bundle.model.log_probabilities(np.zeros((0, WINDOW), dtype=np.int64)).shape == (0, len(bundle.vocabulary))


def test_saved_and_read_it_is_the_same(bundle, tmp_path):
    files = LocalFiles(tmp_path)
    bundle.write(files, "/b")
    again = Bundle.read(files, "/b")
    contexts = np.random.default_rng(1).integers(0, 14, (50, WINDOW))
    assert (again.model.log_probabilities(contexts) == bundle.model.log_probabilities(contexts)).all()


def test_what_usually_comes_is_expected_and_strangers_surprise_most(bundle):
    windows = SessionTable(WINDOW, 10, 10).extend(
        events_of([("x", 100 + i) for i in range(8)] + [("x", 103), ("x", 9)])
    )
    answer = bundle.judge(windows.contexts, windows.targets)
    assert (answer.ranks[2:8] == 1).all()
    assert answer.surprises[2:8].max() < 1.5
    assert answer.surprises[8] > 3, "a known one in the wrong place"
    assert answer.surprises[9] >= answer.surprises.max(), "one never seen"


def test_a_stranger_in_the_history_does_not_derail_what_follows(bundle):
    windows = SessionTable(WINDOW, 10, 10).extend(
        events_of([("x", 100 + i) for i in (1, 2, 3)] + [("x", 9), ("x", 104)])
    )
    answer = bundle.judge(windows.contexts, windows.targets)
    assert answer.ranks[4] <= 6


def test_there_is_a_fit_for_every_kind_and_it_is_the_one_that_training_takes():
    assert sorted(FITS) == sorted(get_args(SequenceKind))
    assert {kind: learner._fit(kind) for kind in FITS} == FITS


def test_a_finding_is_named_after_its_model_and_says_what_was_expected(bundle):
    events = events_of([("x", 100 + i) for i in range(6)] + [("x", 9)])
    scorer = Scorer(bundle)
    found = scorer.score(events, SessionTable(WINDOW, 10, 10).extend(events)).detections
    odd = next(one for one in found if one.offset == 6)
    assert odd.detector == bundle.model.name == bundle.manifest.settings.detector.kind
    assert odd.headline.startswith("expected ")
    assert odd.expected[0].probability > 0.5
    assert odd.expected[0].text == bundle.vocabulary.text(bundle.vocabulary.index(106))
    assert sum(one.probability for one in odd.expected) <= 1 + 1e-4


@pytest.mark.parametrize("kind", FITS)
def test_the_same_lines_and_seed_give_the_same_bundle(kind):
    one, two = learnt(kind, 1), learnt(kind, 1)
    assert one.manifest == two.manifest
    assert one.files() == two.files()


@pytest.mark.parametrize("kind", ["deeplog", "loganomaly"])
def test_another_seed_gives_another_model(kind):
    assert learnt(kind, 1).files() != learnt(kind, 2).files()


@pytest.mark.parametrize("kind", ["deeplog", "loganomaly"])
def test_how_far_the_saved_network_is_from_the_trained_one_is_said(kind):
    assert 0 <= learnt(kind).manifest.metrics[ONNX_DIFFERENCE] < 1e-4


# -- the LSTM itself ---------------------------------------------------------------------------------------------


def plain(model, contexts):
    """The same weights through ``torch.nn.LSTM``, every context on its own."""
    lstm = torch.nn.LSTM(64, 64, 2, batch_first=True)
    with torch.no_grad():
        for layer in range(2):
            getattr(lstm, f"weight_ih_l{layer}").copy_(model.into[layer].T)
            getattr(lstm, f"weight_hh_l{layer}").copy_(model.across[layer].T)
            getattr(lstm, f"bias_ih_l{layer}").copy_(model.bias[layer])
            getattr(lstm, f"bias_hh_l{layer}").zero_()
        hidden, _ = lstm(model.table()[torch.from_numpy(contexts)])
        return torch.log_softmax(hidden[:, -1] @ model.out + model.out_bias, dim=1).numpy()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return DeepLog(20, torch.full((20,), 0.05))


def test_tree_torch_and_onnx_agree(model):
    contexts, _ = unique_rows(
        np.random.default_rng(2).integers(0, 22, (300, 10)) // np.array([9] * 4 + [3] * 3 + [1] * 3)
    )
    with torch.no_grad():
        tree = model(Prefixes.of(contexts)).numpy()
    onnx = Network(model.to_onnx(10), "deeplog").log_probabilities(contexts)
    assert tree == pytest.approx(plain(model, contexts), abs=1e-5)
    assert onnx == pytest.approx(tree, abs=1e-5)


def plain_order_and_counts(model, contexts):
    """The same weights through two ``torch.nn.LSTM``, one of vectors, one of counts as wide as the vocabulary."""
    events = torch.from_numpy(contexts)
    counts = torch.nn.functional.one_hot(events, len(model.added())).cumsum(dim=1).float()  # [B, T, 2 + V]
    states = []
    with torch.no_grad():
        for number, entered in enumerate((model.vectors[events], counts)):
            into = model.into[0] if number == 0 else model.added() @ model.into[1]
            lstm = torch.nn.LSTM(len(into), 64, batch_first=True)
            lstm.weight_ih_l0.copy_(into.T)
            lstm.weight_hh_l0.copy_(model.across[number].T)
            lstm.bias_ih_l0.copy_(model.bias[number])
            lstm.bias_hh_l0.zero_()
            states.append(lstm(entered)[0][:, -1])
        return torch.log_softmax(torch.cat(states, dim=1) @ model.out + model.out_bias, dim=1).numpy()


def test_order_and_counts_are_what_two_plain_networks_make_of_them():
    torch.manual_seed(5)
    model = loganomaly.LogAnomaly(torch.randn(20, 7), torch.full((20,), 0.05))
    contexts, _ = unique_rows(np.random.default_rng(2).integers(0, 22, (300, 10)) // np.array([9] * 5 + [1] * 5))
    with torch.no_grad():
        tree = model(Prefixes.of(contexts)).numpy()
    onnx = Network(model.to_onnx(10), "loganomaly").log_probabilities(contexts)
    assert tree == pytest.approx(plain_order_and_counts(model, contexts), abs=1e-5)
    assert onnx == pytest.approx(tree, abs=1e-5)
    assert not model.vectors[0].any()
    assert torch.allclose(model.vectors[1], model.vectors[2:].mean(dim=0)), "an unknown event is the mean of the known"


def test_vectors_are_of_words_and_of_what_stands_beside_them():
    texts = ("door opened", "window opened", "fuel pump stalled", "engine stopped", "")
    contexts = np.array([[0, 0], [0, 2], [0, 3], [2, 4], [4, 5]])
    windows = Counted.of(contexts, np.array([2, 4, 4, 5, 6]), np.array([10, 5, 5, 10, 1]))
    vectors = loganomaly.vectors_of(windows, texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.2 + max(alike[0, 2], alike[0, 3])


def test_lines_with_the_same_words_are_told_apart():
    texts = ("job <NUM> of 7 done", "job <NUM> of 8 done", "done <*> job", "shut down", "")
    assert loganomaly.told_apart(texts) == {0: texts[0], 1: "", 2: "", 3: texts[3], 4: ""}
    contexts, targets = np.array([[0, 0], [0, 2], [0, 3], [0, 4], [0, 5]]), np.arange(2, 7)
    vectors = loganomaly.vectors_of(Counted.of(contexts, targets, np.full(5, 10)), texts)
    assert len(np.unique(vectors.round(6), axis=0)) == 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=20))
def test_every_context_can_be_read_back_from_the_tree(rows):
    contexts, _ = unique_rows(np.array(rows))
    tree = Prefixes.of(contexts)
    node, back = tree.leaves.numpy(), []
    for events, parents in zip(reversed(tree.events), reversed(tree.parents), strict=True):
        back.append(events.numpy()[node])
        node = parents.numpy()[node]
    assert (np.stack(back[::-1], axis=1) == contexts).all()
    assert len(tree.events[0]) == len(np.unique(contexts[:, 0])), "a beginning is there once"


def test_a_file_that_is_no_graph_is_refused():
    with pytest.raises(ModelError, match=r"model\.onnx"):
        Network(b"no graph", "deeplog")


def test_training_leaves_torch_as_it_was():
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    learnt("deeplog")
    assert torch.get_num_threads() == threads
    assert (torch.random.get_rng_state() == state).all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_learns_the_chances_and_not_only_the_likeliest():
    contexts = np.array([[0, 2]] * 2 + [[2, 3]] * 2)
    windows = Counted.of(contexts, np.array([2, 3, 2, 3]), np.array([900, 100, 200, 800]))
    options = DetectorOptions(window=2, epochs=200)
    made, figures = fit(windows, windows, ("", ""), options, lambda words: None)
    chances = np.exp(made.log_probabilities(np.array([[0, 2], [2, 3]])))
    assert chances == pytest.approx(np.array([[0.9, 0.1], [0.2, 0.8]]), abs=0.05)
    assert figures["held_back_nats"] == pytest.approx(0.41, abs=0.02)
    assert judge(made, contexts[:1], np.array([1]), -4.0).surprises[0] == 4


def test_each_window_by_itself_comes_as_often_as_it_came_with_the_weight_of_one():
    contexts = np.array([[2, 3], [2, 3], [3, 2]])
    windows = Counted(contexts, np.array([2, 3, 2]), np.array([5, 3, 1]))
    rows = _Rows.of(windows).drawn("each")
    assert rows.copies.tolist() == [8, 1]
    pool = next(rows.draws(np.random.default_rng(0)))
    assert sorted(pool.tolist()) == [0] * 8 + [1]
    _, _, columns, weights = rows.batch(pool)
    assert columns.tolist() == [0, 1, 0]
    assert weights.tolist() == [5.0, 3.0, 1.0]
    one = rows.batch(np.array([0]))[3]
    assert float(one.sum()) == pytest.approx(1.0)
