# One vocabulary of tasks for people, continuous integration and the Azure DevOps pipelines.
# PYTHON_VERSION=3.13 chooses one of the installed versions, even if it is not on the path.
PYTHON_VERSION ?=
PYTHON ?= $(shell if [ -n "$(PYTHON_VERSION)" ]; then .ci/python "$(PYTHON_VERSION)"; else command -v python3.11 || command -v python3; fi)
# An image that already contains the packages sets this: see environments/docker/mlops_pipeline_image.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS := $(VENV)-docs
IMAGE_TOOLS := $(VENV)-images
# Folders of environments/docker that the targets images... use; all of them if empty.
IMAGES ?=
# Tests of one file share servers and bundles, so they run in one process.
PARALLEL := -n auto --dist loadfile
# Arguments of pytest for test-fast, test-unit and test-integration, and the folder for their results.
TESTS ?=
RESULTS ?= outputs/tests
# Folder of the pins, from which targets of infrastructure/azure.mk install.
PINS := requirements

.DEFAULT_GOAL := help
.PHONY: help setup agent-path demo test test-fast test-unit test-integration test-tools smoke-app images images-bill images-scan images-push test-image check format docs site environments kernel notebooks screenshots bench bench-serving clean test-summary images-import

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(STAMP)  ## Create .venv and install everything (the other targets do this, too)

