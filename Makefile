# Python 3.11 or later; `make setup PYTHON=python3.12` takes another one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two test workers with one torch thread each; more helps only where there are more cores.
WORKERS ?= 2

.PHONY: setup demo docs types style links attack test test-ray test-roboflow test-azure test-litellm test-wheel nightly check bench serve

setup: $(VENV)/.installed

# Everything at the versions of constraints.txt, and Overpaint itself, editable.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,server,mcp,azure,batch,datasets,c2pa]'
	touch $@

demo: setup
	$(BIN)/overpaint demo

# Types beside lint, format, import directions, container files and words: each needs one core.
check: setup
	$(MAKE) --jobs=2 types style

types: setup
	$(BIN)/mypy

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Containerfile Containerfile.cuda
	$(BIN)/python -m scripts.prose

# The documentation as a site; a broken link or reference ends it.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Whether the addresses that the documents link to answer; it needs a network, so CI does not run it.
links: setup
	$(BIN)/python -m scripts.links

test: setup
	$(MAKE) --jobs=2 types style docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --cov --cov-report=
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --fail-under=90 --format=total \
	  --include='src/overpaint/core/*,src/overpaint/diffusion/*,src/overpaint/families/*'

# Hostile load beside honest clients, for ten minutes; `make attack SECONDS=60` for less.
SECONDS ?= 600
attack: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/attack
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.load --seconds $(SECONDS)

# Workflow blocks in Roboflow's execution engine, which pins what Overpaint does not: it gets an
# environment of its own. `make test-roboflow INFERENCE=0.59.1` takes another version.
INFERENCE ?= 1.8.3
test-roboflow: setup
	venv=$$(PYTHON=$(PYTHON) scripts/roboflow-venv $(INFERENCE)) && \
	  OMP_NUM_THREADS=1 $$venv/bin/python -m pytest --override-ini=filterwarnings=ignore tests/roboflow

# Azure ML's inference server and MLflow, which pin what Overpaint does not.
test-azure: setup
	venv=$$(PYTHON=$(PYTHON) scripts/azure-venv) && \
	  OMP_NUM_THREADS=1 $$venv/bin/python -m pytest --override-ini=filterwarnings=ignore tests/azure

# LiteLLM's client and proxy, which pin what Overpaint does not.
test-litellm: setup
	venv=$$(PYTHON=$(PYTHON) scripts/litellm-venv) && \
	  LITELLM_VENV=$$venv OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/litellm

# The built wheel, in an environment that does not see this tree.
test-wheel: setup
	venv=$$(scripts/wheel-venv $(VENV)) && \
	  WHEEL_VENV=$$venv OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/wheel

# Ray brings much along, so it gets a venv of its own; its warnings are not ours to mend.
test-ray:
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --constraint constraints.txt --editable '.[dev,server,datasets,ray]'
	OMP_NUM_THREADS=1 timeout 300 .venv-ray/bin/pytest -W default \
	  tests/apps/test_ray_serve.py tests/apps/test_ray_datasets.py tests/apps/test_ray_batch.py

# Every night, and before a release: what needs environments of its own. `test-ray` takes under five
# minutes once its environment is there.
nightly: test test-ray test-roboflow test-azure test-litellm test-wheel

# Tables of figures, into benchmarks/results; some hours.
bench: setup
	$(BIN)/python -m benchmarks.performance
	$(BIN)/python -m benchmarks.performance.memory
	$(BIN)/python -m benchmarks.behaviour
	$(BIN)/python benchmarks/erase.py --out benchmarks/results/erase
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.serving --throughput --rounds 5
	$(BIN)/python -m benchmarks.sessions
	$(BIN)/python -m benchmarks.batch
	$(BIN)/python -m benchmarks.azure
	$(BIN)/python -m benchmarks.safety
	$(BIN)/python -m benchmarks.datasets

serve: setup
	$(BIN)/overpaint serve
