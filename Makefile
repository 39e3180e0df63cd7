# `make help` lists what there is. Everything runs in .venv, which `make setup` makes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamp files tell that .venv is complete, for use, for tests, for benchmarks, and no older than what it was made from.
READY := $(VENV)/ready
TEST_READY := $(VENV)/test-ready
BENCH_READY := $(VENV)/bench-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak lint bench milvus-up milvus-down

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install Lookalike into it

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Lookalike needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(TEST_READY): $(READY)
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(BENCH_READY): $(TEST_READY)
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[test,bench]'
	@touch $@

demo: $(READY) ## Load images, query one, draw demo/top20.png (IMAGES=DIR QUERY=FILE BACKBONE=NAME WEIGHTS=FILE)
	@$(BIN)/lookalike demo $(if $(IMAGES),--images "$(IMAGES)") $(if $(QUERY),--query "$(QUERY)") \
		$(if $(BACKBONE),--backbone "$(BACKBONE)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")

test: lint ## Lint, then run every test
	$(BIN)/pytest

soak: $(TEST_READY) ## Kill hundreds of loads and load thousands of broken files; print what was lost (about an hour)
	$(BIN)/python -m tests.soak

lint: $(TEST_READY) ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH_READY) ## Measure speed; tables go to benchmarks/results (BENCHMARKS="load search" for some)
	$(BIN)/python -m benchmarks $(BENCHMARKS)

milvus-up: ## Start a Milvus server with docker compose, and wait until it is healthy
	docker compose up --detach --wait

milvus-down: ## Stop the Milvus server; its data stays
	docker compose down
