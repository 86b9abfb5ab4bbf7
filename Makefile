# One vocabulary of tasks for people, continuous integration and the Azure DevOps pipelines.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of one file share servers and bundles: they stay together.
PARALLEL := -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast image test-image check format docs bench bench-serving clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## Make .venv and install everything (done by the other targets too)

$(STAMP): pyproject.toml $(wildcard requirements/*.txt)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): about 2.5 GB, a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(STAMP)  ## Train, judge, register and serve the textile classifier
	@$(BIN)/mlops demo

test: $(STAMP)  ## Run all tests, the fast ones first
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m pytest $(PARALLEL) -m slow --cov --cov-append --cov-report=term

test-fast: $(STAMP)  ## Run the fast tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" -q

image: $(STAMP)  ## Build the image of the scoring server (needs docker or podman)
	@$(BIN)/python -c 'from vision_mlops.endpoints import container_engine, inferencing_image as image; print(image.served_image(container_engine.open_engine(), "", print))'

test-image: $(STAMP)  ## Build it, and test it in containers
	MLOPS_TEST_IMAGE=1 $(BIN)/python -m pytest -n 0 testing/integration/test_image.py

check: $(STAMP)  ## Lint, types, import contracts, docs drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/cli_reference.py --check

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## Write the generated parts of the documentation
	$(BIN)/python docs/cli_reference.py

bench: $(STAMP)  ## Run the benchmarks, side by side with the alternatives
	$(BIN)/python benchmarks/training.py --variants
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python -m benchmarks.runner
	$(BIN)/python -m benchmarks.checks
	$(BIN)/python -m benchmarks.checks --flipped
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.batch $(if $(BUNDLE),--bundle $(BUNDLE))
	$(MAKE) bench-serving

bench-serving: $(STAMP)  ## Run the benchmark of the scoring server alone (needs wrk)
	$(BIN)/python -m benchmarks.serving $(if $(BUNDLE),--bundle $(BUNDLE))

clean:  ## Remove the environment and caches; outputs/ stays
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build dist src/*.egg-info
