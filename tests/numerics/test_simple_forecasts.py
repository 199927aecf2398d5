"""The simple forecasters by pandas and scipy, what they may see, and intervals that hold what they promise."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

from tasks.numerics import features, mixtures, predictive, training, windows
from tasks.numerics.configs import FeatureConfig, ForecastConfig, Forecaster, TrainingConfig, VLSTMConfig
from tasks.numerics.predictive import Forecast, Rows, Simple
from tasks.numerics.tails import GAUSSIAN, Tails
from tasks.numerics.windows import History

L, H, LENGTHS = 20, 5, (300, 300, 180)
CONFIG = Forecaster(
    features=FeatureConfig(lookback=L, horizon=H),
    network=VLSTMConfig(hidden=8, latent=3, likelihood="gaussian"),
    training=TrainingConfig(epochs=2, ensemble=2, chunk=16, batch=16),
)


def make_history(lengths=LENGTHS, seed=0, degrees=4.0):
    """Heavy-tailed returns with slow volatility; the first feature tells nothing."""
    rng = np.random.default_rng(seed)
    shape = len(lengths), max(lengths)
    known = np.arange(shape[1]) < np.array(lengths)[:, None]
    level = np.exp(0.6 * np.sin(np.arange(shape[1]) / 40 + np.arange(shape[0])[:, None]))
    log_return = 0.0005 + 0.01 * level * rng.standard_t(degrees, shape)
    log_return = np.where(known & (np.arange(shape[1]) > 0), log_return, np.nan)
    values = rng.standard_normal((*shape, 2)).astype(np.float32)
    return History(
        features=np.where(known[..., None], values, np.float32(np.nan)),
        log_return=log_return,
        ewma_variance=np.stack([features.ewma_variance(row) for row in log_return]),
        session=np.where(known, np.arange(shape[1]), -1),
        last_session=shape[1] - 1,
    )


HISTORY = make_history()


def configured(forecaster):
    return replace(CONFIG, forecast=ForecastConfig(forecaster=forecaster))


def by_pandas(history):
    """Label and the variances of every asset and session, one row each: known returns only."""
    frames = []
    for asset, row in enumerate(history.log_return):
        r = pd.Series(row).dropna()
        sums = r.rolling(H).sum()
        frame = pd.DataFrame({"label": sums.shift(-H), "trailing": H * (r**2).rolling(L).mean()})
        frame["long_run"] = H * (r**2).expanding(66).mean()
        start = pd.concat([pd.Series([(r.iloc[:66] ** 2).mean()], [66]), r.loc[67:] ** 2])
        frame["ewma"] = H * start.ewm(alpha=0.03, adjust=False).mean()
        frame["past_mean"], frame["past_variance"] = sums.expanding(66).mean(), sums.expanding(66).var()
        frames.append(frame.reset_index(names="column").assign(asset=asset))
    return pd.concat(frames, ignore_index=True)


TABLE = by_pandas(HISTORY)
# the first session has no return, but its label is known
LABELS = [row[t + 1 : t + H + 1].sum() for row in HISTORY.log_return for t in range(row.size - H)]
MEAN = float(np.nanmean(LABELS))


def likeliest(table, mean):
    """Coefficients of the calibrated EWMA, by a general optimiser."""
    known = table.dropna(subset=["label", "ewma", "long_run"])
    x = np.column_stack([np.ones(len(known)), np.log(known["ewma"]), np.log(known["long_run"])])
    squares = (known["label"].to_numpy() - mean) ** 2

    def objective(theta):
        return np.mean(x @ theta + squares * np.exp(-x @ theta))

    return minimize(objective, [0, 1, 0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-15}).x


def rows_of(table):
    asset, column = table["asset"].to_numpy(), table["column"].to_numpy()
    return Rows(asset, column, np.zeros(len(table), int))


def test_what_is_learned_is_the_pooled_mean_and_the_likeliest_coefficients():
    learned = predictive.learn(HISTORY, CONFIG)
    assert learned.label_mean == pytest.approx(MEAN, rel=1e-12)
    np.testing.assert_allclose(learned.coefficients, likeliest(TABLE, MEAN), rtol=1e-4, atol=1e-4)
    assert np.abs(learned.coefficients - [0, 1, 0]).max() > 0.05


def test_the_simple_forecasts_are_those_of_pandas_at_every_row():
    learned = predictive.learn(HISTORY, CONFIG)
    found = predictive.simple(HISTORY, rows_of(TABLE), learned, CONFIG)
    a, b, c = learned.coefficients
    expected = Simple(
        label_mean=np.full(len(TABLE), MEAN),
        ewma=TABLE["ewma"],
        calibrated=np.exp(a) * TABLE["ewma"] ** b * TABLE["long_run"] ** c,
        trailing=TABLE["trailing"],
        historical_mean=TABLE["past_mean"],
        historical_variance=TABLE["past_variance"],
    )
    for name, ours, theirs in zip(Simple._fields, found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-15, err_msg=name)
        assert np.isfinite(ours).sum() > 500


def test_each_simple_forecaster_has_moments_of_its_own():
    found = predictive.simple(HISTORY, rows_of(TABLE), predictive.learn(HISTORY, CONFIG), CONFIG)
    expected = {
        "ewma": (found.label_mean, found.ewma),
        "calibrated_ewma": (found.label_mean, found.calibrated),
        "historical": (found.historical_mean, found.historical_variance),
    }
    assert tuple(expected) == predictive.SIMPLE
    for forecaster, moments in expected.items():
        for ours, theirs in zip(found.moments(forecaster), moments, strict=True):
            assert ours is theirs


@pytest.mark.parametrize("forecaster", predictive.SIMPLE)
def test_a_simple_forecast_has_the_tails_of_its_past_residuals(forecaster):
    config = configured(forecaster)
    rows = predictive.rows_at(HISTORY, HISTORY.last_session, np.ones(3, bool), 0)
    learned = predictive.learn(HISTORY, config)
    found = predictive.simple_forecast(HISTORY, rows, learned, config)
    last = TABLE.groupby("asset").last()
    a, b, c = learned.coefficients
    means, squares = {
        "ewma": (lambda t: MEAN + 0 * t["ewma"], lambda t: t["ewma"]),
        "calibrated_ewma": (lambda t: MEAN + 0 * t["ewma"], lambda t: np.exp(a) * t["ewma"] ** b * t["long_run"] ** c),
        "historical": (lambda t: t["past_mean"], lambda t: t["past_variance"]),
    }[forecaster]
    # groupby.last passes over what is missing, and all of these are known at an asset's last session
    np.testing.assert_allclose(found.mean, means(last), rtol=1e-9)
    np.testing.assert_allclose(found.variance, squares(last), rtol=1e-9)
    residuals = ((TABLE["label"] - means(TABLE)) / np.sqrt(squares(TABLE))).dropna()
    degrees, _, scale = stats.t.fit(residuals, floc=0)
    assert found.tails.degrees == pytest.approx(degrees, rel=1e-2)
    assert found.tails.scale == pytest.approx(scale, rel=1e-3)


def test_nothing_after_a_rows_own_session_is_used():
    learned = predictive.learn(HISTORY, CONFIG)
    table = TABLE.query("column == 150 + 5 * asset")
    rows = rows_of(table)
    before = predictive.simple(HISTORY, rows, learned, CONFIG)
    later = History(*(value.copy() if isinstance(value, np.ndarray) else value for value in HISTORY))
    for asset, column in zip(rows.asset, rows.column, strict=True):
        for values in later[:3]:
            values[asset, column + 1 :] = 5 * values[asset, column + 1 :] + 1
    after = predictive.simple(later, rows, learned, CONFIG)
    assert [value.tobytes() for value in after] == [value.tobytes() for value in before]
    later.log_return[1, 155] += 0.1
    later.ewma_variance[1, 155] *= 1.1
    changed = predictive.simple(later, rows, learned, CONFIG)
    for name, ours, theirs in list(zip(Simple._fields, changed, before, strict=True))[1:]:
        assert (ours != theirs).tolist() == [False, True, False], name


def test_what_is_learned_from_a_cut_history_is_the_same_whatever_follows():
    other = make_history()
    other.log_return[:, 201:] *= 3
    learned, same = (predictive.learn(windows.cut(history, 200), CONFIG) for history in (HISTORY, other))
    assert learned.label_mean == same.label_mean
    assert learned.coefficients.tobytes() == same.coefficients.tobytes()
    assert learned.label_mean != predictive.learn(HISTORY, CONFIG).label_mean


def test_an_asset_that_stood_still_tells_nothing_of_how_wrong_variances_are():
    still = make_history()
    still.log_return[2, 1:150] = 0.0
    still.ewma_variance[2] = features.ewma_variance(still.log_return[2])
    assert (still.ewma_variance[2, 66:150] == features.VARIANCE_FLOOR).all()
    learned = predictive.learn(still, CONFIG)
    table = by_pandas(still).query("asset != 2 or column >= 150")
    np.testing.assert_allclose(learned.coefficients, likeliest(table, learned.label_mean), rtol=1e-3, atol=1e-3)
    tails = predictive.simple_tails(still, learned, configured("ewma"))
    assert tails.scale < 2


def test_a_market_that_stands_still_leaves_ewma_as_it_is():
    still = HISTORY._replace(
        log_return=np.where(np.isfinite(HISTORY.log_return), 0.0, np.nan),
        ewma_variance=np.where(np.isfinite(HISTORY.ewma_variance), features.VARIANCE_FLOOR, np.nan),
    )
    assert predictive.learn(still, CONFIG).coefficients.tolist() == [0, 1, 0]


def test_no_known_label_is_refused():
    with pytest.raises(ValueError, match="no label of 5 sessions"):
        predictive.learn(make_history((5, 4, 3)), CONFIG)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_an_interval_is_that_of_scipys_distribution(coverage):
    mean, variance = np.array([0.01, -0.02, 0.0]), np.array([0.0004, 0.0025, 1.0])
    student = predictive.interval(Forecast(mean, variance, Tails(4.5, 0.8)), coverage)
    np.testing.assert_allclose(student, stats.t.interval(coverage, 4.5, mean, 0.8 * np.sqrt(variance)), rtol=1e-9)
    gaussian = predictive.interval(Forecast(mean, variance, GAUSSIAN), coverage)
    np.testing.assert_allclose(gaussian, stats.norm.interval(coverage, mean, np.sqrt(variance)), rtol=1e-9)


def held(history, found, rows, coverage):
    """Share of the rows' labels within their intervals."""
    lower, upper = predictive.interval(found, coverage)
    labels = windows.targets(history.log_return, H)[rows.asset, rows.column]
    assert np.isfinite(labels).all()
    return float(np.mean((labels >= lower) & (labels <= upper)))


@pytest.mark.parametrize("forecaster", ["vlstm", "ewma", "calibrated_ewma", "historical"])
def test_intervals_hold_the_share_of_past_outcomes_that_they_promise(forecaster):
    history, config = make_history((700, 700, 500), degrees=2.6), configured(forecaster)
    asset, column = np.nonzero(windows.training_samples(history, L, H) & (np.arange(700) >= 66 + H))
    rows = Rows(asset, column, column)
    if forecaster == "vlstm":
        model, _ = training.train(history, config, 0)
        found = mixtures.vlstm(model, history, rows, config)
    else:
        found = predictive.simple_forecast(history, rows, predictive.learn(history, config), config)
    assert held(history, found, rows, 0.9) == pytest.approx(0.9, abs=0.02)
    assert held(history, found, rows, 0.5) == pytest.approx(0.5, abs=0.03)
    # of a Gaussian with the same variance, the middle is too wide
    assert held(history, found._replace(tails=GAUSSIAN), rows, 0.5) > 0.6
