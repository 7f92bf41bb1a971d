# Every task of this repository. CI calls these and nothing else.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
SOURCES := operator worker devcluster demo bench faults tools tests

.DEFAULT_GOAL := help
.PHONY: help demo test check unit install lock reference scan cluster cluster-down bench chaos format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: install ## From a bare machine to pods that answer; shows each step
	@$(BIN)/python -m demo

test: install check ## Everything: lint, types, contracts, unit, service and cluster tests
	@$(BIN)/python -m devcluster binaries
	@$(BIN)/pytest tests

check: install ## Lint, types and import contracts, without running tests
	@echo "== ruff, yamllint";  $(BIN)/ruff format --check --quiet $(SOURCES) && $(BIN)/ruff check --quiet $(SOURCES) && $(BIN)/yamllint --strict crds examples deploy/kustomization.yaml charts/dspy-operator/Chart.yaml charts/dspy-operator/values.yaml charts/dspy-operator/ci charts/dspy-operator/files/alerts tests/alerts
	@echo "== mypy";            $(BIN)/mypy
	@echo "== import contracts"; $(BIN)/lint-imports | tail -n 3

unit: install ## The fast tests only
	@$(BIN)/pytest tests/unit tests/repo

cluster: install ## A Kubernetes with operator and images: the one in KUBECONFIG, kind, or one of its own
	@$(BIN)/python -m devcluster up

cluster-down: install ## Remove the cluster that this checkout started, completely
	@$(BIN)/python -m devcluster down

bench: install ## Ratios against baselines measured in the same run; takes about an hour
	@$(BIN)/python -m bench

chaos: install ## The operator under more than a thousand faults, one by one, and ten minutes without an API server; workers without what they depend on, and with thousands of odd requests
	@$(BIN)/python -m faults
	@OUTAGE_SECONDS=600 $(BIN)/pytest -q tests/cluster/test_operator_api.py -k server_that_is_away
	@OUTAGE_SECONDS=30 $(BIN)/pytest -q -s tests/services/test_outages.py
	@OPENAPI_FUZZ_EXAMPLES=200 $(BIN)/pytest -q tests/services/test_openapi_fuzz.py

format: install ## Format the code
	@$(BIN)/ruff format $(SOURCES) && $(BIN)/ruff check --fix $(SOURCES)

reference: install ## Write what follows from the CRD and the chart: docs, schema, plain manifests
	@$(BIN)/python tools/reference.py

scan: install .venv-scan/installed ## checkov on the chart and six apps, no check skipped; 290 MB the first time
	@$(BIN)/python tools/scan.py .venv-scan/bin/checkov

lock: install ## Lock requirements/*.in anew
	@requirements/lock.sh

clean: ## Remove the virtual environment and tool caches
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist

install: .venv/installed ## The development environment in .venv

.venv/installed: requirements/dev.txt pyproject.toml
	@echo "== Python packages into .venv, about a minute the first time"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv-scan/installed: requirements/scan.txt
	@echo "== checkov into .venv-scan, about a minute the first time"
	@$(PYTHON) -m venv .venv-scan
	@.venv-scan/bin/pip install --quiet --no-deps --require-hashes -r requirements/scan.txt
	@touch $@
