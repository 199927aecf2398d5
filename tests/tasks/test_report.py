"""The report of hand-made results: what it shows, what it escapes, what it never loads."""

import hashlib
import json
import re
from dataclasses import asdict, replace
from datetime import date, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
import pytest
from scipy import stats

from storage import ledger, snapshots, tables, universe
from storage.bars import VALUES
from storage.errors import InputError, NoDataError
from storage.keys import PanelKey
from storage.ledger import Decision
from storage.schemas import CASH, TABLES
from storage.store import open_store
from storage.universe import Member, Universe
from tasks import calendars, panels, records
from tasks.numerics.configs import AccountingConfig, FeatureConfig, ForecastConfig, TrainingConfig
from tasks.report import contents, figures, formats, judged, listings, luck, over_time, studied, write_report
from tasks.studies import ALL, NONE

HOSTILE = "<script>alert(1)</script>"
TICKERS = ("AAA", "BBB", HOSTILE)
OWN, BASE = "return_drawdown", "equal_weight"
MONTHS = [date(2022, 9, 1), date(2022, 10, 3), date(2022, 11, 1), date(2022, 12, 1)]
AS_OF = [date(2022, 8, 31), date(2022, 9, 30), date(2022, 10, 31), date(2022, 11, 30)]
FIRST = {"AAA": 0.5, "BBB": 0.3, HOSTILE: 0.2}
LAST = {"AAA": 0.123456789, "BBB": 0.6, HOSTILE: 0.276543211}
MEASURES = {"annual_return": (0.1234, 0.05), "max_drawdown": (0.3, 0.2), "sharpe": (1.5, -0.25), "turnover": (2.0, 0.1)}
WHOLE = {"nll": -1.2, "crps": 0.04, "covers_50": 0.5, "covers_90": 0.9, "covers_95": 0.95, "pit_distance": 0.02}
WHOLE |= {"rank_ic": None, "rank_ic_error": None, "nll_difference": -0.03, "level 0.10": 0.12, "level 0.90": 0.9}
WHOLE |= {"pit 00": 0.6, "pit 01": 0.4}
TEMPLATE = go.Figure().layout.template.to_plotly_json()  # which Plotly's classes add
MEASURES |= {"hhi": (4400.0, 3333.3), "kurtosis": (None, 3.0), "new_measure": (1.0, 2.0)}


