"""Every forecaster writes whole rows: mean, variance, interval, and beside them the simple forecasts to beat."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from storage import tables
from storage.schemas import TABLES
from tasks import own_forecasts
from tasks.numerics.configs import FeatureConfig, ForecastConfig

HORIZON, LOOKBACK = 5, 20
EWMA_SHARE = 0.03  # of the newest square
FORECASTERS = ("ewma", "calibrated_ewma", "historical", "vlstm", "vlstm student_t", "files")
MEANS = dict(zip("ABCDE", (0.01, -0.02, 0.0, 0.004, 1 / 300), strict=True))


@pytest.fixture
def made(market, small, forecasting, tmp_path):
    """Forecasts of the first two months of 2016 by each forecaster, by its name."""
    panel, done = market.panel(), {}

    def run(name):
        if name not in done:
            kind, _, likelihood = name.partition(" ")
            network = replace(small.network, likelihood=likelihood or "gaussian", degrees=4.0)
            config = replace(small, forecast=ForecastConfig(kind, draws=2), network=network)
            done[name] = forecasting(market, panel, config, "mine")
            if kind == "files":
                own_forecasts.take(market.store, "mine", given(tmp_path / "own.csv", ("2015-12-31", "2016-01-29")))
            elif kind == "vlstm":
                done[name].train(2016)
            done[name].forecast(done[name].months(2016)[:2])
        return done[name], done[name].rows(done[name].months(2016)[:2])

    return run


def given(path, days):
    rows = [(day, ticker, mean, 0.001 + mean**2, day) for day in days for ticker, mean in MEANS.items()]
    pd.DataFrame(rows, columns=own_forecasts.COLUMNS).to_csv(path, index=False)
    return str(path)


class Straight:
    """What the simple forecasters say at a day, from the closes of the bars by pandas."""

    def __init__(self, run, day):
        closes = run.market.bars().pivot(index="session", columns="ticker", values="close")
        self.returns = np.log(closes).diff().loc[:day]
        self.labels = self.returns.rolling(HORIZON).sum().shift(-HORIZON)  # by the session they follow
        self.mean = self.labels.stack().mean()

    @property
    def ewma(self):
        """Seeded by the mean of the first 66 squares, NaN before."""
        squares = self.returns**2
        first = squares.iloc[1:67].mean()
        later = pd.concat([first.to_frame(squares.index[66]).T, squares.iloc[67:]])
        smooth = later.ewm(alpha=EWMA_SHARE, adjust=False).mean()
        return HORIZON * smooth.reindex(squares.index)

    @property
    def long_run(self):
        return HORIZON * (self.returns**2).expanding(66).mean()

    def calibrated(self):
        """The log-linear variance, its likelihood maximised by a general optimiser."""
        known = self.labels.notna() & self.ewma.notna()
        y = self.labels.to_numpy()[known.to_numpy()]
        x = np.log([self.ewma.to_numpy()[known.to_numpy()], self.long_run.to_numpy()[known.to_numpy()]])

        def loss(theta):
            log_variance = theta[0] + theta[1:] @ x
            return np.mean(log_variance + (y - self.mean) ** 2 / np.exp(log_variance))

        theta = optimize.minimize(loss, [0.0, 1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
        return np.exp(theta[0] + theta[1] * np.log(self.ewma) + theta[2] * np.log(self.long_run))

    def past(self, ticker):
        return self.labels[ticker].dropna()


@pytest.mark.parametrize("name", FORECASTERS)
def test_every_row_is_whole_and_its_mean_lies_within_its_interval(made, name):
    _, rows = made(name)
    assert rows.groupby("as_of")["ticker"].apply("".join).tolist() == ["ABCDE", "ABCDE"]
    assert list(rows) == list(TABLES["forecasts"].columns)
    free = set() if name.startswith("vlstm") else {"model"}
    free |= {"degrees"} if name == "files" else set()
    assert rows.drop(columns=list(free)).notna().all(axis=None)
    assert (rows["variance"] > 0).all()
    assert (rows["lower_90"] < rows["mean"]).all()
    assert (rows["mean"] < rows["upper_90"]).all()
    shape = stats.norm if name == "files" else stats.t(rows["degrees"])
    np.testing.assert_allclose(rows["upper_90"], rows["mean"] + rows["scale"] * shape.ppf(0.95), rtol=1e-9)
    np.testing.assert_allclose(rows["lower_90"], rows["mean"] + rows["scale"] * shape.ppf(0.05), rtol=1e-9)


@pytest.mark.parametrize("name", FORECASTERS)
def test_only_a_network_has_models(made, name):
    run, rows = made(name)
    if name.startswith("vlstm"):
        assert set(rows["model"]) == {month.model for month in run.months(2016)[:2]}
        assert tables.read(run.store, "models").num_rows == 2
    else:
        assert rows["model"].isna().all()
        assert tables.read(run.store, "models").num_rows == 0


def test_the_simple_forecasts_beside_are_the_same_whoever_forecasts(made):
    columns = ["as_of", "ticker", "baseline_variance", "label_mean", "calibrated_variance", "trailing_variance"]
    columns += ["historical_mean", "historical_variance"]
    first = made(FORECASTERS[0])[1][columns]
    for name in FORECASTERS[1:]:
        pd.testing.assert_frame_equal(made(name)[1][columns], first, check_exact=True)


@pytest.mark.parametrize("ticker", ["A", "D"])
def test_the_simple_forecasts_beside_agree_with_the_closes(made, ticker):
    run, rows = made("ewma")
    for _, row in rows[rows["ticker"] == ticker].iterrows():
        straight = Straight(run, str(row["as_of"]))
        assert row["label_mean"] == pytest.approx(straight.mean, rel=1e-9)
        assert row["baseline_variance"] == pytest.approx(straight.ewma[ticker].iloc[-1], rel=1e-9)
        trailing = HORIZON * (straight.returns[ticker] ** 2).tail(LOOKBACK).mean()
        assert row["trailing_variance"] == pytest.approx(trailing, rel=1e-9)
        assert row["historical_mean"] == pytest.approx(straight.past(ticker).mean(), rel=1e-9)
        assert row["historical_variance"] == pytest.approx(straight.past(ticker).var(), rel=1e-9)
        assert row["calibrated_variance"] == pytest.approx(straight.calibrated()[ticker].iloc[-1], rel=1e-5)


def test_each_simple_forecaster_gives_its_own_column(made):
    for name, mean, variance in (
        ("ewma", "label_mean", "baseline_variance"),
        ("calibrated_ewma", "label_mean", "calibrated_variance"),
        ("historical", "historical_mean", "historical_variance"),
    ):
        _, rows = made(name)
        np.testing.assert_array_equal(rows["mean"], rows[mean])
        np.testing.assert_array_equal(rows["variance"], rows[variance])
    assert made("historical")[1]["mean"].nunique() == 10


def test_the_tails_of_ewma_are_those_of_its_past_errors(made):
    run, rows = made("ewma")
    first = rows.iloc[0]
    straight = Straight(run, str(first["as_of"]))
    errors = ((straight.labels - straight.mean) / np.sqrt(straight.ewma)).stack().dropna().to_numpy()
    degrees, scale = first["degrees"], first["scale"] / np.sqrt(first["variance"])

    def likelihood(degrees, factor=1.0):
        return stats.t(degrees, scale=factor * scale).logpdf(errors).mean()

    for other, factor in itertools.product((2.5, 5, 20, 50, 100), (0.9, 0.97, 1, 1.03, 1.1)):
        assert likelihood(other, factor) <= likelihood(degrees) + 1e-9
    assert likelihood(degrees, 1.1) < likelihood(degrees) - 1e-3


def test_own_forecasts_are_taken_as_they_are_and_as_gaussian(made):
    _, rows = made("files")
    np.testing.assert_array_equal(rows["mean"], [*MEANS.values()] * 2)
    np.testing.assert_array_equal(rows["variance"], [0.001 + mean**2 for mean in MEANS.values()] * 2)
    np.testing.assert_allclose(rows["scale"] ** 2, rows["variance"], rtol=1e-14)
    assert rows["degrees"].isna().all()


def test_own_forecasts_of_some_assets_leave_the_others_out(market, small, forecasting, tmp_path):
    config = replace(small, forecast=ForecastConfig("files"))
    run = forecasting(market, market.panel(), config, "mine")
    few = pd.read_csv(given(tmp_path / "own.csv", ["2015-12-31"]))
    few[few["ticker"].isin(["B", "D"])].to_csv(tmp_path / "few.csv", index=False)
    own_forecasts.take(market.store, "mine", str(tmp_path / "few.csv"))
    run.forecast(run.months(2016))
    assert run.rows(run.months(2016))["ticker"].tolist() == ["B", "D"]


def test_the_two_likelihoods_forecast_differently_from_the_same_data(made):
    one, other = (made(name)[1] for name in ("vlstm", "vlstm student_t"))
    assert set(one["model"]).isdisjoint(other["model"])
    assert (one["mean"] != other["mean"]).all()
    assert (one["variance"] != other["variance"]).all()


def test_keys_differ_by_forecaster(made):
    keys = {name: [month.forecast for month in made(name)[0].months(2016)[:2]] for name in FORECASTERS}
    assert len({key for several in keys.values() for key in several}) == 2 * len(FORECASTERS)


@pytest.mark.parametrize("horizon", [5, 63, 126])
@pytest.mark.parametrize("name", ["ewma", "calibrated_ewma", "historical"])
def test_the_first_months_that_are_possible_have_a_forecast(market, small, forecasting, name, horizon):
    features = FeatureConfig(lookback=LOOKBACK, horizon=horizon)
    run = forecasting(market, market.panel(), replace(small, features=features, forecast=ForecastConfig(name)))
    months = [*run.months(2015), *run.months(2016)][:1]
    assert months
    run.forecast(months)
    assert run.rows(months)["ticker"].tolist() == list("ABCDE")
