"""`prism capacity`: what a person sees, and what is refused, and how."""

import json

import pytest

from flows import parameters as forms
from flows.backfill import backfill
from storage import catalog
from storage.store import open_store

pytestmark = [pytest.mark.flow, pytest.mark.long]


def test_prices_without_volume_have_no_capacity(decided_quickly, prism):
    code, _, err = prism("capacity", "--store", decided_quickly)
    assert code == 2
    assert "capacity follows from high, low and volume, and AAA lacks them" in err
    code, _, err = prism("capacity", "--scenario", "other", "--store", decided_quickly)
    assert code == 2
    assert "scenario other has decided no month yet" in err


def test_ratios_stand_by_capital_and_the_view_has_the_newest(prices, quick, tmp_path, monkeypatch, prism):
    close = prices.drop(columns="IDX").stack().rename("close").rename_axis(["date", "ticker"]).reset_index()
    close["high"], close["low"], close["open"] = 1.01 * close["close"], 0.99 * close["close"], close["close"]
    close.assign(volume=1e6).to_csv(tmp_path / "bars.csv", index=False)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "store"))
    chosen = {"strategies": ["ogd_long_window", "equal_weight"], "publish": "ogd_long_window", "index": ""}
    given = forms.make(forms.merged(quick.values(), chosen))
    backfill("2016-10", "2017-02", parameters=given, path=str(tmp_path / "bars.csv"))
    code, out, _ = prism("capacity", "--json", "--store", tmp_path / "store")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [row["capital"] for row in rows] == [1e5, 1e6, 1e7, 1e8, 1e9] * 2
    costs = [row["costs"] / row["turnover"] for row in rows]
    assert costs[:5] == sorted(costs[:5])
    view = catalog.query(open_store(), "main", "SELECT strategy, capital, sharpe FROM capacity").to_pylist()
    assert view == [{name: row[name] for name in ("strategy", "capital", "sharpe")} for row in rows]
    code, out, _ = prism("capacity", "--store", tmp_path / "store")
    assert "1e+05" in out
    assert "ogd_long_window" in out