$(STAMP): pyproject.toml $(wildcard requirements/*.txt)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): about 2.5 GB, a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

agent-path: $(STAMP)  ## In a pipeline: put the commands of .venv on the path of the steps that follow
	@if [ -n "$$GITHUB_PATH" ]; then echo "$(abspath $(BIN))" >> "$$GITHUB_PATH"; else echo "##vso[task.prependpath]$(abspath $(BIN))"; fi

demo: $(STAMP)  ## Train, judge, register and serve the textile classifier
	@$(BIN)/mlops demo

test: $(STAMP)  ## Run all tests, the fast ones first
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m pytest $(PARALLEL) -m slow --cov --cov-append --cov-report=term

test-fast: $(STAMP)  ## Run the fast tests
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS) -m "not slow" -q

# A selection of tests says nothing about the total coverage.
test-unit: $(STAMP)  ## Run the unit tests, with results and coverage as a pipeline publishes them
	@mkdir -p $(RESULTS)/junit
	$(BIN)/python -m pytest $(PARALLEL) $(or $(TESTS),testing/unit) --junitxml=$(RESULTS)/junit/unit.xml --cov --cov-report=xml:$(RESULTS)/coverage.xml --cov-fail-under=0

test-integration: $(STAMP)  ## Run the other tests, with the results and coverage of both
	@mkdir -p $(RESULTS)/junit
	$(BIN)/python -m pytest $(PARALLEL) $(or $(TESTS),testing/emulator testing/integration testing/e2e) --junitxml=$(RESULTS)/junit/integration.xml --cov --cov-append --cov-report=xml:$(RESULTS)/coverage.xml $(if $(TESTS),--cov-fail-under=0)

test-summary: $(STAMP)  ## Print the results of test-unit and test-integration as Markdown
	@$(BIN)/python -m vision_mlops.devops.results_summary $(RESULTS)

test-tools:  ## Install the programs that tests use besides .venv (Debian and Ubuntu)
	@.ci/tools

smoke-app: $(STAMP)  ## Test a deployed web frontend in a browser (URL=https://HOST IMAGE=data/examples/nominal.jpg)
	@$(BIN)/python -m testing.support.app_smoke "$(URL)" "$(IMAGE)"

images:  ## Build the images of environments/docker (needs docker, podman or buildah; IMAGES=, REGISTRY=, TAG=)
	@environments/docker/images.sh build $(IMAGES)

images-bill: $(IMAGE_TOOLS)/.installed  ## Write the content of the images as a software bill of materials
	@IMAGE_TOOLS=$(abspath $(IMAGE_TOOLS)/bin) environments/docker/images.sh bill $(IMAGES)

images-scan: $(IMAGE_TOOLS)/.installed  ## Search the images for published vulnerabilities
	@IMAGE_TOOLS=$(abspath $(IMAGE_TOOLS)/bin) environments/docker/images.sh scan $(IMAGES)

images-push:  ## Push the images to REGISTRY (MOVING_TAG=main moves that tag as well)
	@environments/docker/images.sh push $(IMAGES)

images-import:  ## Copy the images from one registry to another, unchanged (FROM=, REGISTRY=, TAG=)
	@environments/docker/images.sh import $(IMAGES)

test-image: $(STAMP)  ## Build the image of the scoring server, and test it in containers
	MLOPS_TEST_IMAGE=1 $(BIN)/python -m pytest -n 0 testing/integration/test_image.py

check: $(STAMP)  ## Check style, types, import contracts, and generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.references --check
	$(BIN)/python environments/conda_files.py --check

$(IMAGE_TOOLS)/.installed: requirements/images.txt
	@$(PYTHON) -m venv --clear $(IMAGE_TOOLS)
	@$(IMAGE_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/images.txt
	@touch $@

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## Write the generated parts of the documentation, and build its site
	$(BIN)/python -m docs.references
	@$(MAKE) --no-print-directory site

site: $(DOCS)/.installed  ## Build the documentation site, outputs/docs/site/index.html, which can be read without a network
	@$(DOCS)/bin/python docs/documentation_site.py

$(DOCS)/.installed: requirements/docs.txt requirements/docs.npm
	@$(PYTHON) -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@xargs $(DOCS)/bin/npm pack --silent --pack-destination $(DOCS) < requirements/docs.npm >/dev/null
	@touch $@

environments: $(STAMP)  ## Write environments/conda from the pins in requirements
	$(BIN)/python environments/conda_files.py

kernel: $(STAMP)  ## Add .venv to Jupyter as the kernel vision-mlops (PREFIX= for another Jupyter than the user's)
	@$(BIN)/python -m ipykernel install $(if $(PREFIX),--prefix $(PREFIX),--user) --name vision-mlops --display-name "vision-mlops ($(VENV))"

# With QUICK, trainings are short, and the floors of the gate are low.
QUICK_SETTINGS = MLOPS_TRAINING__EPOCHS=1 MLOPS_MODEL__IMAGE_SIZE=64 MLOPS_GATE__MIN_ACCURACY=0.1 MLOPS_GATE__MIN_RECALL_PER_CLASS=0 MLOPS_GATE__MAX_CALIBRATION_ERROR=1

notebooks: $(STAMP)  ## Execute the notebooks, with outputs in outputs/notebooks (NOTEBOOKS="02 03" only these, QUICK=1 short trainings, WRITE=1 in place)
	@$(if $(QUICK),$(QUICK_SETTINGS)) $(BIN)/python -m vision_mlops.notebooks $(NOTEBOOKS) $(if $(WRITE),--write)

screenshots: $(STAMP)  ## Take the pictures of the web frontend in docs/images (needs chromium)
	$(BIN)/python -m docs.screenshots $(BUNDLE)

bench: $(STAMP)  ## Run the benchmarks against the alternatives
	$(BIN)/python benchmarks/training.py --variants
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python -m benchmarks.runner
	$(BIN)/python -m benchmarks.checks
	$(BIN)/python -m benchmarks.checks --flipped
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.batch $(if $(BUNDLE),--bundle $(BUNDLE))
	$(MAKE) bench-serving

bench-serving: $(STAMP)  ## Run only the benchmark of the scoring server (needs wrk)
	$(BIN)/python -m benchmarks.serving $(if $(BUNDLE),--bundle $(BUNDLE))

clean:  ## Remove the environment and caches; outputs/ stays
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build dist src/*.egg-info

include infrastructure/azure.mk
