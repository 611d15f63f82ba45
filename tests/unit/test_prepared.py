"""Prepared data sets come back whole, and what is damaged is refused."""

import numpy as np
import pytest
import zstandard

from models.encoding import StateError
from storage.files import LocalFiles
from tests.unit.test_gating import NGRAM
from tests.unit.test_training import dataset, orders, verdict
from training.learner import TrainingError, learn
from training.prepared import count, decode, encode, load, path_of, save


@pytest.fixture(scope="module")
def data():
    return dataset(orders(range(100, 400)), NGRAM, (verdict("confirmed", "107"), verdict("expected", "111")))


def test_it_comes_back_whole(data):
    again = decode(encode(data))
    assert count("shop", again) == count("shop", data)
    for name in ("contexts", "targets", "which", "sessions", "streams"):
        one, other = getattr(data.material, name), getattr(again.material, name)
        assert (one == other).all()
        assert one.dtype == other.dtype
    assert again.material.templates == data.material.templates
    assert again.material.left_out == {"confirmed": 4}
    assert (again.sanity, again.found, again.topic) == (data.sanity, data.found, data.topic)
    assert [(one.name, one.is_confirmed) for one in again.reviewed] == [("107", True), ("111", False)]
    assert again.sessions.names == data.sessions.names
    # What is learnt is the same to the last byte.
    one, other = learn(data, NGRAM), learn(again, NGRAM)
    assert one.files() == other.files()


def test_counts_tell_other_windows_apart(data):
    found = count("shop", data)
    assert (found.lines, found.templates, found.sessions) == (1_200, 4, 299)
    swapped = np.concatenate([data.material.which[1:], data.material.which[:1]])
    assert count("shop", type(data)(**{**fields(data), "material": changed(data.material, which=swapped)})) == found
    other = data.material.which.copy()
    other[0] = other[1]
    assert count("shop", type(data)(**{**fields(data), "material": changed(data.material, which=other)})) != found


def fields(one):
    return {name: getattr(one, name) for name in type(one).__dataclass_fields__}


def changed(one, **changes):
    return type(one)(**{**fields(one), **changes})


def test_what_is_missing_or_damaged_is_said(data, tmp_path):
    files = LocalFiles(tmp_path)
    with pytest.raises(TrainingError, match="nothing is prepared as night for service shop: `logcanary prepare"):
        load(files, "/logcanary", "shop", "night")
    save(files, "/logcanary", "shop", "night", data)
    save(files, "/logcanary", "shop", "night", data)  # a task that is run again replaces what is there
    assert count("shop", load(files, "/logcanary", "shop", "night")) == count("shop", data)
    path = path_of("/logcanary", "shop", "night")
    for bad in (b"", b"LCDT", zstandard.compress(b"x"), files.read(path)[:-9], zstandard.compress(encode(data)[:-1])):
        files.delete(path)
        files.write(path, bad)
        with pytest.raises(TrainingError, match="is damaged"):
            load(files, "/logcanary", "shop", "night")
    with pytest.raises(StateError):
        decode(b"LCDT" + bytes(40))
