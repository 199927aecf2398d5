"""Cache keys change with all that answers depend on and nothing else; records that are not ours are never read."""

import base64
import json
import os
import pickle
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import TABLES
from tasks import allocate, caching, features, forecast, learn, learning, memos
from tasks.numerics.configs import FeatureConfig, Forecaster, OnlineConfig
from tasks.own_forecasts import Own

ROOT = Path(__file__).parents[2]
MOMENT = Moment(date(2024, 5, 1), date(2024, 4, 30), "prefix")


@pytest.fixture
def edited(monkeypatch):
    """Edits a module, as the cache sees it."""
    read = caching.source

    def edit(module):
        caching.fingerprint.cache_clear()
        text = {module: read(module) + "\n# edited\n"}
        monkeypatch.setattr(caching, "source", lambda name: text.get(name) or read(name))

    yield edit
    caching.fingerprint.cache_clear()


def key_of(strategy, config=OnlineConfig(), moment=MOMENT):  # noqa: B008 - frozen
    return learn.key(moment, learning.of_online(strategy, config), "M")


def test_a_key_changes_with_each_of_its_inputs():
    key = key_of("ogd")
    others = {
        key_of("ogd", moment=Moment(MOMENT.rebalance_date, MOMENT.as_of, "another")),
        key_of("other"),
        key_of("ogd", OnlineConfig(momentum=0.7)),
        learn.KEYED.key("ogd", prefix="prefix"),
        allocate.FIXED.key("ogd", prefix="prefix", config=OnlineConfig()),
    }
    assert len(others | {key}) == 6
    assert key == key_of("ogd")


def test_a_key_changes_with_the_schema_and_the_libraries(monkeypatch):
    keys = {features.feature_key(MOMENT, FeatureConfig())}
    monkeypatch.setattr(caching, "versions", lambda packages: dict.fromkeys(packages, "0"))
    keys.add(features.feature_key(MOMENT, FeatureConfig()))
    monkeypatch.setattr(caching, "SCHEMA", caching.SCHEMA + 1)
    assert len(keys | {features.feature_key(MOMENT, FeatureConfig())}) == 3


@pytest.mark.parametrize("module", ["tasks.learn", *caching.closure(learn.KEYED.modules)])
def test_a_key_changes_with_the_source_of_every_module_behind_it(edited, module):
    key = key_of("ogd")
    edited(module)
    assert key_of("ogd") != key


@pytest.mark.parametrize("module", ["tasks.numerics.configs", "tasks.numerics.vlstm", "tasks.forecast"])
def test_a_key_does_not_change_with_the_configs_source_or_another_stages(edited, module):
    key = key_of("ogd")
    edited(module)
    assert key_of("ogd") == key


def test_a_key_is_the_same_in_every_process_and_naming_a_forecast_loads_no_network():
    code = (
        "import flows, sys; from datetime import date; from storage.keys import Moment; from tasks import forecast\n"
        "from tasks.numerics.configs import Forecaster; from tasks.own_forecasts import Own\n"
        "moment, first = (Moment(date(2024, n, 1), date(2024, n - 1, 29), 'prefix') for n in (5, 2))\n"
        "trained = forecast.Trained(first, 'parent')\n"
        "print(forecast.month_keys(moment, 'seen', trained, Forecaster(), Own()).forecast)\n"
        "print('torch' in sys.modules)"
    )
    variables = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=ROOT, capture_output=True, text=True, check=True
    )
    moment, first = (Moment(date(2024, month, 1), date(2024, month - 1, 29), "prefix") for month in (5, 2))
    here = forecast.month_keys(moment, "seen", forecast.Trained(first, "parent"), Forecaster(), Own()).forecast
    assert said.stdout.split() == [here, "False"]


