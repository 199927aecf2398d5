"""Sections *features*, *forecast* and *backtest*: the mathematics of a stage beside how it is usually written.

    features    ours: `features.compute`, asset by asset, 16 years of 109 assets
                baseline: pandas over all assets at once, with `rolling`, `ewm` and `expanding`
                floor: the share of the time that copying the answer takes
    forecast    ours: `mixtures.vlstm` for one month of 109 assets, all networks and draws
                baseline: the plain torch transcription of *training*, a pass of the whole model for each draw, once
                with all windows in a batch and once window by window; an LSTM of a library, where it is installed
    backtest    ours: `accounting.simulate`, strategy by strategy, 120 months of 109 assets
                baseline: the same account in a loop over days, in numpy and in pandas; skfolio's walk-forward

Both sides compute the same, to rounding.
"""
# Shapes: A = assets, T = sessions, F = features, L = lookback, M = draws, J = latent dimensions, K = trades.

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from skfolio.model_selection import WalkForward, cross_val_predict
from skfolio.optimization import EqualWeighted
from torch import Tensor, nn

from tasks.numerics import accounting, mixtures, predictive, windows
from tasks.numerics import features as numerics
from tasks.numerics import training as learning
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig, FeatureConfig, Forecaster, VLSTMConfig
from tests.benchmarks import frame, peers, training
from tests.benchmarks.allocators import daily_returns
from tests.benchmarks.frame import Section

FloatArray = NDArray[np.float64]
Frame = pd.DataFrame

ASSETS, MONTHS, MONTH = 109, 120, 21
MILLISECONDS = "ms"


# --- features


def logs(assets: int, sessions: int) -> tuple[FloatArray, FloatArray]:
    """Log returns of assets (A, T) and of their market (T,), the first ones NaN."""
    simple = daily_returns(assets, sessions, 0)
    simple[0] = np.nan
    return np.log1p(simple).T.copy(), np.log1p(simple.mean(axis=1))


def computed(log_return: FloatArray, market: FloatArray, config: FeatureConfig) -> FloatArray:
    """Our features of all assets: (A, T, F)."""
    names = numerics.names(config, has_volume=False)
    series = [numerics.Series(own, None, None, None, None, market) for own in log_return]
    return np.stack([numerics.compute(own, names, config) for own in series])


def _variance(square: Frame, start: int) -> Frame:
    """EWMA variance, begun with the mean of the first `start` squares."""
    rest = square.iloc[start:].copy()
    rest.iloc[0] = square.iloc[1 : start + 1].mean()
    smooth = rest.ewm(alpha=1 - numerics.FAST_DECAY, adjust=False).mean()
    return smooth.clip(lower=numerics.VARIANCE_FLOOR).reindex(square.index)


def _gap(price: Frame, sigma: Frame, span: int) -> Frame:
    """Distance of the price from its EMA in units of volatility."""
    return (np.log(price / price.ewm(span=span, adjust=False).mean()) / (sigma * np.sqrt(span))).clip(-4, 4)


def _stochastic(close: Frame) -> Frame:
    """Stochastic momentum index of closes."""
    top, bottom = close.rolling(10, min_periods=1).max(), close.rolling(10, min_periods=1).min()
    distance, width = (
        values.ewm(span=5, adjust=False).mean().ewm(span=10, adjust=False).mean()
        for values in (close - (top + bottom) / 2, top - bottom)
    )
    return (distance / (width / 2)).where(width > 0, 0.0)


def in_pandas(log_return: FloatArray, market: FloatArray, config: FeatureConfig) -> FloatArray:
    """The same features over all assets at once: (A, T, F)."""
    own, common, lookback = Frame(log_return.T), pd.Series(market), config.lookback
    floor, root = numerics.VARIANCE_FLOOR, np.sqrt(lookback)
    level, square = own.fillna(0).cumsum(), own**2
    price, variance = np.exp(level), _variance(square, lookback)
    sigma = np.sqrt(variance)
    past, ever = square.rolling(lookback).mean(), square.expanding().mean()
    beta = own.rolling(lookback).cov(common).div(common.rolling(lookback).var().clip(lower=floor), axis=0)
    shared = 0.5 * np.log(TRADING_DAYS * _variance(common.to_frame() ** 2, lookback))
    found = [
        (level - level.rolling(lookback).mean()) / (sigma * root),
        (own / sigma).clip(-6, 6),
        0.5 * np.log(past.clip(lower=floor) / ever.clip(lower=floor)),
        0.5 * np.log(TRADING_DAYS * variance),
        *(
            (np.log(price / price.ewm(span=k, adjust=False).mean()) / (sigma * np.sqrt(k))).clip(-4, 4)
            for k in (20, 50)
        ),
        (beta - 1).clip(-3, 3),
        _stochastic(price),
        Frame(np.broadcast_to(shared.to_numpy(), own.shape)),
    ]
    out = np.stack([values.to_numpy().T for values in found], axis=2).astype(np.float32)
    out[:, :lookback] = np.nan
    return out


