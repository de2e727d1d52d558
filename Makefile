# The targets people use. `make setup` needs Python 3.11 or newer; `make test` also Java 17 and Maven.
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= 1000

.PHONY: setup demo test deploy-test check sim chaos fuzz bench format lock

setup: .venv/ready

.venv/ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv/ready

demo: setup
	$(BIN)/syncd demo $(if $(STAY),--stay)

test: setup
	$(BIN)/python -m tests.run

# SEED=7 plays that seed again in both dialects; without it, a thousand fresh seeds in each.
sim: setup
	$(BIN)/syncd sim world $(if $(SEED),--seed $(SEED),--runs $(RUNS)) --steps 500 --jobs $(shell nproc)

# Ten minutes of kills and stops on real parts, three replicas, two thousand customers.
chaos: setup
	SYNCD_CHAOS_SECONDS=600 SYNCD_CHAOS_KILLS=40 SYNCD_CHAOS_CUSTOMERS=2000 $(BIN)/python -m pytest tests/system/test_chaos.py -s

# The chart before real Helm and its judges, the image built and played as a pod. Builds its tools once; root, Go, Debian.
deploy-test: setup
	$(BIN)/python -m pytest tests/cluster --timeout 1800

fuzz: setup
	SYNCD_FUZZ=1000000 $(BIN)/python -m pytest tests/fuzz -s

# Everything beside its peer or its limit, into docs/measurements.md; hours. WHAT="start latency" for some of it.
bench: setup
	$(BIN)/python -m bench $(WHAT)

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
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --universal --extra traces --extra mcp pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --universal --extra traces --extra mcp --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock --custom-compile-command "make lock"
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --universal --group build -c requirements-dev.lock -o deploy/docker/build.lock --custom-compile-command "make lock"
