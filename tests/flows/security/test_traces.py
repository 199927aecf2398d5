"""What a whole run leaves on the disk: no pickle, and no secret."""

import base64
import binascii
import io
import json
import os
import pickle
import pickletools
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OBJECT = {"state": [1.5, "text"], "of": Path("/tmp")}
FRAMED = re.compile(rb"\x80[\x04\x05]\x95.{8}", re.DOTALL)  # protocols 4 and 5, which frame what is not tiny
BASE64 = re.compile(rb"gA[I-X][A-Za-z0-9+/=]{14,}")  # of \x80 and a protocol
SQLITE = b"SQLite format 3\0"


def in_bytes(content: bytes) -> bool:
    """Whether a pickle begins the content, stands framed anywhere in it, or does so in base64."""
    starts = {0, *(found.start() for found in FRAMED.finditer(content))}
    texts = [found[0] for found in BASE64.finditer(content)]
    return any(is_pickle(content[start:]) for start in starts) or any(map(is_pickle, map(decoded, texts)))


def holds_pickle(path: Path) -> bool:
    """The same of a file; of a database, of each of its cells too."""
    content = path.read_bytes()
    if in_bytes(content):
        return True
    return content.startswith(SQLITE) and any(map(in_bytes, cells(path)))


def cells(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        names = [name.decode() for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for name in names for row in database.execute(f'SELECT * FROM "{name}"')]
    return [cell for row in rows for cell in row if isinstance(cell, bytes)]


def decoded(text: bytes) -> bytes:
    with suppress(binascii.Error):
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    return b""


def is_pickle(content: bytes) -> bool:
    """Whether the bytes are read as a pickle up to its end, and are more than a lone letter that means the same."""
    codes = 0
    try:
        for code, _, _ in pickletools.genops(io.BytesIO(content)):
            codes += 1
            if code.name == "STOP":
                return codes > 3 or content[:1] == b"\x80"
    except (ValueError, KeyError, UnicodeDecodeError, OverflowError, MemoryError, AttributeError, IndexError):
        return False
    return False


@pytest.mark.parametrize("protocol", range(6))
def test_a_planted_pickle_is_found_however_it_is_written(tmp_path, protocol):
    planted = pickle.dumps(OBJECT, protocol)
    (tmp_path / "bare").write_bytes(planted)
    assert holds_pickle(tmp_path / "bare")
    if protocol >= 2:
        (tmp_path / "text").write_text(json.dumps({"data": base64.b64encode(planted).decode()}))
        assert holds_pickle(tmp_path / "text")
    if protocol >= 4:
        (tmp_path / "inside").write_bytes(b"before" + planted + b"after")
        assert holds_pickle(tmp_path / "inside")


def test_a_pickle_in_a_database_is_found_and_what_is_none_is_not(tmp_path):
    with closing(sqlite3.connect(tmp_path / "some.db")) as database, database:
        database.execute("CREATE TABLE t (a TEXT, b BLOB)")
        database.execute("INSERT INTO t VALUES ('text.', ?)", [os.urandom(5000)])
    assert not holds_pickle(tmp_path / "some.db")
    with closing(sqlite3.connect(tmp_path / "some.db")) as database, database:
        database.execute("INSERT INTO t VALUES ('text', ?)", [pickle.dumps(OBJECT, 2)])
    assert holds_pickle(tmp_path / "some.db")
    for content in (
        b"",
        b".",
        b"N.",
        b"plain text.",
        b"PAR1" + bytes(range(256)),
        json.dumps(OBJECT, default=str).encode(),
    ):
        assert not in_bytes(content)


SECRETS = {
    "PRISM_PROXY": "http://someone:pr0xys3cret@127.0.0.1:9",
    "PRISM_HEARTBEAT_URL": "http://127.0.0.1:9/h3arts3cret",
    "PREFECT_API_KEY": "pnu_k3ys3cret",
    "PREFECT_SERVER_API_AUTH_STRING": "prism:s3rvers3cret",
    "PREFECT_API_AUTH_STRING": "prism:s3rvers3cret",
}
SAID = (b"pr0xys3cret", b"h3arts3cret", b"k3ys3cret", b"s3rvers3cret")
RUN = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(name="mine", url="http://127.0.0.1:9/", secrets={"t": "w3bhooks3cret"}).save("mine")
from flows.cli import main
main()
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory, prices, light):
    """The folders that a run which decides, reports and cannot reach its monitor has filled, and what it printed."""
    place = tmp_path_factory.mktemp("traces")
    prices.to_csv(place / "prices.csv")
    folders = {name: place / name for name in ("store", "cache", "home")}
    own = {"PRISM_STORE": "store", "PRISM_CACHE": "cache", "PREFECT_HOME": "home"}
    environment = os.environ | SECRETS | {name: str(folders[folder]) for name, folder in own.items()}
    environment |= {"PRISM_REPORT": "true", "PRISM_LEAK_GATE": "true", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    (place / "light.json").write_text(json.dumps(light.values()))
    given = ["--params", place / "light.json", "--path", place / "prices.csv", "--months", "2"]
    printed = b""
    for command in (
        ["run", *given],
        ["ingest", "--source", "yahoo", "--universe", "magnificent7", "--scenario", "other"],
        ["doctor"],
    ):
        run = [sys.executable, "-c", RUN if command[0] == "run" else "from flows.cli import main; main()"]
        ended = subprocess.run([*run, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, check=False)
        assert ended.returncode == (1 if command[0] == "ingest" else 0), ended.stderr.decode()
        printed += ended.stdout + ended.stderr
    return folders, printed


@pytest.mark.long
@pytest.mark.flow
def test_a_whole_run_leaves_no_pickle(left):
    folders, _ = left
    compiled = folders["cache"] / "numba"  # numba pickles the index of its own cache; nobody else may write there
    files = [file for folder in folders.values() for file in folder.rglob("*") if file.is_file()]
    looked_at = [file for file in files if not file.is_relative_to(compiled)]
    assert {file.suffix for file in looked_at} >= {".parquet", ".json", ".db", ".html"}
    assert len(looked_at) > 100
    assert [file for file in looked_at if holds_pickle(file)] == []
    assert folders["cache"].stat().st_mode & 0o777 == 0o700


@pytest.mark.long
@pytest.mark.flow
def test_a_whole_run_tells_no_secret(left):
    folders, printed = left
    assert b"PRISM_HEARTBEAT_URL did not answer" in printed
    assert b"PRISM_PROXY" in printed
    for secret in (*SAID, b"w3bhooks3cret"):
        assert secret not in printed
        for file in (file for folder in folders.values() for file in folder.rglob("*") if file.is_file()):
            assert secret not in file.read_bytes(), file
