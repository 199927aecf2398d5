"""What is installed is pinned, and `make audit` never calls safe what nobody was asked about."""

import json
import re
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parents[2] / "deployments"
EXTRAS = ("browser", "dask", "garch", "peers", "dev")


def pins():
    found = re.findall(r"^([\w.-]+)==(\S+)$", (FOLDER / "constraints.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def installed():
    """Name and version of every installed package that the project or an extra needs, directly or not."""
    found, seen, waiting = {}, set(), [("prism-portfolio", extra) for extra in ("", *EXTRAS)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            there = distribution(name)
        except PackageNotFoundError:  # of another system
            continue
        found[name] = there.version
        for needed in map(Requirement, there.requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    return {name: version for name, version in found.items() if name != "prism-portfolio"}


def test_every_package_that_is_installed_for_the_project_is_pinned_at_its_version():
    there = installed()
    assert len(there) > 100
    assert {name: version for name, version in there.items() if pins().get(name) != version.partition("+")[0]} == {}


def test_pins_are_exact_and_in_order():
    lines = [line for line in (FOLDER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    assert len(pins()) == len(lines)


def answer(known, unknown=0, weak=()):
    """What pip-audit reports."""
    rows = [{"name": f"p{n}", "version": "1", "vulns": [{"id": "CVE-1"}] if n in weak else []} for n in range(known)]
    return {"dependencies": rows + [{"name": f"u{n}", "skip_reason": "not found"} for n in range(unknown)]}


@pytest.mark.parametrize(
    ("report", "code", "ended", "said"),
    [
        (None, 1, 0, "skipped, the service that knows of weaknesses did not answer"),
        (answer(0, 9), 0, 0, "skipped, the package index knows of weaknesses of none of the 9 packages"),
        (answer(5, 2), 0, 0, "5 packages were looked up, 2 are unknown there"),
        (answer(5, 0, {3}), 1, 1, "a package has a known weakness; raise its version"),
    ],
)
def test_an_audit_says_what_it_looked_at(tmp_path, report, code, ended, said):
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    (tmp_path / "report.json").write_text(json.dumps(report) if report else "")
    fake.write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n'
        f'[ -s {tmp_path}/report.json ] && cp {tmp_path}/report.json "$2"\necho "some words"\nexit {code}\n'
    )
    fake.chmod(0o755)
    found = subprocess.run(["sh", FOLDER / "audit.sh"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == ended
    assert f"prism: {said}" in found.stdout + found.stderr
