"""Names that want to be a path, SQL, HTML, Markdown or a formula are values, wherever they come in and go out."""

import csv
import io
import re
from datetime import date, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows import display
from flows import parameters as forms
from flows.monthly import monthly_rebalance
from flows.publishing import Answer
from storage import catalog, clock, scenarios, tickers, universe
from storage.errors import InputError
from tasks.fetch import yahoo
from tasks.fetch.files import read_prices
from tests.artifacts import made

TICKERS = [
    "../../x", "..", "/etc/passwd", "a/b", "a\\b", "C:\\x", "NUL", "CON.txt", "~root", "x%2e%2e", "%s%n{0}{x.y}",
    "$HOME", "`id`", "$(id)", "| id", "a;b", "'", '"', "''; DROP TABLE weights; --", "x' OR '1'='1", 'a"b',
    "key = 'x'", "NULL", "null", "nan", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><b>",
    "&lt;b&gt;", "{{ 7*7 }}", "{% include 'x' %}", "[a](javascript:alert(1))", "![x](http://127.0.0.1:9/x)",
    "**bold**", "=cmd()", "+1", "-2+3", "@SUM(A1)", "=HYPERLINK(\"http://127.0.0.1:9\")", "%=1", "$x^2$", "\\frac{",
    "贵州茅台",
]  # fmt: skip
REFUSED = {
    "x" * 300: "300 characters; a ticker has at most 64",
    "A\u0410PL": "mixes letters of two alphabets",  # a Cyrillic A
    "\uff21\uff21\uff30\uff2c": "write 'AAPL'",  # of full width
    "\uff1dcmd()": "write '=cmd()'",
    "\ufb01sh": "write 'fish'",  # a ligature
    "A\u200bB": "a character that is not printed",  # of no width
    "A\u202eB": "a character that is not printed",  # turns the direction
    "A\x00B": "a character that is not printed",
    "A\nB": "a character that is not printed",
    "\x1b[31mA": "a character that is not printed",
}
COMMENT = "=cmd() <script>alert('comment')</script> '; DROP TABLE decisions; -- [x](javascript:alert(1))"
KNOWN = re.compile(
    r"STORE\.json|catalog\.duckdb|\.[a-z]+|\d+\.json|\d+\.checkpoint\.parquet|_last_checkpoint|[0-9a-f]{64}(\.json)?|"
    r"newest\.json|part-\S+\.parquet|\d{4}-\d\d-[0-9a-f]{12}\.html"
)


@pytest.mark.parametrize("name", [*TICKERS, *REFUSED])
def test_a_ticker_is_taken_as_it_stands_or_refused_by_a_sentence(tmp_path, name):
    text = io.StringIO()
    csv.writer(text).writerows([["ticker", "name"], ["AAPL", ""], [name, name]])
    days = pd.bdate_range("2024-01-02", periods=3, name="date")
    pd.DataFrame({"AAPL": 1.0, name: 1.0}, index=days).to_csv(tmp_path / "prices.csv")
    parsed = read_prices(tmp_path / "prices.csv")
    if name in TICKERS:
        assert name in universe.parse("mine", text.getvalue()).assets
        assert name in set(parsed.bars["ticker"])
        return
    assert REFUSED[name] in tickers.fault(name)
    assert set(parsed.bars["ticker"]) == {"AAPL"}
    assert set(parsed.refused["check_name"]) == {"bad_ticker"}
    if "\x00" not in name:
        with pytest.raises(InputError, match=re.escape(REFUSED[name])):
            universe.parse("mine", text.getvalue())


def test_yahoo_is_not_asked_for_what_is_no_symbol():
    found = {name for name in (*TICKERS, *REFUSED) if yahoo.SYMBOL.fullmatch(name.strip().upper())}
    assert found == {"NUL", "CON.txt", "NULL", "null", "nan", "x" * 300, "\ufb01sh"}  # letters, and nothing but
    wanted = yahoo.Wanted("../../x", "America/New_York", date(2024, 1, 2), date(2024, 1, 3))
    assert "'../../x' is no symbol of Yahoo's" in yahoo._fault("../../X", wanted)


@pytest.mark.parametrize("name", [*(name for name in TICKERS if name not in ("null", "nan")), *REFUSED, "", "x" * 64])
def test_such_a_name_is_no_scenarios(name):
    with pytest.raises(InputError, match="must be lower-case letters, digits, - and _, at most 63"):
        scenarios.checked_name(name)


