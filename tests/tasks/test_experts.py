"""Experts: shares that follow what each strategy earned after costs, in a chain that any cut leaves as it is."""

import json

import numpy as np
import pytest

from storage import tables
from storage.store import open_store
from tasks import allocate, experts, learn, learning, panels
from tasks.numerics import accounting
from tasks.numerics.configs import AccountingConfig, ExpertsConfig, OnlineConfig
from tasks.prices import prices_of

COSTS = AccountingConfig()
NAMES = ("equal_weight", "ogd")


def weights(store, key):
    return {row["ticker"]: row["weight"] for row in tables.read(store, "weights", key=key).to_pylist()}


def notes(store, key):
    return json.loads(tables.read(store, "allocations", key=key)["diagnostics"][0].as_py())


@pytest.fixture
def followed(market):
    """Months with the keys of two strategies' stored weights."""

    def make(market=market):
        panel = market.panel()
        months = panels.moments(market.store, panel)
        recipe = learning.of_online("ogd", OnlineConfig(window=20, learning_rate=0.5))
        ogd = learn.learn.fn(panel, months, months, recipe, "M").keys
        equal = allocate.allocate_fixed.fn(panel, months, "equal_weight").keys
        given = [(m, dict(zip(NAMES, keys, strict=True))) for m, *keys in zip(months, equal, ogd, strict=True)]
        return panel, given[7:]

    return make


def test_shares_are_each_accounts_part_of_what_all_have_earned(market, followed):
    panel, given = followed()
    chain = experts.dates(given, None, ExpertsConfig(), COSTS)
    experts.follow.fn(panel, chain, ExpertsConfig(), COSTS)
    prices = prices_of(market.store, panel.snapshot, [panel.universe])
    when = np.searchsorted(prices.sessions, np.array([m.rebalance_date for m, _ in given[:-1]], "datetime64[D]"))
    wealth = []
    for name in NAMES:
        books = [weights(market.store, keys[name]) for _, keys in given[:-1]]
        targets = np.array([[book.get(ticker, 0.0) for ticker in prices.tickers] for book in books])
        wealth.append(accounting.simulate(prices.returns, prices.traded, when, targets, COSTS, prices.delisted).wealth)
    for place, (moment, keys) in enumerate(given):
        end = int(np.searchsorted(prices.sessions, np.datetime64(moment.as_of))) - when[0]
        now = np.array([own[end] for own in wealth]) if place else np.ones(2)
        shares = now / now.sum()
        said = notes(market.store, chain[place].key)
        assert said["shares"] == pytest.approx(dict(zip(NAMES, shares.tolist(), strict=True)))
        mixture = {}
        for share, name in zip(shares, NAMES, strict=True):
            for ticker, weight in weights(market.store, keys[name]).items():
                mixture[ticker] = mixture.get(ticker, 0.0) + share * weight
        assert weights(market.store, chain[place].key) == pytest.approx(mixture)
    assert said["best_expert"] == NAMES[int(np.argmax([own[end] for own in wealth]))]
    assert 0 <= said["regret"] <= np.log(2)
    assert said["regret_best_mix"] >= said["regret"] - 1e-9


def test_a_chain_is_the_same_however_it_is_cut_and_wherever_it_is_told(market, followed, tmp_path, monkeypatch):
    panel, given = followed()
    chain = experts.dates(given, None, ExpertsConfig(learning_rate=3), COSTS)
    for end in (3, 9, len(chain)):
        experts.follow.fn(panel, chain[:end], ExpertsConfig(learning_rate=3), COSTS)
    ours = [weights(market.store, entry.key) for entry in chain]
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    again, told = followed(elsewhere)
    whole = experts.dates(told, None, ExpertsConfig(learning_rate=3), COSTS)
    experts.follow.fn(again, whole, ExpertsConfig(learning_rate=3), COSTS)
    assert [weights(elsewhere.store, entry.key) for entry in whole] == ours


def test_until_begin_shares_are_equal_and_nothing_before_it_counts(market, followed):
    panel, given = followed()
    begin = given[4][0]
    chain = experts.dates(given, begin, ExpertsConfig(), COSTS)
    experts.follow.fn(panel, chain, ExpertsConfig(), COSTS)
    for entry in chain[:5]:
        assert notes(market.store, entry.key)["shares"] == dict.fromkeys(NAMES, 0.5)
    assert notes(market.store, chain[-1].key)["shares"]["ogd"] != 0.5
    assert experts.dates(given[4:], begin, ExpertsConfig(), COSTS) == chain[4:]
    assert experts.dates(given[4:], None, ExpertsConfig(), COSTS) == chain[4:]


def test_costs_configs_and_weights_enter_the_keys(followed):
    _, given = followed()
    keys = {experts.dates(given, None, ExpertsConfig(), COSTS)[-1].key}
    keys |= {experts.dates(given, None, ExpertsConfig(fixed_share=0.1), COSTS)[-1].key}
    keys |= {experts.dates(given, None, ExpertsConfig(), AccountingConfig(cost=0.001))[-1].key}
    first = [(given[0][0], {"equal_weight": "another", "ogd": given[0][1]["ogd"]}), *given[1:]]
    keys |= {experts.dates(first, None, ExpertsConfig(), COSTS)[-1].key}
    assert len(keys) == 4
