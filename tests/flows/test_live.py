"""The evening's flow: what was published is marked once, and the state says what is wrong."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from flows.live import mark_live
from flows.monthly import monthly_rebalance
from storage import clock
from storage.errors import NoDataError


@pytest.mark.flow
def test_nothing_is_marked_before_anything_is_decided(store):
    with pytest.raises(NoDataError, match="run `prism run` first"):
        mark_live()


@pytest.mark.flow
@pytest.mark.long
def test_evenings_are_marked_once_and_stale_prices_are_said(
    store, quick, prices, written, tmp_path, monkeypatch, prism
):
    monkeypatch.setenv("PRISM_REPORT", "true")
    monkeypatch.setattr(clock, "now", lambda: datetime(2017, 11, 1, 15))
    early = written(prices.loc[:"2017-10-31"], tmp_path / "early.csv")
    report = monthly_rebalance(parameters=quick, path=early, months=1)["report"]
    assert 'id="live-record"' not in Path(report).read_text()
    later = written(prices.loc[:"2017-11-10"], tmp_path / "later.csv")
    monkeypatch.setattr(clock, "now", lambda: datetime(2017, 11, 10, 23))
    state = mark_live(later, return_state=True)
    assert (state.name, "8 sessions marked up to 2017-11-10" in state.message) == ("Completed", True)
    monkeypatch.setattr(clock, "now", lambda: datetime(2017, 11, 13, 23))
    state = mark_live(return_state=True)
    assert (state.name, "the session of 2017-11-13 is over" in state.message) == ("Stale", True)
    shown = json.loads(prism("live", "--json")[1])
    assert [row["session"] for row in shown["sessions"]][::7] == ["2017-11-01", "2017-11-10"]
    assert shown["sessions"][-1]["lower_90"] < shown["sessions"][-1]["upper_90"]
    assert "Live since 2017-11-01" in prism("live")[1]
    page = Path(json.loads(prism("report", "--json")[1])["report"]).read_text()
    assert 'id="live-record"' in page