class _Page(HTMLParser):
    """The tags of a page, with what could run."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.suspect = 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        if tag == "img" or any(
            name.startswith("on") or (value or "").startswith("javascript") for name, value in attrs
        ):
            self.suspect.append((tag, attrs))


@pytest.fixture(scope="module")
def published(tmp_path_factory, prices, quick):
    """A month published with a comment for the ledger, of assets whose tickers, names and sectors are all hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    generator, closes = np.random.default_rng(1), prices[["IDX"]].copy()
    for name in TICKERS:
        closes[name] = 100 * np.exp(np.cumsum(generator.normal(3e-4, 0.012, len(prices))))
    closes.to_csv(folder / "prices.csv")
    chosen = folder / "=cmd()<b>.csv"
    with chosen.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticker", "name", "sector", "role"])
        writer.writerow(["IDX", "<i>index</i>", "", "index"])
        writer.writerows(
            [name, f"{name} <b onclick=x>{name}", TICKERS[place // 3], ""] for place, name in enumerate(TICKERS)
        )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        patched.setenv("PRISM_REPORT", "true")
        patched.setenv("PRISM_LIMIT_WEIGHT", "0.001")
        patched.setattr(clock, "now", lambda: datetime(2018, 1, 2, 15))
        given = forms.make(forms.merged(quick.values(), {"universe": str(chosen)}))
        path, answer = str(folder / "prices.csv"), Answer("approve", "<b>me</b>", COMMENT)
        state = monthly_rebalance(parameters=given, path=path, months=2, answer=answer, return_state=True)
        return folder, state.result(), state.message


@pytest.mark.long
def test_no_name_becomes_a_file(published):
    folder, _, _ = published
    assert sorted(file.name for file in folder.iterdir()) == ["=cmd()<b>.csv", "prices.csv", "store"]
    strange = [file for file in (folder / "store").rglob("*") if file.is_file() and not KNOWN.fullmatch(file.name)]
    assert strange == []


@pytest.mark.long
def test_sql_finds_every_name_as_it_is(published, place):
    store = place(published[0] / "store")
    found = catalog.query(store, "main", "SELECT DISTINCT ticker FROM weights WHERE strategy = 'equal_weight'")
    assert set(found["ticker"].to_pylist()) == set(TICKERS)
    counts = display.select(store, "main", "SELECT count(*) AS n FROM bars WHERE list_contains(?, ticker)", TICKERS)
    assert counts[0]["n"] == len(TICKERS) * 755


@pytest.mark.long
@pytest.mark.parametrize(
    "view", [["weights"], ["trades"], ["query", "SELECT * FROM instruments"], ["query", "FROM decisions"]]
)
def test_csv_holds_no_formula(published, prism, view):
    code, out, _ = prism(*view, "--csv", "--store", published[0] / "store")
    assert code == 0
    cells = [cell for row in csv.reader(io.StringIO(out)) for cell in row]
    strange = [cell for cell in cells if re.match(r"\s*[=+@-]", cell) and not re.fullmatch(r"-?\d[\d.e+-]*", cell)]
    assert strange == []
    if view[0] == "weights":
        assert {"'=cmd()", "'+1", "'-2+3", "'@SUM(A1)", "../../x"} <= set(cells)


@pytest.mark.long
def test_the_report_runs_nothing_but_its_own(published):
    page = _Page()
    text = Path(published[1]["report"]).read_text()
    page.feed(text)
    assert page.suspect == []
    assert page.scripts == 3
    for raw in ("<img src=x", "<script>alert", "<b onclick", "</script><b>", "<i>index</i>"):
        assert raw not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


@pytest.mark.long
def test_markdown_for_prefect_holds_no_markup_of_a_name(published):
    artifacts = [each for each in made() if each.type == "markdown"]
    texts = {each.key: str(each.data) for each in artifacts if "OGD" in str(each.data) or "decision" in str(each.data)}
    assert "summary-main" in texts
    for text in texts.values():
        plain = re.sub(r"!\[[\w ]+\]\(data:image/png;base64,[\w+/=]*\)", "", text)
        assert not re.search(r"<(script|img|b)\b|\]\((javascript|http://127)", plain)


@pytest.mark.long
def test_a_comment_for_the_ledger_is_text(published, place, prism):
    folder, _, message = published
    store = place(folder / "store")
    [note] = [row["note"] for row in catalog.query(store, "main", "FROM decisions").to_pylist() if row["note"]]
    assert COMMENT in note
    assert note in message
    code, out, _ = prism("explain", "2018-01", "=cmd()", "--store", folder / "store")
    assert code == 0
    assert "=cmd()" in out
