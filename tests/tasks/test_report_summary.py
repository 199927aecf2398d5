"""What the report shows over time, its pictures, and its summary for Prefect, from results made by hand."""

import base64
import io
import struct
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage.ledger import Decision
from storage.schemas import CASH
from storage.universe import Member, Universe
from tasks.report import artifacts, listings, over_time, pictures
from tasks.report.contents import Contents

SESSIONS = pd.bdate_range("2020-01-01", periods=400)
DATES = pd.to_datetime(["2020-01-02", "2020-02-03", "2020-03-02"])
HELD = {
    "return_drawdown": [{"AAA": 0.5, "BBB": 0.5}, {"AAA": 1.0}, {"AAA": 0.25, "BBB": 0.25, CASH: 0.5}],
    "equal_weight": [{"AAA": 0.5, "BBB": 0.5}] * 3,
}
TRADED = {"return_drawdown": [1.0, 1.0, 0.75], "equal_weight": [1.0, 0.02, 0.01]}


def made(returns, held=HELD):
    """Contents of two strategies whose daily returns are given."""
    weights = [
        {"rebalance_date": day, "strategy": name, "ticker": ticker, "weight": weight}
        for name, books in held.items()
        for day, book in zip(DATES, books, strict=True)
        for ticker, weight in book.items()
    ]
    executions = [
        {"rebalance_date": day, "strategy": name, "trade": 2 * turnover}
        for name, values in TRADED.items()
        for day, turnover in zip(DATES, values, strict=True)
    ]
    wealth = []
    for name, daily in returns.items():
        values = np.cumprod(1 + np.r_[0.0, daily])
        table = {"session": SESSIONS[: values.size], "strategy": name, "wealth": values}
        table |= {"daily_return": np.r_[0.0, daily], "drawdown": 1 - values / np.maximum.accumulate(values)}
        wealth.append(pd.DataFrame(table))
    record = {"parameters": {"rebalance": "M", "accounting": {"cash_rate": 0.0252}}}
    newest = Decision("what|if", date(2020, 3, 2), date(2020, 2, 28), "backfill", None, (), "", record)
    members = (Member("AAA", "A & <b>Co</b>"), Member("BBB", "B|ig"))
    tables = {
        "weights": pd.DataFrame(weights),
        "executions": pd.DataFrame(executions),
        "wealth": pd.concat(wealth),
        "trades": pd.DataFrame({"ticker": ["AAA", "BBB"], "trade": [-0.75, 0.25], "cost": [4e-4, 1e-4]}),
        "forecasts": pd.DataFrame({"as_of": DATES, "ticker": "AAA", "mean": 0.01, "variance": 0.0025})
        .assign(as_of=pd.Timestamp("2020-02-28"), lower_90=-0.07, upper_90=0.09)
        .head(1),
        "metrics": pd.DataFrame(
            [
                {"strategy": name, "name": "sharpe", "value": value}
                for name, value in zip(HELD, (1.5, None), strict=True)
            ]
        ),
    }
    return Contents("what|if", "return_drawdown", newest, 3, Universe("two", members), tables)


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    return made({name: rng.normal(5e-4, 0.01, 399) for name in HELD})


def line(figure, name, axis):
    return next(t for t in figure["data"] if t["name"] == name and t.get("yaxis", "y") == axis)


def test_the_rolling_ratio_is_that_of_the_last_year_of_sessions(contents):
    own = contents.wealth_of("return_drawdown")["daily_return"].to_numpy()[-252:]
    figure = over_time.rolling(None, contents)
    excess = own - 0.0001
    assert line(figure, "Return drawdown", "y")["y"][-1] == pytest.approx(
        np.sqrt(252) * excess.mean() / excess.std(ddof=1), abs=1e-5
    )
    assert line(figure, "Return drawdown", "y2")["y"][-1] == pytest.approx(np.sqrt(252) * own.std(ddof=1), abs=1e-5)
    assert line(figure, "Return drawdown", "y")["x"][0] >= str(SESSIONS[252].date())


def test_less_than_a_year_has_no_rolling_figure():
    assert over_time.rolling(None, made({name: np.full(250, 1e-3) for name in HELD})) is None


def test_concentration_counts_equal_positions_and_leaves_the_first_purchase_out(contents):
    figure = over_time.concentration(contents)
    assert line(figure, "Return drawdown", "y")["y"] == [2.0, 1.0, 2.0]
    assert line(figure, "Return drawdown", "y2")["y"] == [1.0, 0.75]
    assert line(figure, "Equal weight", "y2")["y"] == [0.02, 0.01]


def test_pictures_are_png_of_the_promised_kind(contents):
    for uri in (pictures.wealth(contents), pictures.weights(contents)):
        kind, data = uri.split(",")
        image = io.BytesIO(base64.b64decode(data)).getvalue()
        assert kind == "data:image/png;base64"
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", image[16:24])
        assert width == 880
        assert height > 100


def test_the_summary_holds_weights_trades_and_measures_and_nothing_that_markdown_would_read(contents):
    text = artifacts.summary(
        contents, ["Chosen <i>later</i>"], listings.positions(contents), [("P", "data:,")], "u://r"
    )
    lines = text.splitlines()
    assert lines[0] == "# Weights for 2020-03"
    assert "Chosen &#60;i&#62;later&#60;/i&#62;" in lines
    assert "| AAA | A &#38; &#60;b&#62;Co&#60;/b&#62; | 25.00% | \u221275.00% | +1.00% | 5.00% |" in lines
    assert "scenario what&#124;if" in text
    assert "| Return drawdown | \u2013 | \u2013 | 1.50 | \u2013 | \u2013 |" in lines
    assert "![P](data:,)" in lines
    assert lines[-1] == "[The whole report](u://r)"


def test_the_link_is_the_file_or_its_place_where_reports_are_served(monkeypatch):
    path = Path("/stores/a b/reports/2020-03-ab.html")
    assert artifacts.link(path) == "file:///stores/a%20b/reports/2020-03-ab.html"
    monkeypatch.setenv("PRISM_REPORT_URL", "http://127.0.0.1:4300/")
    assert artifacts.link(path) == "http://127.0.0.1:4300/2020-03-ab.html"
