# The two commands of a newcomer are `make demo` and `make test`; both need only Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test test-quick test-lowest fuzz benchmarks check clean

demo: $(VENV)/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/weather/demo.sh

test: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-quick: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -n auto -m "not slow" $(PYTEST_ARGS)

# The suite on the lowest versions that pyproject.toml allows.
test-lowest:
	@$(MAKE) --no-print-directory test VENV=.venv-lowest PIP_CONSTRAINT="$(CURDIR)/tests/lowest.txt"

# Other random statements than the suite's, ten times as many.
fuzz: $(VENV)/.installed-tests
	SHARDCTL_TEST_SEED=random SHARDCTL_TEST_SCALE=10 $(BIN)/python -m pytest -n auto tests/property/test_query_fuzz.py tests/property/test_session_fuzz.py -k many

benchmarks: $(VENV)/.installed-tests
	$(BIN)/python -m tests.benchmarks

check: $(VENV)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shardctl needs Python 3.11 or newer: make PYTHON=/path/to/python3 …")'
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing shardctl"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-tests: pyproject.toml | $(VENV)/bin/python
	@echo "installing shardctl and what its tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf .venv .venv-lowest .cache demo
