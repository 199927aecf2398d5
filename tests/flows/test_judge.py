"""Judging from Python and from the terminal: nothing is decided, nothing is done twice, and it says what it found."""

import json

import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.judge import judge
from storage import catalog, ledger, tables
from storage.errors import InputError
from tasks import judge as stage

pytestmark = pytest.mark.flow


def test_judging_decides_nothing_and_uses_the_models_that_decide(store, light, csv):
    result = judge("2016-11", "2017-01", parameters=light, path=csv)
    assert result["months"] == 3
    assert ledger.read(store, "main") == []
    models = tables.read(store, "models").num_rows
    backfill("2016-11", "2017-02", parameters=light, path=csv)
    assert tables.read(store, "models").num_rows == models
    view = catalog.query(store, "main", "SELECT * FROM judgements WHERE kind = 'all' AND name = 'nll'").to_pylist()
    assert {row["forecaster"] for row in view} >= {"own", "ewma", "calibrated_ewma", "trailing", "historical"}
    assert len({row["rows"] for row in view}) == 1


def test_a_second_judgement_of_the_same_months_computes_nothing(store, light, csv, monkeypatch):
    first = judge("2016-11", "2017-01", parameters=light, path=csv)
    version = tables.open_table(store, "judgements").version()
    for name in ("_predicted", "_read"):
        monkeypatch.setattr(stage, name, lambda *_: pytest.fail("computed again"))
    assert judge("2016-11", "2017-01", parameters=light)["judgement"] == first["judgement"]
    assert tables.open_table(store, "judgements").version() == version


@pytest.mark.long
def test_the_terminal_shows_what_was_asked_for_also_when_it_is_not_the_newest(store, light, csv, prism):
    judge("2016-11", "2016-11", parameters=light, path=csv)
    whole = judge("2016-11", "2017-01", parameters=light)["judgement"]
    values = [f"--set={name}={json.dumps(v)}" for name, v in forms.flat(light.values()).items() if _chosen(name)]
    shared = ("judge", "--start", "2016-11", "--source", "files", "--path", csv, "--index", "IDX", *values)
    code, out, _ = prism(*shared, "--end", "2016-11", "--json")
    found = json.loads(out)["measures"]
    assert code == 0
    assert {row["end_date"] for row in found} == {"2016-11-30"}
    code, out, _ = prism(*shared, "--end", "2017-01")
    assert "Forecasts of every session, 2016-10-31 to 2017-01-31" in out
    assert "own less" in out
    assert tables.read(store, "judgements", key=whole).num_rows > 50


def _chosen(name):
    return name.startswith(("network.hidden", "network.latent", "training.", "forecast.draws"))


def test_own_forecasts_are_judged_by_the_report_only(store, light, csv):
    own = forms.make(forms.merged(light.values(), {"forecast": {"forecaster": "files"}}))
    with pytest.raises(InputError, match=r"forecast.forecaster is 'files'.*needs a forecaster that PRISM computes"):
        judge("2016-11", "2017-01", parameters=own, path=csv)


def test_months_without_a_next_one_cannot_be_judged(store, light, csv):
    with pytest.raises(InputError, match="months 2018-01 to 2018-01 hold no forecast followed by another month"):
        judge("2018-01", "2018-01", parameters=light, path=csv)
