"""What a person fills in for a run: the same schema in the terminal, in files, and in the form of the UI.

Composes the configs of the mathematics. Everything here is part of a scenario and of its keys; dates and
places (`as_of`, `months`, `path`, the store) are arguments of the flows instead.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.grids import grid_of
from storage import universe
from storage.errors import InputError
from tasks.numerics.configs import (
    EXPONENTIATED_GRADIENT,
    HEDGE,
    MIRROR_DESCENT,
    OGD_CONSERVATIVE,
    OGD_LEVERAGED,
    OGD_LONG_SHORT,
    OGD_LONG_WINDOW,
    AccountingConfig,
    BaselineConfig,
    CalibrationConfig,
    CovarianceConfig,
    ExpertsConfig,
    FeatureConfig,
    FitnessConfig,
    ForecastConfig,
    Forecaster,
    LossConfig,
    OnlineConfig,
    ReturnDrawdownConfig,
    SectorConfig,
    TrainingConfig,
    TunedConfig,
    VLSTMConfig,
)

Rebalance = Literal["D", "M", "Q"]
Strategy = Literal[
    "return_drawdown",
    "ogd_long_window",
    "ogd_conservative",
    "ogd_leveraged",
    "ogd_long_short",
    "exponentiated_gradient",
    "mirror_descent",
    "hedge",
    "sector_ogd",
    "experts",
    "ogd_tuned",
    "equal_weight",
    "risk_parity",
    "minimum_variance",
    "hierarchical_risk_parity",
    "maximum_sharpe",
    "index",
]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
DEFAULT_STRATEGIES: tuple[Strategy, ...] = (
    "return_drawdown",
    "ogd_long_window",
    "ogd_conservative",
    "equal_weight",
    "index",
)
ONLINE = STRATEGIES[1:8]
FIXED = ("equal_weight", "index")
MONTH = r"\d{4}-(0[1-9]|1[0-2])"
Values = dict[str, Any]
_SHOWN = 100  # characters of a wrong value
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class Parameters(BaseModel):
    """All that decides a scenario's weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["sample", "yahoo", "files"] = Field(
        "sample",
        description="Where prices come from: the embedded sample (20 US stocks, 1990-2022), Yahoo, or your own files.",
    )
    universe: str = Field(
        "",
        description="A universe that comes with PRISM or a CSV file; empty: sample20, prism109 for Yahoo, or all "
        "tickers of your files.",
        json_schema_extra={"examples": universe.names()},
    )
    index: str = Field("", description="Ticker of the index; empty: the universe's own, if it has one.")
    currency: str = Field("", description="Currency of the results, like USD; empty: the first asset's.")
    risk_free: str = Field(
        "", description="Ticker of a risk-free rate, like ^IRX or a column of --rates; empty: 2 % a year, constant."
    )
    factors: tuple[str, ...] = Field((), description="Tickers of factors, funds or columns of --rates.")
    publish: str = Field(
        "return_drawdown",
        description="The strategy whose weights are the weights: one of strategies, or of your own.",
        json_schema_extra={"examples": list(STRATEGIES)},
    )
    strategies: tuple[Strategy, ...] = Field(DEFAULT_STRATEGIES, description="Strategies and baselines to run.")
    own: dict[str, str] = Field(
        {},
        description="Strategies of your own: a name, and the dotted path of a module with init and step, or allocate.",
    )
    rebalance: Rebalance = Field(
        "M",
        description="Trade at the close of the first session of each month (M), of each quarter (Q), or of every "
        "session (D).",
    )
    rebalance_offset: int = Field(
        0,
        ge=0,
        le=20,
        description="Sessions after the first of the month or quarter at which is traded, with the data up to the "
        "session before; in a shorter month on its last one.",
    )
    features: FeatureConfig = Field(FeatureConfig(), description="What the forecaster sees.")
    network: VLSTMConfig = Field(VLSTMConfig(), description="Shape of the Variational LSTM.")
    loss: LossConfig = Field(LossConfig(), description="Terms of the training loss.")
    training: TrainingConfig = Field(TrainingConfig(), description="How models are trained and refreshed.")
    forecast: ForecastConfig = Field(ForecastConfig(), description="How forecasts are drawn.")
    calibration: CalibrationConfig = Field(
        CalibrationConfig(), description="What past outcomes of forecasts change in allocations."
    )
    covariance: CovarianceConfig = Field(CovarianceConfig(), description="Correlation of recent returns.")
    return_drawdown: ReturnDrawdownConfig = Field(ReturnDrawdownConfig(), description="The return-drawdown optimiser.")
    ogd_long_window: OnlineConfig = Field(OGD_LONG_WINDOW, description="Online gradient descent, long window.")
    ogd_conservative: OnlineConfig = Field(OGD_CONSERVATIVE, description="Online gradient descent, conservative.")
    ogd_leveraged: OnlineConfig = Field(OGD_LEVERAGED, description="Online gradient descent with leverage and cash.")
    ogd_long_short: OnlineConfig = Field(OGD_LONG_SHORT, description="Online gradient descent, long and short.")
    exponentiated_gradient: OnlineConfig = Field(
        EXPONENTIATED_GRADIENT, description="Multiplicative weights that climb the logarithm of wealth."
    )
    mirror_descent: OnlineConfig = Field(
        MIRROR_DESCENT, description="Multiplicative weights that climb the objective of online gradient descent."
    )
    hedge: OnlineConfig = Field(HEDGE, description="Multiplicative weights that climb the last session's return.")
    sector_ogd: SectorConfig = Field(SectorConfig(), description="One allocator among sectors, one within each.")
    experts: ExpertsConfig = Field(ExpertsConfig(), description="Aggregation of the other strategies.")
    ogd_tuned: TunedConfig = Field(TunedConfig(), description="The setting of a grid that did best, each January.")
    baselines: BaselineConfig = Field(BaselineConfig(), description="What the optimised baselines look at.")
    begin: str = Field(
        "",
        description="First month, like 2015-01, of strategies whose dates depend on each other and on forecasts "
        "(experts, a turnover limit); empty: the first with a forecast.",
        json_schema_extra={"pattern": f"^({MONTH})?$"},
    )
    accounting: AccountingConfig = Field(AccountingConfig(), description="What trading and holding cost.")
    fitness: FitnessConfig = Field(FitnessConfig(), description="Weights of the fitness score.")

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        names = (*self.strategies, *self.own)
        if self.publish not in names:
            raise ValueError(f"publish is {self.publish!r}; it must be one of strategies {list(names)}")
        if self.begin and not re.fullmatch(MONTH, self.begin):
            raise ValueError(f"begin is {self.begin!r}; it must be a month like 2015-01")
        for name in self.own:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in STRATEGIES:
                raise ValueError(
                    f"own names a strategy {name!r}; use lower-case letters, digits and _, and no name that PRISM has"
                )
        _check_made_of(self)
        if self.rebalance == "D" and self.rebalance_offset:
            raise ValueError(
                f"rebalance is 'D' and rebalance_offset {self.rebalance_offset}; every session is traded: set "
                "rebalance_offset to 0"
            )
        if len(set(self.strategies)) != len(self.strategies):
            raise ValueError(f"strategies {list(self.strategies)} repeat a name; name each once")
        if self.forecast.gate and self.calibration.gate_allocation:
            raise ValueError(
                "forecast.gate and calibration.gate_allocation are both true, and each corrects the forecasts by "
                "the same past dates; set one of them to false"
            )
        if self.return_drawdown.horizon != self.features.horizon:
            raise ValueError(
                f"return_drawdown.horizon is {self.return_drawdown.horizon} and features.horizon "
                f"{self.features.horizon}; the optimiser must cover what the forecast covers: make them equal"
            )
        return self

    @property
    def forecaster(self) -> Forecaster:
        """The configs that a forecast depends on."""
        return Forecaster(self.features, self.network, self.loss, self.training, self.forecast)

    @property
    def schedule(self) -> str:
        """Which sessions trade, as `rebalance_sessions` names it: `M`, or `M+5` with an offset."""
        return f"{self.rebalance}+{self.rebalance_offset}" if self.rebalance_offset else self.rebalance

    @property
    def online(self) -> dict[str, OnlineConfig]:
        """The online configs by strategy, whether it is run or not."""
        return {name: getattr(self, name) for name in ONLINE}

    def values(self) -> Values:
        """Plain JSON values, as they are stored and compared."""
        return self.model_dump(mode="json")


