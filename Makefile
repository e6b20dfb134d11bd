# One virtual environment serves every target. It is set up once and again only when its inputs change.
SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SUPPORTED := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

.PHONY: help demo test test-slow lint bench clean

help:
	@echo "make demo [DATA=folder]   a complete feed on this machine, on the folder's data if one is given"
	@echo "make test                 layers, lint, types and tests"
	@echo "make test-slow            the tests marked slow"
	@echo "make lint                 layers, lint, formatting and types"
	@echo "make bench                every benchmark"
	@echo "make clean                remove the environment and all caches"

# The version tests run the candidates: a python3 that is missing, too old or without ensurepip is passed over.
$(INSTALLED): pyproject.toml constraints.txt
	@python=; \
	for candidate in python3 python3.11 python3.12 python3.13; do \
	  if "$$candidate" -c '$(SUPPORTED)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "feedwell needs Python 3.11, 3.12 or 3.13 with its venv module (Debian: apt install python3.11 python3.11-venv)" >&2; \
	  exit 1; \
	fi; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# DATA travels in the environment, so that no character in it can be read as shell.
export DATA
demo: $(INSTALLED)
	@$(BIN)/feedwell demo $${DATA:+--data "$$DATA"}

# Ordered from seconds to minutes; pytest comes last so that its summary is the closing line.
test: lint-code
	$(BIN)/python -m pytest

lint: lint-code
	$(BIN)/ruff format --check .

.PHONY: lint-code
lint-code: $(INSTALLED)
	$(BIN)/lint-imports --no-logo
	$(BIN)/ruff check .
	$(BIN)/mypy

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

bench: $(INSTALLED)
	@for file in benchmarks/bench_*.py; do \
	  [ -e "$$file" ] || continue; \
	  echo "== $$file"; $(BIN)/python "$$file" || exit 1; \
	done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
