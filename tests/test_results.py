"""The README's table of results is what the code gives."""

import json

import numpy as np
import pytest

from storage import universe
from storage.keys import PanelKey
from tasks import fetch, panels, sweep
from tasks.numerics import metrics
from tasks.numerics.configs import EXPONENTIATED_GRADIENT, OGD_CONSERVATIVE, OGD_LONG_WINDOW, AccountingConfig
from tests.benchmarks import readme, results

KEPT = json.loads(results.KEPT.read_text())
ONLINE = {
    "ogd long window": OGD_LONG_WINDOW,
    "ogd conservative": OGD_CONSERVATIVE,
    "exponentiated gradient": EXPONENTIATED_GRADIENT,
}
COMPARED = ("sharpe", "annual_return", "annual_volatility", "max_drawdown", "turnover", "costs")


def test_the_readme_shows_what_is_kept():
    assert readme.shown(readme.PATH.read_text(), "results") == results.table(KEPT)


def test_a_readme_without_the_comments_is_refused():
    with pytest.raises(ValueError, match="once each"):
        readme.shown("no table", "results")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The embedded sample, ingested without any flow: its panel, all dates, and those of the table."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(tmp_path_factory.mktemp("results")))
        from storage.store import open_store

        store, chosen = open_store(), universe.read("sample20")
        panel = PanelKey(fetch.ingest.fn("sample", "sample", None, universe.keep(store, chosen)), _id(store, chosen))
        history = panels.moments(store, panel)
        first, last = KEPT["span"].split(" to ")
        yield store, panel, history, tuple(moment for moment in history if first <= moment.month <= last)


def _id(store, chosen):
    return universe.keep(store, universe.with_index(chosen, None))


@pytest.mark.parametrize("name", ONLINE)
def test_an_online_strategys_row_is_what_a_sweep_of_it_alone_gives(sample, name):
    store, panel, history, moments = sample
    config = ONLINE[name]
    until = tuple(moment for moment in history if moment.as_of <= moments[-1].as_of)
    asked = sweep.Sweep("rows", "ogd", config, (("window", (config.window,)),), AccountingConfig(), panel.universe, "M")
    (trial,) = sweep._trials(store, panel, until, moments, asked)
    kept = KEPT["numbers"][name]
    for measure in COMPARED:
        assert trial.measures[measure] == pytest.approx(kept[measure], rel=1e-6), measure


def test_the_row_of_equal_weights_is_what_daily_drift_and_a_monthly_trade_give(sample):
    """From prices alone: holdings drift, and each rebalance trades back to equal weights at the close."""
    store, panel, _, moments = sample
    everything = panels.load(store, panel)
    places = np.searchsorted(everything.sessions, np.array([m.rebalance_date for m in moments], "datetime64[D]"))
    cost, returns, eligible = AccountingConfig().cost, everything.returns, everything.eligible
    holdings, wealth = np.zeros(returns.shape[1]), [1.0]
    for session in range(places[0], everything.sessions.size):
        holdings = holdings * (1 + np.nan_to_num(returns[session]))
        value = holdings.sum() if holdings.any() else 1.0
        if session in places:
            allowed = eligible[session - 1]
            target = allowed / allowed.sum()
            value -= cost * np.abs(target * value - holdings).sum()
            holdings = target * value
        wealth.append(value)
    daily = np.diff(wealth) / np.array(wealth[:-1])
    month = np.zeros(daily.size, int)
    found = metrics.measures(daily, np.zeros((1, 1)), np.zeros(1), np.zeros(1), month)
    for measure in ("sharpe", "annual_return", "annual_volatility", "max_drawdown"):
        assert found[measure] == pytest.approx(KEPT["numbers"]["equal weight"][measure], rel=1e-6), measure


@pytest.mark.long  # trains five years of networks: minutes
def test_all_rows_are_what_the_study_gives(tmp_path):
    found = results.run(str(tmp_path / "store"))
    assert found["numbers"].keys() == KEPT["numbers"].keys()
    for name, measured in found["numbers"].items():
        # another processor rounds a network's training differently; the experts follow what is made of its forecasts
        near = 0.1 if "return drawdown" in name or name == "experts" else 1e-6
        for measure in COMPARED:
            kept = KEPT["numbers"][name][measure]
            assert measured[measure] == pytest.approx(kept, rel=near, abs=near / 2), (name, measure)