def _check_made_of(parameters: Parameters) -> None:
    """Refuse strategies made of another one that is no strategy that may be that."""
    known = [*ONLINE, *parameters.own, "equal_weight"]
    for level in ("outer", "inner"):
        name = getattr(parameters.sector_ogd, level)
        if name not in known:
            raise ValueError(f"sector_ogd.{level} is {name!r}; it must be one of {known}")
    if parameters.ogd_tuned.base not in ONLINE:
        raise ValueError(f"ogd_tuned.base is {parameters.ogd_tuned.base!r}; it must be one of {list(ONLINE)}")
    try:
        grid_of(parameters.ogd_tuned.grid.split(";"))
    except InputError as error:
        raise ValueError(f"ogd_tuned.grid is none: {error}") from error


def make(values: Values) -> Parameters:
    """Parameters from plain values; raises InputError with one sentence for each value that breaks a rule."""
    _check_truths(values)
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        raise InputError("; ".join(_sentence(problem) for problem in error.errors())) from error


def _check_truths(values: Values) -> None:
    """Refuse true and false for a number, which pydantic would take for 1 and 0."""
    numbers = {name for name, value in _defaults().items() if type(value) in (int, float)}
    wrong = [name for name, value in flat(values).items() if isinstance(value, bool) and name in numbers]
    if wrong:
        raise InputError(f"{wrong[0]}: Input should be a valid number, neither true nor false")


