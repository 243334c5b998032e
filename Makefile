# `make demo` and `make test` set up everything they need, in .venv, and do their job.
# The second time they start at once. `make help` lists the rest.

PYTHON ?= python3
PYTEST_ARGS ?=
# Every worker has a database and models of its own, so there are not more than four.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Hundreds of processes are started by tests; each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all soak conformance check bench docs clean weights

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1#/p' $(MAKEFILE_LIST) | column -t -s '#'

demo: .venv/.installed weights  ## three agents at once on a real model in this process
	@$(BIN)/python examples/demo.py

test: .venv/.tests weights  ## every test but the slow ones
	$(BIN)/python -m pytest -m "not slow and not soak" $(WORKERS) $(PYTEST_ARGS)

test-all: .venv/.tests weights  ## every test but the soak
	$(BIN)/python -m pytest -m "not soak" $(WORKERS) $(PYTEST_ARGS)

soak: .venv/.tests  ## applications killed five hundred times over
	$(BIN)/python -m pytest -m soak tests/chaos $(PYTEST_ARGS)

conformance: .venv/.tests  ## the official MCP suite against our client; it brings Node packages
	$(BIN)/python -m tests.conformance

check: .venv/.tools  ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: .venv/.tests  ## measure; results go to benchmarks/results.json
	$(BIN)/python -m benchmarks
	$(BIN)/python docs/figures.py

docs: .venv/.tests  ## write the generated reference anew and test the words
	$(BIN)/python docs/reference.py
	$(BIN)/python -m pytest tests/docs

clean:  ## forget what was set up here
	rm -rf .venv .hatch .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

weights: .venv/.installed
	@$(BIN)/aosk models fetch >/dev/null

# Set-up. Each stamp is as new as what it was made from.

.venv/.made:
	@PYTHON="$(PYTHON)" sh .ci/make-venv
	@touch $@

.venv/.installed: .venv/.made pyproject.toml hatch_build.py
	@echo "Installing into .venv ..."
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --editable ".[local]"
	@touch $@

.venv/.tests: .venv/.installed
	@$(PIP) install --group test --group build
	@touch $@

.venv/.tools: .venv/.tests
	@$(PIP) install --group check
	@touch $@
