"""What every detector promises, run over all of them: a new one is in here as soon as it is in its list."""

import json
import struct
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detector_support import planted, random_sessions, shop, shop_events

from contracts.service import DetectorOptions, ServiceSettings
from models.bundle import Bundle
from models.detector import MAX_PARTS, Detector, Evidence
from models.detectors import SESSION_DETECTORS
from models.detectors.sequence import Sequence
from models.encoding import StateError
from models.learning import Collector, fit_ngram, learn
from models.sessions import SessionTable

MAX_STATE = 16 << 20
"""Bytes a detector may keep, however much it has met."""


@cache
def bundle() -> Bundle:
    options = ServiceSettings(service="pay", detector=DetectorOptions(kind="ngram", window=5, end_event="off"))
    table, collector = SessionTable(5, float("inf"), 10**6), Collector(5)
    events = shop_events(400)
    collector.add(table.extend(events), events.templates)
    material = collector.material(lines=len(events), from_ms=0, to_ms=1)
    return learn(material, options, fit_ngram, created_ms=1_700_000_000_000)


@dataclass(frozen=True)
class Case:
    """A detector, and items of its kind: normal ones, more of them, one strange in every way, and many odd ones."""

    make: object
    normal: object
    more: object
    strange: object
    many: object


def sessions_case(make):
    return Case(
        make=make,
        normal=lambda: shop(300),
        more=lambda: shop(100, seed=1, start=5_000_000, prefix="t"),
        strange=planted,
        many=lambda seed: random_sessions(1_000, seed=seed, start=seed * 10**8),
    )


CASES = {
    **{kind.name: sessions_case(kind) for kind in SESSION_DETECTORS},
    Sequence.name: sessions_case(lambda: Sequence(bundle())),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def taught(case) -> Detector:
    detector = case.make()
    detector.learn(case.normal())
    detector.calibrate(case.more())
    return detector


def pieces(items, cuts):
    edges = sorted({0, len(items), *(cut % (len(items) + 1) for cut in cuts)})
    return [items.take(np.arange(a, b)) for a, b in pairwise(edges)]


def test_names_are_distinct():
    names = [case.make().name for case in CASES.values()]
    assert len(set(names)) == len(names)
    assert list(CASES) == names


def test_scores_lie_between_0_and_1_and_strangeness_is_finite(case, taught):
    for items in (case.normal(), case.more(), case.strange(), case.many(1)):
        strange, scores = taught.strangeness(items), taught.score(items)
        assert strange.shape == scores.shape == (len(items),)
        assert np.isfinite(strange).all()
        assert (strange >= 0).all()
        assert (scores >= 0).all()
        assert (scores <= 1).all()


def test_what_is_strange_scores_higher_than_all_that_is_normal(case, taught):
    normal = taught.strangeness(case.more()).max()
    assert taught.strangeness(case.strange())[0] > normal
    assert taught.score(case.strange())[0] > taught.score(case.more()).max()
    assert taught.score(case.strange())[0] > 0.95


def test_nothing_is_rare_before_anything_was_held_back(case):
    detector = case.make()
    assert (detector.score(case.strange()) == 0).all()
    detector.learn(case.normal())
    assert (detector.score(case.strange()) == 0).all()


def test_no_items_are_no_trouble(case, taught):
    none = case.normal().take(np.zeros(0, dtype=np.int64))
    before = taught.dump()
    taught.learn(none)
    taught.calibrate(none)
    assert taught.score(none).shape == (0,)
    assert taught.dump() == before
    assert case.make().strangeness(none).shape == (0,)


def test_a_saved_detector_says_the_same_and_goes_on_learning_alike(case, taught):
    again = case.make()
    again.load(taught.dump())
    assert again.dump() == taught.dump()
    for items in (case.normal(), case.strange(), case.many(2)):
        assert (again.score(items) == taught.score(items)).all()
    for detector in (again, taught):
        detector.learn(case.more())
    assert again.dump() == taught.dump()


def test_asking_teaches_nothing(case, taught):
    before = taught.dump()
    taught.score(case.strange())
    taught.explain(case.strange(), 0)
    assert taught.dump() == before


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=5))
@pytest.mark.parametrize("name", CASES)
def test_batches_do_not_matter(name, cuts):
    case = CASES[name]
    whole, parts = case.make(), case.make()
    whole.learn(case.normal())
    for piece in pieces(case.normal(), cuts):
        parts.learn(piece)
    assert parts.dump() == whole.dump()
    asked = [parts.strangeness(piece) for piece in pieces(case.more(), cuts)]
    assert np.allclose(np.concatenate(asked), whole.strangeness(case.more()))


def test_the_same_items_give_the_same_detector(case):
    one, other = case.make(), case.make()
    for detector in (one, other):
        detector.learn(case.normal())
    assert one.dump() == other.dump()


def test_two_shards_know_together_what_one_would(case):
    whole, left, right = case.make(), case.make(), case.make()
    items = case.normal()
    half = len(items) // 2
    whole.learn(items)
    left.learn(items.take(np.arange(half)))
    right.learn(items.take(np.arange(half, len(items))))
    left.merge(right)
    for asked in (case.more(), case.strange()):
        assert np.allclose(left.strangeness(asked), whole.strangeness(asked))


def test_what_is_kept_is_bounded(case):
    detector = case.make()
    for seed in range(4):
        detector.learn(case.many(seed))
        detector.calibrate(case.many(seed + 10))
    assert len(detector.dump()) < MAX_STATE
    again = case.make()
    again.load(detector.dump())
    assert again.dump() == detector.dump()


def test_evidence_names_what_is_strange(case, taught):
    evidence = taught.explain(case.strange(), 0)
    assert isinstance(evidence, Evidence)
    assert evidence.detector == taught.name
    assert evidence.reason
    assert evidence.unit
    assert 1 <= len(evidence.parts) <= MAX_PARTS
    assert all(np.isfinite([part.observed, part.usual]).all() for part in evidence.parts)
    assert -1 <= evidence.event < 10


def test_damaged_state_is_refused_and_named(case, taught):
    data = taught.dump()
    other = next(one.make() for one in CASES.values() if one is not case)
    header = struct.Struct("<4sHI")
    _, _, length = header.unpack_from(data)
    meta = json.loads(data[header.size : header.size + length])
    newer = json.dumps(meta | {"format": 99}).encode()
    broken = [
        b"",
        b"something else",
        data[:-1],
        data + b"\0",
        other.dump(),
        header.pack(b"LCDT", 1, len(newer)) + newer + data[header.size + length :],
        header.pack(b"LCDT", 9, length) + data[header.size :],
    ]
    for bytes_ in broken:
        with pytest.raises(StateError):
            case.make().load(bytes_)
