"""Bad input of every kind: exit code 2 and one sentence with the value, the rule and the next step; nothing is changed.

A case is a command and what its sentence says. `{here}` is a folder of its own, in which the case's files lie; the
store in which a month is decided is the same for all, and is compared byte by byte before and after.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows import parameters as forms
from flows.options import read_params
from storage import universe
from storage.errors import InputError
from tasks import own_holdings
from tasks.fetch.files import read_prices

pytestmark = pytest.mark.flow
ROOT = Path(__file__).parents[2]
DAYS = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2017-01-03", periods=200)]
GOOD = "date,AAA,BBB\n" + "".join(f"{day},{100 + n % 7},{50 + n % 5}\n" for n, day in enumerate(DAYS))
LONG = "date,ticker,close\n"


@dataclass(frozen=True)
class Case:
    """What is asked for, and a part of the sentence that answers it."""

    command: str | list[str]
    said: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    store: str = "{store}"

    @property
    def arguments(self):
        return self.command.split() if isinstance(self.command, str) else self.command


def setting(assignment, said):
    """A parameter that breaks a rule."""
    return Case(["plan", "--amend", "a test", "--set", assignment], said)


def parameters(name, content, said):
    """A file of parameters that cannot be one."""
    return Case(["plan", "--params", "{here}/" + name], said, {name: content})


def chosen(content, said):
    """A file of a universe that breaks a rule."""
    return Case("plan --amend test --universe {here}/mine.csv", said, {"mine.csv": content})


def prices(content, said, name="prices.csv"):
    """A file of prices of which nothing can be used."""
    return Case(f"ingest --dry-run --source files --path {{here}}/{name}", said, {name: content})


def held(content, said, day="2016-12-30"):
    """A file of holdings that cannot be held."""
    return Case(f"holdings import {{here}}/mine.csv --date {day}", said, {"mine.csv": content})


def variable(name, value, said):
    """A setting that breaks a rule."""
    return Case("status", f"{name}={value}: .*{said}.*; correct the environment", environment={name: value})


PARAMETERS = {
    "unknown": setting(
        "return_drawdown.alfa=0.7", "no parameter 'return_drawdown.alfa'; did you mean return_drawdown.alpha"
    ),
    "unknown group": setting("returns.alpha=1", "there is no parameter 'returns'"),
    "too small": setting("return_drawdown.alpha=-1", r"greater than or equal to 0 \(got -1\)"),
    "too large": setting("network.hidden=100000", r"less than or equal to 1024 \(got 100000\)"),
    "no equals sign": setting("alpha", "has no '='; write --set return_drawdown.alpha=0.7"),
    "no name": setting("=1", "there is no parameter ''"),
    "text for a number": setting("return_drawdown.alpha=much", r"valid number.*\(got 'much'\)"),
    "a list for a number": setting("training.epochs=[1]", "valid integer"),
    "half an epoch": setting("training.epochs=1.5", "valid integer"),
    "truth for a number": setting(
        "return_drawdown.alpha=true", "return_drawdown.alpha: Input should be a valid number, neither true nor false"
    ),
    "not a number": setting(
        "return_drawdown.alpha=NaN", r"alpha: Input should be less than or equal to 100 \(got nan\)"
    ),
    "infinite": setting("training.clip_norm=Infinity", "clip_norm is inf; it must be a finite number"),
    "beyond a double": setting("return_drawdown.alpha=1" + "0" * 400, "alpha: "),
    "digits beyond reading": setting("training.seed=" + "9" * 5000, "seed: "),
    "nested beyond reading": setting("own=" + "[" * 100_000, "own: "),
    "a group for a value": setting("source.x=1", "source: "),
    "a value for a group": setting("network=3", "network: "),
    "no such choice": setting("features.features=magic", "'scaled' or 'document'"),
    "no such strategy": setting('strategies=["magic"]', "strategies.0: "),
    "strategies as text": setting("strategies=hedge", "strategies: "),
    "a strategy twice": setting('strategies=["return_drawdown","return_drawdown"]', "repeat a name; name each once"),
    "no strategy": setting("strategies=[]", "publish is 'return_drawdown'; it must be one of strategies"),
    "publishing what is not run": setting("publish=hedge", "publish is 'hedge'; it must be one of strategies"),
    "an own strategy without a module": setting("own.mine=no.such.module", "there is no module no.such.module"),
    "an own strategy's name": setting('own={"../up": "m"}', "own names a strategy '../up'; use lower-case letters"),
    "an own strategy named like another": setting('own={"hedge": "m"}', "own names a strategy 'hedge'"),
    "a month of its own": setting("begin=2015-13", "begin is '2015-13'; it must be a month like 2015-01"),
    "weekly": setting("rebalance=W", "'D', 'M' or 'Q'"),
    "horizons that differ": setting(
        "features.horizon=10", "the optimiser must cover what the forecast covers: make them"
    ),
    "corrected twice": Case(
        ["plan", "--set", "forecast.gate=true", "--set", "calibration.gate_allocation=true"], "set one of them to false"
    ),
    "terms that are none": setting("ogd_long_window.extra_terms=nonsense", "extra_terms"),
    "a day that is no offset": setting("rebalance_offset=21", "rebalance_offset: Input should be less than or equal"),
    "a grid that is none": setting("ogd_tuned.grid=momentum", "grid has 'momentum'; it must be name=values"),
    "a base that is none": setting("ogd_tuned.base=magic", "ogd_tuned.base is 'magic'; it must be one of"),
    "a level that is none": setting("sector_ogd.outer=magic", "sector_ogd.outer is 'magic'; it must be one of"),
    "a currency in words": setting("currency=dollars", "currency '' -> 'dollars'.*; give --scenario NAME"),
    "an index without prices": setting("index=NOSUCH", "index 'NOSUCH' has no prices; give a ticker that has"),
    "a rate without prices": setting("risk_free=NOSUCH", "risk_free 'NOSUCH' has no prices"),
    "a factor without prices": setting('factors=["NOSUCH"]', "factor NOSUCH 'NOSUCH' has no prices"),
    "a source that is none": Case("plan --source bloomberg", "'sample', 'yahoo' or 'files'"),
}
FILES = {
    "no file": Case(
        "plan --params {here}/none.toml", "parameter file .*none.toml cannot be read .*; write it in TOML or JSON"
    ),
    "a folder": Case("plan --params {here}", "cannot be read"),
    "broken TOML": parameters("p.toml", "[return_drawdown\nalpha = 1", "cannot be read"),
    "a key twice": parameters("p.toml", "publish = 'hedge'\npublish = 'index'", "cannot be read"),
    "a date for a number": parameters("p.toml", "[return_drawdown]\nalpha = 2019-01-01", "valid number"),
    "broken JSON": parameters("p.json", "{", "cannot be read"),
    "an empty file": parameters("p.json", "", "cannot be read"),
    "a list": parameters("p.json", "[1, 2]", "holds a list; it must name parameters and values"),
    "a number": parameters("p.json", "7", "holds a int; it must name parameters and values"),
    "nested beyond reading": parameters("p.json", '{"own": ' + "[" * 100_000, "cannot be read"),
    "not UTF-8": parameters("p.toml", b"publish = '\xff\xfe'", "cannot be read"),
    "a byte of zero": parameters("p.toml", "publish = 'a\0b'", "cannot be read"),
    "TOML under another name": parameters("p.yaml", "publish: hedge", "cannot be read"),
    "a group that is a list": parameters("p.json", '{"network": []}', "network: "),
    "an unknown name": parameters("p.json", '{"publishes": "hedge"}', "no parameter 'publishes'; did you mean publish"),
    "nothing": parameters("p.json", '{"return_drawdown": {"alpha": "x"}}', "return_drawdown.alpha: "),
    "no such study": Case("plan --params tuned:nothing", "nothing"),
}
UNIVERSES = {
    "neither file nor name": Case("plan --universe sp501", "'sp501' is neither a file nor one of magnificent7"),
    "empty": chosen("", "has no column `ticker`; its first line must name the columns"),
    "another column": chosen("symbol\nAAA\n", "has no column `ticker`"),
    "a column twice": chosen("ticker,ticker\nAAA,BBB\n", "names a column twice"),
    "no asset": chosen("ticker\n", "has no asset; it needs at least one"),
    "only an index": chosen("ticker,role\nIDX,index\n", "has no asset"),
    "a row without a ticker": chosen("ticker,name\n,Bee\n", "has a row without a ticker; remove it or fill it in"),
    "a role that is none": chosen("ticker,role\nAAA,stock\n", "has the role 'stock'; a role is asset, index"),
    "two indices": chosen("ticker,role\nAAA,\nIDX,index\nBBB,index\n", "has the indices BBB, IDX; it may have one"),
    "a ticker twice": chosen("ticker\nAAA\nAAA\n", "the dates of AAA overlap"),
    "ends before it begins": chosen("ticker,from,to\nAAA,2002-01-01,2001-01-01\n", "end before they begin"),
    "a date the other way": chosen("ticker,from\nAAA,31.12.2001\n", "write dates as 2024-05-31"),
    "a currency in words": chosen("ticker,currency\nAAA,dollars\n", "has the currency 'dollars'"),
    "an exchange that is none": chosen("ticker,exchange\nAAA,NOWHERE\n", "exchange 'NOWHERE'"),
    "not UTF-8": chosen(b"ticker\n\xff\xfe\n", "it must be CSV text"),
    "a byte of zero": chosen("ticker\nA\0A\n", "mine"),
    "a name of 300 characters": chosen("ticker\n" + "A" * 300 + "\n", "has 300 characters; a ticker has at most 64"),
    "letters that look alike": chosen("ticker\nA\u0410A\n", "mixes letters of two alphabets"),
    "a cell beyond reading": chosen("ticker\n" + '"' + "A" * 200_000 + '"\n', "it must be CSV text"),
    "a folder": Case("plan --universe {here}", "is neither a file nor one of"),
}
PRICES = {
    "no path": Case(
        "ingest --dry-run --source files", "--source files needs --path, a Parquet or CSV file or a folder of them"
    ),
    "nothing there": Case("ingest --dry-run --source files --path {here}/no.csv", "no.csv does not exist"),
    "an empty folder": Case(
        "ingest --dry-run --source files --path {here}", "holds no .csv or .parquet file among 0 entries"
    ),
    "another kind of file": prices("x", "prices are read from .csv and .parquet files", "prices.xlsx"),
    "empty": prices("", "cannot be read"),
    "only a header": prices("date,AAA\n", "has no usable row among 0; the table is empty"),
    "no date": prices("AAA,BBB\n1,2\n", "has no date column; it has AAA, BBB. Name one of them date"),
    "no close": prices("date,ticker\n2017-01-03,AAA\n", "has no close column"),
    "two dates": prices("date,Datetime,AAA\n2017-01-03,2017-01-03,1\n", "for the same field; keep one of them"),
    "semicolons": prices(GOOD.replace(",", ";"), "has no date column"),
    "commas in numbers": prices("date,AAA\n2017-01-03,1,5\n", "cannot be read"),
    "days first": prices("date,AAA\n03/01/2017,1\n", "the date is empty or not written as YYYY-MM-DD"),
    "days that are none": prices("date,AAA\n2017-02-30,1\n", "the date is empty or not written as YYYY-MM-DD"),
    "words": prices("date,AAA\n2017-01-03,much\n", "close is much; it must be a number"),
    "infinite": prices("date,AAA\n2017-01-03,inf\n", "close is inf; it must be a number"),
    "no number at all": prices("date,AAA\n2017-01-03,NaN\n", "has no usable row among 0"),
    "rows that disagree": prices(LONG + "2017-01-03,AAA,1\n2017-01-03,AAA,2\n", "another row of the day disagrees"),
    "weekends": prices("date,AAA\n2017-01-07,1\n2017-01-08,1\n", "has no bar on a session of its exchange"),
    "before any exchange": prices("date,AAA\n0001-01-03,1\n", "has no bar on a session of its exchange"),
    "not UTF-8": prices(b"date,AAA\n2017-01-03,\xff\n", "cannot be read"),
    "UTF-16": prices(GOOD.encode("utf-16"), "cannot be read"),
    "compressed": prices(gzip.compress(GOOD.encode()), "cannot be read"),
    "bytes of zero": prices(b"\0" * 4096, "prices.csv "),
    "a page of errors": prices("<html><body>502 Bad Gateway</body></html>", "has no date column"),
    "no Parquet": prices(GOOD, "cannot be read", "prices.parquet"),
    "half a Parquet": prices(b"PAR1" + bytes(100), "cannot be read", "prices.parquet"),
    "one ticker without a name": prices("date,ticker,close\n2017-01-03,,1\n", "the ticker is empty"),
    "a name beyond telling": prices(
        "date," + "A" * 300 + "\n2017-01-03,1\n", "has 300 characters; a ticker has at most 64"
    ),
    "an index that it lacks": Case(
        "ingest --dry-run --source files --path {here}/prices.csv --accept ZZZ", "ZZZ", {"prices.csv": GOOD}
    ),
}
HOLDINGS = {
    "no file": Case("holdings import {here}/none.csv --date 2016-12-30", "holdings file .*none.csv cannot be read"),
    "a folder": Case("holdings import {here} --date 2016-12-30", "cannot be read"),
    "empty": held("", "its first line must be ticker,shares"),
    "only a header": held("ticker,shares\n", "names nothing; give each ticker a line"),
    "other columns": held("symbol,count\nAAA,1\n", "it needs the columns ticker,shares"),
    "a ticker twice": held("ticker,shares\nAAA,1\nAAA,2\n", "names a ticker twice; give each ticker one line"),
    "words": held("ticker,shares\nAAA,many\n", "cannot be read"),
    "not a number": held("ticker,shares\nAAA,nan\n", "gives nan shares of AAA; give a number"),
    "infinite": held("ticker,shares\nAAA,inf\n", "gives inf shares of AAA; give a number"),
    "more than there are": held("ticker,shares\nAAA,1e300\n", "1e\\+12 is the most"),
    "without prices": held("ticker,shares\nZZZ,1\n", "has no prices in dataset files:main"),
    "nearly a name": held("ticker,shares\nAAB,1\n", "did you mean AAA?"),
    "worth nothing": held("ticker,shares\n$CASH,0\n", "they must be worth more than 0"),
    "debts": held("ticker,shares\nAAA,1\n$CASH,-1e9\n", "they must be worth more than 0"),
    "not UTF-8": held(b"ticker,shares\n\xff,1\n", "cannot be read"),
    "bytes of zero": held("ticker,shares\nA\0A,1\n", "holdings file"),
    "a row that is short": held("ticker,shares\nAAA\n", "cannot be read"),
    "no date": held("ticker,shares\nAAA,1\n", "--date 'soon' is no date; write it as 2019-12-31", "soon"),
    "of the future": held("ticker,shares\nAAA,1\n", "lies in the future; give a date from 2015-01-02", "2199-01-01"),
    "before the prices": held("ticker,shares\nAAA,1\n", "lies before the stored prices", "1999-01-04"),
}
DATES = {
    "no date": Case("run --as-of yesterday", "--as-of 'yesterday' is no date; write it as 2019-12-31"),
    "a day that is none": Case("run --as-of 2017-02-30", "--as-of '2017-02-30' is no date"),
    "no month": Case("backfill --start 2016 --end 2016-12", "--start '2016' is no month; write it as 2019-12"),
    "a thirteenth month": Case("backfill --start 2016-13 --end 2016-12", "--start '2016-13' is no month"),
    "a month of no decision": Case("weights --month 2099-01", "has not decided month 2099-01"),
    "neither month nor day": Case("weights --month 2016-1", "neither a month nor a day; write it as 2019-12"),
    "nothing to explain": Case("explain 1999-01", "has not decided"),
    "an asset that is none": Case("explain 2017-01 ZZZ", "ZZZ"),
    "nothing to compare": Case("compare 2016-12 nothing", "nothing"),
    "from the end to the start": Case("replay --start 2017-01 --end 2016-12", "start 2017-01 is after end 2016-12"),
    "nothing to replay": Case("replay", "say what to replay: one month, like prism replay 2024-05"),
    "both answers": Case(
        "run --approve yes --reject no", "--approve and --reject exclude each other; give one of them"
    ),
    "no month at all": Case("run --months 0", "greater than or equal to 1|x>=1"),
    "a scenario above": Case("run --scenario ../up", "scenario name '../up' must be lower-case letters"),
    "a scenario without a name": Case(["run", "--scenario", ""], "scenario name '' must be lower-case letters"),
    "a scenario of 64 letters": Case("run --scenario " + "a" * 64, "at most 63 of them"),
    "a scenario of nothing": Case("weights --scenario other", "scenario other has not decided any month"),
    "an amendment of nothing": Case(
        "plan --amend because", "--amend changes nothing: scenario main has no other parameters"
    ),
    "other parameters": Case(
        "plan --set return_drawdown.alpha=0.7",
        "scenario main was decided with other parameters .*alpha 0.2 -> 0.7.*; give --scenario NAME",
    ),
    "no capital": Case("trades --capital 0", "capital"),
    "capital that is none": Case("trades --capital nan", "capital"),
    "a backup into itself": Case(
        "sweep --name a --strategy hedge --grid nonsense --start 2016-12 --end 2017-01", "nonsense"
    ),
    "a server that is not set": Case("deploy", "there is no server to deploy to: set PREFECT_API_URL"),
    "a command that is none": Case("publish", "No such command 'publish'"),
    "an option that is none": Case("run --magic", "No such option: --magic"),
}
STORES = {
    "a file": Case("run", "the store .* is a file; give --store a folder", {"file": "x"}, store="{here}/file"),
    "below a file": Case("run", "file", {"file": "x"}, store="{here}/file/store"),
    "a folder of other things": Case("run", "is not empty and is no store", {"mine.txt": "x"}, store="{here}"),
    "a pattern": Case("run", "holds one of", store="{here}/a*b"),
    "a name too long": Case("run", "File name too long|too long", store="{here}/" + "a" * 300),
    "a name too long to verify": Case("verify", "File name too long", store="{here}/" + "a" * 300),
    "nothing to migrate": Case("migrate", "there is no store at .*; name another", store="{here}/none"),
    "no way to migrate": Case(
        "migrate",
        "has format 99, and nothing leads from there to",
        {"STORE.json": '{"format": 99, "identity": "x"}'},
        store="{here}",
    ),
    "a bucket to migrate": Case("migrate", "is in no folder; back it up to one, migrate that", store="s3://prism/x"),
    "nothing to restore": Case("restore {here}/none", "holds no store; name the folder", store="{here}/new"),
    "a restore over a store": Case("restore {store}", "is not empty; give --store a place where there is nothing yet"),
    "not there": Case("weights", "there is no store at .*; run `prism run` first", store="{here}/none"),
    "a later format": Case(
        "weights",
        "says format 99, this version reads",
        {"STORE.json": '{"format": 99, "identity": "x"}'},
        store="{here}",
    ),
}
QUERIES = {
    "nothing": Case(["query", ""], "is not one query that only reads; views are actions"),
    "no SQL": Case(["query", "SELEC 1"], "Parser Error.*; views are actions"),
    "no such view": Case(["query", "SELECT * FROM nowhere"], "nowhere does not exist.*; views are actions"),
    "no such column": Case(["query", "SELECT nothing FROM weights"], "nothing.*; views are actions"),
    "a change": Case(["query", "DELETE FROM weights"], "is not one query that only reads"),
    "types that do not fit": Case(["query", "SELECT weight + DATE '2024-01-01' FROM weights"], "views are actions"),
    "a name twice": Case(["query", "SELECT 1 AS a, 2 AS a"], "names a column twice"),
}
SETTINGS = {
    "no worker": variable("PRISM_WORKERS", "0", "greater than or equal to 1"),
    "many workers": variable("PRISM_WORKERS", "many", "valid integer"),
    "another device": variable("PRISM_DEVICE", "tpu", "'cpu' or 'cuda'"),
    "another runner": variable("PRISM_RUNNER", "ray", "'threads' or 'dask'"),
    "no deployment": variable("PRISM_TRAIN_DEPLOYMENT", "gpu", "should match pattern"),
    "no address": variable("PRISM_REPORT_URL", "ftp://reports", "should match pattern"),
    "no hours": variable("PRISM_APPROVAL_HOURS", "0", "greater than 0"),
}
CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "parameters": PARAMETERS, "files": FILES, "universe": UNIVERSES, "prices": PRICES, "holdings": HOLDINGS,
        "dates": DATES, "store": STORES, "query": QUERIES, "settings": SETTINGS,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


def bytes_of(folder):
    return {file: hashlib.sha256(file.read_bytes()).digest() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_there_are_cases_enough():
    assert len(CASES) >= 150


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_a_sentence_and_changes_nothing(prism, decided_quickly, tmp_path, monkeypatch, name):
    case = CASES[name]
    for file, content in case.files.items():
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    places = {"{here}": str(tmp_path), "{store}": str(decided_quickly)}
    arguments = [*case.arguments, "--store", case.store] if case.arguments[0] != "deploy" else case.arguments
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    before = bytes_of(decided_quickly), bytes_of(tmp_path)
    code, out, err = prism(*arguments)
    assert code == 2, err
    assert re.search(case.said, " ".join(err.replace("│", " ").split())), err
    assert "Traceback" not in err
    assert not out
    assert (bytes_of(decided_quickly), bytes_of(tmp_path)) == before


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PRISM_WORKERS", "0", "PRISM_WORKERS=0: Input should be greater than or equal to 1; correct the environment"),
        ("PRISM_CACHE", "/proc/none", "the cache /proc/none cannot be used (No such file or directory); give another"),
    ],
)
def test_a_wrong_environment_is_told_by_a_process_that_begins_with_it(tmp_path, variable, value, said):
    command = [sys.executable, "-c", "from flows.cli import main; main()", "weights", "--store", str(tmp_path)]
    environment = os.environ | {variable: value}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith(f"prism: {said}")
    assert len(told.stderr.splitlines()) == 1


def damaged(content: bytes, places) -> bytes:
    """The content with bytes replaced, taken out or put in at places, each a fraction of its length."""
    made = bytearray(content)
    for where, kind, byte in places:
        place = int(where * len(made))
        if kind == "put in":
            made.insert(place, byte)
        elif made and kind == "taken out":
            del made[min(place, len(made) - 1)]
        elif made:
            made[min(place, len(made) - 1)] = byte
    return bytes(made)


BYTES = st.one_of(st.sampled_from(sorted(b",;\"'\n\r\0-+eEnN.=[]{}\xff\xef")), st.integers(0, 255))
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["replaced", "taken out", "put in"]), BYTES), min_size=1, max_size=12
)
SHORT = "\n".join(GOOD.splitlines()[:20]) + "\n"
WHOLE = {
    "prices.csv": (SHORT, read_prices, "ingest --dry-run --source files --path {file}"),
    "holdings.csv": ("ticker,shares\nAAA,10\n$CASH,1000\n", own_holdings.read_file, "trades --holdings {file} --json"),
    "universe.csv": ("ticker,name,from\nAAA,Ay,2001-01-01\nBBB,Bee,\n", universe.read, "plan --universe {file}"),
    "some.toml": ("publish = 'index'\n[network]\nhidden = 8\n", read_params, "plan --params {file}"),
    "some.json": ('{"return_drawdown": {"alpha": 0.2}, "begin": "2016-01"}', read_params, "plan --params {file}"),
}
ONE_LINE = re.compile(r"[^\n]+")


def often(examples):
    """So many examples, always the same ones."""
    quiet = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=quiet)


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_read_or_refused_by_a_sentence(tmp_path, name):
    (content, reader, _), file = WHOLE[name], tmp_path / name

    @often(100)
    @given(DAMAGE)
    def examine(damage):
        file.write_bytes(damaged(content.encode(), damage))
        try:
            reader(str(file) if reader is universe.read else file)
        except InputError as error:
            said = str(error)
        else:
            said = "read"
        assert ONE_LINE.fullmatch(said)

    examine()


@pytest.mark.long
@pytest.mark.parametrize("name", WHOLE)
def test_a_command_takes_a_damaged_file_or_refuses_it_and_changes_nothing(prism, decided_quickly, tmp_path, name):
    content, _, command = WHOLE[name]
    file, before = tmp_path / name, bytes_of(decided_quickly)

    @often(60)
    @given(DAMAGE)
    def examine(damage):
        file.write_bytes(damaged(content.encode(), damage))
        code, _, err = prism(*command.format(file=file).split(), "--store", decided_quickly)
        assert code in (0, 2), err
        assert "Traceback" not in err
        if code == 2:
            assert err.strip().splitlines()[-1].startswith("prism: ")

    examine()
    assert bytes_of(decided_quickly) == before


NAMES = st.sampled_from(["alpha", "network", "own", "publish", "seed"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8)


@often(60)
@given(VALUES)
def test_any_value_makes_parameters_or_a_sentence(value):
    for name in ("return_drawdown", "strategies", "own", "begin", "network", "source"):
        with suppress(InputError):
            made = forms.make({name: value})
            assert forms.make(json.loads(json.dumps(made.values()))) == made
