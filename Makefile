# Python 3.11 or later; `make setup PYTHON=python3.12` takes another one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two test workers with one torch thread each; more helps only where there are more cores.
WORKERS ?= 2

.PHONY: setup demo test check bench serve

setup: $(VENV)/.installed

# Everything at the versions of constraints.txt, and Overpaint itself, editable.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,server]'
	touch $@

demo: setup
	$(BIN)/python -m examples.demo

# Lint, format, types, import directions.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --cov --cov-report=
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --fail-under=90 --format=total \
	  --include='src/overpaint/core/*,src/overpaint/diffusion/*,src/overpaint/families/*'

bench: setup
	$(BIN)/python -m benchmarks.real_size

serve: setup
	$(BIN)/overpaint serve
