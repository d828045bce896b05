# Every target sets itself up: it takes make and a Python from 3.11 up with venv, and nothing else of ours.
#
#   make demo PYTHON=/opt/python3.12/bin/python3    names the interpreter
#   make test VENV=.venv-3.13 ARGS="-k decoder -x"  names the environment, and what pytest gets

SHELL := /bin/sh
VENV ?= .venv
BENCH_VENV ?= .venv-bench
FUZZ_VENV ?= .venv-fuzz
PYTHONS := python3.13 python3.12 python3.11 python3.14 python3 python
ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL = -m pip install -qq --disable-pip-version-check --root-user-action ignore \
	-c constraints.txt
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PINS := pyproject.toml constraints.txt imagen_async/_version.py

# Nothing here may ask a model hub for anything.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
PROMPTS ?=
MINUTES ?= 10
.PHONY: help demo test test-all lint format peers acceptance torture fuzz soak bench bench-full bench-pacing walk docs docs-serve build clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1  /p' Makefile | awk -F '  ' '{ printf "make %-13s %s\n", $$1, $$2 }'

demo: $(VENV)/.ready-run ## Run the main job: prompts in, images in demo-out/, through the sandbox with faults
	@if [ -e demo-out ] && [ ! -d demo-out/.imagen ]; then \
		echo "demo-out is there and not from a demo: move it away" >&2; exit 1; fi
	@rm -rf demo-out
	$(BIN)/imagen-async run examples/prompts.jsonl --output demo-out $(DEMO)
	@echo
	$(BIN)/imagen-async status demo-out

# Eight at a time, each taking a second or so. The seed is one with which every fault is met, and no job loses its answer
# more often than the one time after which it is tried again.
DEMO = --sandbox --sandbox-seed 327 --sandbox-latency 0.3-2 --concurrency 8 --progress-every 2 \
	--sandbox-fault 429=10% --sandbox-fault 500=5% --sandbox-fault 502-html=3% --sandbox-fault disconnect=3% \
	--sandbox-fault truncate=3% --sandbox-fault corrupt-base64=3% --sandbox-fault odd-wrapping=10%

test: $(VENV)/.ready-dev ## Run the whole suite: tests, examples of the documentation, docstrings
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-all: ## Run the suite on every Python from 3.11 up that is found, each in its own environment
	@ran=; failed=; \
	for minor in 11 12 13 14 15 16; do \
		for python in python3.$$minor $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.$$minor.*/bin/python; do \
			if "$$python" -c '$(SUITABLE)' 2>/dev/null; then \
				echo "== Python 3.$$minor: $$python"; ran="$$ran 3.$$minor"; \
				$(MAKE) --no-print-directory test VENV=.venv-3.$$minor PYTHON="$$python" || failed="$$failed 3.$$minor"; \
				break; \
			fi; \
		done; \
	done; \
	if [ -z "$$ran" ]; then echo "no Python from 3.11 up was found" >&2; exit 1; fi; \
	if [ -n "$$failed" ]; then echo "failed on:$$failed (of:$$ran)" >&2; exit 1; fi; \
	echo "passed on:$$ran"

lint: $(VENV)/.ready-dev ## Check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

peers: $(BENCH_VENV)/.ready-peers ## Run the tests against clients and loaders that are not ours
	$(BENCH_VENV)/bin/python -m pytest -m peers $(ARGS)

acceptance: $(BENCH_VENV)/.ready-peers ## A file of prompts (PROMPTS=file) image by image, then killed and resumed
	@if [ -z "$(PROMPTS)" ]; then echo "which file? make acceptance PROMPTS=file" >&2; exit 2; fi
	$(BENCH_VENV)/bin/python -m tests.acceptance every-image $(PROMPTS)
	$(BENCH_VENV)/bin/python -m tests.acceptance kill-nine $(PROMPTS)

