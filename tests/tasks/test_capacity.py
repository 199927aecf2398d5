"""Capacity of a scenario's strategies, from its stored decisions and the volumes."""

from dataclasses import asdict
from datetime import date

import pytest

from storage import tables
from storage.errors import InputError, NoDataError
from tasks import decide, panels
from tasks.capacity import measure_capacity
from tasks.numerics.configs import AccountingConfig

COSTS = AccountingConfig(cash_rate=0.03)
EQUAL = dict.fromkeys("ABCDE", 0.2)


def put(market, panel, books):
    """Decide the months of 2016: {month's number: {strategy: weights}}, each by the others' parameters."""
    made = {"parameters": {"accounting": asdict(COSTS)}, "code": {}, "versions": {}}
    months, before = [], None
    for moment in panels.moments(market.store, panel):
        if moment.rebalance_date.year == 2016 and moment.rebalance_date.month in books:
            keys = []
            for name, weights in books[moment.rebalance_date.month].items():
                keys.append((name, f"{moment.prefix} {name}"))
                market.put_weights(keys[-1][1], moment, name, weights.items())
            months.append(decide.Month(moment, before, "backfill", None, None, tuple(keys), COSTS, made))
            before = moment.rebalance_date
    decide.decide.fn(panel, "main", tuple(months))


def rows(market, key):
    found = tables.read(market.store, "capacity", key=key).to_pandas()
    return found.sort_values(["strategy", "capital"]).set_index("strategy")


def test_every_strategy_has_a_record_at_each_capital_and_one_capacity(market):
    panel = market.panel()
    turned = {month: {"turned": {"ABCDE"[month % 5]: 1.0}, "equal_weight": EQUAL} for month in range(1, 10)}
    put(market, panel, turned)
    key = measure_capacity.fn(panel, "main", (1e5, 1e7, 1e9))
    found = rows(market, key)
    assert found.loc["turned", "capital"].tolist() == [1e5, 1e7, 1e9]
    costs = found.loc["turned", "costs"] / found.loc["turned", "turnover"]
    assert costs.is_monotonic_increasing
    gap = found.loc["turned", "sharpe"].to_numpy() - found.loc["equal_weight", "sharpe"].to_numpy()
    capacity = found.loc["turned", "capacity"].iloc[0]
    falls = [k for k in (0, 1) if gap[k] >= 0 > gap[k + 1]]
    assert (capacity > 0) == bool(falls)
    if falls:
        assert [1e5, 1e7][falls[0]] <= capacity <= [1e7, 1e9][falls[0]]
    assert found.loc["equal_weight", "capacity"].isna().all()
    assert found["end_date"].unique().tolist() == [panels.load(market.store, panel).sessions[-1].item()]
    assert measure_capacity.fn(panel, "main", (1e5, 1e7, 1e9)) == key
    assert measure_capacity.fn(panel, "main", (1e5, 1e6)) != key


def test_without_equal_weights_beside_it_a_strategy_has_no_capacity(market):
    panel = market.panel()
    put(market, panel, {1: {"hand": {"A": 1.0}}})
    found = rows(market, measure_capacity.fn(panel, "main"))
    assert found["capacity"].isna().all()  # equal weights were not run
    assert found["start_date"].unique().tolist() == [date(2016, 1, 4)]
    assert len(found) == 5


def test_what_has_no_volume_or_has_not_traded_is_refused(market):
    panel = market.panel()
    with pytest.raises(NoDataError, match="main has traded on no decided date yet"):
        measure_capacity.fn(panel, "main")
    bars = market.bars()
    bars.loc[bars["ticker"] == "A", "volume"] = None
    without = market.panel(bars)
    put(market, without, {1: {"hand": {"A": 1.0}}})
    with pytest.raises(InputError, match=r"capacity follows from high, low and volume, and A lacks them .* 2016-01-04"):
        measure_capacity.fn(without, "main")
