"""Every number of the mathematics that a person may choose, in one torch-free page.

Each dataclass belongs to one piece of mathematics, is frozen, and checks itself when it is made: the
limits stand beside the field, in its metadata, under the names that forms and JSON Schema use (`ge`, `le`,
`gt`, `lt`, `description`), so that the terminal, the form and the code refuse the same values.

Values enter every cache key; this file's source does not. It therefore holds no formula.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

TRADING_DAYS = 252  # sessions a year, by convention
RISK_FREE = 0.02  # annual; every ratio and account uses it unless configured otherwise
# portfolios that need no opinion, by name: what every strategy is compared with
OPTIMISED_BASELINES = ("risk_parity", "minimum_variance", "hierarchical_risk_parity", "maximum_sharpe")
BASELINES = ("equal_weight", *OPTIMISED_BASELINES, "index")


def option(default: Any, description: str, **limits: float) -> Any:
    """A field of a config: its default, what it means, and its limits (`ge`, `gt`, `le`, `lt`).

    `names` marks text like `a=1, b=2`, and `text` any other.
    """
    return field(default=default, metadata={"description": description, **limits})


_RULES = {
    "ge": (lambda value, limit: value >= limit, "at least"),
    "gt": (lambda value, limit: value > limit, "above"),
    "le": (lambda value, limit: value <= limit, "at most"),
    "lt": (lambda value, limit: value < limit, "below"),
}


def _check_names(field_name: str, value: str) -> None:
    try:
        named_numbers(value)
    except ValueError as error:
        raise ValueError(f"{field_name} is {value!r}; {error}") from error


@dataclass(frozen=True)
class Config:
    """Base of all configs: compares each value with the choices and limits of its field."""

    def __post_init__(self) -> None:
        """Raise ValueError that names the field, the value and the rule it broke."""
        hints = get_type_hints(type(self))
        for entry in fields(self):
            value, choices = getattr(self, entry.name), get_args(hints[entry.name])
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{entry.name} is {value}; it must be a finite number")
            if choices and value not in choices:
                raise ValueError(f"{entry.name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
            if "names" in entry.metadata:
                _check_names(entry.name, value)
            for name, (holds, words) in _RULES.items():
                if name in entry.metadata and not holds(value, entry.metadata[name]):
                    raise ValueError(f"{entry.name} is {value!r}; it must be {words} {entry.metadata[name]}")


def named_numbers(text: str) -> dict[str, float]:
    """Numbers by name, from text like `Energy=0.1, Financials=0.3`; empty text has none.

    ValueError, with the part that is wrong, for anything else and for a name given twice.
    """
    found: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, sign, number = (piece.strip() for piece in part.rpartition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not sign or not name or name in found or not math.isfinite(value):
            raise ValueError(f"{part.strip()!r} is not of the form name=number with a name of its own")
        found[name] = value
    return found


@dataclass(frozen=True)
class FeatureConfig(Config):
    """What the forecaster sees of each asset and session."""

    features: Literal["scaled", "document"] = option(
        "scaled", "Feature set: everything in volatility units, or the list of the founding document made scale-free."
    )
    lookback: int = option(66, "Sessions in an input window, and in each trailing statistic.", ge=20, le=504)
    horizon: int = option(21, "Sessions ahead that a forecast covers.", ge=1, le=126)


@dataclass(frozen=True)
class VLSTMConfig(Config):
    """Shape of the Variational LSTM."""

    head: Literal["residual", "document"] = option(
        "residual",
        "Forecast the return in units of its own EWMA volatility, or the return itself as the document does.",
    )
    hidden: int = option(32, "Units of the encoder and of the decoder's hidden layer.", ge=4, le=1024)
    latent: int = option(8, "Latent dimensions (the document has 16).", ge=1, le=256)
    likelihood: Literal["gaussian", "student_t"] = option(
        "student_t", "Distribution that the two outputs describe; the document's is gaussian, whose tails are lighter."
    )
    degrees: float = option(6.0, "Degrees of freedom of the student_t likelihood.", gt=2, le=200)


@dataclass(frozen=True)
class LossConfig(Config):
    """Weights of the three terms of the training loss."""

    kl_weight: float = option(0.02, "Weight of the Kullback-Leibler term (beta).", ge=0, le=10)
    direction_weight: float = option(0.5, "Weight of the penalty on a forecast of the wrong sign.", ge=0, le=10)
    recency: float = option(2.0, "Decay of a sample's weight over the training set's age (lambda).", ge=0, le=20)
    kl_warmup: int = option(0, "Epochs over which the weight of the Kullback-Leibler term rises from 0.", ge=0, le=1000)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How models are trained and refreshed. Threads and precision change bytes, so they are here."""

    epochs: int = option(4, "Passes over all past sessions when a block's model is trained.", ge=1, le=10_000)
    refresh_epochs: int = option(1, "Further passes when it is refreshed for a later month of the block.", ge=0, le=100)
    ensemble: int = option(3, "Networks trained from different seeds; their forecasts are pooled.", ge=1, le=32)
    seed: int = option(0, "Seed of initialisation, chunk offsets, batches and draws.", ge=0)
    learning_rate: float = option(2e-3, "AdamW's learning rate.", gt=0, le=1)
    schedule: Literal["cosine", "constant"] = option(
        "cosine", "Let the learning rate fall to 0 along a cosine over all epochs, or keep it."
    )
    weight_decay: float = option(1e-3, "AdamW's decoupled weight decay.", ge=0, le=1)
    clip_norm: float = option(1.0, "Largest norm of a gradient.", gt=0)
    chunk: int = option(63, "Windows that one pass of the encoder yields.", ge=1, le=504)
    batch: int = option(64, "Chunks in a batch.", ge=1, le=8192)
    minimum_sessions: int = option(504, "Training sessions below which a block is not trained.", ge=1)
    years: int = option(0, "Years of 252 sessions before the as-of date that train; 0: all of them.", ge=0, le=100)
    patience: int = option(
        0, "Epochs without a better validation before training ends early; 0: always all epochs.", ge=0, le=1000
    )
    validation_sessions: int = option(
        252, "Newest sessions kept for validation where patience is not 0.", ge=21, le=2520
    )
    threads: int = option(1, "Threads of one training; another number gives other bytes.", ge=1, le=256)
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "Arithmetic of the network; bf16 only where the processor has it, elsewhere fp32 all the same."
    )


