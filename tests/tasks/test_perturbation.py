"""Another future: every value changes, and the bars stay bars."""

import numpy as np
import pandas as pd
import pytest

from tasks import perturbation


def bars(basis="traded"):
    days = pd.date_range("2024-01-02", periods=5)
    prices = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "adj_close": 11.0, "volume": 100.0}
    rows = [{"ticker": name, "session": day, **prices} for name in "AB" for day in days]
    return pd.DataFrame(rows).assign(dividend=np.nan, split=np.nan, basis=basis)


def test_every_price_and_volume_changes_and_a_bar_keeps_its_proportions():
    before, after = bars(), perturbation.perturbed(bars(), np.random.default_rng(1))
    for name in (*perturbation.PRICES, "volume"):
        assert (after[name] != before[name]).all()
        assert (after[name] > 0).all()
    assert np.allclose(after["high"] / after["close"], 12 / 11)
    assert after[["ticker", "session", "basis"]].equals(before[["ticker", "session", "basis"]])
    assert after["split"].notna().groupby(after["ticker"]).sum().tolist() == [1, 1]


@pytest.mark.parametrize("basis", ["rate", "split"])
def test_the_same_generator_gives_the_same_future_and_splits_only_closes_as_traded(basis):
    found = [perturbation.perturbed(bars(basis), np.random.default_rng(1)) for _ in range(2)]
    assert found[0].equals(found[1])
    assert found[0]["split"].isna().all()


def test_a_restatement_changes_prices_alone():
    after = perturbation.restated(bars(), np.random.default_rng(1))
    assert (after["close"] != bars()["close"]).all()
    assert after["volume"].equals(bars()["volume"])
