"""Placebo: on sessions in a random order no strategy earns more than equal weight; a planted signal is found.

The sessions of real prices are permuted in blocks of 21, alike for all assets, after each asset's mean return was set
to that of all: what an asset earned on average is hindsight, and any permutation keeps it. Then the expected return of
every weight decided before a session is that of equal weight. The statistic is the t of the mean daily difference to
equal weight, before costs: one number a strategy and permutation. Under no signal their mean over K permutations has a
standard error of 1 / sqrt(K).
"""

import numpy as np
import pandas as pd
import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.ingest import ingest_prices
from storage import catalog
from tasks.fetch import sample

pytestmark = [pytest.mark.flow, pytest.mark.long]
BLOCK, PERMUTATIONS = 21, 4
START, END = "2018-01", "2022-11"
FREE = {
    "source": "files",
    "forecast": {"forecaster": "calibrated_ewma"},
    "accounting": {"cost": 0.0},
    "strategies": ["return_drawdown", "ogd_long_window", "ogd_conservative", "hedge", "equal_weight"],
}


@pytest.fixture(scope="module")
def log_returns() -> pd.DataFrame:
    """Seven years of every second stock of the sample, without differences in their means."""
    closes = sample.read().pivot(index="session", columns="ticker", values="close").drop(columns="SP500")
    found = np.log(closes.iloc[:, ::2]["2016":"2022"]).diff().dropna()
    return found - found.mean() + found.mean().mean()


def closes_of(returns: pd.DataFrame, path) -> str:
    returns.cumsum().apply(np.exp).mul(100).rename_axis("date").to_csv(path)
    return str(path)


def permuted(returns: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The sessions in another order, whole blocks of them."""
    starts = np.arange(0, len(returns), BLOCK)
    order = np.random.default_rng(seed).permutation(starts)
    places = np.concatenate([np.arange(begin, min(begin + BLOCK, len(returns))) for begin in order])
    return returns.iloc[places].set_axis(returns.index)


def t_values(store) -> dict[str, float]:
    """t of each strategy's mean daily difference to equal weight."""
    rows = catalog.query(store, "main", "SELECT session, strategy, daily_return FROM wealth").to_pandas()
    daily = rows.pivot(index="session", columns="strategy", values="daily_return").iloc[1:]
    difference = daily.drop(columns="equal_weight").sub(daily["equal_weight"], axis=0)
    return (difference.mean() / (difference.std() / np.sqrt(len(difference)))).to_dict()


def test_on_permuted_sessions_no_strategy_earns_more_than_equal_weight(tmp_path, place, log_returns):
    found = []
    for seed in range(PERMUTATIONS):
        store = place(tmp_path / f"{seed}")
        path = closes_of(permuted(log_returns, seed), tmp_path / f"{seed}.csv")
        backfill(START, END, parameters=forms.make(FREE), path=path)
        found.append(t_values(store))
    t = pd.DataFrame(found)
    print(t.round(2).to_string())
    assert (t.mean() * np.sqrt(PERMUTATIONS)).abs().max() < 3.0
    assert t.abs().max().max() < 4.0


def test_a_planted_signal_is_found(store, tmp_path, log_returns):
    """Own forecasts that are the future return with as much noise again: hardly more than nothing, and enough."""
    returns = permuted(log_returns, 0)
    path = closes_of(returns, tmp_path / "prices.csv")
    signal = returns[::-1].rolling(BLOCK).sum()[::-1].shift(-1)
    noise = np.random.default_rng(7).normal(0, 3 * signal.stack().std(), signal.shape)
    last = pd.Series(returns.index, index=returns.index).groupby(returns.index.strftime("%Y-%m")).last()
    mean = 0.1 * (signal + noise).loc[last].dropna()
    rows = mean.stack().rename("mean").reset_index().set_axis(["as_of", "ticker", "mean"], axis=1)
    rows["variance"] = BLOCK * float(returns.to_numpy().var())
    rows["known_at"] = rows["as_of"].dt.strftime("%Y-%m-%dT21:00:00")
    rows.to_csv(tmp_path / "own.csv", index=False, date_format="%Y-%m-%d")
    mine = forms.make(forms.merged(FREE, {"forecast": {"forecaster": "files"}}))
    ingest_prices(parameters=mine, path=path)
    ingest_prices(parameters=mine, forecasts=str(tmp_path / "own.csv"))
    backfill(START, END, parameters=mine, path=path)
    t = t_values(store)
    print(t)
    assert t["return_drawdown"] > 3.0
    assert max(abs(value) for name, value in t.items() if name != "return_drawdown") < 3.0
