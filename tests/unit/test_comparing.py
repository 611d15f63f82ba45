"""Two bundles beside each other: settings, figures, templates."""

import pytest
from test_models_scoring import NGRAM, material_of
from test_models_support import random_log

from contracts.service import BudgetOptions, ServiceSettings
from models.bundle import Bundle, BundleError
from models.comparing import compare
from models.learning import fit_ngram, learn


def bundle_of(lines: int, templates: int, settings: ServiceSettings = NGRAM) -> Bundle:
    return learn(material_of(random_log(lines, templates, noise=0)), settings, fit_ngram, created_ms=1_700_000_000_000)


@pytest.fixture(scope="module")
def small() -> Bundle:
    return bundle_of(3000, 150)


def test_a_bundle_does_not_differ_from_itself(small: Bundle) -> None:
    found = compare(small, small)
    assert found.is_none
    assert found.common_templates == len(small.vocabulary.entries)


def test_what_differs_is_named_with_both_values(small: Bundle) -> None:
    strict = NGRAM.model_copy(update={"budget": BudgetOptions(false_alarm_rate=0.001)})
    found = compare(small, bundle_of(6000, 300, strict))
    assert found.settings == {"budget.false_alarm_rate": (0.005, 0.001)}
    assert found.figures["lines"] == (3000, 6000)
    assert not found.is_none
    before, after = found.figures["bar.session"]
    assert isinstance(before, float)
    assert isinstance(after, float)


def test_templates_that_only_one_knows_come_with_the_most_frequent_first(small: Bundle) -> None:
    entries = list(small.vocabulary.entries)
    fewer = Bundle(small.manifest, type(small.vocabulary)(entries[:-3]), small.model)
    there, back = compare(fewer, small), compare(small, fewer)
    assert there.new_templates == back.gone_templates
    assert {one.template for one in there.new_templates} == {one.template for one in entries[-3:]}
    assert [one.count for one in there.new_templates] == sorted((one.count for one in entries[-3:]), reverse=True)
    assert not there.gone_templates
    assert there.common_templates == len(entries) - 3


def test_bundles_of_two_services_are_not_compared(small: Bundle) -> None:
    other = Bundle(small.manifest.model_copy(update={"service": "shop"}), small.vocabulary, small.model)
    with pytest.raises(BundleError, match=r"bundles of .* and of shop"):
        compare(small, other)
