.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements-dev.lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(VENV)/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src
	@touch $@

install: $(VENV)/.installed  ## a virtual environment in .venv with everything that is locked

demo: $(VENV)/.installed  ## real flights: dataset, model, endpoint, a month of traffic (KUBECONFIG=FILE: on that control plane)
	$(BIN)/mizzen demo $(if $(KUBECONFIG),--kubeconfig $(KUBECONFIG))

test: $(VENV)/.installed  ## the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.installed  ## all tests: chaos runs, long generated cases, and ten million requests through real processes
	MIZZEN_SOAK_REQUESTS=10000000 $(BIN)/python -m pytest

check: $(VENV)/.installed  ## lint, types, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/tidy tests/kinds

native: $(VENV)/.installed  ## compile the request path's hot modules in place (about a minute; needs a C compiler)
	$(BIN)/python native.py

pure: $(VENV)/.installed  ## take what `make native` made away again
	$(BIN)/python native.py --remove

test-native: native  ## the tests of what is compiled, and of all that calls it, on native code
	$(BIN)/python -m pytest -q -m "not slow" tests/policy tests/serving tests/predictionlog tests/tidy/test_native.py; \
		status=$$?; $(BIN)/python native.py --remove; exit $$status

peers: .peers/kserve/.installed  ## foreign clients in environments of their own, for the tests that talk to them

.peers/kserve/.installed:
	$(PYTHON) -m venv .peers/kserve
	.peers/kserve/bin/python -m pip install --quiet "kserve==0.21.*"
	@touch $@

generate: $(VENV)/.installed  ## write the generated files anew (CRDs, JSON Schemas, Grafana dashboard)
	$(BIN)/python -m mizzen.kinds.generate
	$(BIN)/python -m mizzen.serving.gateway.dashboard

bench: $(VENV)/.installed  ## measure speed and memory beside peers; writes benchmarks/results and docs/benchmarks.md
	$(BIN)/python -m benchmarks

peers-serving: $(VENV)/.installed  ## the serving benchmark's peers, each in an environment of its own
	$(BIN)/python -m benchmarks.serving --install

bench-serving: native  ## requests beside FastAPI, Triton, MLServer, KServe, BentoML, LitServe, mosec and Ray Serve (ONLY="mizzen triton")
	$(BIN)/python -m benchmarks.serving $(if $(ONLY),--only $(ONLY)) $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)); \
		status=$$?; $(BIN)/python native.py --remove; exit $$status

bench-soak: $(VENV)/.installed  ## memory of gateway and workers over ten million requests
	$(BIN)/python -m benchmarks.serving.soak

bench-elasticity: $(VENV)/.installed  ## starts, scale-ups, swaps, many endpoints, 20 minutes (QUICK=1: six; ONLY="starts peers")
	$(BIN)/python -m benchmarks.elasticity $(if $(ONLY),--only $(ONLY))

lock:  ## make the lock file anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--extra demo --extra xgboost --extra redis --group dev pyproject.toml -o $(LOCK)

clean:  ## remove what was built
	rm -rf $(VENV) .peers .mizzen dist

.PHONY: help install demo test test-all test-native check native pure peers generate bench bench-elasticity peers-serving bench-serving bench-soak lock clean
