"""What the report says of evidence, causes and sources, from rows made by hand."""

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage.ledger import Decision
from storage.universe import Member, Universe
from tasks.report import attributed, evidence, reasons
from tasks.report.contents import Contents

OWN, BASE = "return_drawdown", "equal_weight"
DAY = pd.Timestamp("2020-03-02")


def frame(columns, *rows):
    return pd.DataFrame(list(rows), columns=columns.split())


def compared(gap=0.2, needed=31.4, years=10.02, lower=-0.3, upper=0.7):
    named = {"sharpe_difference": (gap, lower, upper), "years_needed": (needed, np.nan, np.nan)}
    named |= {"years": (years, np.nan, np.nan)}
    rows = [(OWN, BASE, name, *values) for name, values in named.items()]
    return frame("strategy baseline name value lower upper", *rows)


def contents(**changed):
    days = pd.to_datetime(["2020-01-31", "2020-02-03"])
    wealth = [{"session": day, "strategy": name, "wealth": 1.0} for name in (OWN, BASE) for day in days]
    weights = [{"rebalance_date": DAY, "strategy": name, "ticker": "AAA", "weight": 1.0} for name in (OWN, BASE)]
    measured = {"sharpe": 1.02, "sharpe_error": 0.31, "sharpe_error_iid": 0.3, "psr": 0.9991}
    measured |= {"single_stocks_beaten_wealth": 0.75, "single_stocks_beaten_sharpe": 1.0}
    record = {"parameters": {"features": {"horizon": 21}}, "imported": None}
    tables = {
        "weights": pd.DataFrame(weights),
        "wealth": pd.DataFrame(wealth),
        "metrics": pd.DataFrame([{"strategy": OWN, "name": name, "value": value} for name, value in measured.items()]),
        "comparisons": compared(),
        "exposures": frame("strategy model factor kind session beta t alpha alpha_t r2"),
        "against": frame("strategy baseline excess_return information_ratio beta alpha alpha_t"),
        "contributions": frame("strategy ticker sector return_contribution risk_contribution average_weight"),
        "singles": frame("ticker cumulative_return", ("AAA", 0.1), ("BBB", 0.2)),
        "periods": frame("strategy kind period name value start_date end_date whole"),
        "changes": frame("strategy ticker part change"),
        "spread": frame("strategy ticker lowest highest"),
        "allocations": frame("strategy diagnostics"),
        "portfolio_forecasts": frame("strategy rebalance_date mean lower_90 upper_90"),
        "portfolio_judgements": frame("strategy name value error"),
    }
    reason = changed.pop("reason", None)
    record |= changed.pop("record", {})
    newest = Decision("main", DAY.date(), date(2020, 2, 28), "backfill", None, (), "", record, reason=reason)
    universe = Universe("two", (Member("AAA"), Member("BBB")))
    return Contents("main", OWN, newest, 1, universe, tables | changed)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (compared(), "10 years of results are not enough to tell Return drawdown from equal weights: it had a Sharpe "
                     "ratio 0.20 above that of equal weights, and if that gap is real it takes about 31 years to see "
                     "it at 95%."),
        (compared(gap=-0.5, needed=2.5), "10 years of results are enough to tell Return drawdown from equal weights at "
                                         "95%: it had a Sharpe ratio 0.50 below that of equal weights, which takes "
                                         "about 2.5 years to see, if nothing else had been tried."),
        (compared(gap=0.0, needed=np.nan, years=0.25), "3 months of results show Return drawdown and equal weights "
                                                       "alike, so they tell nothing about which is better."),
        (compared().iloc[:0], "There is no evidence yet whether Return drawdown is better than equal weights: nothing "
                              "was measured beside them."),
    ],
)  # fmt: skip
def test_the_first_sentence_says_what_the_record_can_tell(given, expected):
    assert evidence.sentence(contents(comparisons=given)) == expected


def test_sureness_counts_trials_of_the_ledger(store):
    own, base = evidence.table(store, contents())
    texts = [cell.text for cell in own.cells]
    assert texts[:6] == ["1.02", "0.31", "99.9%", "1", "0.00", "100.0%"]  # 1.02 / 0.3 is 3.4 errors
    assert texts[6:] == ["0.20 [\u22120.30, 0.70]", "31", "10.0"]
    assert [cell.text for cell in base.cells][3:] == ["\u2013"] * 6


def test_parts_of_a_change_stand_in_order_and_what_moves_nothing_is_left_out():
    rows = [(OWN, "AAA", part, value) for part, value in (("drift", 9.0), ("new data", 0.2), ("covariance", -0.05))]
    rows += [(OWN, "BBB", "new data", -0.3), (OWN, "BBB", "covariance", 0.0), (OWN, "CCC", "retraining", 1e-6)]
    found = contents(changes=frame("strategy ticker part change", *rows))
    heads, table = reasons.changes(found)
    assert heads == ["Change", "New data", "Covariance"]
    assert [(row.name, [cell.text for cell in row.cells]) for row in table] == [
        ("BBB", ["\u221230.00%", "\u221230.00%", ""]),
        ("AAA", ["+15.00%", "+20.00%", "\u22125.00%"]),
    ]
    spread = frame("strategy ticker lowest highest", (OWN, "AAA", 0.1, 0.4))
    heads, table = reasons.changes(contents(changes=found.tables["changes"], spread=spread))
    assert heads[-1] == "Each network alone"
    assert [row.cells[-1].text for row in table] == ["\u2013", "10.0% to 40.0%"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"status": "global", "gap": 0.0, "kkt": 2e-13, "local_maxima": 3}, "proven global optimum of 3 local maxima"),
        ({"status": "global", "gap": 0.0, "kkt": 0.0, "local_maxima": 1}, "proven global optimum: the gap"),
        ({"status": "constrained", "gap": 0.021}, "could be 2.1% better at most"),
        ({"status": "uncertified"}, "could not prove"),
    ],
)
def test_the_certificate_is_said_in_words(said, expected):
    found = contents(allocations=frame("strategy diagnostics", (OWN, json.dumps(said))))
    assert expected in reasons.certificate(found)