class Page(HTMLParser):
    """The cells of each table by id, all tags with their attributes, and the text of scripts, styles and the rest."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.tags, self.texts, self.inside, self.table = {}, [], {}, [""], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in ("meta", "br"):
            self.inside.append(tag)
        if tag == "table":
            self.table = self.tables.setdefault(attrs["id"], [])
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append({"text": "", **attrs})

    def handle_endtag(self, tag):
        self.inside.pop()

    def handle_data(self, data):
        where = self.inside[-1] if self.inside[-1] in ("script", "style") else "text"
        self.texts.setdefault(where, []).append(data)
        if where == "text" and ({"td", "th"} & set(self.inside)):
            self.table[-1][-1]["text"] += data.strip()

    @property
    def text(self):
        return " ".join(" ".join(self.texts["text"]).split())

    def rows(self, name):
        """Rows of a table by the text of their first cell."""
        return {row[0]["text"]: row[1:] for row in self.tables[name] if row}


def put(store, name, rows):
    tables.put(store, name, pa.Table.from_pylist(rows, TABLES[name].schema))


def make_bars(store, tickers):
    """Closes that grow at another rate for each ticker."""
    sessions = calendars.sessions("XNYS", "2022-08-01", "2022-12-15")
    frames = []
    for place, ticker in enumerate(tickers):
        close = 100.0 * np.exp(0.001 * (place + 1) * np.arange(sessions.size))
        frames.append(pd.DataFrame({"ticker": ticker, "session": pd.to_datetime(sessions), "close": close}))
    bars = pd.concat(frames).reindex(columns=["ticker", "session", *VALUES, "basis"]).assign(basis="traded")
    bars[VALUES] = bars[VALUES].astype(float)
    bars = bars.sort_values(["ticker", "session"]).reset_index(drop=True)
    return snapshots.take(store, "sample", bars, datetime(2023, 1, 1), "d").snapshot


def parameters(**changes):
    return {
        "source": "sample",
        "strategies": [OWN, BASE],
        "publish": OWN,
        "features": asdict(FeatureConfig()),
        "training": asdict(TrainingConfig(epochs=6)),
        "forecast": asdict(ForecastConfig()),
        "accounting": asdict(AccountingConfig()),
        **changes,
    }


def decide(store, months=4, weights=None, tickers=TICKERS, forecasts=True, **changes):
    """Months as decided; `weights` by strategy, one mapping a month (None: not decided)."""
    members = tuple(Member(ticker, f"{ticker} & Co", "Sector <b>") for ticker in sorted(tickers))
    identity = universe.keep(store, Universe("sample20", members))
    record = {
        "snapshot": make_bars(store, tickers),
        "known_at": "2023-01-01T00:00:00",
        "universe": identity,
        "prefix": "0123456789abcdef",
        "model": "feedfeedfeedfeed",
        "holdings": ["w"],
        "left_out": {"ZZZ": "only 3 of 132 sessions"},
        "machine": {"processor": "Abacus", "system": "Linux"},
        "parameters": parameters(**changes),
        "code": {"tasks.x": "1"},
        "versions": {"numpy": "2.4.6"},
    }
    equal = {ticker: 1 / len(tickers) for ticker in tickers}
    weights = weights or {OWN: [FIRST] * (months - 1) + [LAST], BASE: [equal] * months}
    rows, decisions = {"weights": [], "trades": [], "forecasts": []}, []
    for place in range(months):
        held = {name: targets[place] for name, targets in weights.items() if targets[place] is not None}
        decisions.append(decide_month(rows, place, held, record, forecasts))
    for name, made in rows.items():
        if made:
            put(store, name, made)
    ledger.append(store, decisions)


def decide_month(rows, place, held, record, forecasts):
    """The month's decision; its rows are added to `rows`."""
    day, as_of = MONTHS[place], AS_OF[place]
    for name, target in held.items():
        shared = {"key": f"w-{name}-{place}", "as_of": as_of, "strategy": name}
        rows["weights"] += [{**shared, "ticker": ticker, "weight": weight} for ticker, weight in target.items()]
    shared = {"key": f"t-{place}", "rebalance_date": day, "strategy": OWN}
    trades = [("AAA", 0.1, 5e-5), ("BBB", -0.04, 2e-5)]
    rows["trades"] += [{**shared, "ticker": ticker, "trade": trade, "cost": cost} for ticker, trade, cost in trades]
    if forecasts:
        shared = {"key": f"f-{place}", "as_of": as_of, "variance": 0.0016, "baseline_variance": 0.002, "model": "m"}
        shared |= {"scale": 0.036, "degrees": 6.0, "lower_90": -0.1, "upper_90": 0.1, "label_mean": 0.01}
        shared |= {"calibrated_variance": 0.003, "trailing_variance": 0.004}
        shared |= {"historical_mean": 0.02, "historical_variance": 0.001}
        ranked = enumerate(sorted(TICKERS))
        rows["forecasts"] += [{**shared, "ticker": ticker, "mean": 0.02 - 0.01 * rank} for rank, ticker in ranked]
    key = f"f-{place}" if forecasts else None
    names = tuple(f"w-{name}-{place}" for name in sorted(held))
    return Decision("main", day, as_of, "backfill", key, names, f"t-{place}", record, content_hash=f"c{place}")


