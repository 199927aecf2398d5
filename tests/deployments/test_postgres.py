"""Prefect's server on PostgreSQL, as it is installed by Debian: a monthly run, and what the database holds of it."""

import asyncio
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from storage import ledger
from storage.store import open_store

pytestmark = pytest.mark.long
PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PRISM = [sys.executable, "-c", "from flows.cli import main; main()"]


def user():
    """Whom PostgreSQL runs as: it refuses root."""
    if os.geteuid():
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


@pytest.fixture
def database(port):
    """A cluster of its own in a temporary folder: user, password, address and port of its database `postgres`."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {PROGRAMS}")
    owner, folder, number = user(), Path(tempfile.mkdtemp(prefix="prism-postgres-")), port()
    secret = folder / "password"
    secret.write_text("of-the-tests")
    for place in (folder, secret):
        os.chown(place, owner.pw_uid, owner.pw_gid)
    change = {} if os.geteuid() else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def run(program, *arguments):
        command = [PROGRAMS / program, "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **change)

    try:
        run("initdb", "--username=prism", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8")
        options = f"-p {number} -k {folder} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-o", options, "-l", folder / "log", "-w", "start")
        try:
            yield f"prism:of-the-tests@127.0.0.1:{number}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


async def rows(address, sql):
    connection = await asyncpg.connect(f"postgresql://{address}")
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def test_a_monthly_run_is_recorded_there(database, environment, market, answering, port, tmp_path):
    light = json.loads((market / "light.json").read_text()) | {"source": "sample", "index": None}
    (tmp_path / "light.json").write_text(json.dumps(light))
    known = environment | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PRISM_STORE": str(tmp_path / "store"),
    }
    number = port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(number)]
    with (tmp_path / "server.log").open("w") as out:
        server = subprocess.Popen(command, env=known, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT)
        try:
            answering(f"http://127.0.0.1:{number}/api/health")
            ran = subprocess.run(
                [*PRISM, "run", "--months", "1", "--params", tmp_path / "light.json"],
                env=known | {"PREFECT_API_URL": f"http://127.0.0.1:{number}/api"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr
            made = asyncio.run(rows(database, "SELECT state_type, state_name FROM flow_run"))
            keys = {key for (key,) in asyncio.run(rows(database, "SELECT key FROM artifact"))}
            tasks = asyncio.run(rows(database, "SELECT DISTINCT state_name FROM task_run"))
        finally:
            server.terminate()
            server.wait(60)
    assert made == [("COMPLETED", "Completed")]
    assert {"summary-main", "weights-main", "trades-main", "report-main"} <= keys
    assert ("Completed",) in tasks
    assert not (tmp_path / "prefect" / "prefect.db").exists(), "nothing went to a database of its own"
    assert len(ledger.read(open_store(tmp_path / "store"), "main")) == 1