def test_reasons_that_were_recorded_are_shown():
    said = json.dumps({"reason": "risk parity: the forecaster was worse"})
    imported = {"imported": {"holdings": "ab" * 32, "date": "2020-02-28"}}
    found = contents(allocations=frame("strategy diagnostics", (OWN, said)), reason="amended: typo", record=imported)
    assert reasons.notes(found) == [
        "Risk parity: the forecaster was worse.",
        "Amended: typo.",
        "Trades start from the holdings imported for 2020-02-28 (abababababab).",
    ]
    assert reasons.notes(contents()) == []


def test_the_portfolio_as_a_whole_is_forecast_and_judged():
    row = (OWN, DAY, 0.012, -0.061, 0.083)
    found = contents(portfolio_forecasts=frame("strategy rebalance_date mean lower_90 upper_90", row))
    assert "return +1.2% over 21 sessions, with nine of ten outcomes between \u22126.1% and +8.3%" in reasons.outlook(
        found
    )
    assert reasons.outlook(contents()) is None
    rows = [(OWN, "covers_90", 0.832, 0.034), (OWN, "z_deviation", 1.2, 0.1), (OWN, "proxy_held", 1.0, np.nan)]
    judged = reasons.judged(contents(portfolio_judgements=frame("strategy name value error", *rows)))
    assert [cell.text for cell in judged[0].cells] == [
        "\u2013", "83.2% \u00b1 3.4%", "\u2013", "1.20", "100%", "\u2013", "\u2013", "\u2013",
    ]  # fmt: skip


def test_contributions_are_summed_by_sector_and_the_largest_assets_are_named():
    rows = [
        (OWN, "AAA", "Energy", 0.3, 0.6, 0.2),
        (OWN, "BBB", "Energy", -0.1, 0.3, 0.3),
        (OWN, "$CASH", "", 0.01, 0.1, 0.5),
    ]
    columns = "strategy ticker sector return_contribution risk_contribution average_weight"
    found = attributed.contributions(contents(contributions=frame(columns, *rows)))
    assert [(row.name, [cell.text for cell in row.cells]) for row in found["Sector"]] == [
        ("Energy", ["+20.0%", "90.0%", "50.0%"])
    ]
    assert [row.name for row in found["Asset"]] == ["AAA", "Cash", "BBB"]
    assert found["Asset"][0].cells[0].strength == 1.0


def test_exposures_name_the_richest_model_and_the_index_is_not_explained_by_itself():
    day = pd.Timestamp("2020-02-28")
    rows = [(OWN, "capm", "IDX", "whole", day, 0.8, 20.0, 0.15, 2.6, 0.38)]
    columns = "strategy model factor kind session beta t alpha alpha_t r2"
    heads, table = attributed.exposures(contents(exposures=frame(columns, *rows)))
    assert heads == ["Alpha a year", "Beta to IDX", "R\u00b2"]
    assert [cell.text for cell in table[0].cells] == ["+15.0% (t 2.6)", "0.80", "38%"]
    rows += [(OWN, "factors", "MOM", "whole", day, -0.1, -1.0, 0.1, 1.0, 0.5)]
    heads, _ = attributed.exposures(contents(exposures=frame(columns, *rows)))
    assert heads[1] == "Beta to MOM"


def test_times_of_stress_hold_return_and_drawdown_of_every_strategy():
    first, last = pd.Timestamp("2020-02-19"), pd.Timestamp("2020-03-02")
    rows = [
        (OWN, "stress", "covid_2020", name, value, first, last, False)
        for name, value in (("return", -0.193), ("max_drawdown", 0.196))
    ]
    found = attributed.stress(
        contents(periods=frame("strategy kind period name value start_date end_date whole", *rows))
    )
    ((period, lines),) = found.items()
    assert period == "Covid 2020, 19 Feb 2020 to 02 Mar 2020, in part"
    assert [(row.name, row.cells[0].text) for row in lines] == [
        ("Return", "\u221219.30%"),
        ("Maximum drawdown", "19.60%"),
    ]


def test_kinds_of_market_stand_from_calm_to_wild_and_those_without_sessions_are_left_out():
    day = pd.Timestamp("2020-03-02")
    rows = [
        (OWN, "regime", period, name, value, day, day, True)
        for period, values in {"high_below": (40, -0.1, -1.5), "low_above": (100, 0.2, 2.0)}.items()
        for name, value in zip(("sessions", "return", "sharpe"), values, strict=True)
    ]
    columns = "strategy kind period name value start_date end_date whole"
    found = attributed.regimes(contents(periods=frame(columns, *rows)))
    assert list(found) == [
        "Low volatility, above its mean level, 100 sessions",
        "High volatility, below its mean level, 40 sessions",
    ]
    assert [(row.name, row.cells[0].text) for row in found["High volatility, below its mean level, 40 sessions"]] == [
        ("Return", "\u221210.00%"),
        ("Sharpe ratio a year", "\u22121.50"),
    ]


def test_the_share_of_single_stocks_beaten_is_one_sentence():
    assert attributed.singles(contents()) == (
        "Return drawdown earned more than 75% of the 2 single stocks that could be bought and held instead, and had a "
        "higher Sharpe ratio than 100% of them."
    )
