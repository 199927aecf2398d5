"""Every number of the mathematics that a person may choose, in one torch-free page.

Each dataclass belongs to one piece of mathematics, is frozen, and checks itself when it is made: the
limits stand beside the field, in its metadata, under the names that forms and JSON Schema use (`ge`, `le`,
`gt`, `lt`, `description`), so that the terminal, the form and the code refuse the same values.

Values enter every cache key; this file's source does not. It therefore holds no formula.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

TRADING_DAYS = 252  # sessions a year, by convention
RISK_FREE = 0.02  # annual; every ratio and account uses it unless configured otherwise


def option(default: Any, description: str, **limits: float) -> Any:
    """A field of a config: its default, what it means, and its limits (`ge`, `gt`, `le`, `lt`)."""
    return field(default=default, metadata={"description": description, **limits})


_RULES = {
    "ge": (lambda value, limit: value >= limit, "at least"),
    "gt": (lambda value, limit: value > limit, "above"),
    "le": (lambda value, limit: value <= limit, "at most"),
    "lt": (lambda value, limit: value < limit, "below"),
}


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
            for name, (holds, words) in _RULES.items():
                if name in entry.metadata and not holds(value, entry.metadata[name]):
                    raise ValueError(f"{entry.name} is {value!r}; it must be {words} {entry.metadata[name]}")


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
        "fp32", "Arithmetic of the network; bf16 only pays where the processor has it."
    )


@dataclass(frozen=True)
class ForecastConfig(Config):
    """How a forecast is drawn, and handed to the allocators."""

    forecaster: Literal["vlstm", "ewma", "calibrated_ewma", "historical", "files"] = option(
        "vlstm",
        "The Variational LSTM; EWMA volatility, as it is or calibrated with the long-run one; each asset's own past; "
        "or forecasts of your own.",
    )
    draws: int = option(32, "Latent draws per network.", ge=1, le=4096)
    mean_units: Literal["simple", "log"] = option(
        "simple",
        "Hand allocators the expected simple return (mean + variance/2), or the log mean as the document does.",
    )
    mean_shrink: float = option(1.0, "Weight of the forecast mean against the pooled historical mean.", ge=0, le=1)
    gate: bool = option(
        False, "Shrink the network's correction where it was worse than EWMA over its last 24 months with outcomes."
    )


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
    shrinkage: Literal["ledoit_wolf", "none"] = option(
        "ledoit_wolf", "Ledoit-Wolf towards constant correlation, or the document's sample correlation."
    )


@dataclass(frozen=True)
class ReturnDrawdownConfig(Config):
    """Objective of the return-drawdown optimiser."""

    alpha: float = option(0.2, "Weight of the expected return beside return over drawdown.", ge=0, le=100)
    horizon: int = option(21, "Sessions that the drawdown proxy covers.", ge=1, le=252)
    sigma_horizon: Literal[1, 21] = option(
        1, "Sessions that the forecast volatility is taken to cover: 1 is the document literally, 21 the sane unit."
    )
    drawdown_floor: float = option(1e-4, "Smallest value of the drawdown proxy.", gt=0, le=0.1)


@dataclass(frozen=True)
class OGDConfig(Config):
    """One PRISM online gradient descent strategy."""

    learning_rate: float = option(0.01, "Step size at the start of a block.", gt=0, le=10)
    momentum: float = option(0.8, "Share of the last step's velocity that is kept.", ge=0, lt=1)
    decay: float = option(0.997, "Factor on the step size, each session.", gt=0, le=1)
    lr_reset: Literal["block", "never"] = option(
        "block", "Start the decay again each January, or never, as the document does (the steps then die out)."
    )
    window: int = option(90, "Sessions of returns in the objective.", ge=5, le=252)
    sortino_weight: float = option(1.0, "Weight of the Sortino ratio (a1).", ge=0)
    drawdown_weight: float = option(1.0, "Weight of the maximum drawdown (a2).", ge=0)
    turnover_weight: float = option(
        0.1, "Weight of the sum of absolute weight changes (a3), by its proximal step.", ge=0
    )
    turnover_ceiling: float = option(0.2, "Largest sum of absolute weight changes in a session.", gt=0, le=2)
    downside_floor: float = option(1e-4, "Added in quadrature to the downside deviation (epsilon).", gt=0, le=0.1)


@dataclass(frozen=True)
class AccountingConfig(Config):
    """What trading and holding cost."""

    lag: Literal[0, 1] = option(1, "Sessions between decision and trade; 0 only to compare with the documents.")
    cost: float = option(0.0005, "Cost of a trade, each side, as a fraction of its value.", ge=0, le=0.1)
    cash_rate: float = option(
        RISK_FREE, "Annual rate that positive cash earns where the universe names no series of it.", ge=-0.1, le=0.5
    )
    borrow_spread: float = option(0.01, "Annual rate above the cash rate that negative cash pays.", ge=0, le=0.5)
    short_rate: float = option(0.005, "Annual rate that short holdings pay.", ge=0, le=1)
    delisting_haircut: float = option(
        0.0, "Part of its last price that a holding loses when its asset is delisted.", ge=0, le=1
    )


OGD_LONG_WINDOW = OGDConfig()
OGD_CONSERVATIVE = OGDConfig(learning_rate=0.005, momentum=0.85)
