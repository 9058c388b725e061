# One habit per target. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint types imports bench kills chaos sabotage docs docs-write up down clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The demo's numbers; change them on the command line: make demo LEADS=1000 MISSING_EMAIL=7
LEADS ?= 247
MISSING_EMAIL ?= 2
DUPLICATES ?= 12
export LEADS MISSING_EMAIL DUPLICATES
# One more than a small machine has cores: many tests wait for a process or a clock.
TEST_PROCESSES ?= 3

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | while IFS="$$(printf '\t')" read -r name text; do printf '  %-10s %s\n' "$$name" "$$text"; done

$(STAMP): pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --quiet --compile-bytecode
	@$(BIN)/python -m compileall -q sync_platform
	@touch $(STAMP)

setup: $(STAMP) ## install everything into .venv

demo: setup ## run the main job against the sandbox, no account needed
	@$(BIN)/sync-platform demo

test: setup ## run every test but the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n $(TEST_PROCESSES) --dist loadgroup

test-all: setup ## run every test
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## mypy --strict on the package
	@$(BIN)/mypy --strict sync_platform

imports: setup ## which part may know which (import-linter), and that every package used is declared (deptry)
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

bench: setup ## measure against peers, side by side
	@$(BIN)/python -m tests.bench

kills: setup ## kill -9 at every crash point (between two PostgreSQL: `make chaos`)
	@$(BIN)/python -m pytest tests/chaos -n 2 -k "crash_point and not 17-18"

chaos: setup ## kills at crash points, held calls, random moments; faults; restarts
	@$(BIN)/python -m pytest tests/chaos -n 2

sabotage: setup ## break the product on purpose; each break must turn a test red
	@$(BIN)/python -m tests.sabotage $(SABOTAGE)

docs: setup ## check that the docs are true
	@$(BIN)/python -m pytest tests/docs

docs-write: setup ## write docs/cli.md from the command line's own help
	@$(BIN)/python -m tests.docs.cli_reference

up: setup ## start state, sandbox, UI (http://127.0.0.1:3000) and daemon
	@$(BIN)/sync-platform up --sandbox

down: setup ## stop what `up` started
	@$(BIN)/sync-platform down

clean: ## remove .venv and caches (not .sync, your state)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist
