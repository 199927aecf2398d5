"""Every test has a store, a cache and a Prefect home of its own; nothing outside pytest's folders is touched."""

import os
import tempfile

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

import flows  # noqa: E402, F401 - prepares the environment as every entry point does
from storage.store import Store, open_store  # noqa: E402


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """An empty store, which tasks and flows find too."""
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "store"))
    return open_store()