@dataclass(frozen=True)
class ForecastConfig(Config):
    """How a forecast is drawn, and handed to the allocators."""

    forecaster: Literal["vlstm", "ewma", "calibrated_ewma", "historical", "files"] = option(
        "vlstm",
        "The Variational LSTM; EWMA volatility, as it is or calibrated with the long-run one; each asset's own past; "
        "or forecasts of your own.",
    )
    draws: int = option(32, "Latent draws per network; 0: the mean of the latent code alone.", ge=0, le=4096)
    mean_units: Literal["simple", "log"] = option(
        "simple",
        "Hand allocators the expected simple return (mean + variance/2), or the log mean as the document does.",
    )
    mean_shrink: float = option(1.0, "Weight of the forecast mean against the pooled historical mean.", ge=0, le=1)
    volatility: Literal["forecast", "ewma"] = option(
        "forecast", "Keep the network's variance, or put EWMA's in its place, which leaves only its mean."
    )
    gate: bool = option(
        False, "Shrink the network's correction where it was worse than EWMA over its last 24 months with outcomes."
    )


@dataclass(frozen=True)
class CalibrationConfig(Config):
    """Whether allocators get forecasts as they are, or by what their last known outcomes say of them."""

    gate_allocation: bool = option(
        False,
        "Rescale forecast volatilities by their recent coverage error, and let return_drawdown hold risk parity where "
        "the forecaster was worse than EWMA.",
    )
    window: int = option(24, "Newest monthly dates with known outcomes that are looked at.", ge=12, le=240)
    minimum: int = option(12, "Dates with known outcomes below which nothing is changed.", ge=1, le=12)
    coverage: float = option(0.9, "Probability of the central intervals that are to hold.", ge=0.5, le=0.99)
    prior: float = option(
        6.0, "Dates that the factor's pull towards 1 is worth; 0: the factor that the past asks for.", ge=0, le=1000
    )
    lowest_factor: float = option(0.5, "Smallest factor on volatilities.", gt=0, le=1)
    highest_factor: float = option(2.0, "Largest factor on volatilities.", ge=1, le=10)


@dataclass(frozen=True)
class Forecaster:
    """All configs that a forecast depends on."""

    features: FeatureConfig = FeatureConfig()
    network: VLSTMConfig = VLSTMConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    forecast: ForecastConfig = ForecastConfig()


@dataclass(frozen=True)
class CovarianceConfig(Config):
    """How the correlation of recent returns is estimated."""

    sessions: int = option(60, "Sessions of daily log returns, the as-of session included.", ge=10, le=126)
    shrinkage: Literal["ledoit_wolf", "none", "ewma", "identity"] = option(
        "ledoit_wolf",
        "Ledoit-Wolf towards constant correlation, the document's sample correlation, exponential weights, or no "
        "correlation at all.",
    )
    ewma_decay: float = option(
        0.97, "Weight of a session relative to the next one, where shrinkage is ewma.", gt=0, le=1
    )