def features() -> Section:
    """16 years of all features."""
    name, given = "features", (*logs(ASSETS, 4000), FeatureConfig())
    answer = computed(*given)
    seconds = frame.interleaved(
        {"ours": lambda: computed(*given), "plain": lambda: in_pandas(*given), "copy": answer.copy}, 5
    )
    case = f"{answer.shape[2]} features of {ASSETS} assets x 4,000 sessions"
    share = seconds["copy"] / seconds["ours"]
    row = frame.cost(name, case, 1e3 * seconds["ours"], 1e3 * seconds["plain"], MILLISECONDS, share)
    notes = ("baseline: pandas over all assets at once; floor: the share of the time that copying the answer takes",)
    return Section(name, notes, (row,))


# --- forecast


def transcribed(model: learning.Model, config: Forecaster) -> list[training.Transcription]:
    """The model's networks as plain torch modules."""
    found = []
    for parameters in model.parameters:
        net = training.Transcription(model.feature_mean.size, config.network.hidden, config.network.latent)
        values = zip(net.state_dict(), parameters.values(), strict=True)  # the same, under names of its own
        net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values})
        found.append(net)
    return found


def inputs_of(model: learning.Model, known: windows.History, rows: predictive.Rows, lookback: int) -> Tensor:
    """The standardised windows of the rows, each an array of its own: (N, L, F)."""
    cut = np.stack([known.features[asset, at - lookback + 1 : at + 1] for asset, at in zip(*rows[:2], strict=True)])
    return torch.from_numpy(((cut - model.feature_mean) / model.feature_std).astype(np.float32))


@torch.inference_mode()
def drawn(nets: list[nn.Module], inputs: Tensor, noise: list[Tensor]) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the mixture, a pass of the model for each draw: noise (M, N, J) by network; two (N,)."""
    outputs = [net(inputs, draw)[:2] for net, draws in zip(nets, noise, strict=True) for draw in draws]
    means, logs = (torch.stack(values).double().numpy() for values in zip(*outputs, strict=True))
    return means.mean(axis=0), np.exp(logs).mean(axis=0) + means.var(axis=0)


def one_by_one(nets: list[nn.Module], inputs: Tensor, noise: list[Tensor]) -> tuple[FloatArray, FloatArray]:
    """The same, window by window."""
    parts = [
        drawn(nets, inputs[row : row + 1], [draws[:, row : row + 1] for draws in noise]) for row in range(len(inputs))
    ]
    means, variances = (np.concatenate(values) for values in zip(*parts, strict=True))
    return means, variances


def documents() -> Forecaster:
    """The default configs with the founding document's head and likelihood."""
    return Forecaster(network=VLSTMConfig(**training.DOCUMENT))


def forecast() -> Section:
    """One month of all assets."""
    torch.set_num_threads(1)
    name, config, share = "forecast", documents(), 10
    known = training.history((ASSETS, 600))
    rows = predictive.rows_at(known, 599, np.ones(ASSETS, bool), training.STAMP)
    models = {each: learning._untrained(known, each, training.STAMP) for each in (config, Forecaster())}
    nets, inputs = transcribed(models[config], config), inputs_of(models[config], known, rows, 66)
    noise = [torch.randn(config.forecast.draws, ASSETS, config.network.latent) for _ in nets]
    some = [draws[:, ::share] for draws in noise]
    seconds = frame.interleaved(
        {
            "document's head": lambda: mixtures.vlstm(models[config], known, rows, config),
            "default head": lambda: mixtures.vlstm(models[Forecaster()], known, rows, Forecaster()),
            "batch": lambda: drawn(nets, inputs, noise),
            "each": lambda: one_by_one(nets, inputs[::share], some),
        }
        | peers.forecast(known, Forecaster()),
        5,
    )
    each = seconds["each"] * ASSETS / len(inputs[::share])
    cases = {
        "document's head": ("document's head", seconds["batch"]),
        "document's head, window by window": ("document's head", each),
        "default head": ("default head", seconds["batch"]),
    }
    if peers.NAME in seconds:
        cases[f"default head, {peers.NAME}"] = ("default head", seconds[peers.NAME])
    found = tuple(
        frame.cost(name, case, 1e3 * seconds[ours], 1e3 * plain, MILLISECONDS) for case, (ours, plain) in cases.items()
    )
    notes = (
        f"a month of {ASSETS} assets, {len(nets)} networks x {config.forecast.draws} draws, one thread; ours cuts the "
        "windows, the baseline is given them",
        "baseline: a pass of the whole model for each draw; window by window: of every tenth asset, times ten",
        peers.note("the peer has as many networks, and draws as often from each of 21 sessions"),
    )
    return Section(name, notes, found)


