"""The autoencoder of sessions' counts: its layers, what it learns before it is calibrated, and what afterwards."""

from typing import get_args

import numpy as np
import pytest
from test_detector_support import TEXTS, planted, session, shop
from test_models_support import events_of

from contracts.service import DetectorOptions, SessionDetector
from models import dense
from models.detectors import SESSION_DETECTORS, session_detectors
from models.detectors.autoencoder import Autoencoder
from models.encoding import StateError, pack, unpack
from models.finished import Sessions
from models.sentences import sentence

NEW = 40


def pages(*counts, name="p"):
    """Orders that differ in how often a page was read."""
    rows = [
        row
        for i, count in enumerate(counts)
        for row in session(f"{name}{i}", (10, 11, *[12] * count, 13, 14, 15), 10**8 + i * 5_000)
    ]
    return Sessions.of(events_of(rows, templates=TEXTS))


def taught():
    detector = Autoencoder()
    detector.learn(shop(300))
    detector.calibrate(shop(100, seed=1, start=5_000_000, prefix="t"))
    return detector


# -- the names of detectors ---------------------------------------------------------------------------------------


def test_the_settings_name_every_detector_and_no_other():
    assert sorted(get_args(SessionDetector)) == sorted(kind.name for kind in SESSION_DETECTORS)
    assert [one.name for one in session_detectors(("pca", "autoencoder"))] == ["pca", "autoencoder"]
    assert [one.name for one in session_detectors()] == list(DetectorOptions().session_detectors)
    assert len(session_detectors()) == 7


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "at least 1 item"),
        (("pca", "oracle"), "Input should be 'new_template', 'count_vector', .* or 'autoencoder'"),
        (("pca", "order", "pca"), "pca is named more than once: name each of new_template, count_vector, .* once"),
    ],
)
def test_a_choice_that_is_none_is_refused_with_the_choices(names, said):
    with pytest.raises(ValueError, match=said):
        DetectorOptions(session_detectors=names)


# -- layers --------------------------------------------------------------------------------------------------------


def test_slopes_are_those_of_the_loss():
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=shape) for shape in [(4, 3), (3, 2), (2, 3), (3, 4), (3,), (2,), (3,), (4,)]]
    rows, shares = rng.normal(size=(6, 4)), np.full(6, 1 / 6)

    def loss():
        return float(shares @ ((dense._passed(layers, rows)[-1] - rows) ** 2).mean(axis=1))

    for layer, slope in zip(layers, dense._slopes(layers, rows, rows, shares), strict=True):
        at = tuple(size - 1 for size in layer.shape)
        layer[at] += 1e-6
        higher = loss()
        layer[at] -= 2e-6
        lower = loss()
        layer[at] += 1e-6
        assert slope[at] == pytest.approx((higher - lower) / 2e-6, abs=1e-6)


def test_what_varies_together_is_given_back_and_what_does_not_is_not():
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(2, 12))
    rows, fresh = rng.normal(size=(400, 2)) @ mix, rng.normal(size=(100, 2)) @ mix
    net = dense.autoencoder(rows, np.ones(400, dtype=np.int64), np.arange(400) % 5 == 0)
    other = rng.normal(size=(100, 12)) * rows.std(axis=0)
    assert ((net(fresh) - fresh) ** 2).mean() < 0.1 * ((net(other) - other) ** 2).mean()


def test_another_seed_gives_other_layers_and_the_same_the_same():
    rows, counts = np.eye(6), np.ones(6, dtype=np.int64)
    one, same, other = (dense.autoencoder(rows, counts, np.zeros(6, dtype=bool), seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one.weights, same.weights, strict=True))
    assert (one.weights[0] != other.weights[0]).any()


# -- what it learns, and when ------------------------------------------------------------------------------------


def test_a_question_before_it_is_calibrated_settles_nothing():
    asked, quiet = Autoencoder(), Autoencoder()
    for detector in (asked, quiet):
        detector.learn(pages(0, 1))
    asked.strangeness(planted())
    asked.explain(planted(), 0)
    assert asked.dump() == quiet.dump()
    for detector in (asked, quiet):
        detector.learn(pages(2, 3, 2, name="q"))
    assert asked.dump() == quiet.dump()
    assert (asked.strangeness(planted()) == quiet.strangeness(planted())).all()


def test_once_calibrated_the_network_stays_and_the_very_counts_of_what_is_learnt_are_normal():
    detector = taught()
    before = detector.strangeness(pages(6, 8))
    assert (before > 0).all()
    detector.learn(pages(6))
    after = detector.strangeness(pages(6, 8))
    assert after.tolist() == [0.0, before[1]]


def test_what_it_was_learnt_from_is_let_go():
    columns = taught().columns()
    assert columns["vectors"].shape[0] == columns["bags"].size == columns["times"].size == 0


def test_shards_agree_on_a_network():
    fresh = Autoencoder()
    fresh.learn(pages(6))
    fresh.merge(taught())
    assert fresh.strangeness(pages(6, 8)).tolist() == [0.0, pytest.approx(taught().strangeness(pages(8))[0])]
    settled = taught()
    settled.merge(fresh)
    assert settled.strangeness(pages(6, 8)).tolist() == [0.0, pytest.approx(taught().strangeness(pages(8))[0])]


def test_it_says_what_came_and_what_the_rest_lets_expect():
    why = taught().explain(planted(), 0)
    assert why.reason == "not_given_back"
    assert {part.template for part in why.parts} >= {99, 15}
    missed = next(part for part in why.parts if part.template == 15)
    assert (missed.observed, missed.usual) == (0.0, pytest.approx(1.0, abs=0.35))
    said = sentence(why, TEXTS)
    assert '"payment service failed with an exception, order <NUM>" came once, not never' in said


def test_layers_that_do_not_fit_are_refused():
    columns = unpack(taught().dump(), "autoencoder", 1)
    for name, wrong in (("weights1", np.zeros((32, 9))), ("biases3", np.zeros(5)), ("mean", np.zeros(3))):
        with pytest.raises(StateError, match="layers of shapes"):
            Autoencoder().load(pack("autoencoder", 1, columns | {name: wrong}))
    del columns["biases0"]
    with pytest.raises(StateError, match="biases0"):
        Autoencoder().load(pack("autoencoder", 1, columns))