def account(store, starts=("2022-08-31", "2022-08-31")):
    """Wealth that grows by 1 and by 2 per mille a session, with a fall in between, and measures."""
    rows = []
    for place, (name, start) in enumerate(zip((OWN, BASE), starts, strict=True)):
        sessions = calendars.sessions("XNYS", start, "2023-01-06")
        daily = np.where(np.arange(sessions.size) % 7 == 3, -0.01, 0.001 * (place + 1))
        daily[0] = 0.0
        wealth = np.cumprod(1 + daily)
        values = zip(sessions.tolist(), wealth, daily, 1 - wealth / np.maximum.accumulate(wealth), strict=True)
        shared = {"key": "b", "strategy": name}
        rows += [shared | {"session": s, "wealth": w, "daily_return": r, "drawdown": d} for s, w, r, d in values]
    put(store, "wealth", rows)
    span = {"key": "b", "start_date": date(2022, 8, 31), "end_date": date(2023, 1, 6)}
    values = [(name, which, both[which]) for name, both in MEASURES.items() for which in (0, 1)]
    put(store, "metrics", [{**span, "strategy": (OWN, BASE)[w], "name": name, "value": v} for name, w, v in values])
    pointer = {"scenario": "main", "position": 0, "key": "b", "first_month": "2022-09", "last_month": "2022-12"}
    row = pointer | {"created_at": datetime(2023, 1, 7)}
    tables.claim(store, "backtests", pa.Table.from_pylist([row], TABLES["backtests"].schema))


