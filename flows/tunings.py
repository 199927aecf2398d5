"""The terminal's words on studies and sweeps: their best trials, and how to use them."""

import json
from typing import Any

from flows import display
from flows import parameters as forms
from storage.store import Store

_SHOWN = 10
_MEASURES = ("sharpe", "annual_return", "annual_volatility", "max_drawdown", "turnover", "costs")


def study(store: Store, name: str, as_json: bool) -> None:
    """The trials of a study, the best first."""
    from tasks import tune

    rows = tune.read(store, name)
    trials, best = [_plain(row) for row in rows], tune.best(rows)
    if as_json:
        found = None if best is None else _plain(best)
        display.document({"study": name, "terms": tune.terms(rows), "best": found, "trials": trials})
        return
    trials.sort(key=_rank)
    choices = list(forms.flat(trials[0]["config"]))
    body = [_line(trial, choices) for trial in trials[:_SHOWN]]
    columns = ["trial", "state", "NLL", "years", *(choice.partition(".")[2] for choice in choices)]
    display.table(body, columns, f"Study {name}: the best of {len(trials)} trials")
    if best is not None:
        display.say_line(f"\nuse the best with --params tuned:{name}, in run, backfill, judge and plan")


def sweep(store: Store, name: str, as_json: bool) -> None:
    """The trials of a sweep, the best first, and what choosing the best of them is worth."""
    from tasks import trials as ledger
    from tasks import tune

    rows = tune.read(store, name)
    grid = [field for field, _ in tune.terms(rows)["grid"]]
    trials = [_swept(row, grid) for row in rows]
    family = ledger.families(store, [rows[0]["family"]]).get(rows[0]["family"])
    luck = {"hurdle": family and family.hurdle, "overfitting": ledger.overfitting_of(store, name)}
    if as_json:
        display.document({"sweep": name, "terms": tune.terms(rows), **luck, "trials": trials})
        return
    trials.sort(key=lambda trial: (-(trial["sharpe"] if trial["sharpe"] is not None else -1e9), trial["trial"]))
    columns = ["trial", *grid, *_MEASURES]
    body = [[_short(trial[column]) for column in columns] for trial in trials[:_SHOWN]]
    display.table(body, columns, f"Sweep {name}: the best of {len(trials)} configs, out of sample and after costs")
    sharpes = sorted(trial["sharpe"] for trial in trials if trial["sharpe"] is not None)
    if sharpes:
        middle = sharpes[len(sharpes) // 2]
        display.say_line(
            f"\nSharpe ratios from {sharpes[0]:.2f} over {middle:.2f} to {sharpes[-1]:.2f}: the best of "
            f"{len(trials)} is partly luck. Use it with --params tuned:{name}, in run, backfill and plan"
        )
    if family is not None:
        display.say_line(
            f"the best of the {family.trials} trials of {rows[0]['family']} so far would reach {luck['hurdle']:.2f} "
            "were all of them worthless"
        )
    if luck["overfitting"] is not None:
        display.say_line(
            f"the best in one half of the sessions is no better than the middle of all in the other half "
            f"in {100 * luck['overfitting']:.0f} % of ways to halve them (PBO)"
        )


def _swept(row: dict[str, Any], grid: list[str]) -> dict[str, Any]:
    (config,) = json.loads(row["config"]).values()
    return {"trial": row["number"]} | {field: config[field] for field in grid} | json.loads(row["measures"])


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _rank(trial: dict[str, Any]) -> tuple[bool, float, int]:
    """Completed trials by value, then the others by how far they came."""
    unfinished = trial["value"] is None
    return unfinished, -len(trial["steps"]) if unfinished else trial["value"], trial["number"]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """What a person wants of a trial."""
    kept = ("number", "state", "value", "steps", "sessions")
    return {name: row[name] for name in kept} | {"config": json.loads(row["config"])}


def _line(trial: dict[str, Any], choices: list[str]) -> list[Any]:
    chosen, value = forms.flat(trial["config"]), trial["value"]
    shown = None if value is None else f"{value:.5f}"
    return [trial["number"], trial["state"], shown, len(trial["steps"]), *(chosen[choice] for choice in choices)]
