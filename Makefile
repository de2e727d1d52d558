# The targets people use. `make setup` needs Python 3.11 or newer; `make test` also Java 17 and Maven.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 1

.PHONY: setup demo test check sim bench format lock

setup: .venv/ready

.venv/ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv/ready

demo: setup
	$(BIN)/syncd demo $(if $(STAY),--stay)

test: setup
	$(BIN)/python -m tests.run

sim: setup
	SYNCD_SIM_SEED=$(SEED) SYNCD_SIM_STEPS=1000 $(BIN)/python -m pytest tests/simulation

bench: setup
	$(BIN)/python -m bench.ingest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.generate --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --universal pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --universal --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock --custom-compile-command "make lock"
