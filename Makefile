# Two commands for everybody: `make demo` and `make test`. `make check` before each commit.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
SAMPLED = $(shell grep -rl "from tests.sampling import" tests)

.PHONY: demo test exhaustive check format lint types contracts bench clean install

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

install: $(STAMP)

demo: $(STAMP)  ## four simulated servers, from untouched to joined
	$(BIN)/esync demo

test: $(STAMP)  ## the whole suite
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

exhaustive: $(STAMP)  ## all of what `make test` plays a sample of; takes over an hour, `tail -f matrix.log` tells how far it is
	EXHAUSTIVE=1 FAULT_MATRIX_LOG=matrix.log $(BIN)/pytest -n 0 $(SAMPLED)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/mypy tests

contracts: $(STAMP)
	$(BIN)/lint-imports

check: lint types contracts test  ## what CI runs

bench: $(STAMP)  ## the whole job on 10, 100 and 300 simulated servers
	$(BIN)/python -m tests.benchmarks.whole_job

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
