# Every target builds what it needs; a fresh machine needs Python 3.11 or newer and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DOCS_READY := $(VENV)/.installed-docs
# Torch in several test processes on few cores is faster with one thread each.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test test-slow lint typecheck pytest docs wheel bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit,plot,test,text]'
	touch $(READY)

$(DOCS_READY): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $(DOCS_READY)

demo: $(READY)  ## score the digits and breast cancer sets, write one picture
	MPLBACKEND=Agg $(BIN)/python -W "ignore:FigureCanvasAgg" examples/plot_quickstart.py output/worst_digits.png

test: lint typecheck pytest  ## lint, types, tests and doctests

pytest: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' --durations=10

test-slow: $(READY) wheel  ## acceptance tests of minutes, and the wheel in a clean venv
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow --durations=10

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(READY)  ## mypy, strict, on the package
	$(BIN)/mypy

# Gallery pages are run again where their example changed; `make clean` has all of them run.
docs: $(DOCS_READY)  ## the manual in build/docs: warnings are errors, its doctests run
	$(ONE_THREAD) $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	$(ONE_THREAD) $(BIN)/python -m pytest -q -p no:cacheprovider --doctest-glob='*.rst' $(wildcard docs/*.rst)
	@echo "The manual: build/docs/index.html"

wheel: $(READY)  ## build the wheel, install it in a clean venv, import it
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv-wheel/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd .venv-wheel && bin/python ../tests/wheel_smoke.py
	rm -rf .venv-wheel

bench: $(READY)  ## speed and memory of the gradient core, as ratios
	$(BIN)/python -m benchmarks.costs.speed
	$(BIN)/python -m benchmarks.costs.gradient_memory
	$(BIN)/python -m benchmarks.costs.row_checks

clean:  ## remove what the targets made
	rm -rf $(VENV) .venv-wheel dist build output docs/auto_examples docs/api/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
