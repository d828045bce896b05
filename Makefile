# Each target installs what it needs. The machine must have make and Python 3.11 or later with venv.
#
#   make demo PYTHON=/opt/python3.12/bin/python3    choose the interpreter
#   make test VENV=.venv-3.13 ARGS="-k decoder -x"  choose the environment, and pass arguments to pytest

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

# The peers' libraries must not contact a model hub.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
PROMPTS ?=
MINUTES ?= 10
.PHONY: help demo check test test-all lint format peers acceptance torture fuzz soak bench bench-full bench-pacing walk docs docs-serve build clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1  /p' Makefile | awk -F '  ' '{ printf "make %-13s %s\n", $$1, $$2 }'

demo: $(VENV)/.ready-run ## Run a file of prompts through the sandbox with faults; images go into demo-out/
	@if [ -e demo-out ] && [ ! -d demo-out/.imagen ]; then \
		echo "demo-out exists and was not made by make demo; move it away" >&2; exit 1; fi
	@rm -rf demo-out
	$(BIN)/imagen-async run examples/prompts.jsonl --output demo-out $(DEMO)
	@echo
	$(BIN)/imagen-async status demo-out

# Eight requests in flight, about a second each. With this seed each fault occurs, and no job loses its response twice, so
# that every job succeeds with the default retries.
DEMO = --sandbox --sandbox-seed 327 --sandbox-latency 0.3-2 --concurrency 8 --progress-every 2 \
	--sandbox-fault 429=10% --sandbox-fault 500=5% --sandbox-fault 502-html=3% --sandbox-fault disconnect=3% \
	--sandbox-fault truncate=3% --sandbox-fault corrupt-base64=3% --sandbox-fault odd-wrapping=10%

check: lint ## Lint, types, import contracts and quick tests: the inner loop, under a minute
	IMAGEN_TEST_PROFILE=quick $(BIN)/python -m pytest -n 2 -q -m "not slow and not peers" $(QUICK) $(ARGS)

# The quick tests: these folders without the tests marked slow, and properties with a few examples. The whole suite adds
# batches, hostile responses, the command line in processes of its own, the key in every failing situation, the
# documentation, the benchmarks, and torture.
QUICK = tests/client tests/limiter tests/receiver tests/stores tests/transport tests/wire \
	tests/docs/test_architecture.py tests/docs/test_habits.py \
	$(filter-out tests/test_canary%,$(wildcard tests/test_*.py))

test: $(VENV)/.ready-dev ## Run the whole suite, including the examples in documentation and docstrings
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-all: ## Run the suite on every supported Python that is found, each in its own environment
	@sh .ci/pythons | { \
		ran=; failed=; \
		while read -r version python; do \
			echo "== Python $$version: $$python"; ran="$$ran $$version"; \
			$(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON="$$python" </dev/null || failed="$$failed $$version"; \
		done; \
		if [ -z "$$ran" ]; then echo "no supported Python was found; see .ci/pythons" >&2; exit 1; fi; \
		if [ -n "$$failed" ]; then echo "failed on:$$failed (of:$$ran)" >&2; exit 1; fi; \
		echo "passed on:$$ran"; \
	}

lint: $(VENV)/.ready-dev ## Check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev ## Format the code and apply the safe fixes of ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

peers: $(BENCH_VENV)/.ready-peers ## Run the tests that need other projects' clients and loaders
	$(BENCH_VENV)/bin/python -m pytest -m peers $(ARGS)

acceptance: $(BENCH_VENV)/.ready-peers ## Run PROMPTS=file through the sandbox and compare each image; then kill and resume it
	@if [ -z "$(PROMPTS)" ]; then echo "PROMPTS is not set; run: make acceptance PROMPTS=file" >&2; exit 2; fi
	$(BENCH_VENV)/bin/python -m tests.acceptance every-image $(PROMPTS)
	$(BENCH_VENV)/bin/python -m tests.acceptance kill-nine $(PROMPTS)

torture: $(VENV)/.ready-dev ## Kill batches at each system call, fill disks; half an hour (ARGS="crash-points --quick": a minute)
	$(BIN)/python -m tests.torture $(or $(ARGS),all)

fuzz: $(FUZZ_VENV)/.ready-fuzz ## Fuzz each target for MINUTES=10 (ARGS="decoder lines": only these targets)
	$(FUZZ_VENV)/bin/python -m tests.fuzz run --minutes $(MINUTES) $(ARGS)

soak: $(VENV)/.ready-dev ## Run 200,000 tiny jobs with faults; each must end once, memory must not grow (ARGS="--jobs 20000")
	$(BIN)/python -m tests.torture.soak $(ARGS)

bench: $(BENCH_VENV)/.ready-peers .venv-litellm/.ready-litellm ## Measure ours and its peers (ARGS="memory", "--quick")
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

bench-full: $(BENCH_VENV)/.ready-peers .venv-litellm/.ready-litellm ## Measure every part in benchmarks/README.md; hours
	$(BENCH_VENV)/bin/python -m benchmarks full $(ARGS)

bench-pacing: $(BENCH_VENV)/.ready-peers ## Measure how well a hidden rate limit is found (ARGS="--quick", "--rounds 3", "--all")
	$(BENCH_VENV)/bin/python -m benchmarks.pacing $(ARGS)

walk: $(VENV)/.ready-dev ## Count the functions that one prompt passes (ARGS="--list", "--checkout ../old")
	$(BIN)/python -m benchmarks.walk $(ARGS)

docs: $(VENV)/.ready-dev ## Build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.ready-dev ## Serve the documentation on a local port
	$(BIN)/mkdocs serve

build: $(VENV)/.ready-dev ## Build sdist and wheel into dist/
	$(BIN)/python -m build --outdir dist

clean: ## Remove environments, caches and build products
	rm -rf .venv .venv-* build dist site demo-out bench-out fuzz-out .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# -- environments -----------------------------------------------------------------------------------------------------

%/.ready-venv:
	@found=; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		if "$$python" -c '$(SUITABLE)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or later with venv was found; tried: $(or $(PYTHON),$(PYTHONS))." >&2; \
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

# litellm needs other versions of its dependencies than its rivals do, so it has an environment of its own.
%/.ready-litellm: $(PINS) | %/.ready-venv
	@echo "installing litellm into $*"
	@$*/bin/python $(PIP_INSTALL) pip
	@$*/bin/python $(subst -c constraints.txt,,$(PIP_INSTALL)) --group litellm
	@touch $@

# Without this, make deletes the stamps as intermediate files of a chain of pattern rules.
.PRECIOUS: %/.ready-venv %/.ready-run %/.ready-dev %/.ready-peers %/.ready-fuzz %/.ready-litellm
