"""The terminal's words on forecasts: those of a month, and what those of many were worth."""

from typing import Any

from flows import display
from storage import scenarios
from storage.store import Store

_MEASURES = {
    "nll": ("NLL", "{:.4f}", 1),
    "crps": ("CRPS x 100", "{:.3f}", 100),
    "nll_with_tails": ("NLL, tails", "{:.4f}", 1),
    "covers_50": ("50 %", "{:.1f} %", 100),
    "covers_90": ("90 %", "{:.1f} %", 100),
    "covers_95": ("95 %", "{:.1f} %", 100),
    "pit_distance": ("PIT", "{:.3f}", 1),
    "rank_ic": ("rank IC", "{:+.3f}", 1),
    "rank_ic_error": ("error", "{:.3f}", 1),
    "sign_accuracy": ("sign", "{:.1f} %", 100),
}  # heading, format, factor
_DIFFERENCES = ("nll_difference", "nll_difference_by_quarter", "crps_difference", "crps_difference_by_quarter")


def forecasts(store: Store, scenario: str, month: str | None, as_json: bool, as_csv: bool) -> None:
    """Mean and variance forecast for the sessions after a month's as-of date."""
    decision = display.newest(store, scenario, month)
    as_of = decision["as_of"]
    terms = scenarios.at(scenarios.read(store, scenario), decision["rebalance_date"])
    sql = "SELECT * FROM forecasts WHERE as_of = ?"
    rows = display.select(store, scenario, f"{sql} ORDER BY ticker", as_of)
    if as_json or as_csv:
        display.show(rows, as_json, as_csv)
        return
    body = [
        [row["ticker"], f"{100 * row['mean']:.2f} %"]
        + [f"{100 * row[name] ** 0.5:.2f} %" for name in ("variance", "baseline_variance")]
        + [f"{100 * row[name]:+.1f} %" for name in ("lower_90", "upper_90")]
        for row in rows
    ]
    display.table(
        body,
        ["ticker", "mean", "volatility", "EWMA volatility", "90 % from", "to"],
        f"Next {terms.parameters['features']['horizon']} sessions, as forecast on {as_of}",
    )


def judgement(store: Store, scenario: str, key: str, as_json: bool) -> None:
    """What a judgement found."""
    sql = "SELECT * EXCLUDE (key, scenario) FROM raw.judgements WHERE key = ? ORDER BY kind, label, forecaster, name"
    rows = display.select(store, scenario, sql, key)
    if as_json:
        display.document({"scenario": scenario, "measures": rows})
        return
    whole = {(row["forecaster"], row["name"]): row for row in rows if row["kind"] == "all"}
    names = sorted({name for name, _ in whole}, key=lambda name: (name != "own", whole[name, "nll"]["value"]))
    body = [[name, *(_figure(whole.get((name, m)), m) for m in _MEASURES)] for name in names]
    first = rows[0]
    title = (
        f"Forecasts of every session, {first['start_date']} to {first['end_date']}, {whole['own', 'nll']['rows']} rows"
    )
    display.table(body, ["", *(heading for heading, _, _ in _MEASURES.values())], title)
    body = [[name, *(_difference(whole[name, m], m) for m in _DIFFERENCES)] for name in names if name != "own"]
    columns = ["own less", "NLL (95 %, HAC)", "by quarters", "CRPS x 100 (HAC)", "by quarters"]
    display.table(body, columns, "\nDifferences on the same rows: below 0, the forecaster that is judged is better")


_OF_PORTFOLIOS = {
    "bias": ("return less forecast", "{:+.2f} %", 100),
    "z_deviation": ("deviation in forecast volatilities", "{:.2f}", 1),
    "covers_90": ("within 90 % interval", "{:.1f} %", 100),
    "pit_distance": ("PIT", "{:.3f}", 1),
    "proxy_held": ("drawdown within proxy", "{:.1f} %", 100),
    "proxy_sane_held": ("drawdown within proxy, sane unit", "{:.1f} %", 100),
    "proxy_sane_ratio": ("drawdown over proxy, sane unit", "{:.2f}", 1),
}  # heading, format, factor


def portfolios(store: Store, scenario: str) -> None:
    """What the forecasts of the portfolios were worth, by strategy; nothing where none has an outcome yet."""
    sql = "SELECT strategy, name, value, error, rows FROM portfolio_judgements WHERE kind = 'all'"
    rows = display.select(store, scenario, sql)
    if not rows:
        return
    found = {(row["strategy"], row["name"]): row for row in rows}
    names = sorted({strategy for strategy, _ in found})
    body = [
        [heading, *(_with_error(found[strategy, name], form, factor) for strategy in names)]
        for name, (heading, form, factor) in _OF_PORTFOLIOS.items()
    ]
    dates = max(row["rows"] for row in rows)
    title = f"\nPortfolios over the horizon after each trade against their forecasts, {dates} dates (standard errors)"
    display.table(body, ["", *names], title)


def _with_error(row: dict[str, Any], form: str, factor: int) -> str | None:
    if row["value"] is None:
        return None
    said = form.format(factor * row["value"])
    return said if row["error"] is None else f"{said} ({form.format(factor * row['error']).lstrip('+')})"


def _figure(row: dict[str, Any] | None, name: str) -> str | None:
    if row is None or row["value"] is None:
        return None
    _, form, factor = _MEASURES[name]
    return form.format(factor * row["value"])


def _difference(row: dict[str, Any], name: str) -> str:
    factor = 100 if name.startswith("crps") else 1
    ends = ["?" if row[end] is None else f"{factor * row[end]:+.4f}" for end in ("lower", "upper")]
    interval = f"[{', '.join(ends)}]"
    return interval if name.endswith("by_quarter") else f"{factor * row['value']:+.4f} {interval}"
