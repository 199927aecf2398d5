"""All strategies through the flows: siblings, sectors, experts, one's own, a chain; and what is refused."""

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.grids import grid_of, levels
from flows.parameters import STRATEGIES
from flows.sweep import sweep
from storage import tables
from storage.errors import InputError
from storage.schemas import CASH
from storage.store import open_store

pytestmark = pytest.mark.flow
KNOWN, VIEWS = date(2017, 1, 31), ("weights", "trades", "wealth")
SECTORS = "ticker,sector,role\nAAA,one,asset\nBBB,one,asset\nCCC,two,asset\nDDD,two,asset\nEEE,two,asset\nIDX,,index\n"
OWN = """
import numpy as np

def init(mask):
    return {"weights": mask / mask.sum()}

def step(state, seen):
    kept = np.where(seen.mask, np.maximum(state["weights"], 1e-3) * (1 + seen.returns[-1]), 0)
    return {"weights": kept / kept.sum()}
"""
ALLOCATE = """
import numpy as np

def allocate(seen):
    score = np.where(seen.mask, seen.returns[-60:].sum(axis=0), -np.inf)
    return (np.arange(seen.mask.size) == score.argmax()) * 1.0
"""


@pytest.fixture
def everything(light, tmp_path, monkeypatch):
    """Parameters that run every strategy there is, and two of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "buy_and_hold.py").write_text(OWN)
    (tmp_path / "momentum.py").write_text(ALLOCATE)
    (tmp_path / "sectors.csv").write_text(SECTORS)
    values = forms.merged(
        light.values(),
        {
            "universe": str(tmp_path / "sectors.csv"),
            "strategies": list(STRATEGIES),
            "own": {"mine": "buy_and_hold", "best": "momentum"},
            "return_drawdown": {"turnover_limit": 0.2, "max_weight": 0.5},
            "sector_ogd": {"outer": "exponentiated_gradient", "inner": "mine", "max_sector_weight": 0.6},
            "ogd_leveraged": {"guard_limit": 0.2, "max_positions": 3, "factor_weight": 0.1},
            "begin": "2016-06",
        },
    )
    return forms.make(values)


def books(store):
    """Weights by as-of date and strategy."""
    found = {}
    for row in tables.read(store, "weights").to_pylist():
        found.setdefault((row["as_of"], row["strategy"]), {})[row["ticker"]] = row["weight"]
    return found


@pytest.mark.long
def test_every_strategy_is_decided_from_the_past_alone_however_a_run_is_cut(
    everything, csv, prices, written, place, content, tmp_path
):
    store = place(tmp_path / "straight")
    backfill("2016-08", "2017-03", "main", everything, csv)
    straight, held = content(store, names=VIEWS, until=KNOWN), books(store)
    names = {*STRATEGIES, "mine", "best"}
    assert {strategy for _, strategy in held} == names
    for (_, strategy), book in held.items():
        assert sum(book.values()) == pytest.approx(1, abs=1e-9), strategy
    for (day, strategy), book in held.items():
        if strategy == "sector_ogd" and CASH not in book:
            assert book.get("AAA", 0) + book.get("BBB", 0) <= 0.6 + 1e-9
        if strategy == "return_drawdown" and day.isoformat() >= "2016-08":
            assert max(book.values()) <= 0.5 + 1e-9
        if strategy == "ogd_leveraged":
            assert len(book.keys() - {CASH}) <= 3
    later = prices.index > pd.Timestamp(KNOWN)
    changed = prices.copy()
    changed.loc[later] *= 1 + 0.3 * np.random.default_rng(7).random(changed.loc[later].shape)
    store = place(tmp_path / "cut")
    elsewhere = written(changed, tmp_path / "changed.csv")
    backfill("2016-11", "2016-12", "main", everything, elsewhere)
    backfill("2016-08", "2017-03", "main", None, elsewhere)
    again = content(store, names=VIEWS, until=KNOWN)
    for view in VIEWS:
        assert len(straight[view]) > 100
        assert again[view] == straight[view], view


@pytest.mark.long
def test_the_record_names_ones_own_source(everything, csv, place, tmp_path):
    place(tmp_path / "store")
    backfill("2016-08", "2016-08", "main", everything, csv)
    [row] = tables.read(open_store(), "decisions").to_pylist()
    code = json.loads(row["record"])["code"]
    assert {"own.mine", "own.best"} <= code.keys()


def test_a_sweep_is_recorded_and_its_best_can_be_used(light, csv, place, tmp_path, prism, capsys):
    place(tmp_path / "store")
    base = ["--source", "files", "--path", csv, "--index", "IDX"]
    asked = ["sweep", "--name", "mine", "--strategy", "ogd_long_window", "--start", "2016-01", "--end", "2017-03"]
    prism(*asked, "--grid", "learning_rate=0.01:0.5:4:log", "--grid", "momentum=0,0.8", *base)
    rows = tables.read(open_store(), "trials", study="mine").to_pylist()
    assert len(rows) == 8
    best = max(rows, key=lambda row: row["value"])
    found = json.loads(best["config"])["ogd_long_window"]
    parameters = forms.make(forms.merged(light.values(), {"ogd_long_window": found}))
    assert parameters.online["ogd_long_window"].learning_rate == found["learning_rate"]
    from tasks.tune import tuned

    assert tuned(open_store(), "mine") == {"ogd_long_window": found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,0.5,1", [0, 0.5, 1]),
        ("true,false", [True, False]),
        ("window,linear", ["window", "linear"]),
        ("0:1:3", [0.0, 0.5, 1.0]),
        ("1:100:3:log", [1.0, 10.0, 100.0]),
    ],
)
def test_levels_are_lists_or_ranges(text, expected):
    assert levels(text) == pytest.approx(expected) if isinstance(expected[0], float) else levels(text) == expected


@pytest.mark.parametrize("text", ["1:2", "1:2:1", "a:b:3", "0:1:3:log", "1:2:3:cube", "1:2:3:log:4"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="write a,b,c or low:high:count"):
        levels(text)


@pytest.mark.parametrize("given", [["momentum"], ["momentum=1", "momentum=2"]])
def test_a_grid_names_each_field_once(given):
    with pytest.raises(InputError, match="must be name=values, each name once"):
        grid_of(given)


def test_a_sweep_of_something_else_is_refused(light, csv, place, tmp_path):
    place(tmp_path / "store")
    with pytest.raises(InputError, match="strategy is 'index'; a sweep needs one of ogd_long_window"):
        sweep("mine", "index", {"momentum": [0.5]}, "2016-01", "2016-12", "main", light, csv)
    assert np.size(tables.read(open_store(), "trials")) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"publish": "mine"}, "publish is 'mine'; it must be one of strategies"),
        ({"own": {"index": "x"}}, "own names a strategy 'index'"),
        ({"own": {"Mine": "x"}}, "own names a strategy 'Mine'"),
        ({"sector_ogd": {"outer": "index"}}, "sector_ogd.outer is 'index'; it must be one of"),
        ({"ogd_tuned": {"base": "index"}}, "ogd_tuned.base is 'index'; it must be one of"),
        ({"ogd_tuned": {"grid": "momentum=0,0.8; window"}}, "grid has ' window'; it must be name=values"),
        ({"rebalance": "D", "rebalance_offset": 3}, "rebalance is 'D' and rebalance_offset 3; every session is traded"),
        ({"begin": "2016"}, "begin is '2016'; it must be a month like 2015-01"),
        ({"ogd_leveraged": {"gross_limit": 0.5, "fully_invested": True}}, "gross_limit is 0.5 and fully_invested"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_a_sentence(values, said):
    with pytest.raises(InputError, match=said):
        forms.make(values)


def test_a_strategy_of_ones_own_may_be_published():
    parameters = forms.make({"own": {"mine": "somewhere"}, "publish": "mine"})
    assert parameters.publish == "mine"
    assert forms.difference(forms.make({}).values(), parameters.values()).startswith("publish 'return_drawdown'")
