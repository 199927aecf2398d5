# The two commands of the README, and what developers add to them.
#   make run      environment, then the monthly run on the embedded sample
#   make test     environment, then the test suite, as CI runs it
#   make test-all the suite with its long tests
#   make torture  kills by the thousand, every crash point, power cuts, killed flows; an hour and more
#   make ui       environment, then Prefect's pages on this machine: server, worker, deployments, reports
#   make audit    known weaknesses of the packages, asked of the package index (pip-audit)
#   make results  environment, then the README's table of results on the embedded sample, made anew
#   make bench    environment, then the benchmark: ours beside a baseline, kept in tests/benchmarks/latest.json
# TORCH_INDEX=URL takes torch from another package index; PYTHON=... names the interpreter.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: run ui test test-all torture audit results bench lint clean

run: .venv/installed
	@$(BIN)/prism run

ui: .venv/installed
	@exec $(BIN)/prism ui

test: .venv/installed-dev
	@$(BIN)/python -m pytest

test-all: .venv/installed-dev
	@$(BIN)/python -m pytest -m "long or not long"

audit: .venv/installed-audit
	@sh deployments/audit.sh

torture: .venv/installed-dev
	@sh tests/torture/all.sh $(BIN)/python

bench: .venv/installed-dev
	@$(BIN)/python -m tests.benchmarks.run

results: .venv/installed-dev
	@$(BIN)/python -m tests.benchmarks.results

lint: .venv/installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf .venv store .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml deployments/constraints.txt deployments/install.sh
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh deployments/install.sh . && touch $@

.venv/installed-dev: .venv/installed
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh deployments/install.sh '.[dev]' && touch $@

.venv/installed-audit: .venv/installed
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh deployments/install.sh '.[audit]' && touch $@