def study(store):
    """Leverage as it was studied, of which one value is told from the default, and a claim."""
    shared = {"key": "k", "study": "leverage", "start_date": AS_OF[0], "end_date": AS_OF[-1]}
    shared |= {"part": ALL, "created_at": datetime(2024, 1, 1)}
    rows, ends = [], ("difference", "lower", "upper")
    for number, (variant, gap) in enumerate({"1.0": (None,) * 3, "1.5": (0.3, 0.1, 0.5), "2.0": (0, -1, 1)}.items()):
        said = shared | {"number": number, "variant": variant, "strategy": "ogd_leveraged", "scenario": None}
        rows += [said | {"name": name, "value": 1.0} | dict(zip(ends, gap, strict=True)) for name in records.MEASURES]
    of_all = dict.fromkeys(("strategy", "scenario", *ends)) | {"number": NONE, "variant": "", "name": "trials"}
    rows.append(shared | of_all | {"value": 3.0})
    tables.put(store, "studies", pa.Table.from_pylist(rows, TABLES["studies"].schema))
    claim = {"claim": "it is above", "document": "always", "measured": "sharpe of 1.5 less that of 1.0"}
    claim |= {"value": 0.3, "lower": 0.1, "upper": 0.5, "verdict": "holds", "number": 0}
    tables.put(store, "claims", pa.Table.from_pylist([shared | claim], TABLES["claims"].schema))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path / "cache"))
    return open_store()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A store with four months and their results, and the page of its report; nothing is added to it."""
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISM_STORE", str(root / "store"))
        patch.setenv("PRISM_CACHE", str(root / "cache"))
        store = open_store()
        decide(store)
        account(store)
        study(store)
        return store, page()


@pytest.fixture
def decided(results, monkeypatch):
    """That store, opened by the environment."""
    monkeypatch.setenv("PRISM_STORE", str(results[0].root))
    monkeypatch.setenv("PRISM_CACHE", str(results[0].root.parent / "cache"))
    return results[0]


@pytest.fixture
def found(results):
    return results[1]


def page(publish=OWN):
    return Page(Path(write_report.fn("main", publish)).read_text())


def test_the_weights_and_trades_shown_are_those_stored(found):
    rows = found.rows("weights")
    assert {ticker: float(rows[ticker][2]["data-value"]) for ticker in TICKERS} == LAST
    assert [rows["AAA"][place]["text"] for place in (0, 2, 3)] == ["AAA & Co", "12.35%", "+10.00%"]
    assert rows["BBB"][3]["text"] == "\u22124.00%"
    assert rows[HOSTILE][3]["text"] == "\u2013"
    assert list(rows)[2:] == ["BBB", HOSTILE, "AAA", "Sum"]
    assert rows["Sum"][2]["text"] == "100.00%"
    assert "turn over 7.00% of wealth and cost 0.007%" in found.text


def test_forecasts_are_shown_as_they_are_for_the_next_sessions(found):
    first = sorted(TICKERS)[0]
    assert [cell["text"] for cell in found.rows("weights")[first][4:]] == [
        "+2.00%", "4.00%", "\u221210.0% to +10.0%",
    ]  # fmt: skip
    assert "Forecast, next 21 sessions" in found.text


def test_all_strategies_stand_side_by_side(found):
    rows = found.rows("matrix")
    assert [cell["text"] for cell in rows["Ticker"]] == ["Return drawdown", "Equal weight"]
    assert [cell["text"] for cell in rows["BBB"]] == ["60.0%", "33.3%"]
    assert rows["BBB"][0]["style"] == "--part:1.0000"


def test_hostile_names_are_text_and_nothing_else(found):
    assert sum(tag == "script" for tag, _ in found.tags) == 3
    assert HOSTILE in found.rows("weights")
    assert found.rows("weights")["AAA"][1]["text"] == "Sector <b>"
    figures_json = next(text for text in found.texts["script"] if text.startswith("{"))
    assert "<" not in figures_json
    shown = json.loads(figures_json)
    names = {trace["name"] for trace in shown["weights"][OWN]["data"]}
    assert names == {"AAA", "BBB", "&lt;script&gt;alert(1)&lt;/script&gt;"}


def test_the_page_loads_nothing_and_forbids_the_browser_to(found):
    for tag, attributes in found.tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form"), tag
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in attributes.get("style", "")
    assert not re.search(r"@import|url\(|https?:", "".join(found.texts["style"]))
    policy = next(attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_equal_results_are_one_file_named_by_month_and_content(decided):
    first = Path(write_report.fn("main", OWN))
    content = first.read_bytes()
    second = Path(write_report.fn("main", OWN))
    assert first == second == decided.root / "reports" / first.name
    assert second.read_bytes() == content
    assert first.name == f"2022-12-{hashlib.sha256(content).hexdigest()[:12]}.html"
    assert [entry.name for entry in first.parent.iterdir()] == [first.name]  # no temporary file is left
    assert len(content) < 5.3e6


def test_measures_are_formatted_and_the_best_of_a_row_is_marked_where_better_means_something(found):
    rows = found.rows("measures-table")
    shown = {name: [cell["text"] for cell in cells] for name, cells in rows.items()}
    assert shown["Annual return"] == ["12.34%", "5.00%"]
    assert shown["Sharpe ratio"] == ["1.50", "\u22120.25"]
    assert shown["Herfindahl index (x 10,000)"] == ["4,400", "3,333"]
    assert shown["Kurtosis (Gaussian: 3)"] == ["\u2013", "3.00"]
    assert shown["New measure"] == ["1.00", "2.00"]
    best = {name: ["best" in cell.get("class", "") for cell in cells] for name, cells in rows.items()}
    assert best["Annual return"] == [True, False]
    assert best["Maximum drawdown"] == [False, True]
    assert best["Turnover"] == best["Herfindahl index (x 10,000)"] == [False, False]


def test_years_multiply_to_the_wealth_at_the_end(decided, found):
    rows = found.rows("years-table")
    assert list(rows) == ["Year", "2022 (from 31 Aug)", "2023 (to 06 Jan)"]
    growth = np.prod([1 + float(cells[0]["data-value"]) for name, cells in rows.items() if name != "Year"])
    wealth = tables.read(decided, "wealth", key="b", strategy=OWN).sort_by("session")["wealth"]
    assert growth == pytest.approx(wealth[-1].as_py(), rel=1e-12)


def test_the_facts_of_the_run_come_from_its_record(decided, found):
    text = found.text
    newest = tables.read(decided, "decisions").sort_by("position").to_pylist()[-1]
    for fact in ("0123456789ab", "feedfeedfeed", "numpy 2.4.6", "Abacus", "only 3 of 132", newest["record_hash"], "c3"):
        assert fact in text
    assert "Not at the default training.epochs = 6" in text
    assert "paid 5 bp of each trade" in text
    assert "If the 3 assets of" in text
    assert found.rows("parameters")["accounting.cost"][0]["text"] == "0.0005"


def test_before_anything_has_traded_there_are_weights_and_a_sentence(store):
    decide(store, months=1, forecasts=False)
    found = page()
    assert "no decided month has traded yet" in found.text
    assert "There is no forecast for this month" in found.text
    assert set(found.tables) == {"weights", "matrix", "parameters"}
    assert not any(attrs.get("id") == "wealth" for _, attrs in found.tags)
    assert float(found.rows("weights")["BBB"][2]["data-value"]) == LAST["BBB"]


def test_cash_is_a_position_without_a_trade(store):
    decide(store, weights={OWN: [{CASH: 1.0}] * 3 + [{"AAA": 0.75, CASH: 0.25}]})
    rows = page().rows("weights")
    assert [rows[CASH][place]["text"] for place in (0, 2, 3)] == ["Cash", "25.00%", "\u2013"]
    assert rows["Sum"][2]["text"] == "100.00%"
    figure = figures.weights(contents.read(store, "main", OWN))[OWN]
    assert {trace["name"]: trace["y"] for trace in figure["data"]} == {
        "AAA": [None, None, None, 0.75],
        "Cash": [1.0, 1.0, 1.0, 0.25],
    }


def test_a_strategy_that_started_later_is_shown_from_there_and_nothing_is_called_best(store):
    decide(store, weights={OWN: [FIRST] * 4, BASE: [None, None, {"AAA": 1.0}, {"AAA": 1.0}]})
    account(store, starts=("2022-08-31", "2022-10-31"))
    found = page()
    assert [cell["text"] for cell in found.rows("measures-table")["First session"]] == ["2022-08-31", "2022-10-31"]
    compared = [found.tables[name] for name in ("measures-table", "years-table")]
    assert not any("best" in cell.get("class", "") for rows in compared for row in rows for cell in row)
    figure = figures.weights(contents.read(store, "main", OWN))[BASE]
    assert figure["data"][0]["y"] == [None, None, 1.0, 1.0]


def test_a_published_strategy_without_results_yet_leaves_the_results_to_the_others(store):
    decide(store, weights={OWN: [FIRST] * 4, BASE: [FIRST] * 4, "hedge": [None, None, None, LAST]})
    account(store)
    found = page("hedge")
    assert "Published strategy Hedge" in found.text
    assert "Return drawdown, 31 August 2022 to 6 January 2023" in found.text
    assert [cell["text"] for cell in found.rows("measures-table")["Sharpe ratio"]] == ["1.50", "\u22120.25"]


def test_many_assets_fold_into_others_without_losing_weight(store):
    names = tuple(f"T{place:03d}" for place in range(109))
    target = dict(zip(names, np.arange(1, 110) / np.arange(1, 110).sum(), strict=True))
    decide(store, tickers=names, weights={OWN: [target] * 4}, forecasts=False)
    found = page()
    assert len(found.rows("matrix")) + len(found.rows("small")) == 109 + 2
    assert len(found.rows("weights")) == 109 + 2 + 2  # AAA and BBB were sold and bought
    data = figures.weights(contents.read(store, "main", OWN))[OWN]["data"]
    assert [trace["name"] for trace in data][-2:] == ["T097", "97 others"]
    assert sum(trace["y"][0] for trace in data) == pytest.approx(1, abs=1e-4)
    assert len({trace["marker"]["color"] for trace in data}) == len(data)


def test_the_figure_shows_every_session_with_its_drawdown_below(decided):
    found = contents.read(decided, "main", OWN)
    figure = figures.wealth(found)
    above, below = figure["data"][:2]
    rows = found.wealth_of(OWN)
    np.testing.assert_allclose(above["y"], rows["wealth"], atol=1e-5)
    np.testing.assert_allclose(below["y"], -rows["drawdown"], atol=1e-5)
    assert above["x"][0] == "2022-08-31"
    assert [trace["line"].get("dash") for trace in figure["data"]] == [None, None, "dash", "dash"]


def test_plotlys_own_classes_take_every_figure_as_it_is(decided):
    found, days = contents.read(decided, "main", OWN), pd.to_datetime(["2022-09-01", "2022-09-02"])
    edges = {f"{of}_{edge}": [1.0, 2.0] for of in ("wealth", "sharpe") for edge in ("lowest", "median", "highest")}
    drawn = [*figures.weights(found).values(), figures.wealth(found), over_time.concentration(found)]
    drawn.append(figures.calibration({"0.50": 0.4, "0.90": 0.8}, {"00": 0.6, "01": 0.4}))
    drawn.append(studied._figure(studied.Bars(["more", "less"], [0.1, -0.2], [0.1, 0.1], [0.2, 0.2])))
    drawn.append(luck.figure({name: pd.DataFrame(edges, index=days) for name in ("one", "other")}))
    live = {name: [1.0, 1.1] for name in ("lower_90", "upper_90", "expected", "wealth")}
    drawn.append(over_time.live(replace(found, tables={"live": pd.DataFrame({"session": days, **live})})))
    for figure in drawn:
        layout = figure["layout"] | {"template": TEMPLATE}
        assert json.loads(go.Figure(figure).to_json()) == figure | {"layout": layout}


def test_a_thinned_figure_keeps_the_first_session_and_the_last_of_each_week():
    sessions = pd.Series(pd.bdate_range("2022-08-31", "2022-09-20"))
    kept = figures.weekly(pd.DataFrame({"session": sessions}))["session"].dt.strftime("%m-%d").tolist()
    assert kept == ["08-31", "09-02", "09-09", "09-16", "09-20"]


def outcomes_of(decided, read):
    """The log return over 21 sessions of each ticker: growth is constant for each."""
    panel = panels.load(decided, PanelKey(read.record["snapshot"], read.record["universe"]))
    return 21 * np.log1p(panel.returns[-1])


def test_forecasts_are_judged_on_what_followed_and_only_where_it_is_known(decided, found):
    read = contents.read(decided, "main", OWN)
    (verdict,) = judged.judge(decided, read)
    # the bars end 11 sessions after December's as-of date, too early to judge it
    assert verdict.about == "3 rebalance dates, 9 forecasts"
    y, means = outcomes_of(decided, read), 0.02 - 0.01 * np.arange(3)
    scores = {row.name: row.cells for row in verdict.scores}
    expected = {
        "Variational LSTM": (means, 0.0016),
        "EWMA 0.97, mean zero": (0.0, 0.002),
        "EWMA 0.97, pooled mean": (0.01, 0.002),
        "EWMA calibrated with the long run": (0.01, 0.003),
        "Each asset's own past": (0.02, 0.001),
    }
    for name, (mean, variance) in expected.items():
        assert scores[name][0].value == pytest.approx(-stats.norm.logpdf(y, mean, np.sqrt(variance)).mean()), name
    probability = stats.t.cdf((y - means) / 0.036, 6)
    assert scores["Variational LSTM"][3].value == pytest.approx(np.mean(np.abs(probability - 0.5) <= 0.45))
    better = scores["Variational LSTM"][0].value - scores["EWMA calibrated with the long run"][0].value
    assert formats.decimal(better, 4) in scores["EWMA calibrated with the long run"][-1].text
    assert found.rows("scores-1")["Variational LSTM"][0]["text"] == formats.decimal(
        scores["Variational LSTM"][0].value, 4
    )
    assert verdict.about in found.text


def test_the_page_says_plainly_whether_a_forecaster_is_ready_and_what_its_means_are_worth(decided, found):
    read = contents.read(decided, "main", OWN)
    y, means = outcomes_of(decided, read), 0.02 - 0.01 * np.arange(3)
    first, second, third = judged.judge(decided, read)[0].sentences
    loss = -stats.norm.logpdf(y, means, 0.04).mean() + stats.norm.logpdf(y, 0, np.sqrt(0.002)).mean()
    assert first.startswith("It beats EWMA" if loss < 0 else "It does not beat EWMA volatility here")
    assert "strongest simple forecaster" in second
    ranks = np.corrcoef(np.argsort(np.argsort(means)), np.argsort(np.argsort(y)))[0, 1]
    assert f"is {formats.decimal(ranks, 3)}, with a standard error of 0.000" in third
    assert first in found.text
    assert third in found.text


def test_every_session_that_was_judged_is_shown_beside_the_months(store):
    decide(store)
    rows = [
        {"forecaster": name, "kind": "all", "label": "", "name": measure, "value": value, "rows": 1234}
        for name in ("own", "ewma", "ewma_zero_mean", "calibrated_ewma")
        for measure, value in WHOLE.items()
    ]
    rows += [{**row, "kind": "year", "label": "2021"} for row in rows if row["name"] in ("nll", "covers_90")]
    shared = {"key": "j", "scenario": "main", "start_date": date(2020, 1, 2), "end_date": date(2022, 1, 3)}
    shared |= {"created_at": datetime(2023, 1, 1), "lower": -0.04, "upper": -0.02}
    put(store, "judgements", [shared | row for row in rows])
    shown = page()
    assert "Every session from 2020-01-02 to 2022-01-03, 1,234 forecasts" in shown.text
    assert "It beats EWMA volatility: its negative log likelihood less that of EWMA volatility is" in shown.text
    assert shown.rows("scores-2")["EWMA 0.97, pooled mean"][-1]["text"] == "\u22120.0300 [\u22120.0400, \u22120.0200]"
    assert [cell["text"] for cell in shown.rows("forecasts-by-year-2")["2021"]][-1] == "90.0%"
    calibration = json.loads(shown.texts["script"][0])["calibration"][1]["data"]
    assert calibration[1]["y"] == [0, 0.12, 0.9, 1]


def test_the_reason_of_a_gate_stands_under_the_forecasts(store):
    decide(store)
    gate = {"key": "f-3", "as_of": AS_OF[3], "months": 24, "kept": 0.3, "reason": "only 3 <of> 24", "score": 1.0}
    put(store, "gates", [gate | {"baseline_score": 0.9}])
    assert "Gate: only 3 <of> 24." in page().text


def test_another_strategy_can_be_the_published_one(store):
    decide(store, months=1)
    found = page(BASE)
    assert [cell["text"] for cell in found.rows("matrix")["Ticker"]] == ["Equal weight", "Return drawdown"]
    assert float(found.rows("weights")["AAA"][2]["data-value"]) == 1 / 3


def test_what_cannot_be_reported_is_refused_with_the_way_on(decided):
    with pytest.raises(InputError, match=r"'hedge' has no weights for 2022-12.*return_drawdown"):
        write_report.fn("main", "hedge")
    with pytest.raises(NoDataError, match="scenario other has decided no month"):
        write_report.fn("other", OWN)


def test_numbers_read_as_people_write_them():
    assert formats.percent(-0.1234) == "\u221212.34%"
    assert formats.percent(-1e-9) == "0.00%"
    assert formats.change(1e-9) == "0.00%"
    assert formats.change(0.5, 0) == "+50%"
    assert formats.decimal(12345.678) == "12,345.68"
    assert [formats.percent(None), formats.whole(float("nan"))] == ["\u2013", "\u2013"]
    assert formats.day(date(2022, 12, 1)) == "1 December 2022"
    assert formats.ordered(["b", "index", "a", "equal_weight", "z"], "z") == ["z", "a", "b", "equal_weight", "index"]


def test_the_best_is_marked_only_among_several_values():
    cells = [listings.Cell("1", 1.0), listings.Cell("", None), listings.Cell("2", 2.0)]
    assert [cell.best for cell in listings.mark_best(cells, 1)] == [False, False, True]
    assert [cell.best for cell in listings.mark_best(cells, -1)] == [True, False, False]
    assert not any(cell.best for cell in listings.mark_best(cells, 0))
    assert not any(cell.best for cell in listings.mark_best(cells[:2], 1))


def test_studies_show_variants_claims_and_their_sentence(found):
    rows = found.rows("study-table-0")
    assert list(rows)[1:] == ["1.0 (default)", "1.5", "2.0"]
    assert rows["1.5"][1]["text"] == "+0.30 [+0.10, +0.50]"
    _, claim = found.rows("claims-0").values()
    assert [cell["text"] for cell in claim[2:]] == ["+0.30 [+0.10, +0.50]", "holds"]
    shown = json.loads(next(text for text in found.texts["script"] if text.startswith("{")))
    assert shown["studies"][0]["data"][0]["y"] == ["2.0", "1.5"]
