"""Partitions of features: together they are one series, apart they never change."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage import partitions, tables
from tasks import features as stage
from tasks import panels
from tasks.numerics import features
from tasks.numerics.configs import FeatureConfig

SHORT = FeatureConfig(lookback=20, horizon=5)


@pytest.fixture
def compute(market):
    """Computes all partitions of a panel; their keys."""

    def run(panel, config=SHORT, months=None):
        moments = panels.moments(market.store, panel)[:months]
        return stage.compute_features.fn(panel, moments, config).keys

    return run


def test_partitions_are_disjoint_and_cover_every_session_once(market, compute):
    panel = market.panel()
    keys, moments = compute(panel), panels.moments(market.store, panel)
    begin = pd.Timestamp(0)
    for key, moment in zip(keys, moments, strict=True):
        _, rows = partitions.read(market.store, "features", [key])
        assert rows["session"].between(begin, pd.Timestamp(moment.as_of), inclusive="right").all()
        begin = pd.Timestamp(moment.as_of)
    _, rows = partitions.read(market.store, "features", keys)
    days = market.days()
    whole = days[days <= np.datetime64(moments[-1].as_of)]
    assert rows.groupby("ticker")["session"].apply(list).tolist() == [pd.to_datetime(whole).tolist()] * 5


@pytest.mark.parametrize("config", [SHORT, FeatureConfig("document", lookback=20, horizon=5)])
def test_the_rows_are_those_of_the_numerics_on_the_whole_series(market, compute, config):
    panel = market.panel()
    names, rows = partitions.read(market.store, "features", compute(panel, config))
    loaded = panels.load(market.store, panel)
    volumes = np.log1p(np.column_stack([loaded.series[ticker].volume for ticker in "ABCDE"]))
    for ticker in "AE":
        asset = loaded.series[ticker]
        series = features.Series(
            np.log1p(asset.simple_return), asset.high_ratio, asset.low_ratio, asset.volume,
            np.median(volumes, axis=1), np.append(np.nan, np.log1p(loaded.market[1:])),
        )  # fmt: skip
        own = rows[rows["ticker"] == ticker]
        expected, found = features.compute(series, names, config)[: len(own)], own[list(names)].to_numpy(np.float32)
        # the document's log return is kept once, as the labels need it: from the second session on
        np.testing.assert_allclose(found[config.lookback :], expected[config.lookback :], rtol=1e-5, atol=1e-6)
        assert np.isnan(found[: config.lookback]).any(axis=1).all()
        np.testing.assert_array_equal(own["log_return"], series.log_return[: len(own)])
        np.testing.assert_array_equal(own["ewma_variance"], features.ewma_variance(series.log_return)[: len(own)])


def test_only_missing_months_are_computed(market, compute, monkeypatch):
    panel = market.panel()
    first = compute(panel, months=10)
    before = tables.read(market.store, "features").to_pandas().set_index("key")
    written = []
    monkeypatch.setattr(partitions, "put", lambda store, table, parts: written.extend(part.key for part in parts))
    keys = compute(panel, months=12)
    assert keys[:10] == first
    assert written == list(keys[10:])
    assert set(before.index) == set(first)
    monkeypatch.setattr(stage, "_rows", lambda *_: pytest.fail("computed again"))
    assert compute(panel, months=10) == first


def test_partitions_keep_keys_and_bytes_when_later_data_arrive(market, compute):
    keys = compute(market.panel())
    blobs = tables.read(market.store, "features").to_pandas().set_index("key")["blob"]
    longer = market.panel(market.bars(count=460))
    moments = panels.moments(market.store, longer)
    assert compute(longer)[: len(keys)] == keys
    _, rows = stage._rows(panels.load(market.store, longer), moments[len(keys) - 1].as_of, SHORT)
    starts = [date.min, *(moment.as_of for moment in moments)]
    parts = [stage.Part(moment, since) for moment, since in zip(moments, starts, strict=False)][: len(keys)]
    again = [stage._partition("", part, (), rows).rows for part in parts]
    assert [partitions.blobs.put(market.store, partitions._parquet(part)) for part in again] == [
        blobs[key] for key in keys
    ]


def test_a_part_of_a_month_holds_its_sessions_so_far_under_a_key_of_its_own(market, compute):
    panel = market.panel()
    moments = panels.moments(market.store, panel)[:11]
    [day] = [m for m in panels.moments(market.store, panel, "D") if m.as_of == date(2016, 1, 15)]
    part = stage.Part(day, moments[9].as_of)
    keys = stage.compute_features.fn(panel, moments[:10], SHORT, (part,)).keys
    assert keys == (*compute(panel, months=10), stage.part_key(part, SHORT))
    assert stage.part_key(part, SHORT) not in {stage.feature_key(day, SHORT), stage.part_key(part, FeatureConfig())}
    _, found = partitions.read(market.store, "features", keys[-1:])
    _, month = partitions.read(market.store, "features", compute(panel, months=11)[-1:])
    seen = month[month["session"] <= "2016-01-15"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, seen, check_exact=True)
    assert found["session"].nunique() == 10
    [row] = tables.read(market.store, "features", key=keys[-1]).to_pylist()
    assert row["month"] == "2016-01-19"  # the session after, whose decision sees it


def test_a_restated_bar_renames_the_partitions_from_its_month_on(market, compute):
    bars = market.bars()
    keys = compute(market.panel(bars))
    bars.loc[bars.index[bars["session"] == "2016-02-10"][0], ["close", "adj_close"]] *= 1.01
    panel = market.panel(bars)
    same = [one == other for one, other in zip(keys, compute(panel), strict=True)]
    assert same == [moment.month <= "2016-02" for moment in panels.moments(market.store, panel)]


def test_another_config_has_partitions_of_its_own(market, compute):
    panel = market.panel()
    assert set(compute(panel)).isdisjoint(compute(panel, FeatureConfig(lookback=21, horizon=5)))


def test_volume_is_a_feature_where_the_first_bars_have_it(market, compute):
    bars, config = market.bars(), FeatureConfig(features="document")
    with_volume, _ = partitions.read(market.store, "features", compute(market.panel(bars), config))
    late = bars.assign(volume=bars["volume"].where(bars["session"] > "2015-03-02"))
    without, rows = partitions.read(market.store, "features", compute(market.panel(late), config))
    assert set(with_volume) - set(without) == {"volume", "log_volume"}
    assert np.isfinite(rows[rows["session"] > "2016-01-01"][list(without)].to_numpy()).all()


def test_an_asset_that_starts_later_has_rows_from_its_own_start(market, compute):
    bars = market.bars()
    late = bars[(bars["ticker"] != "C") | (bars["session"] >= "2015-09-10")]
    _, rows = partitions.read(market.store, "features", compute(market.panel(late)))
    own = rows[rows["ticker"] == "C"]
    assert own["session"].iloc[0] == pd.Timestamp("2015-09-10")
    assert np.isnan(own["log_return"].iloc[0])
    assert own["log_return"].iloc[1:].notna().all()
