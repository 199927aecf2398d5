"""The ledger of trials: what was looked at before something was chosen, and what that takes off a Sharpe ratio.

A trial is a distinct (family, config, universe, start) whose out-of-sample returns were computed in this store: a
strategy of any scenario's backtest, or one config of a sweep. The family is the strategy's name, its config every
parameter that its weights come from, and what trading costs is none of them. The start stands for the period: a record
that only grows by months is the same trial, with one row for each year in which it was computed, so that no row ever
changes and the newest one's Sharpe ratio is at most a year old. A scenario that was amended is a trial of its own, by
all configs and universes that it went through. Baselines choose nothing and are none; trials of the forecaster are
judged on likelihoods, have no returns, and count for no strategy. Nothing deletes a trial.

How many trials a family has changes whenever someone looks, so the deflated Sharpe ratio is no part of a stored result:
it is computed when it is shown, from the stored ratio, its error, and the ledger as it then stands.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage import blobs, clock, tables
from storage.keys import digest, to_json
from storage.ledger import Decision
from storage.schemas import TABLES
from storage.store import Store
from tasks.numerics import inference, overfitting
from tasks.numerics.configs import BASELINES, RISK_FREE, TRADING_DAYS

OBJECTIVE = "sharpe"
MEASURES = ("sharpe", "annual_return", "annual_volatility", "max_drawdown", "turnover", "costs")
_NETWORK = ("network", "loss", "training")  # sections of the parameters that only one forecaster has
Values = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """The trials of one strategy's name."""

    trials: int
    variance: float  # of their Sharpe ratios of a session, ddof 1; 0 for a single one

    @property
    def hurdle(self) -> float:
        """Annual Sharpe ratio to expect of the best of so many worthless trials."""
        return float(np.sqrt(TRADING_DAYS)) * inference.expected_maximum(self.trials, self.variance)


def configuration(family: str, terms: Sequence[tuple[Any, str]], start: date) -> str:
    """Hash that names a trial: its family, its configs with their universes in order, and its first as-of date."""
    return digest([family, list(terms), start])


def terms_of(strategy: str, months: Sequence[Decision]) -> list[tuple[Values, str]]:
    """The configs and universes that a strategy's weights come from, in order, each once for as long as it held."""
    made = [
        (config_of(strategy, m.record.get("parameters", {}), m.record.get("code", {})), m.record["universe"])
        for m in months
    ]
    return [entry for place, entry in enumerate(made) if not place or entry != made[place - 1]]


def config_of(strategy: str, parameters: Values, code: Mapping[str, str]) -> Values:
    """The parameters that a strategy's weights come from; of one of one's own, its source."""
    later = parameters.get("rebalance_offset", 0)
    found: Values = {"rebalance": f"{parameters.get('rebalance', 'M')}{f'+{later}' if later else ''}"}
    if strategy == "return_drawdown":
        names = ["features", "forecast", "covariance", "return_drawdown"]
        if parameters.get("forecast", {}).get("forecaster") == "vlstm":
            names += _NETWORK
        if parameters.get("return_drawdown", {}).get("turnover_limit", 1) < 1:
            names.append("begin")
        return found | {name: parameters.get(name) for name in names}
    if strategy == "experts":
        others = [*parameters.get("strategies", ()), *parameters.get("own", ())]
        followed = {name: config_of(name, parameters, code) for name in others if name not in ("experts", "index")}
        return found | {"experts": parameters.get("experts"), "begin": parameters.get("begin"), "followed": followed}
    if strategy == "ogd_tuned":
        config = parameters.get(strategy) or {}
        names = (strategy, config.get("base", ""), "fitness", "accounting")
        return found | {name: parameters.get(name) for name in names}
    if strategy == "sector_ogd":
        config = parameters.get("sector_ogd") or {}
        levels = {level: config_of(config[level], parameters, code) for level in ("outer", "inner") if level in config}
        return found | {"sector_ogd": config, "levels": levels}
    if strategy in parameters.get("own", {}):
        return found | {"own": parameters["own"][strategy], "source": code.get(f"own.{strategy}")}
    return found | {strategy: parameters.get(strategy)}


