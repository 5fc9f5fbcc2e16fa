# Two commands for everybody: `make demo` runs the main job, `make test` passes every test.
# Each sets up its own .venv from the lock file on a machine that has only Python 3.11+, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AGENTS ?=

.PHONY: demo test check lint types imports tests chaos lock bench pictures clean help

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Spurline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say make PYTHON=python3.12, for one.") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing from requirements.lock into $(VENV) …" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)  ## Work the bundled backlog in the closed loop (AGENTS=100 for a hundred agents)
	@$(BIN)/spurline demo $(if $(AGENTS),--agents $(AGENTS))

test: check tests  ## Lint, types, import rules and all tests

check: lint types imports

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(STAMP)
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks/*.py

imports: $(STAMP)
	@$(BIN)/lint-imports --no-cache

tests: $(STAMP)
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile

chaos: $(STAMP)  ## Run the tests that kill, cut and flood for minutes
	@CHAOS_SEED=$${CHAOS_SEED:-$$(date +%s)} $(BIN)/python -m pytest -q -m chaos tests

bench: $(STAMP)  ## Run the benchmarks; raw numbers go to benchmarks/results
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: $(STAMP)  ## Resolve the dependencies anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 \
		--all-extras --group dev --output-file requirements.lock pyproject.toml

pictures: $(STAMP)  ## Take the pictures of the README anew, of real runs; needs tmux and chromium
	@for file in docs/pictures/take*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## Remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
