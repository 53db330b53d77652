# The main commands are `make demo` and `make test`. Run `make check` before each commit.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
SAMPLED = $(shell grep -rlE "from (tests.sampling|hypothesis) import" --include="test_*.py" tests)

# Without compiled files each process of the tests compiles all that it loads.
unexport PYTHONDONTWRITEBYTECODE

PIP     = $(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps
LOCK    = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
          --no-emit-index-url --no-emit-find-links $(UPGRADE) pyproject.toml

.PHONY: kerberos live demo test exhaustive check format lint types contracts bench chaos mutants clean install lock upgrade

# Installs exactly the packages of the lock file, each checked by its hash; then the project itself.
$(STAMP): pyproject.toml docker/locked-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --requirement docker/locked-dev.txt
	$(PIP) --no-build-isolation --editable .
	touch $@

install: $(STAMP)

lock: $(STAMP)  ## writes the lock files again, after a change of the dependencies in pyproject.toml
	$(LOCK) --extra dev --output-file docker/locked-dev.txt
	$(LOCK) --extra image --constraint docker/locked-dev.txt --output-file docker/locked-image.txt
	$(LOCK) --extra kerberos --constraint docker/locked-dev.txt --output-file docker/locked-kerberos.txt

upgrade: UPGRADE = --upgrade
upgrade: lock  ## the same, with the newest versions that pyproject.toml allows

kerberos: $(STAMP)  ## adds what `transport: kerberos` needs (Debian: libkrb5-dev, gcc)
	$(PIP) --require-hashes --requirement docker/locked-kerberos.txt

demo: $(STAMP)  ## four simulated servers, from untouched to joined
	$(BIN)/esync demo

test: $(STAMP)  ## the whole suite
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

exhaustive: $(STAMP)  ## everything of which `make test` runs a sample; takes over an hour, `tail -f matrix.log` shows the progress
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

bench: $(STAMP)  ## measures every bar, up to 1,000 simulated servers; about half an hour. ONLY="join-100 again" measures some
	$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

live: $(STAMP)  ## the ladder of docs/testing.md on a Windows host: make live HOST=name ACCOUNT='DOMAIN\user' LIVE="more options"
	$(BIN)/python -m tests.live $(HOST) --user '$(ACCOUNT)' $(LIVE)

chaos: $(STAMP)  ## faults at random moments of 200 runs, each judged by disks, logs and events. ROUNDS=20 SEED=1 WORKERS=2
	$(BIN)/python -m tests.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(if $(WORKERS),--workers $(WORKERS))

mutants: $(STAMP)  ## do the tests find small faults? MUTANTS=150 SEED=1 PATHS="tasks/ektron ..."
	$(BIN)/python -m tests.mutation $(if $(MUTANTS),--mutants $(MUTANTS)) $(if $(SEED),--seed $(SEED)) $(PATHS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
