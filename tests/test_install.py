"""The first thing a new user meets: an installation that fails says in one sentence what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "deployments" / "install.sh"


@pytest.fixture
def install(tmp_path):
    """Run the script with an interpreter that says its version, makes an environment, and installs as told."""

    def run(version="3.11", pip="exit 0", interpreter="python", index=""):
        fake = tmp_path / "python"
        pretended = tmp_path / "pretended"
        pretended.write_text(f"#!/bin/sh\n{pip}\n")
        made = f"mkdir -p .venv/bin; cp {pretended} .venv/bin/python"
        fake.write_text(f"#!/bin/sh\ncase $1 in -c) echo {version};; -m) {made};; esac\n")
        for file in (fake, pretended):
            file.chmod(0o755)
        return subprocess.run(
            ["sh", SCRIPT, "."],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / interpreter), "TORCH_INDEX": index},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"version": "3.9"}, "is Python 3.9 and PRISM supports 3.11; name one with make PYTHON="),
        ({"interpreter": "absent"}, "does not run; install Python 3.11"),
        ({"pip": "echo 'ERROR: [Errno 28] No space left on device'; exit 1"}, "the disk is full; free 4 GB"),
        ({"pip": "echo 'Failed to establish a new connection'; exit 1"}, "the package index cannot be reached"),
        ({"pip": "echo 'ERROR: No matching distribution (from versions: none)'; exit 1"}, "cannot be reached"),
        ({"pip": "echo 'metadata is broken'; exit 1"}, "the last lines of .venv/install.log say why"),
    ],
)
def test_a_failed_installation_ends_in_one_sentence(install, given, sentence):
    ended = install(**given)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_torch_comes_from_the_index_that_is_given(install, tmp_path):
    ended = install(pip='echo "$@" >> asked', index="http://index.invalid/cpu")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ended.returncode == 0
    assert "--index-url http://index.invalid/cpu torch" in asked[0]
    assert "--editable ." in asked[1]


def test_the_script_needs_nothing_but_a_posix_shell():
    checker = shutil.which("dash") or "/bin/sh"
    assert subprocess.run([checker, "-n", SCRIPT], check=False).returncode == 0