def test_the_closure_follows_imports_wherever_they_stand(monkeypatch):
    sources = {
        "tasks.numerics.online": "def f():\n    from tasks.numerics import loss\n    import numpy\n",
        "tasks.numerics.loss": "if True:\n    import tasks.numerics.windows as w\n",
        "tasks.numerics.windows": "from tasks.numerics.configs import OnlineConfig\nfrom prefect import task\n",
    }
    monkeypatch.setattr(caching, "source", sources.__getitem__)
    assert caching.closure(("tasks.numerics.online",)) == tuple(sorted(sources))


def test_the_real_closure_of_forecasts_holds_the_network_and_its_loss():
    reached = set(caching.closure(forecast.KEYED.modules))
    assert {"tasks.histories", "tasks.models", "tasks.own_forecasts", "storage.unfinished"} <= reached
    assert {"tasks.numerics.vlstm", "tasks.numerics.loss", "tasks.numerics.windows", "storage.snapshots"} <= reached
    assert "tasks.numerics.configs" not in reached


def test_a_module_without_source_is_named():
    with pytest.raises(ImportError, match=r"tasks\.numerics\.nothing has no source file"):
        caching.source("tasks.numerics.nothing")


def chunk_key(inputs, task_key="task"):
    context = SimpleNamespace(task=SimpleNamespace(task_key=task_key))
    return learn.KEYED.compute_key(context, inputs, {})


def test_a_chunks_key_leaves_the_panel_out_and_holds_the_rest(store, monkeypatch, tmp_path):
    inputs = {"panel": PanelKey("snapshot", "universe"), "moments": (MOMENT,), "strategy": "ogd"}
    key = chunk_key(inputs)
    assert chunk_key({**inputs, "panel": PanelKey("newer", "universe")}) == key
    assert chunk_key({**inputs, "moments": (MOMENT, MOMENT)}) != key
    assert chunk_key(inputs, "another task") != key
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    assert chunk_key(inputs) != key


