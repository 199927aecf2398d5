"""PRISM online gradient descent and its siblings: weights that climb an objective, one step a session.

Each session t moves the weights w on what the objective says of the window X (m, n) of the last m sessions' returns:

    g   = dF/dw,  F(w) = a1 Sortino - a2 MDD + ...           (the terms of `tasks.numerics.terms`)
    v   <- momentum v + lr_t g,   lr_t = lr_0 decay^t
    w   <- argmin 1/2 |w - (w_prev + v)|^2 + lr_t / (1 - momentum) (a3 sum |w - w_prev| + a4 sum |w|)  on the set

in the Euclidean geometry; 1 / (1 - momentum) is what heavy-ball momentum makes of a constant gradient in the long
run. Penalties on turnover and on the absolute sum enter by their proximal step: at w = w_prev the subgradient of the
first is 0, and on long weights that sum to 1 the second is constant, so that only `max_positions` makes these sparse.
In the geometry of entropy w <- w exp(v), normalised; with shorts both signs of each asset have a part (EG+-).
Instead of F a step may climb ln(1 + r) of the last session (exponentiated gradient) or r (hedge).

After that, in this order: no more than `max_positions` stay, the largest; where the step trades more than the ceiling
it goes only the fraction of the way that does not; and where the weights would break a limit on drawdown or
volatility over the last sessions, only the fraction that does not, found by bisection, since both sets are convex.
Weights that break a limit before the step get one without the Sortino ratio; where that does not mend it they are
scaled to cash, if the set has cash, or else kept and reported.

The guard multiplies what the strategy holds by clip(k (W - (1 - limit) M) / W, 0, 1): W is the wealth of its own
account, traded each session at lag 1 before costs, M its maximum over the last sessions.

An asset that the mask leaves out has weight and velocity 0 from then on. Its weight goes to the others first,
whatever the ceiling, which applies to the rest of the session's move. One that may be held anew starts at 0, or with
an equal share in the geometry of entropy, where 0 would be for ever.

A state may carry many lanes, each with a config of its own: the code is the same for one and for thousands. Results
are the same to the last bit whether a path is run at once, in pieces or with later sessions appended.

References: Zinkevich, Online convex programming and generalized infinitesimal gradient ascent, ICML 2003; Helmbold et
al., On-line portfolio selection using multiplicative updates, Mathematical Finance 8(4), 1998; Kivinen and Warmuth,
Exponentiated gradient versus gradient descent for linear predictors, Information and Computation 132(1), 1997 (EG+-);
Grossman and Zhou, Optimal investment strategies for controlling drawdowns, Mathematical Finance 3(3), 1993 (guard).
"""
# Shapes: m = sessions of the window, T = sessions of a run, n = assets, B = lanes.

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tasks.numerics import climbing, steps, terms
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS, OnlineConfig
from tasks.numerics.steps import BoolArray, FloatArray, Path, State

Configs = OnlineConfig | Sequence[OnlineConfig]

ACCOUNT = 252  # values of the guard's account that a state keeps
TERMS_AT_ONCE = 12  # of all lanes together; one number, so that the kernel is compiled once
_OBJECTIVES = {"window": climbing.WINDOW, "log_wealth": climbing.LOG_WEALTH, "linear": climbing.LINEAR}
_NAMES = {  # of a lane's numbers in its config, where they differ
    "entropy": "geometry",
    "invested": "fully_invested",
    "positions": "max_positions",
    "turnover": "turnover_weight",
    "l1": "l1_weight",
    "ceiling": "turnover_ceiling",
    "gross": "gross_limit",
}
_numbers = attrgetter(*(_NAMES.get(name, name) for name in steps.LANE.names))


def init(mask: BoolArray, config: Configs) -> State:
    """Equal weights over the assets that `mask` (n,) allows, as far as the set admits them; no velocity, t = 0.

    Several configs give a state with as many lanes. ValueError when the mask allows no asset.
    """
    if not mask.any():
        raise ValueError(f"mask allows none of {mask.size} assets; it must allow at least one")
    lanes, single = _lanes(config)
    weights, parts = np.zeros((lanes.size, mask.size)), np.zeros((lanes.size, mask.size))
    for place, lane in enumerate(lanes):
        count = mask.sum() + (lane["entropy"] and not lane["invested"])  # cash, too, has a share in that geometry
        total = 1.0 if lane["invested"] else min(1.0, lane["gross"])
        weights[place, mask] = total / count
        if _has_parts(lane):
            parts[place, mask] = (lane["gross"] - weights[place].sum()) / (2 * mask.sum())
    lately = np.zeros((lanes.size, 2, mask.size))
    state = State(
        weights, np.zeros_like(weights), parts, lately, np.ones((lanes.size, ACCOUNT)), np.zeros(lanes.size, np.int64)
    )
    return State(*(part[0] for part in state)) if single else state