@cache
def _defaults() -> Values:
    """The default of every parameter by dotted name."""
    return flat(Parameters().values())


def _sentence(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(place, names(), n=1, cutoff=0.4)
        return f"there is no parameter {place!r}" + (f"; did you mean {near[0]}?" if near else "; see `prism params`")
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = repr(problem["input"])
    given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]} ..."
    return f"{place}: {message} (got {given})" if place and problem["type"] != "value_error" else message


def merged(base: Values, given: Values) -> Values:
    """`base` with the values given, nested ones one by one; None is nothing given."""
    result = dict(base)
    for name, value in given.items():
        nested = isinstance(value, dict) and isinstance(result.get(name), dict)
        if value is not None:
            result[name] = merged(result[name], value) if nested else value
    return result


def over(own: Parameters, given: Parameters | Values | None) -> Parameters:
    """The parameters meant where a scenario has its `own`: all of them, or the values given and otherwise its own.

    Raises InputError with one sentence for each value that breaks a rule.
    """
    return given if isinstance(given, Parameters) else make(merged(own.values(), given or {}))


def flat(values: Values, prefix: str = "") -> Values:
    """Nested values by dotted name."""
    result: Values = {}
    for name, value in values.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def difference(before: Values, after: Values) -> str:
    """What differs, as `name before -> after`, for messages."""
    old, new = flat(before), flat(after)
    changed = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{name} {old.get(name)!r} -> {new[name]!r}" for name in changed)


def names() -> list[str]:
    """Dotted names of all parameters."""
    return list(_defaults())


def nested(name: str, value: Any) -> Values:
    """`{"a": {"b": value}}` from the dotted name `a.b`."""
    first, _, rest = name.partition(".")
    return {first: nested(rest, value) if rest else value}


def described() -> list[dict[str, Any]]:
    """Every parameter by dotted name: default, range or choices, help."""
    rows, defaults = [], Parameters()
    for name, entry in Parameters.model_fields.items():
        value = getattr(defaults, name)
        if is_dataclass(value):
            hints = get_type_hints(type(value))
            rows += [
                _described(f"{name}.{f.name}", getattr(value, f.name), hints[f.name], f.metadata) for f in fields(value)
            ]
        else:
            rows.append(_described(name, value, entry.annotation, {"description": entry.description}))
    return rows


def _described(name: str, default: Any, hint: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    choices = [str(choice) for choice in get_args(hint) if choice is not ...] if get_origin(hint) is Literal else []
    limits = [f"{sign} {metadata[limit]}" for limit, sign in _SIGNS.items() if limit in metadata]
    return {"name": name, "default": default, "range": " | ".join(choices) or ", ".join(limits)} | {
        "help": metadata["description"]
    }