def of_backtest(
    store: Store,
    strategy: str,
    months: Sequence[Decision],
    daily_return: NDArray[np.float64],
    measures: Mapping[str, float],
    code: str,
) -> None:
    """Record a strategy's backtest over the months, unless it is a baseline or its trial has a row of that year.

    `daily_return` (S,) and `measures` are those of its account; `code` is the hash of the source that made them.
    """
    if strategy in BASELINES:
        return
    terms = terms_of(strategy, months)
    start, end = months[0].as_of, months[-1].as_of
    named = configuration(strategy, terms, start)
    key = digest(["trial", named, end.year])
    if tables.existing(store, "trials", [key]):
        return
    newest, universe = terms[-1]
    row = {"key": key, "study": f"scenario:{months[-1].scenario}", "number": 0, "family": strategy}
    row |= {"config": to_json({strategy: newest}), "terms": to_json({"rebalance": newest["rebalance"]})}
    row |= {"configuration": named, "code": code, "universe": universe, "start_date": start, "end_date": end}
    row |= {"returns": keep_returns(store, [daily_return]), **of_lane(daily_return, measures)}
    tables.put(store, "trials", pa.Table.from_pylist([row], TABLES["trials"].schema))


def of_lane(daily_return: NDArray[np.float64], measures: Mapping[str, float]) -> Values:
    """The columns of a trial that say what its account (S,) came to."""
    ratio = measures["sharpe"] / np.sqrt(TRADING_DAYS)
    shown = {name: value if np.isfinite(value) else None for name, value in measures.items() if name in MEASURES}
    found = {"state": "complete" if np.isfinite(ratio) else "failed", "objective": OBJECTIVE, "steps": []}
    found |= {"value": shown[OBJECTIVE], "daily_sharpe": float(ratio) if np.isfinite(ratio) else None}
    return found | {"sessions": daily_return.size, "measures": to_json(shown), "created_at": clock.now()}


def keep_returns(store: Store, series: Iterable[NDArray[np.float64]]) -> str:
    """Id of a blob with daily returns, one column a trial, by its number."""
    sink = io.BytesIO()
    pq.write_table(pa.table({str(k): values for k, values in enumerate(series)}), sink, compression="zstd")
    return blobs.put(store, sink.getvalue())


def families(store: Store, names: Iterable[str]) -> dict[str, Family]:
    """The trials of each family, by the newest row of each; a family without any is left out."""
    columns = ["family", "configuration", "end_date", "created_at", "daily_sharpe"]
    rows = tables.read(store, "trials", columns, family=list(names)).to_pylist()
    newest: dict[str, dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: (row["end_date"], row["created_at"])):
        if row["daily_sharpe"] is not None:
            newest.setdefault(row["family"], {})[row["configuration"]] = row["daily_sharpe"]
    return {
        name: Family(len(ratios), float(np.var([*ratios.values()], ddof=1)) if len(ratios) > 1 else 0.0)
        for name, ratios in newest.items()
    }


def deflated(store: Store, measured: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """What the ledger makes of each strategy's measures, baselines left out.

    By strategy: `trials` of its family, the `sharpe_hurdle` that the best of them would reach by luck (annual), and
    `dsr`, the probability that the strategy's true ratio is above it (None where its own ratio is undefined). A record
    whose trial is not in the ledger counts as the family's first.
    """
    known = families(store, measured)
    found: dict[str, dict[str, float | None]] = {}
    for name, measures in measured.items():
        if name not in BASELINES:
            family = known.get(name, Family(1, 0.0))
            ratio, error = measures.get("sharpe"), measures.get("sharpe_error_iid")
            dsr = None if ratio is None or error is None else inference.probabilistic(ratio, error, family.hurdle)
            found[name] = {"trials": family.trials, "sharpe_hurdle": family.hurdle, "dsr": dsr}
    return found


def overfitting_of(store: Store, study: str) -> float | None:
    """PBO of a sweep's trials by their returns over 2 % a year; None for fewer than two, or too short a record."""
    rows = tables.read(store, "trials", ["number", "returns", "sessions"], study=study).to_pylist()
    if len(rows) < 2 or any(row["returns"] is None for row in rows):
        return None
    if rows[0]["sessions"] < 2 * overfitting.BLOCKS:
        return None
    kept = pd.read_parquet(io.BytesIO(blobs.get(store, rows[0]["returns"])))
    return overfitting.backtest_overfitting(kept.to_numpy() - RISK_FREE / TRADING_DAYS)
