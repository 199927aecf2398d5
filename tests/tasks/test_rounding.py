"""The look at last digits: what is changed is next to nothing, and what steps calmly stays where it is."""

import numpy as np
import pytest

from tasks import panels
from tasks.prices import prices_of
from tasks.studies import STUDIES, Study, Variant
from tests.benchmarks import rounding


@pytest.fixture
def months(market):
    key = market.panel()
    moments = panels.moments(market.store, key)
    prices = prices_of(market.store, key.snapshot, [key.universe])
    return rounding.Months(panels.load(market.store, key), prices, moments, list(range(8, len(moments) - 1)))


def test_every_return_is_changed_by_next_to_nothing_and_anew_by_another_seed(months):
    before, first, second = months.panel.returns, *(rounding.changed(months.panel, seed).returns for seed in (1, 2))
    known = np.nan_to_num(before) != 0
    assert 0 < np.abs(first[known] / before[known] - 1).max() < 1e-13
    assert (first != second).any()


def test_a_variant_stands_for_the_config_that_its_scenario_has():
    study = STUDIES["shorts"]
    found = {variant.label: rounding.config_of(study, variant) for variant in study.variants}
    assert (found["30 %"].gross_limit, found["30 %"].short_total, found["30 %"].short_each) == (1.6, 0.3, 0.05)
    assert {"window", "turnover", "shorts"} <= rounding.asked().keys()
    assert not {"costs", "frequency", "offset", "document_b", "tuned"} & rounding.asked().keys()


def test_what_steps_calmly_stays_where_it_is(months):
    study = Study("?", "ogd_long_window", "90", (Variant("90"), Variant("30", {"ogd_long_window.window": 30})))
    default, other = rounding.look(months, study, times=2)
    assert 0 < default["parted"] < 1e-9
    assert default["sharpes"] == pytest.approx([default["sharpe"]] * 2)
    assert (default["variant"], default["told"]) == ("90", 0)
    assert other["sharpe"] != pytest.approx(default["sharpe"], abs=1e-3)
