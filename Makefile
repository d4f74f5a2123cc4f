# `make help` lists the targets. Everything Python happens in .venv, with the versions of the lock files.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet
# No registry decides what is installed: a lock file is a whole closure, so nothing is looked for beside it (an old pip
# wants more hashes as soon as a release newer than the locked one exists); wheels only, because a source distribution
# would be built with whatever tools are newest that day. `pip check` fails when a closure is not whole after all.
LOCKED := --no-deps --only-binary :all: --require-hashes
# The extras of pyproject.toml that .venv has, and the Pythons and machines that a lock file has to serve.
EXTRAS := redis otel test bench fuzz ui
PYTHONS := 3.11 3.12 3.13
MACHINES := x86_64 aarch64
WORKERS ?= 2
ARGS ?=
DURATION ?=

# Building the image in a scratch root takes root and debootstrap; it comes first, because nothing else takes as long.
CAN_BUILD_IMAGE = $(shell [ "$$(id -u)" = 0 ] && command -v debootstrap)
IMAGE_TESTS := tests/test_image.py

.PHONY: help install run test check lint format references bench bench-fleet fuzz soak image-check lock clean \
  system-packages

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
	  printf '  make %-12s %s\n' "$$name" "$$what"; done

install: .venv/runtime ## .venv/bin/sidecar, with the locked versions of what it needs

run: .venv/runtime ## see it work: a sidecar, an origin that fails on a schedule, and what to type
	@exec $(BIN)/sidecar demo

# Browsers, fleets of processes and timeouts of milliseconds share the machine's cores: what fails among them is asked once
# more, alone, and fails the run when it fails again.
test: system-packages lint ## every check, after installing what it needs: lint, then the whole suite
	$(if $(CAN_BUILD_IMAGE),,@echo "not run here: $(IMAGE_TESTS), which needs root and debootstrap")
	suite="$(if $(CAN_BUILD_IMAGE),$(IMAGE_TESTS) tests,tests --ignore=$(IMAGE_TESTS)) $(ARGS)"; \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $$suite || \
	  $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none $$suite

check: test ## the same

lint: .venv/development ## format, lint, types and import contracts
	$(BIN)/ruff format --check --diff --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/development ## rewrite the sources in the one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

references: .venv/development ## write the schema and the references in config/ anew
	$(BIN)/sidecar schema > config/schema.json
	$(BIN)/python -m tests.support.references

bench: system-packages .venv/development ## measure beside nginx, HAProxy and Envoy; ARGS="--help" tells more
	$(BIN)/python tests/benchmarks/bench.py $(ARGS)

bench-fleet: system-packages .venv/development ## what a fleet costs, with a real Redis; ARGS="--members 100 --seconds 3"
	$(BIN)/python tests/benchmarks/bench_fleet.py $(ARGS)

fuzz: .venv/development ## hostile bytes for both parsers, DURATION seconds each (60); a long walk for the circuit
	$(BIN)/python -m tests.fuzz.write_seeds build/fuzz
	for side in requests responses; do \
	  $(BIN)/python -m tests.fuzz.fuzz_$$side -max_total_time=$(or $(DURATION),60) -artifact_prefix=build/fuzz/ build/fuzz/$$side $(ARGS); done
	$(BIN)/python -m pytest -q --hypothesis-profile=fuzz --timeout=0 tests/core/circuit/test_circuit_against_model.py

soak: .venv/development ## traffic for DURATION seconds (600) while the origin breaks in every way; checks every answer
	$(BIN)/python -m tests.benchmarks.soak $(or $(DURATION),600)

image-check: system-packages .venv/development ## execute the Dockerfile in a scratch root, then what it built
	$(BIN)/python deploy/check_image.py $(ARGS)

# The resolver is locked too, in an environment of its own: what is locked for .venv may not fit pyproject.toml just now.
# One resolution serves every Python and machine; that each has its wheels, for Debian 12's glibc, is looked up afterwards.
lock: ## resolve the dependencies anew and rewrite the lock files
	"$$(.ci/find-python)" -m venv build/lock
	build/lock/bin/python -m pip --quiet install $(LOCKED) -r requirements-resolver.lock
	build/lock/bin/python -m pip --quiet check
	resolve() { build/lock/bin/uv pip compile --quiet --system-certs --upgrade --universal \
	  --python-version $(firstword $(PYTHONS)) --only-binary :all: --no-strip-extras --generate-hashes \
	  --custom-compile-command 'make lock' --output-file "$$@"; }; \
	resolve requirements.lock pyproject.toml; \
	resolve requirements-redis.lock --constraint requirements.lock --extra redis pyproject.toml; \
	resolve requirements-dev.lock --constraint requirements-redis.lock $(EXTRAS:%=--extra %) pyproject.toml; \
	resolve requirements-resolver.lock --group resolver; \
	toml='import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'; \
	build/lock/bin/python -c "$$toml" | resolve requirements-build.lock -
	for python in $(PYTHONS); do for machine in $(MACHINES); do for lock in *.lock; do \
	  build/lock/bin/uv pip install --quiet --system-certs --dry-run --python build/lock/bin/python --target build/lock/none \
	    --python-version $$python --python-platform $$machine-manylinux_2_36 $(LOCKED) -r $$lock; done; done; done

clean: ## remove everything that these targets made
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .pytest_cache .import_linter_cache .coverage bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@.ci/system-packages

.venv/python:
	"$$(.ci/find-python)" -m venv .venv
	@touch $@

.venv/runtime: .venv/python requirements-redis.lock requirements-build.lock pyproject.toml
	$(PIP) install $(LOCKED) -r requirements-build.lock -r requirements-redis.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) check
	@touch $@

.venv/development: .venv/runtime requirements-dev.lock
	$(PIP) install $(LOCKED) -r requirements-dev.lock
	$(PIP) check
	@touch $@