torture: $(VENV)/.ready-dev ## Kill and hurt batches at every turn, half an hour (ARGS="crash-points --quick": a minute)
	$(BIN)/python -m tests.torture $(or $(ARGS),all)

fuzz: $(FUZZ_VENV)/.ready-fuzz ## Look for inputs that are not read as promised (MINUTES=10 for each target, ARGS="decoder lines")
	$(FUZZ_VENV)/bin/python -m tests.fuzz run --minutes $(MINUTES) $(ARGS)

soak: $(VENV)/.ready-dev ## 200,000 tiny jobs with faults: each ends once, and nothing grows (ARGS="--jobs 20000")
	$(BIN)/python -m tests.torture.soak $(ARGS)

bench: $(BENCH_VENV)/.ready-peers .venv-litellm/.ready-litellm ## Measure ours beside its peers (ARGS="memory", "--quick")
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

bench-full: $(BENCH_VENV)/.ready-peers .venv-litellm/.ready-litellm ## Measure all that benchmarks/README.md lists: hours
	$(BENCH_VENV)/bin/python -m benchmarks full $(ARGS)

bench-pacing: $(BENCH_VENV)/.ready-peers ## Measure how well a hidden limit is found (ARGS="--quick", "--rounds 3", "--all")
	$(BENCH_VENV)/bin/python -m benchmarks.pacing $(ARGS)

walk: $(VENV)/.ready-dev ## Count the functions that one prompt passes (ARGS="--list", "--checkout ../old")
	$(BIN)/python -m benchmarks.walk $(ARGS)

docs: $(VENV)/.ready-dev ## Build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.ready-dev ## Show the documentation on a local port
	$(BIN)/mkdocs serve

build: $(VENV)/.ready-dev ## Build sdist and wheel into dist/
	$(BIN)/python -m build --outdir dist

clean: ## Remove environments, caches and everything else that was made here
	rm -rf .venv .venv-* build dist site demo-out bench-out fuzz-out .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# -- environments -----------------------------------------------------------------------------------------------------

%/.ready-venv:
	@found=; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		if "$$python" -c '$(SUITABLE)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python from 3.11 up that has venv was found; looked for: $(or $(PYTHON),$(PYTHONS))." >&2; \
		echo "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or name it:" >&2; \
		echo "    make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	if ! $*/bin/python -c '$(SUITABLE)' 2>/dev/null; then \
		echo "making $* with $$("$$found" --version)"; \
		"$$found" -m venv --clear $*; \
	fi
	@touch $@

%/.ready-run: $(PINS) | %/.ready-venv
	@echo "installing imagen-async into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(PIP_INSTALL) --build-constraint constraints.txt -e '.[all]'
	@touch $@

%/.ready-dev: $(PINS) | %/.ready-venv
	@echo "installing imagen-async and its tools into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(PIP_INSTALL) --build-constraint constraints.txt -e '.[all]' --group dev
	@touch $@ $*/.ready-run

%/.ready-peers: $(PINS) | %/.ready-venv
	@echo "installing imagen-async and its peers into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(PIP_INSTALL) --build-constraint constraints.txt -e '.[all]' --group test --group peers --group plots --group loops
	@touch $@

%/.ready-fuzz: $(PINS) | %/.ready-venv
	@echo "installing imagen-async and its fuzzer into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(PIP_INSTALL) --build-constraint constraints.txt -e '.[all]' --group test --group fuzz
	@touch $@

# Wants other versions than its rivals do, so it has an environment of its own, which only the benchmark looks into.
%/.ready-litellm: $(PINS) | %/.ready-venv
	@echo "installing litellm into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(subst -c constraints.txt,,$(PIP_INSTALL)) --group litellm
	@touch $@

# Stamps are no by-products: make would remove those of a chain of pattern rules.
.PRECIOUS: %/.ready-venv %/.ready-run %/.ready-dev %/.ready-peers %/.ready-fuzz %/.ready-litellm
