# Everything runs in .venv, which is set up by itself when it is missing or stale: from requirements-run.lock for runs and
# reports, from requirements.lock for tests, checks and benches, which need more. A virtual environment of another Python
# beside it: make PYTHON=python3.13 VENV=.venv-3.13 test

PYTHON ?= python3
VENV ?= .venv
SCENARIO ?= quick
RUN ?= latest
ARGS ?=

# Bound to this folder: a checkout that was moved or copied gets a virtual environment of its own.
HERE := $(shell pwd | cksum | cut -d' ' -f1)
RUN_READY := $(VENV)/.ready-run-$(HERE)
ALL_READY := $(VENV)/.ready-all-$(HERE)
LOADTEST := $(VENV)/bin/loadtest
# A Python that was removed leaves a dangling link behind.
ifeq ($(wildcard $(VENV)/bin/python),)
.PHONY: $(RUN_READY) $(ALL_READY)
endif

# Processes that may not keep what they compiled compile it again, each of the hundreds that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run tour regression test test-heavy lint ui serve report example bench power lock clean
.DELETE_ON_ERROR:

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  SCENARIO=$(SCENARIO) for run and ui, RUN=$(RUN) for report, ARGS= goes to the command that is run."

setup: $(RUN_READY) ## install what a run needs into .venv, for schedules that call .venv/bin/loadtest
	@echo "$(VENV) is set up."

run: $(RUN_READY) ## run SCENARIO on the embedded target: traffic, record, report, verdict (a minute)
	@$(LOADTEST) run $(SCENARIO) $(ARGS)

tour: $(RUN_READY) ## run all three operations within and above the documented limits (three and a half minutes)
	@$(LOADTEST) run tour $(ARGS)

# SCENARIO in the environment applies to run and ui. On the command line of make, it also applies to this target.
regression: SCENARIO = regression
regression: $(RUN_READY) ## check SCENARIO=regression against its history in reports/baselines (about five minutes)
	@$(LOADTEST) regression check $(SCENARIO) $(ARGS)

# Most tests wait for processes, so three workers keep two cores busy. A test that needs a valid run makes another run if other
# processes took the cores.
test: $(ALL_READY) ## run the tests, three at a time (browser tests need Chromium, and are skipped without it)
	@$(VENV)/bin/python -m pytest --numprocesses 3 -m "not heavy" $(ARGS)

test-heavy: $(ALL_READY) ## run the slow tests that `make test` leaves out
	@$(VENV)/bin/python -m pytest --numprocesses 2 -m heavy $(ARGS)

lint: $(ALL_READY) ## check style, formatting, types and the directions of imports
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest tests/test_architecture.py $(ARGS)

ui: $(RUN_READY) ## open SCENARIO in Locust's web UI, http://127.0.0.1:8089
	@$(LOADTEST) ui $(SCENARIO) $(ARGS)

serve: $(RUN_READY) ## serve the reference Workflow API on http://127.0.0.1:8000
	@$(LOADTEST) serve $(ARGS)

report: $(RUN_READY) ## make the report of RUN again, from its record alone
	@$(LOADTEST) report $(RUN) $(ARGS)

example: $(RUN_READY) ## run the tour and keep its report in reports/example
	@$(LOADTEST) run tour --png
	@rm -rf reports/example && mkdir -p reports/example/plots
	@cp reports/latest/report.html reports/latest/report.md reports/example/
	@cp reports/latest/plots/*.svg reports/latest/plots/*.png reports/example/plots/

bench: $(ALL_READY) ## measure speed and accuracy beside peers, in short (20 min on two idle cores; ARGS=--full: many hours)
	@$(VENV)/bin/python bench/run_all.py $(ARGS)

power: $(ALL_READY) ## measure how often regression checks alarm without cause, and which changes they find (20 min)
	@$(VENV)/bin/python bench/regression_power.py --full $(ARGS)

lock: ALL_LOCK := --group dev --output-file requirements.lock --upgrade
lock: RUN_LOCK := --group build --output-file requirements-run.lock --constraint requirements.lock
lock: $(ALL_READY) ## resolve the dependencies anew into requirements.lock, and those of a run into requirements-run.lock
	@for lock in "$(ALL_LOCK)" "$(RUN_LOCK)"; do $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links $$lock pyproject.toml || exit 1; done

clean: ## remove the virtual environment, caches and the runs in reports/
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find loadtest tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
	find reports -mindepth 1 -maxdepth 1 ! -name baselines ! -name example ! -name README.md -exec rm -rf {} +

$(RUN_READY): LOCK := requirements-run.lock
$(ALL_READY): LOCK := requirements.lock
$(RUN_READY): requirements-run.lock
$(ALL_READY): requirements.lock
$(RUN_READY) $(ALL_READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "loadtest needs Python 3.11 or newer; $(PYTHON) is another. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@test -x $(VENV)/bin/python && test -e $(RUN_READY) || rm -rf $(VENV)
	@$(PYTHON) tools/install.py $(VENV) $(LOCK)
	@touch $(RUN_READY) $@