def with_reset(state: State, config: Configs) -> State:
    """The state at the start of a block: t = 0 in the lanes whose config resets the learning rate; all else stays."""
    _, single = _lanes(config)
    resets = [entry.lr_reset == "block" for entry in ([config] if single else config)]
    return state._replace(t=np.where(resets[0] if single else resets, 0, state.t))


def sessions_needed(config: Configs) -> int:
    """Sessions of returns, the newest included, that a step may look at."""
    configs = [config] if isinstance(config, OnlineConfig) else config
    return max(max(c.window, c.limit_window if c.drawdown_limit or c.volatility_limit else 0) for c in configs)


def objective(
    weights: FloatArray,
    window: FloatArray,
    config: OnlineConfig,
    risk_free: FloatArray | None = None,
    factors: Mapping[str, FloatArray] | None = None,
) -> float:
    """F(w) of weights (n,) held through the simple returns `window` (m, n); see `run` for the rest."""
    return _evaluated(weights, window, config, risk_free, factors)[0]


def gradient(
    weights: FloatArray,
    window: FloatArray,
    config: OnlineConfig,
    risk_free: FloatArray | None = None,
    factors: Mapping[str, FloatArray] | None = None,
) -> FloatArray:
    """dF/dw (n,), exact; of several equal drawdowns the first counts, and without one its gradient is 0."""
    return _evaluated(weights, window, config, risk_free, factors)[1]


def step(
    state: State,
    window: FloatArray,
    mask: BoolArray,
    config: Configs,
    risk_free: FloatArray | None = None,
    factors: Mapping[str, FloatArray] | None = None,
) -> State:
    """One session: `run` with T = 1, on window (m, n) and mask (n,)."""
    return run(state, window, mask[None, :], config, risk_free, factors)[0]


def run(
    state: State,
    returns: FloatArray,
    mask: BoolArray,
    config: Configs,
    risk_free: FloatArray | None = None,
    factors: Mapping[str, FloatArray] | None = None,
) -> tuple[State, Path]:
    """T sessions in a row; each sees the returns that end with it, as many as its windows hold and are there.

    `returns` is (P + T, n), simple, 0 where there is none, with P sessions before the first step: `sessions_needed`
    less 1, or all there are. `mask` is (T, n), True where an asset may be held. `risk_free` (P + T,) is the return of
    cash, None the constant of the configs' page, and `factors` returns (P + T,) by name, NaN where unknown. The state
    has lanes where several configs are given, one for each.

    ValueError for shapes that do not match, a return that is not finite, a session whose mask allows no asset, more
    than 12 different terms, and what `terms.chosen` refuses.
    """
    lanes, single = _lanes(config)
    begun = _begun(state, lanes, single)
    _check(begun, returns, mask, lanes.size)
    rows, cash = _excess(returns, risk_free)
    named, longest = factors or {}, int(lanes["window"].max())
    market = rows, cash, _matrix(named, len(rows)), np.array(mask)
    functions, *numbers = _terms(config, named)
    path = _empty_path(mask, lanes.size)
    steps.run(begun, *market, lanes, longest, functions, *numbers, path)
    if single:
        return State(*(part[0] for part in begun)), Path(*(part[0] for part in path))
    return begun, Path(*(part.swapaxes(0, 1) for part in path))


def _begun(state: State, lanes: Any, single: bool) -> State:
    """The state with lanes, to be moved in place: copies of all that these lanes change."""
    kept = set() if (lanes["guard_limit"] > 0.0).any() else {"lately", "account"}
    kept |= set() if lanes["entropy"].any() else {"parts"}

    def part_of(name: str, values: Any) -> Any:
        part = np.asarray(values)[None] if single else np.asarray(values)
        return np.require(part, requirements="CW") if name in kept else np.array(part, order="C")

    return State(**{name: part_of(name, values) for name, values in state._asdict().items()})


def _lanes(config: Configs) -> tuple[Any, bool]:
    """The configs as records (B,), and whether there is only one, without lanes."""
    single = isinstance(config, OnlineConfig)
    configs = [config] if single else config
    columns = dict(zip(steps.LANE.names, zip(*map(_numbers, configs), strict=True), strict=True))
    columns["objective"] = [_OBJECTIVES[name] for name in columns["objective"]]
    columns["entropy"] = [name == "entropy" for name in columns["entropy"]]
    lanes = np.empty(len(configs), steps.LANE)
    for name, column in columns.items():
        lanes[name] = column
    default = 1.0 / np.maximum(lanes["guard_limit"], 1e-9)
    lanes["guard_multiple"] = np.where(lanes["guard_multiple"], lanes["guard_multiple"], default)
    return lanes, single


