# Everything goes through .venv, made from the system's python3 with venv and pip alone.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
PIP := -qq --disable-pip-version-check -c constraints.txt

ifneq ($(wildcard ../shared/assets/README.md),)
export SKILLNEURONS_ASSETS ?= $(realpath ../shared/assets)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench format clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything in it, the skillneurons command too

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "skillneurons needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version`. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setup 1/4: the virtual environment, .venv"
	@$(PYTHON) -m venv .venv
	@echo "setup 2/4: torch, the largest part"
	@$(BIN)/pip install $(PIP) torch
	@echo "setup 3/4: what builds the package"
	@$(BIN)/pip install $(PIP) hatchling editables
	@echo "setup 4/4: skillneurons, what it needs and what its tests need; about a minute"
	@$(BIN)/pip install $(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

demo: setup  ## the whole story on the embedded miniature, offline
	@$(BIN)/skillneurons demo

test: check docs  ## all checks, then all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2

check: setup  ## style, types, the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup  ## measure the speed, an hour on two cores; an error where it fell behind what is kept
	$(BIN)/python benchmarks/speed.py

format: setup  ## put the code into the one style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove what was built, .venv too
	rm -rf .venv site build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
