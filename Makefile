# Every habit of this project; `make help` lists them.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTHON ?= python3
export DAGSTER_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: help setup demo test test-all test-spark reliability check docs bench bench-scale dagster lock clean

help:             ## this list
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1|\2/p' Makefile | column -t -s'|'

setup: $(READY)   ## the virtual environment in .venv, from the lock file

demo: $(READY)    ## simulator, two nightly runs, and what the archive then answers; needs no account
	@$(BIN)/task-archive demo

# Tests wait for processes and locks: one worker more than there are cores keeps the cores busy.
test: $(READY)    ## the tests
	@$(BIN)/python -m pytest -n $$($(BIN)/python -c "import os; print(os.cpu_count() + 1)") --dist worksteal

test-all: test test-spark ## the tests and the slow proofs
	@$(BIN)/python -m pytest -m slow

test-spark: $(READY) ## the tables that Spark makes on two workers against those of DuckDB; needs Java 17, fetches 450 MB
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r deploy/spark.lock
	@TASK_ARCHIVE_TESTS_NEED=pyspark $(BIN)/python -m pytest -m "slow or not slow" tests/warehouse/test_spark.py

reliability: $(READY) ## kills, faults and hostile payloads by the hundred; writes their figures into docs/reliability.md
	@$(BIN)/python -m pytest -m "slow or not slow" tests/hostile --figures docs/reliability.md

check: $(READY)   ## lint, of SQL too, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m tests.lint_sql
	@$(BIN)/mypy

docs: $(READY)    ## write the generated documents again
	@$(BIN)/python -m pipelines.cli.documents docs

bench: $(READY)   ## ratios against plain scripts on the same pages and events
	@$(BIN)/python tests/bench.py
	@$(BIN)/python tests/bench_listen.py

bench-scale: $(READY) ## what a night, a look and a rebuild cost at 200,000 to 5,000,000 tasks and 100,000 loads; takes an hour
	@$(BIN)/python tests/bench_scale.py

dagster: $(READY) ## Dagster's web page on the archive's instance
	@$(BIN)/task-archive ui

LOCKED := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate \
    --no-emit-index-url --custom-compile-command "make lock" --quiet

lock: $(READY)    ## resolve the lock files again (needs uv: pip install uv)
	@$(LOCKED) --upgrade --extra iceberg --extra postgres --extra store --group dev -o requirements.lock
	@$(LOCKED) --extra iceberg --extra postgres --extra store --extra production --extra traces --group build -c requirements.lock -o deploy/requirements.lock
	@$(LOCKED) --extra spark --group build -c requirements.lock -o deploy/spark.lock

clean:            ## remove the virtual environment, caches and the demo's archive
	@rm -rf $(VENV) demo-archive dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