def _terms(config: Configs, factors: Mapping[str, FloatArray]) -> tuple[Any, FloatArray, FloatArray]:
    """The compiled terms of all lanes, with each lane's weights (B, 12) and settings (B, 12, p)."""
    configs = [config] if isinstance(config, OnlineConfig) else config
    alike: dict[tuple[Any, ...], list[int]] = {}  # lanes of a sweep mostly seek the same
    for lane, entry in enumerate(configs):
        alike.setdefault(terms.sought(entry), []).append(lane)
    chosen = [(lanes, terms.chosen(configs[lanes[0]], tuple(factors))) for lanes in alike.values()]
    names = list(dict.fromkeys(term.name for _, entries in chosen for term in entries))
    if len(names) > TERMS_AT_ONCE:
        raise ValueError(f"{len(names)} terms have a weight; at most {TERMS_AT_ONCE} can be combined")
    scales = np.zeros((len(configs), TERMS_AT_ONCE))
    settings = np.zeros((len(configs), TERMS_AT_ONCE, max(2, len(factors))))
    for lanes, entries in chosen:
        for term in entries:
            place = names.index(term.name)
            scales[lanes, place] = term.weight
            settings[lanes, place, : len(term.settings)] = term.settings
    functions = [terms.compiled(terms.TERMS[name]) for name in names]
    return tuple(functions + [terms.compiled(terms.nothing)] * (TERMS_AT_ONCE - len(names))), scales, settings


def _matrix(factors: Mapping[str, FloatArray], count: int) -> FloatArray:
    """Factor returns (sessions, f)."""
    wrong = [name for name, values in factors.items() if np.shape(values) != (count,)]
    if wrong:
        raise ValueError(f"factor {wrong[0]} has shape {np.shape(factors[wrong[0]])}; it must be ({count},)")
    return np.array([factors[name] for name in factors], np.float64).reshape(-1, count).T.copy()


def _empty_path(mask: BoolArray, lanes: int) -> Path:
    flags = lanes, len(mask)
    return Path(np.empty((*flags, mask.shape[1])), np.ones(flags), np.zeros(flags, bool), np.zeros(flags, bool))


def _check(state: State, returns: FloatArray, mask: BoolArray, lanes: int) -> None:
    """Raise ValueError for shapes that do not match and sessions without an asset."""
    n = state.weights.shape[-1]
    fits = returns.ndim == mask.ndim == 2 and returns.shape[1] == mask.shape[1] == n
    if not fits or not 1 <= len(mask) <= len(returns) or state.weights.shape != (lanes, n):
        raise ValueError(
            f"returns {returns.shape}, mask {mask.shape}, weights {state.weights.shape} and {lanes} configs do not "
            "match; they must be (P + T, n), (T, n) and (n,), or a row of weights for each of several configs"
        )
    if not mask.any(axis=1).all():
        raise ValueError(f"mask allows no asset in row {mask.any(axis=1).argmin()}; each session needs at least one")


def _excess(returns: FloatArray, risk_free: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Returns in excess of cash (S, n), contiguous, and cash (S,).

    Always copies: read-only arrays, too, would be another type to the compiled code.
    """
    bad = ~np.isfinite(returns)
    if bad.any():
        row, asset = np.argwhere(bad)[0]
        raise ValueError(
            f"returns is {returns[row, asset]} in row {row}, column {asset}; give 0 and mask the asset out"
        )
    cash = np.full(len(returns), RISK_FREE / TRADING_DAYS) if risk_free is None else np.array(risk_free, np.float64)
    if cash.shape != (len(returns),) or not np.isfinite(cash).all():
        raise ValueError(
            f"risk_free has shape {cash.shape} and {np.isfinite(cash).sum()} finite values; it must be "
            f"({len(returns)},), a number for each session of the returns"
        )
    return np.ascontiguousarray(np.asarray(returns, np.float64) - cash[:, None]), cash


def _has_parts(lane: Any) -> bool:
    """Whether short parts are kept: EG+-."""
    return bool(lane["entropy"] and min(lane["short_each"], lane["short_total"]) > 0)


def _evaluated(
    weights: FloatArray,
    window: FloatArray,
    config: OnlineConfig,
    risk_free: FloatArray | None,
    factors: Mapping[str, FloatArray] | None,
) -> tuple[float, FloatArray]:
    """F and dF/dw."""
    if window.ndim != 2 or window.shape[1] != weights.size:
        raise ValueError(
            f"returns has shape {window.shape}; it must be (sessions, {weights.size}), one for each weight"
        )
    rows, cash = _excess(window, risk_free)
    functions, scales, settings = _terms(config, factors or {})
    held, by_return, direct = np.array(weights, np.float64), np.zeros(len(rows)), np.zeros(weights.size)
    seen = rows @ held + cash, cash, held, _matrix(factors or {}, len(rows))
    value = climbing.value(*seen, functions, scales, settings, 0, by_return, direct)
    return value, rows.T @ by_return + direct
