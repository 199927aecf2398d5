"""`prism query` reads views and nothing else: no file is seen, made or changed, and no setting is loosened."""

import hashlib
from contextlib import nullcontext

import duckdb
import pytest

from storage import catalog
from storage.errors import InputError
from storage.store import open_store

SECRET = "s3cret"
ATTACKS = """
SELECT * FROM read_text('{beside}/secret.csv')
SELECT * FROM read_blob('{beside}/secret.csv')
SELECT * FROM read_csv('{beside}/secret.csv')
SELECT * FROM read_csv_auto('{store}/../beside/secret.csv')
SELECT * FROM read_json('{beside}/secret.csv')
SELECT * FROM read_json_objects('{beside}/secret.csv')
SELECT * FROM read_parquet('{beside}/secret.parquet')
SELECT * FROM parquet_metadata('{beside}/secret.parquet')
SELECT * FROM parquet_schema('{beside}/secret.parquet')
SELECT * FROM parquet_kv_metadata('{beside}/secret.parquet')
SELECT * FROM sniff_csv('{beside}/secret.csv')
SELECT * FROM '{beside}/secret.csv'
SELECT * FROM '{beside}/*.csv'
SELECT * FROM glob('{beside}/*')
SELECT * FROM glob('/etc/pass*')
SELECT * FROM query('SELECT * FROM read_text(''{beside}/secret.csv'')')
SELECT * FROM read_text((SELECT '{beside}/secret.csv'))
WITH a AS (SELECT * FROM read_text('{beside}/secret.csv')) SELECT * FROM a
SELECT (SELECT content FROM read_text('{beside}/secret.csv'))
EXPLAIN ANALYZE SELECT * FROM read_text('{beside}/secret.csv')
SELECT * FROM read_csv('http://127.0.0.1:9/secret.csv')
SELECT * FROM read_parquet('s3://bucket/secret.parquet')
COPY (SELECT 1) TO '{beside}/evil.csv'
COPY (SELECT 1) TO '{store}/evil.csv'
COPY (SELECT 1) TO '{store}/STORE.json' (FORMAT csv, USE_TMP_FILE false)
COPY (PIVOT weights ON strategy USING sum(weight)) TO '{store}/evil.csv'
EXPLAIN ANALYZE COPY (SELECT 1) TO '{store}/evil.csv'
SELECT 1; COPY (SELECT 1) TO '{store}/evil.csv'
/* */ COPY weights TO '{store}/evil.parquet'
COPY weights FROM '{beside}/secret.csv'
EXPORT DATABASE '{store}/evil'
IMPORT DATABASE '{beside}'
ATTACH '{store}/evil.db'
ATTACH '{beside}/secret.db' AS other (READ_ONLY)
ATTACH ':memory:' AS other
DETACH memory
USE other
INSTALL httpfs
LOAD httpfs
LOAD '{beside}/evil.duckdb_extension'
SET enable_external_access = true
SET allowed_directories = ['/']
SET lock_configuration = false
RESET enable_external_access
PRAGMA enable_external_access
PRAGMA temp_directory='{beside}'
CALL pragma_version()
CHECKPOINT
VACUUM
DROP VIEW weights
CREATE TABLE evil AS SELECT 1
CREATE OR REPLACE VIEW weights AS SELECT 1
CREATE SECRET evil (TYPE http)
INSERT INTO weights VALUES (1)
DELETE FROM weights
UPDATE weights SET weight = 1
ALTER VIEW weights RENAME TO evil
PREPARE evil AS SELECT 1
BEGIN TRANSACTION
SELECT 1; SELECT 2
-- nothing
""".strip().splitlines()


def bytes_of(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store, and beside it files that are nobody's business."""
    folder = tmp_path_factory.mktemp("query")
    beside = folder / "beside"
    beside.mkdir()
    for name in ("secret.csv", "secret.parquet", "secret.db"):
        (beside / name).write_text(f"a\n{SECRET}\n")
    store = open_store(folder / "store")
    catalog.query(store, "main", "SELECT * FROM weights")  # makes the tables
    return store, beside, bytes_of(folder)


@pytest.fixture(scope="module")
def opened(place):
    """One connection for all attacks, each of which may build on those before it."""
    with catalog.connect(place[0]) as connection:
        yield connection


@pytest.mark.parametrize("sql", ATTACKS)
def test_an_attack_is_a_sentence_and_changes_nothing(place, opened, sql, tmp_path, monkeypatch):
    store, beside, before = place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalog, "connect", lambda *_: nullcontext(opened))
    with pytest.raises(InputError) as raised:
        catalog.query(store, "main", sql.format(store=store.root, beside=beside))
    assert SECRET not in str(raised.value)
    assert "; views are actions, against" in str(raised.value)
    assert bytes_of(beside.parent) == before
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_needs_more_memory_than_there_is_is_refused_and_writes_nowhere(place, tmp_path, monkeypatch):
    store, beside, before = place
    monkeypatch.chdir(tmp_path)
    original = duckdb.connect

    def small(*arguments):
        connection = original(*arguments)
        connection.execute("SET memory_limit = '20MB'")
        return connection

    monkeypatch.setattr(duckdb, "connect", small)
    with pytest.raises(InputError, match="Out of Memory Error"):
        catalog.query(store, "main", "SELECT * FROM range(8000000) t(a) ORDER BY hash(a)")
    assert bytes_of(beside.parent) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    ["SELECT getenv('PRISM_PROXY')", "SELECT current_setting('PRISM_PROXY')", "FROM read_text('/proc/self/environ')"],
)
def test_nothing_of_the_environment_is_told(place, opened, monkeypatch, sql):
    monkeypatch.setenv("PRISM_PROXY", f"http://me:{SECRET}@proxy:3128")
    monkeypatch.setattr(catalog, "connect", lambda *_: nullcontext(opened))
    with pytest.raises(InputError) as raised:
        catalog.query(place[0], "main", sql)
    assert SECRET not in str(raised.value)