@dataclass(frozen=True)
class ReturnDrawdownConfig(Config):
    """Objective and constraints of the return-drawdown optimiser."""

    method: Literal["slsqp", "exact", "document"] = option(
        "slsqp",
        "SLSQP on the support of the certified optimum and started there, that optimum as it is, or SLSQP from equal "
        "weights as the document runs it.",
    )
    alpha: float = option(0.2, "Weight of the expected return beside return over drawdown.", ge=0, le=100)
    horizon: int = option(21, "Sessions that the drawdown proxy covers.", ge=1, le=252)
    sigma_horizon: Literal[1, 21] = option(
        1, "Sessions that the forecast volatility is taken to cover: 1 is the document literally, 21 the sane unit."
    )
    drawdown_floor: float = option(1e-4, "Smallest value of the drawdown proxy.", gt=0, le=0.1)
    max_weight: float = option(1.0, "Largest weight of an asset; 1: no cap.", gt=0, le=1)
    max_sector_weight: float = option(1.0, "Largest weight of a sector; 1: no cap.", gt=0, le=1)
    sector_caps: str = option(
        "", "Caps of single sectors in place of that, like Energy=0.1, Financials=0.3.", names=True
    )
    min_weight: float = option(0.0, "Smallest position: a weight is 0 or at least this.", ge=0, le=0.5)
    turnover_limit: float = option(
        1.0,
        "Largest turnover (half the sum of absolute changes) from the holdings of the month before; 1: none.",
        gt=0,
        le=1,
    )

    def __post_init__(self) -> None:
        """Raise ValueError also for a limit where the document's method has none."""
        super().__post_init__()
        names = ("max_weight", "max_sector_weight", "sector_caps", "min_weight", "turnover_limit")
        limits = [name for name in names if getattr(self, name) != getattr(type(self), name)]
        if self.method == "document" and limits:
            raise ValueError(
                f"{limits[0]} is {getattr(self, limits[0])!r} and method 'document', which knows no limits; leave it "
                "as it is, or set method to 'slsqp'"
            )


@dataclass(frozen=True)
class BaselineConfig(Config):
    """What risk parity, minimum variance, hierarchical risk parity and the maximum of the Sharpe ratio look at."""

    sessions: int = option(
        252, "Sessions of daily simple returns, the as-of session included; fewer where there are.", ge=20, le=2520
    )
    shrinkage: Literal["ledoit_wolf", "none"] = option(
        "ledoit_wolf", "Covariance shrunk by Ledoit-Wolf towards constant correlation, or the sample's."
    )
    mean: Literal["sample", "shrunk"] = option(
        "sample", "Mean returns of maximum_sharpe: the sample's, or shrunk to their common mean by Bayes-Stein."
    )


