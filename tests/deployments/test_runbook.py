"""Every command of the runbook exists, with its options; the images hold what they say."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer
import yaml

from flows import cli, deploying  # noqa: F401 - cli adds all commands
from flows.options import app
from storage.settings import Settings

FOLDER = Path(__file__).parents[2] / "deployments"
RUNBOOK = (FOLDER / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```\n(.*?)```", RUNBOOK, re.DOTALL))
QUOTED = [" ".join(each.split()) for each in re.findall(r"`(prism [a-z][^`]*)`", RUNBOOK)]
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("prism ")] + QUOTED
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_a_command_is_understood(line):
    """Parsed by the program itself, up to where it would run."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {name: option for option in command.params for name in option.opts if name.startswith("--")}
    assert [word for word in words if word.startswith("--") and word not in options] == []
    if line not in QUOTED:
        command.make_context(command.name, words)  # values and required ones too


def test_the_runbook_covers_what_happens():
    for heading in (
        "First set-up", "Upgrade", "Backup and restore", "A month that failed", "A restated price",
        "A ticker renamed, delisted or merged", "Wrong weights published", "January's new block",
        "Moving to S3", "Prefect's server on PostgreSQL", "Adding a GPU worker", "Rotating the API key",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in RUNBOOK


def test_make_has_the_targets_that_are_named():
    targets = set(re.findall(r"^([a-z-]+):", (FOLDER.parent / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", BLOCKS, re.MULTILINE)) <= targets


def test_deployments_and_settings_that_are_named_exist():
    named = {f"{flow}/{name}" for flow, name in re.findall(r"(train-forecaster)/(\w+)", RUNBOOK)}
    declared = {f"{deploying.of_entry(entry).flow_name}/{entry['name']}" for entry in deploying.declared()}
    assert named <= declared
    known = {f"PRISM_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"PRISM_[A-Z_]+", RUNBOOK)) <= known


def test_the_images_are_built_from_what_is_there():
    root = FOLDER.parent
    sources = [word for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert sources
    assert all((root / source).exists() for source in sources)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(ignored)
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert all("--constraint deployments/constraints.txt" in line for line in installs)
    assert re.search(r"^FROM python:3\.11-slim AS base$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM base AS (\w+)$", DOCKERFILE, re.MULTILINE)) == set(deploying.POOLS)


def test_the_services_use_our_images_pools_and_settings():
    services = COMPOSE["services"]
    for service in services.values():
        if "build" in service:
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
            assert f"AS {service['build']['target']}" in DOCKERFILE
        for word in service.get("env_file", "").split():
            assert (FOLDER / word).exists()
    for name, pool in (("worker", "cpu"), ("gpu-worker", "gpu")):
        command = services[name]["command"]
        assert command[command.index("--pool") + 1] == pool
        assert {f"PRISM_{field.upper()}" for field in Settings.model_fields} >= {
            each for each in services[name]["environment"] if each.startswith("PRISM_")
        }
    assert all(port.startswith("127.0.0.1:") for port in services["server"]["ports"])
    assert not re.search(r"(PASSWORD|AUTH_STRING): [^$\n]", (FOLDER / "compose.yaml").read_text())