# --- backtest


def by_day(rows: Iterable[Any], when: list[int], targets: Iterable[Any], config: AccountingConfig) -> list[float]:
    """Wealth at each close of the account of `accounting.simulate`, long only, all assets traded every day."""
    due, held, cash, wealth = dict(zip(when, targets, strict=True)), 0.0, 1.0, []
    for day, returns in enumerate(rows):
        if day > when[0]:
            held = held * (1 + returns)
            cash *= 1 + (config.cash_rate + (config.borrow_spread if cash <= 0 else 0)) / TRADING_DAYS
        worth = np.sum(held) + cash
        if day in due:
            worth -= config.cost * np.abs(due[day] * worth - held).sum()
            held = due[day] * worth
            cash = worth - held.sum()
        wealth.append(float(worth))
    return wealth


def rebalanced(strategies: int, months: int, assets: int) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Returns (T, A), the sessions of the trades (K,), and targets (strategies, K, A) that leave some cash."""
    when = MONTH * np.arange(months)
    targets = 0.95 * np.random.default_rng(0).dirichlet(np.ones(assets), (strategies, months))
    return daily_returns(assets, MONTH * months, 0), when, targets


def walked(returns: Frame) -> FloatArray:
    """Daily returns of equal weights by skfolio's walk-forward, a month at a time after a year."""
    cv = WalkForward(train_size=252, test_size=MONTH)
    return cross_val_predict(EqualWeighted(), returns, cv=cv).returns


def kept_equal(returns: FloatArray) -> FloatArray:
    """Daily returns of equal weights restored at each close at no cost, after a year."""
    own = returns[251:]
    targets = np.full(own.shape, 1 / own.shape[1])
    config = replace(AccountingConfig(), cost=0.0)
    return accounting.simulate(own, np.ones(own.shape, bool), np.arange(len(own)), targets, config).daily_return[1:]


def backtest() -> Section:
    """120 months of several strategies, and of one whose weights never change."""
    name, count, config = "backtest", 8, AccountingConfig()
    returns, when, targets = rebalanced(count, MONTHS, ASSETS)
    tradable, days = np.ones(returns.shape, bool), when.tolist()
    table = Frame(returns, pd.bdate_range("2011-01-03", periods=len(returns)))

    def in_frames(weights: FloatArray) -> list[float]:
        return by_day((row for _, row in table.iterrows()), days, map(pd.Series, weights), config)

    seconds = frame.interleaved(
        {
            "ours": lambda: [accounting.simulate(returns, tradable, when, each, config) for each in targets],
            "numpy": lambda: [by_day(returns, days, each, config) for each in targets],
            "pandas": lambda: in_frames(targets[0]),
            "equal": lambda: kept_equal(returns),
            "skfolio": lambda: walked(table),
        },
        3,
    )
    cases = {
        "numpy, by day": (seconds["ours"] / count, seconds["numpy"] / count),
        "pandas, by day": (seconds["ours"] / count, seconds["pandas"]),
        "equal weights, skfolio's walk-forward": (seconds["equal"], seconds["skfolio"]),
    }
    rows = tuple(frame.cost(name, case, 1e3 * ours, 1e3 * plain, MILLISECONDS) for case, (ours, plain) in cases.items())
    notes = (
        f"one strategy, {MONTHS} months of {ASSETS} assets, costs, drift and interest; ours also keeps trades, costs, "
        f"turnover and what could not be traded; mean of {count} strategies",
        "skfolio: weights restored every day at no cost, which is what it accounts; both give the same returns",
    )
    return Section(name, notes, rows)