@dataclass(frozen=True)
class OnlineConfig(Config):
    """One online strategy: what it climbs, how, within which set and limits."""

    objective: Literal["window", "log_wealth", "linear"] = option(
        "window",
        "What a step climbs: the terms below over the window, or the logarithm of the last session's wealth "
        "(exponentiated gradient), or its return (hedge).",
    )
    geometry: Literal["euclidean", "entropy"] = option(
        "euclidean", "Steps add to the weights and are projected, or multiply the weights and are normalised."
    )
    learning_rate: float = option(0.01, "Step size at the start of a block.", gt=0, le=10)
    momentum: float = option(0.8, "Share of the last step's velocity that is kept.", ge=0, lt=1)
    decay: float = option(0.997, "Factor on the step size, each session.", gt=0, le=1)
    lr_reset: Literal["block", "never"] = option(
        "block", "Start the decay again each January, or never, as the document does (the steps then die out)."
    )
    window: int = option(90, "Sessions of returns in the objective.", ge=5, le=504)
    expected_return: Literal["mean", "exponential"] = option(
        "mean", "Expected return of the window: its mean, or with weights that halve every half_life sessions."
    )
    half_life: float = option(63.0, "Half-life in sessions of exponential weights.", gt=0, le=2520)
    sortino_weight: float = option(1.0, "Weight of the Sortino ratio (a1).", ge=0)
    drawdown_weight: float = option(1.0, "Weight of the maximum drawdown (a2).", ge=0)
    turnover_weight: float = option(
        0.1, "Weight of the sum of absolute weight changes (a3), by its proximal step.", ge=0
    )
    l1_weight: float = option(
        0.05,
        "Weight of the sum of absolute weights (a4), by its proximal step; it is constant, hence without effect, "
        "where weights are long only and sum to 1.",
        ge=0,
    )
    return_weight: float = option(0.0, "Weight of the expected return a session (a5).", ge=0)
    cvar_weight: float = option(0.0, "Weight of the conditional value at risk a session (a6).", ge=0)
    cvar_level: float = option(0.95, "Level of the conditional value at risk.", gt=0.5, lt=1)
    factor_weight: float = option(
        0.0,
        "Weight of the squared distances of the betas from their targets (a7), on the universe's factors, or on the "
        "market where it has none.",
        ge=0,
    )
    factor_targets: str = option(
        "", "Target betas, like MTUM=0.5, VLUE=0; market=1 without factors; else 0.", names=True
    )
    concentration_weight: float = option(
        0.0, "Weight of the distance of the number of effective positions from its range (a8).", ge=0
    )
    effective_minimum: float = option(1.0, "Least number of effective positions that is free.", ge=1)
    effective_maximum: float = option(1000.0, "Largest number of effective positions that is free.", ge=1)
    volatility_weight: float = option(0.0, "Weight of the annualised volatility (a9).", ge=0)
    extra_terms: str = option(
        "",
        "Further terms with their weights, like cdar=-0.5, or of your own, by dotted path: mine.skewness=0.1.",
        names=True,
    )
    downside_floor: float = option(1e-4, "Added in quadrature to the downside deviation (epsilon).", gt=0, le=0.1)
    turnover_ceiling: float = option(0.2, "Largest sum of absolute weight changes in a session.", gt=0, le=10)
    fully_invested: bool = option(True, "Weights sum to 1; otherwise the rest is cash, or debt.")
    gross_limit: float = option(1.0, "Largest sum of absolute weights.", gt=0, le=10)
    short_each: float = option(0.0, "Largest short weight of an asset.", ge=0, le=10)
    short_total: float = option(0.0, "Largest sum of short weights.", ge=0, le=10)
    drawdown_limit: float = option(0.0, "Largest drawdown of the weights over limit_window; 0: none.", ge=0, lt=1)
    volatility_limit: float = option(0.0, "Largest annualised volatility of the weights over it; 0: none.", ge=0)
    limit_window: int = option(252, "Sessions over which limits are kept and the guard looks.", ge=5, le=252)
    guard_limit: float = option(
        0.0, "Drawdown of the strategy's own account at which the guard has sold everything; 0: no guard.", ge=0, lt=1
    )
    guard_multiple: float = option(
        0.0, "Exposure for each part of wealth above the guard's floor; 0: 1 / guard_limit, all at the peak.", ge=0
    )
    max_positions: int = option(0, "Largest number of assets held; 0: any.", ge=0)
    max_trade: float = option(
        0.0, "Largest sum of absolute weight changes from one rebalance date to the next; 0: any.", ge=0
    )

    def __post_init__(self) -> None:
        """Raise ValueError also where values contradict each other."""
        super().__post_init__()
        shorts = min(self.short_each, self.short_total) > 0
        if self.fully_invested and self.gross_limit < 1:
            raise ValueError(
                f"gross_limit is {self.gross_limit} and fully_invested true; weights that sum to 1 need at least 1"
            )
        if self.effective_minimum > self.effective_maximum:
            raise ValueError(
                f"effective_minimum is {self.effective_minimum}; it must be at most effective_maximum, "
                f"{self.effective_maximum}"
            )
        if self.geometry == "entropy" and (self.turnover_weight or self.l1_weight):
            raise ValueError(
                "geometry is 'entropy', which has no proximal steps; set turnover_weight and l1_weight to 0"
            )
        if self.geometry == "entropy" and self.max_positions:
            raise ValueError(
                f"max_positions is {self.max_positions} and geometry 'entropy', where every weight is above 0; set "
                "max_positions to 0, or geometry to 'euclidean'"
            )
        bounds_more = min(self.short_each, self.short_total) < self.gross_limit
        if self.geometry == "entropy" and shorts and (self.fully_invested or bounds_more):
            raise ValueError(
                "geometry is 'entropy' with short weights, which bounds only their absolute sum; set fully_invested "
                f"to false and short_each and short_total to gross_limit, {self.gross_limit}, or shorts to 0"
            )


@dataclass(frozen=True)
class SectorConfig(Config):
    """One allocator among sectors, whose returns are those of the weights within them, and one within each."""

    outer: str = option(
        "ogd_long_window", "Online strategy, one of your own, or equal_weight among the sectors.", text=True
    )
    inner: str = option("ogd_long_window", "The same within each sector.", text=True)
    max_sector_weight: float = option(1.0, "Largest weight of a sector; 1: no cap.", gt=0, le=1)