@pytest.mark.parametrize("value", [pd.DataFrame(), np.zeros(2), {1, 2}, object(), np.float64(1), lambda: 0])
def test_what_has_no_exact_form_cannot_be_part_of_a_key(store, value):
    with pytest.raises(TypeError, match="cannot be part of a key; pass a key, a number, a date or a string"):
        chunk_key({"value": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        chunk_key({"value": float("nan")})


PRODUCED = Produced("weights", ("k1", "k2"))


@pytest.fixture
def stored(store):
    """A store that holds the rows of PRODUCED."""
    one = {"as_of": date(2024, 4, 30), "strategy": "ogd", "ticker": "A", "weight": 1.0}
    tables.put(store, "weights", pa.Table.from_pylist([{"key": k, **one} for k in PRODUCED.keys], schema("weights")))
    return store


def schema(name):
    return TABLES[name].schema


def written(produced=PRODUCED):
    """A record as Prefect writes it."""
    metadata = ResultRecordMetadata(serializer=JSONSerializer(), storage_key="some/file")
    return ResultRecord(metadata=metadata, result=produced).serialize().decode()


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def planted(name, bomb):
    """A hostile or damaged record."""
    good = json.loads(written())
    armed = base64.encodebytes(pickle.dumps(bomb)).decode()
    serializers = {"pickle": {"type": "pickle", "picklelib": "cloudpickle"}}
    decoder = {**good["metadata"]["serializer"], "object_decoder": "subprocess.run"}
    result = json.loads(good["result"])
    metadata = good["metadata"]
    content = {
        "pickle": {"metadata": {**metadata, "serializer": serializers["pickle"]}, "result": armed},
        "pickle under the old names": {**good, "serializer": serializers["pickle"], "data": armed},
        "another decoder": {**good, "metadata": {**metadata, "serializer": decoder}},
        "another class": {**good, "result": json.dumps({**result, "__class__": "subprocess.Popen"})},
        "more in the result": {**good, "result": json.dumps({**result, "more": {"__class__": "pathlib.Path"}})},
        "another table": {**good, "result": written_result(Produced("../../etc", ()))},
        "no keys": {**good, "result": json.dumps({**result, "data": {"table": "weights"}})},
        "keys of another kind": {**good, "result": json.dumps({**result, "data": {"table": "weights", "keys": [[]]}})},
        "rows that are gone": {**good, "result": written_result(Produced("weights", ("k1", "k3")))},
        "a list": [],
    }
    texts = {name: json.dumps(value, separators=(",", ":")) for name, value in content.items()}
    pickled = json.dumps(serializers["pickle"])
    texts["a name given twice"] = written()[:-1] + f',"metadata":{{"serializer":{pickled}}},"result":"x"}}'
    texts["a name given twice before"] = f'{{"serializer":{pickled},' + written()[1:]
    texts |= {"torn": written()[:-20], "empty": "", "nested": "[" * 100_000, "spaced": json.dumps(good, indent=1)}
    return texts[name]


def written_result(produced):
    return json.loads(written(produced))["result"]


NAMES = [
    "pickle", "pickle under the old names", "another decoder", "another class", "more in the result", "another table",
    "no keys", "keys of another kind", "rows that are gone", "a list", "a name given twice",
    "a name given twice before", "torn", "empty", "nested", "spaced",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_record_that_is_not_ours_is_deleted_and_nothing_in_it_runs(stored, tmp_path, name):
    record, mark = tmp_path / "record", tmp_path / "it ran"
    record.write_text(planted(name, Bomb(mark)))
    caching.forget_unless_ours(record)
    assert not record.exists()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pickle", "pickle under the old names"])
def test_prefect_by_itself_would_run_it(tmp_path, name):
    mark = tmp_path / "it ran"
    ResultRecord.deserialize(planted(name, Bomb(mark)).encode())
    assert mark.exists()


def test_the_project_is_the_source_of_all_layers_and_of_nothing_else(tmp_path, monkeypatch):
    def seen():
        caching.project.cache_clear()
        return caching.project()

    for folder in ("flows", "tasks/numerics", "storage", "tests"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.py").write_text("1")
    monkeypatch.setattr(caching, "_ROOT", tmp_path)
    hashes = [seen()]
    for folder in ("flows", "tasks/numerics", "storage"):
        (tmp_path / folder / "one.py").write_text("2")
        hashes.append(seen())
    assert len(set(hashes)) == 4
    (tmp_path / "tests" / "one.py").write_text("2")
    assert seen() == hashes[-1]
    caching.project.cache_clear()


def test_bytes_that_are_no_text_are_deleted(stored, tmp_path):
    record = tmp_path / "record"
    record.write_bytes(b"\x80\x04\xff")
    caching.forget_unless_ours(record)
    assert not record.exists()


def test_a_record_as_prefect_writes_it_is_kept(stored, tmp_path):
    record = tmp_path / "record"
    record.write_text(written())
    caching.forget_unless_ours(record)
    assert record.read_text() == written()
    assert ResultRecord.deserialize(record.read_bytes()).result == PRODUCED


def test_where_there_is_no_record_nothing_happens(stored, tmp_path):
    caching.forget_unless_ours(tmp_path / "none")
    assert list(tmp_path.glob("none*")) == []


def test_computing_a_chunks_key_forgets_a_hostile_record_under_it(stored, tmp_path):
    inputs = {"moments": (MOMENT,)}
    record = caching._RESULTS / chunk_key(inputs)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(planted("pickle", Bomb(tmp_path / "it ran")))
    chunk_key(inputs)
    assert not record.exists()


def test_records_and_memos_that_are_old_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path))
    monkeypatch.setattr(caching, "_RESULTS", tmp_path / "results")
    memos.write("new", {"answer": 1})
    memos.write("old", {"answer": 2})
    os.utime(memos.place("old"), (0, 0))
    assert caching.forget_older(90) == 1
    assert (memos.read("new"), memos.read("old")) == ({"answer": 1}, None)
