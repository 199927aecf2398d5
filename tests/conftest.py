"""Every test has a store, a cache and a Prefect home of its own; nothing outside pytest's folders is touched."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

# before Prefect, numba or a stage is imported: they read their places once
# the processes that share a run share its compiled kernels, and have a Prefect each
_HOME = os.environ.setdefault("PRISM_TESTS_HOME", tempfile.mkdtemp(prefix="prism-tests-"))
os.environ["PRISM_CACHE"] = os.path.join(_HOME, "cache")
os.environ["PREFECT_HOME"] = os.path.join(_HOME, "prefect-" + os.environ.get("PYTEST_XDIST_WORKER", "alone"))
os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
os.environ.pop("PREFECT_API_URL", None)
os.environ["PRISM_LEAK_GATE"] = "false"  # its own tests switch it on
os.environ["PRISM_REPORT"] = "false"  # and those that look at what a run leaves, too

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

import flows  # noqa: E402, F401 - prepares the environment as every entry point does
from storage.store import Store, open_store  # noqa: E402

settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)  # no test of speed
settings.load_profile("busy")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """An empty store, which tasks and flows find too."""
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "store"))
    return open_store()


@contextmanager
def _serving(*arguments: object) -> Iterator[dict[str, str]]:
    command = [sys.executable, str(Path(__file__).with_name("object_storage.py")), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            for bucket in ("prism", "careless"):
                urlopen(Request(f"{address}/{bucket}", method="PUT")).close()
            keys = {"AWS_ACCESS_KEY_ID": "prism-tests", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown"}
            yield {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", **keys}
        finally:
            server.kill()


@pytest.fixture(scope="session")
def object_storage() -> Callable[..., AbstractContextManager[dict[str, str]]]:
    """S3 on this machine (tests/object_storage.py) while a block runs; what the environment is to say of it."""
    return _serving


@pytest.fixture(scope="session")
def shared_storage(object_storage) -> Iterator[dict[str, str]]:
    """One S3 for all tests of this process."""
    with object_storage() as environment:
        yield environment


@pytest.fixture
def s3(shared_storage, monkeypatch) -> str:
    """An address for a store, which the environment reaches."""
    for name, value in shared_storage.items():
        monkeypatch.setenv(name, value)
    return f"s3://prism/{uuid.uuid4().hex}"
