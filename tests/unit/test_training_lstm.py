"""The LSTM: its tree of beginnings, its ONNX form, and the contract every sequence model keeps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models_support import events_of, random_log

from contracts.service import DetectorOptions, ServiceSettings
from models.base import judge, unique_rows
from models.bundle import Bundle
from models.deeplog import DeepLog, ModelError
from models.learning import Collector, Counted, fit_ngram, learn
from models.sessions import SessionTable
from storage.files import LocalFiles
from training.deeplog import NextEvent, Prefixes, _Rows, fit, to_onnx

WINDOW = 5
FITS = {"deeplog": fit, "ngram": fit_ngram}


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


@pytest.mark.parametrize("kind", FITS)
def test_the_same_lines_and_seed_give_the_same_bundle(kind):
    one, two = learnt(kind, 1), learnt(kind, 1)
    assert one.manifest == two.manifest
    assert one.files() == two.files()


def test_another_seed_gives_another_model():
    assert learnt("deeplog", 1).files() != learnt("deeplog", 2).files()


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
    return NextEvent(20, np.full(20, 0.05, dtype=np.float32))


def test_tree_torch_and_onnx_agree(model):
    contexts, _ = unique_rows(
        np.random.default_rng(2).integers(0, 22, (300, 10)) // np.array([9] * 4 + [3] * 3 + [1] * 3)
    )
    with torch.no_grad():
        tree = model(Prefixes.of(contexts)).numpy()
    onnx = DeepLog(to_onnx(model, 10)).log_probabilities(contexts)
    assert tree == pytest.approx(plain(model, contexts), abs=1e-5)
    assert onnx == pytest.approx(tree, abs=1e-5)


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
        DeepLog(b"no graph")


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
    made, figures = fit(windows, windows, 2, options, lambda words: None)
    chances = np.exp(made.log_probabilities(np.array([[0, 2], [2, 3]])))
    assert chances == pytest.approx(np.array([[0.9, 0.1], [0.2, 0.8]]), abs=0.05)
    assert figures["held_back_nats"] == pytest.approx(0.41, abs=0.02)
    assert judge(made, contexts[:1], np.array([1]), -4.0).surprises[0] == 4


def test_each_window_by_itself_comes_as_often_as_it_came_with_the_weight_of_one():
    contexts = np.array([[2, 3], [2, 3], [3, 2]])
    windows = Counted(contexts, np.array([2, 3, 2]), np.array([5, 3, 1]))
    rows = _Rows.of(windows).one_by_one()
    assert rows.copies.tolist() == [8, 1]
    pool = next(rows.draws(np.random.default_rng(0)))
    assert sorted(pool.tolist()) == [0] * 8 + [1]
    _, _, columns, weights = rows.batch(pool)
    assert columns.tolist() == [0, 1, 0]
    assert weights.tolist() == [5.0, 3.0, 1.0]
    one = rows.batch(np.array([0]))[3]
    assert float(one.sum()) == pytest.approx(1.0)