@dataclass(frozen=True)
class TunedConfig(Config):
    """An online strategy whose setting is chosen anew each January, by what each had earned by then."""

    base: str = option("ogd_long_window", "Online strategy whose config the grid varies.", text=True)
    grid: str = option(
        "learning_rate=0.001,0.003,0.01,0.03,0.1; momentum=0,0.8; window=90,126,252",
        "Values of its fields, as in a sweep, with ; between fields: every combination is a setting.",
        text=True,
    )
    years: int = option(0, "Years of 252 sessions of each setting's record that are rated; 0: all of it.", ge=0, le=100)
    minimum_sessions: int = option(
        252, "Sessions of record below which nothing is chosen and the base's own config is followed.", ge=63
    )


@dataclass(frozen=True)
class ExpertsConfig(Config):
    """Online aggregation of the other strategies by their returns after costs."""

    learning_rate: float = option(
        1.0, "Power of each strategy's wealth in its share; 1 lets every share run like money left in it.", gt=0, le=100
    )
    fixed_share: float = option(
        0.0, "Part of all shares that is divided equally again at each rebalance date.", ge=0, le=1
    )


@dataclass(frozen=True)
class AccountingConfig(Config):
    """What trading and holding cost."""

    lag: Literal[0, 1] = option(1, "Sessions between decision and trade; 0 only to compare with the documents.")
    costs: Literal["flat", "impact"] = option(
        "flat",
        "What a trade costs: cost (flat), or half the spread and what its size moves the price by (impact), for which "
        "the prices need high, low and volume.",
    )
    cost: float = option(
        0.0005, "Cost of a trade, each side, as a fraction of its value: where costs are flat.", ge=0, le=0.1
    )
    impact: float = option(
        1.0, "Of impact costs: what the square root of a trade's part of the volume is multiplied by.", ge=0, le=100
    )
    capital: float = option(
        1e6, "Of impact costs: value of the account when it opens, in the universe's currency.", gt=0, le=1e13
    )
    max_participation: float = option(
        0.1, "Of impact costs: largest part of an asset's average volume that a session takes.", gt=0, le=1
    )
    cash_rate: float = option(
        RISK_FREE, "Annual rate that positive cash earns where the universe names no series of it.", ge=-0.1, le=0.5
    )
    borrow_spread: float = option(0.01, "Annual rate above the cash rate that negative cash pays.", ge=0, le=0.5)
    short_rate: float = option(0.005, "Annual rate that short holdings pay.", ge=0, le=1)
    delisting_haircut: float = option(
        0.0, "Part of its last price that a holding loses when its asset is delisted.", ge=0, le=1
    )


@dataclass(frozen=True)
class FitnessConfig(Config):
    """Weights of the fitness score's parts, which rate a strategy's record; no weight of an asset depends on them."""

    sortino_weight: float = option(1.0, "Weight of the annual Sortino ratio (a1).", ge=0)
    return_weight: float = option(0.0, "Weight of the annual mean return (a5).", ge=0)
    drawdown_weight: float = option(1.0, "Weight of the deepest fall within a year (a2).", ge=0)
    turnover_weight: float = option(0.5, "Weight of the annual turnover (a3).", ge=0)
    concentration_weight: float = option(0.2, "Weight of the sum of squared shares of the positions (a4).", ge=0)
    factor_weight: float = option(
        0.0,
        "Weight of the distances of the betas from their targets (a7), on the universe's factors, or on the market "
        "where it has none.",
        ge=0,
    )
    factor_targets: str = option(
        "", "Target betas, like MTUM=0.5, VLUE=0; market=1 without factors; else 0.", names=True
    )
    instability_weight: float = option(
        0.0, "Weight of the standard deviation of the returns over 63 sessions (a9).", ge=0
    )


OGD_LONG_WINDOW = OnlineConfig()
OGD_CONSERVATIVE = OnlineConfig(learning_rate=0.005, momentum=0.85)
OGD_LEVERAGED = OnlineConfig(fully_invested=False, gross_limit=1.5)
OGD_LONG_SHORT = OnlineConfig(gross_limit=1.6, short_total=0.3, short_each=0.05)
_MULTIPLIED = OnlineConfig(
    geometry="entropy",
    learning_rate=0.05,
    momentum=0.0,
    decay=1.0,
    turnover_weight=0.0,
    l1_weight=0.0,
    turnover_ceiling=10.0,
)
EXPONENTIATED_GRADIENT = replace(_MULTIPLIED, objective="log_wealth")
HEDGE = replace(_MULTIPLIED, objective="linear")
MIRROR_DESCENT = replace(_MULTIPLIED, turnover_ceiling=0.2)
