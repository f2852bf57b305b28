# Everything that is done with this repository: `make` lists it. Needs Python 3.11 or newer and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
BASE_URL ?= http://127.0.0.1:8000
DEMO_PORT ?= 8100
EXAMPLE_PORT ?= 8200
BIN := $(VENV)/bin
FLASK := $(BIN)/flask --app wsgi
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
SOURCES := chat_api config.py wsgi.py gunicorn.conf.py migrations

# squawk looks for statements that stop a busy table. These rules are about taste, or about running a file by hand.
SQL_TASTE := --exclude prefer-text-field,prefer-bigint-over-int,prefer-bigint-over-smallint \
	--exclude prefer-robust-stmts,require-lock-timeout,require-statement-timeout

# Stamps: an environment is made once for each content of its lock file.
MADE := $(VENV)/.made
READY_TO_RUN := $(VENV)/.requirements
READY_TO_TEST := $(VENV)/.requirements-dev
READY_FOR_E2E := $(VENV)/.requirements-e2e

.DEFAULT_GOAL := help
.PHONY: help install run test test-e2e check lint format format-check types migrations-check migration upgrade bench \
	bench-stream bench-search soak demo demo-provider example lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY_TO_RUN) ## Create the virtual environment, install the service's packages, and compile the code
	@$(BIN)/python -m compileall -q $(SOURCES) # the service itself may not write here, and would compile at each start

run: $(READY_TO_RUN) ## Migrate the database and serve on HOST and PORT (127.0.0.1:8000)
	$(FLASK) db upgrade
	exec $(BIN)/gunicorn wsgi:app

test: $(READY_TO_TEST) ## Run the test suite, on SQLite and on a real Postgres
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto $(ARGS) # compiled once, not by each process

test-e2e: $(READY_FOR_E2E) ## Test with a real llama.cpp server, with clients of all APIs, and in Chromium; installs 1.4 GB more
	$(BIN)/pytest tests/e2e $(ARGS)

check: format-check lint types migrations-check test ## Run everything that must pass before a change is merged

lint: $(READY_TO_TEST) ## Find mistakes and insecure code
	$(BIN)/ruff check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml --severity-level medium $(SOURCES)

format: $(READY_TO_TEST) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

format-check: $(READY_TO_TEST) ## Fail if `make format` would change something
	$(BIN)/ruff format --check .

types: $(READY_TO_TEST) ## Check the types
	$(BIN)/mypy

migrations-check: $(READY_TO_TEST) ## Fail if the migrations do not match the models, or would lock busy tables
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	export DATA_DIR="$$folder" DATABASE_URL="sqlite:///$$folder/check.db" APP_ENV=development && \
	$(FLASK) db upgrade && $(FLASK) db check && \
	DATABASE_URL=postgresql://nobody@127.0.0.1:1/none $(FLASK) db upgrade --sql > "$$folder/upgrade.sql" && \
	$(BIN)/squawk $(SQL_TASTE) "$$folder/upgrade.sql"

migration: $(READY_TO_TEST) ## Write a migration from the models: make migration NAME="add tags"
	$(FLASK) db migrate --message "$(NAME)"
	$(BIN)/ruff check --fix-only migrations
	$(BIN)/ruff format migrations

upgrade: $(READY_TO_RUN) ## Migrate the database to the newest schema
	$(FLASK) db upgrade

bench: $(READY_TO_TEST) ## Measure the hot endpoints, compared to a bare Flask route
	$(BIN)/python -m bench $(ARGS)

bench-stream: $(READY_TO_TEST) ## Measure streamed replies, from a provider that streams at a set pace
	$(BIN)/python -m bench.streaming $(ARGS)

bench-search: $(READY_TO_TEST) ## Measure full-text search over a million messages; takes a quarter of an hour
	$(BIN)/python -m bench.search $(ARGS)

soak: $(READY_TO_TEST) ## Run mixed load with faults for ten minutes; ARGS="--seconds 60" for less
	$(BIN)/python -m tests.live.soak $(ARGS)

demo-provider: $(READY_TO_RUN) ## Serve a local model that repeats the prompt, on DEMO_PORT (8100)
	@$(FLASK) demo-provider --port $(DEMO_PORT)

demo: $(READY_TO_RUN) ## Call every part of the API of the running service at BASE_URL (http://127.0.0.1:8000)
	@BASE_URL="$(BASE_URL)" FLASK="$(BIN)/flask" sh docs/walkthrough.sh

example: $(READY_TO_RUN) ## Serve the example client, a page for browsers, on EXAMPLE_PORT (8200), and the demo model
	@$(BIN)/python -m examples.serve --port $(EXAMPLE_PORT) --service "$(BASE_URL)" --demo-port $(DEMO_PORT)

lock: $(READY_TO_TEST) ## Pin all dependencies with hashes; newer ones with ARGS=--upgrade
	$(LOCK) $(ARGS) pyproject.toml --output-file requirements.txt
	$(LOCK) $(ARGS) pyproject.toml --group dev --constraint requirements.txt --output-file requirements-dev.txt
	$(LOCK) $(ARGS) pyproject.toml --group dev tests/e2e/requirements.in --constraint requirements-dev.txt \
		--output-file tests/e2e/requirements.txt
	$(LOCK) $(ARGS) tests/e2e/sdks/requirements.in --output-file tests/e2e/sdks/requirements.txt
	$(LOCK) $(ARGS) bench/litellm/requirements.in --output-file bench/litellm/requirements.txt

clean: ## Remove the virtual environment and all caches, but not the data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "chat-api needs Python 3.11 or newer, and $(PYTHON) is not. Name another one:" \
			"make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(READY_TO_RUN): requirements.txt
$(READY_TO_TEST): requirements-dev.txt
$(READY_FOR_E2E): tests/e2e/requirements.txt

$(READY_TO_RUN) $(READY_TO_TEST) $(READY_FOR_E2E): $(MADE)
	@echo "Installing $(filter %.txt,$^) into $(VENV): about a minute, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(filter %.txt,$^)
	@touch $@
