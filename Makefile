# `make help` lists the targets. Everything Python happens in .venv, with the versions of the lock files.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet
LOCKED := --require-hashes --requirement
WORKERS ?= 2
ARGS ?=
DURATION ?=

# Building the image in a scratch root takes root and debootstrap; it comes first, because nothing else takes as long.
CAN_BUILD_IMAGE = $(shell [ "$$(id -u)" = 0 ] && command -v debootstrap)
IMAGE_TESTS := tests/test_image.py

.PHONY: help run test check lint format bench fuzz soak image-check lock clean system-packages

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
	  printf '  make %-12s %s\n' "$$name" "$$what"; done

run: .venv/runtime ## see it work: a sidecar, an origin that fails on a schedule, and what to type
	@exec $(BIN)/sidecar demo

test: system-packages .venv/development ## the whole suite, after installing what it needs
	$(if $(CAN_BUILD_IMAGE),,@echo "not run here: $(IMAGE_TESTS), which needs root and debootstrap")
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal \
	  $(if $(CAN_BUILD_IMAGE),$(IMAGE_TESTS) tests,tests --ignore=$(IMAGE_TESTS)) $(ARGS)

check: lint test ## what CI runs: format, lint, types, import contracts, tests

lint: .venv/development ## format, lint, types and import contracts
	$(BIN)/ruff format --check --diff --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/development ## rewrite the sources in the one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: system-packages .venv/development ## measure beside nginx, HAProxy and Envoy; ARGS="--help" tells more
	$(BIN)/python tests/benchmarks/bench.py $(ARGS)

fuzz: .venv/development ## hostile bytes for both parsers, DURATION seconds each (60); a long walk for the circuit
	$(INSTALL) --no-build-isolation --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.write_seeds build/fuzz
	for side in requests responses; do \
	  $(BIN)/python -m tests.fuzz.fuzz_$$side -max_total_time=$(or $(DURATION),60) -artifact_prefix=build/fuzz/ build/fuzz/$$side $(ARGS); done
	$(BIN)/python -m pytest -q --hypothesis-profile=fuzz --timeout=0 tests/core/test_circuit_against_model.py

soak: .venv/development ## traffic for DURATION seconds (600) while the origin breaks in every way; checks every answer
	$(BIN)/python -m tests.benchmarks.soak $(or $(DURATION),600)

image-check: system-packages .venv/development ## execute the Dockerfile in a scratch root, then what it built
	$(BIN)/python deploy/check_image.py $(ARGS)

# With the oldest Python that is supported: what the lock pins for it serves the later ones too.
lock: ## resolve the dependencies anew and rewrite the lock files
	python3.11 -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'pip-tools>=7.5'
	compile() { CUSTOM_COMPILE_COMMAND='make lock' build/lock/bin/pip-compile --quiet --upgrade --generate-hashes \
	  --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	  "$$@" pyproject.toml; }; \
	compile --output-file requirements.lock; \
	compile --all-build-deps --only-build-deps --output-file requirements-build.lock; \
	compile --constraint requirements.lock --extra test --extra bench --output-file requirements-dev.lock

clean: ## remove everything that these targets made
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@.ci/system-packages

.venv/python:
	"$$(.ci/find-python)" -m venv .venv
	@touch $@

.venv/runtime: .venv/python requirements.lock requirements-build.lock pyproject.toml
	$(INSTALL) $(LOCKED) requirements-build.lock $(LOCKED) requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/development: .venv/runtime requirements-dev.lock
	$(INSTALL) $(LOCKED) requirements-dev.lock
	@touch $@
