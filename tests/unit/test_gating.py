"""The gate: what is worse is not let through, what is as good is, and both bundles are asked the same."""

import dataclasses

import numpy as np
import pytest

from contracts.bundle import Gate, Trial
from models.bundle import Bundle
from models.gating import ONNX_DIFFERENCE, compare
from tests.unit.test_training import SERVICE, SETTINGS, STEPS, batches, dataset, orders, verdict
from training.dataset import Dataset, build
from training.learner import learn

NGRAM = SETTINGS.model_copy(update={"detector": SETTINGS.detector.model_copy(update={"kind": "ngram"})})
NEW_STEPS = ["a basket {0} of order {0} came in", "order {} is paid for by card", "left the house: order {}"]


def made(lines, settings=NGRAM, verdicts=()) -> tuple[Bundle, Dataset]:
    data = dataset(lines, settings, verdicts)
    return learn(data, settings), data


def gate(candidate: Bundle, live: Bundle | None, data: Dataset) -> Gate:
    return compare(candidate, live, data.material, data.sessions, data.reviewed)


def test_the_first_bundle_of_a_service_passes_and_says_what_it_raises():
    bundle, data = made(orders(range(100, 700)))
    found = gate(bundle, None, data)
    assert found.failed == ()
    assert (found.live, found.before) == ("", None)
    # A tenth of 600 sessions: as streams of windows, and whole.
    assert found.units == 120
    assert found.windows == 60 * 5
    assert found.candidate.raised <= 2
    assert found.candidate.unknown == 0
    assert found.candidate.bytes == sum(map(len, bundle.files().values()))


def test_the_same_again_passes():
    bundle, data = made(orders(range(100, 700)))
    found = gate(bundle, bundle, data)
    assert found.failed == ()
    assert found.before is not None
    assert found.candidate.raised == found.before.raised


def test_what_raises_more_than_the_live_one_and_knows_less_is_refused():
    # The newest tenth came after a release: the candidate's model and thresholds are from before it.
    late, data = made(orders(range(100, 640)) + orders(range(640, 700), NEW_STEPS))
    live, _ = made(orders(range(100, 400)) + orders(range(400, 900), NEW_STEPS))
    found = gate(late, live, data)
    assert found.before is not None
    assert found.before.raised <= 3
    assert found.candidate.raised >= 60
    assert found.candidate.unknown == 1
    assert any("does not know the templates of 100.0%" in words for words in found.failed)
    assert any("live bundle" in words and "budget.false_alarm_rate" in words for words in found.failed)


def test_what_was_learnt_after_a_release_takes_the_place_of_what_was_not():
    live, _ = made(orders(range(100, 400)))
    candidate, data = made(orders(range(100, 400)) + orders(range(400, 900), NEW_STEPS))
    found = gate(candidate, live, data)
    assert found.failed == ()
    assert found.before is not None
    assert found.candidate.raised <= 3
    assert found.before.raised >= 60
    assert (found.candidate.unknown, found.before.unknown) == (0, 1)


def test_a_confirmed_fault_that_is_not_found_any_more_is_a_reason():
    steps = [STEPS[0], "the roof burns above the parcel, order {}", STEPS[3]]
    fault = orders(range(777, 778), steps)
    lines = orders(range(100, 500)) + fault + orders(range(500, 700))
    marked = (verdict("confirmed", "777"),)
    live, data = made(lines, verdicts=marked)
    assert [(one.name, one.is_confirmed) for one in data.reviewed] == [("777", True)]
    blind, _ = made(orders(range(100, 300)) + orders(range(300, 600), steps))  # to it the fault is normal
    blind = dataclasses.replace(blind, ensemble=b"")
    strict = gate(live, live, data)
    assert (strict.confirmed, strict.candidate.confirmed_found, strict.failed) == (1, 1, ())
    found = gate(blind, live, data)
    assert found.candidate.confirmed_found == 0
    assert "it finds 0 of 1 confirmed faults, the live bundle 1" in found.failed


def test_sessions_called_normal_are_counted():
    odd = orders(range(777, 778), [STEPS[0], "somebody sang while packing, order {}", STEPS[3]])
    lines = orders(range(100, 500)) + odd + orders(range(500, 700))
    told, data = made(lines, verdicts=(verdict("false-positive", "777"), verdict("unsure", "778")))
    strict, _ = made(orders(range(100, 700)))
    found = gate(told, strict, data)
    assert (found.accepted, found.confirmed) == (1, 0)
    assert found.before is not None
    assert found.before.accepted_raised == 1


def test_a_model_that_was_saved_wrong_is_refused():
    bundle, data = made(orders(range(100, 700)))
    manifest = bundle.manifest.model_copy(update={"metrics": bundle.manifest.metrics | {ONNX_DIFFERENCE: 0.02}})
    found = gate(dataclasses.replace(bundle, manifest=manifest), None, data)
    assert found.failed == ("the saved model differs from the trained one by 0.02 nats",)


def test_deeplog_says_how_far_the_saved_model_is_from_the_trained_one():
    bundle, _ = made(orders(range(100, 200)), SETTINGS)
    assert 0 <= bundle.manifest.metrics[ONNX_DIFFERENCE] < 1e-4


def test_a_live_bundle_of_another_window_is_compared_all_the_same():
    _, data = made(orders(range(100, 700)))
    for window in (3, 20):
        other = NGRAM.model_copy(update={"detector": NGRAM.detector.model_copy(update={"window": window})})
        live, _ = made(orders(range(100, 700)), other)
        found = gate(learn(data, NGRAM), live, data)
        assert found.failed == ()
        assert found.before is not None
        assert found.before.raised <= 2


def test_what_is_live_is_asked_in_other_words_too():
    """A rewording that the live bundle forgives in the job is forgiven here."""
    live, _ = made(orders(range(100, 700)))
    words = ["order {} received from the dear customer", *STEPS[1:]]
    candidate, data = made(orders(range(100, 400)) + orders(range(400, 900), words))
    found = gate(candidate, live, data)
    assert found.before is not None
    assert found.before.unknown == 0


def test_incidents_are_cut_out_by_the_time_of_arrival():
    lines = orders(range(100, 200))
    arrivals = [np.full(5, 4_000_000_000_000 + number) for number in range(2)]
    pieces = [
        type(one)(one.service, one.topic, 0, one.offsets[:5], at, one.blob[: int(one.starts()[5])], one.lengths[:5])
        for one, at in zip([*batches(lines, SERVICE)] * 2, arrivals, strict=False)
    ]
    data = build(pieces, SETTINGS, endless=True, without=[(4_000_000_000_001, 4_000_000_000_002)])
    assert data.material.left_out == {"incident": 5}
    assert data.material.lines == 10


@pytest.mark.parametrize(("found", "accepted", "precision"), [(3, 1, 0.75), (0, 0, None), (0, 2, 0.0)])
def test_precision_is_of_the_reviewed(found, accepted, precision):
    trial = Trial(
        raised=9,
        alarms_per_day=1,
        unknown=0,
        confirmed_found=found,
        accepted_raised=accepted,
        bytes=1,
        windows_per_second=1,
    )
    assert trial.precision == precision
