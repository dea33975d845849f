# Every target works from a clean clone: it makes .venv when that is missing and installs what it needs, once for each
# state of pyproject.toml (the stamp files .venv/installed-<extras>). Needs only make and a Python >= 3.11 with venv.

MAKEFLAGS += --silent --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix soak fuzz mutants test-gpu experiments bench bench-peers bench-limits bench-gpu gpu lint clean

VENV := .venv
PYTHON := $(VENV)/bin/python
BENCH_JSON := out/bench.json
# A GPU's machine often has all that is needed: with PYTHON=python3 the targets for GPUs use that and make no .venv.
OWN := $(if $(filter file,$(origin PYTHON)),yes)

help: ## list these targets
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

demo: $(VENV)/installed-cli,data,plot ## train a digit classifier and show what it learnt
	$(VENV)/bin/fastnn demo

test: $(VENV)/installed-test ## run every test, two files at a time; PYTEST_ARGS="-k conv" picks some
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-matrix: ## the tests on the oldest and the newest Python, NumPy and Numba that are supported
	python3 tests/matrix.py $(MATRIX_ARGS)

soak: $(VENV)/installed-test ## the tests that take minutes: kills, threads and processes, arrays of gigabytes
	$(PYTHON) -m pytest tests/soak -rs --durations=8 $(PYTEST_ARGS)

mutants: $(VENV)/installed-test ## break each kernel in several ways on a copy: a test must fail; MUTANTS="conv loss" picks
	$(PYTHON) -m tests.mutants $(MUTANTS)

fuzz: $(VENV)/installed-test ## feed every reader of files hostile input for FUZZ_SECONDS (60) each, by atheris
	$(PYTHON) -m pip install -qq --disable-pip-version-check --only-binary :all: atheris || true
	$(PYTHON) -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60) $(FUZZ_ARGS)

experiments: $(VENV)/installed-cli,data,plot ## train every published network, few epochs where it takes long; compare
	$(VENV)/bin/fastnn data get mnist
	$(VENV)/bin/fastnn data get cifar10
	$(VENV)/bin/fastnn reproduce --quick $(EXPERIMENTS_ARGS)

test-gpu: $(OWN:yes=$(VENV)/installed-test) ## check everything on this machine's GPU; PYTEST_ARGS as for test
	$(PYTHON) -m pytest -m gpu tests/gpu -rs --durations=8 $(PYTEST_ARGS)

bench: $(VENV)/installed-test,bench ## time every operation and network against plain NumPy; print the table
	mkdir -p $(dir $(BENCH_JSON))
	$(PYTHON) -m pytest --benchmark bench --benchmark-max-time=0.5 --benchmark-quiet --benchmark-json=$(BENCH_JSON) $(PYTEST_ARGS)
	$(PYTHON) -m bench.medians $(BENCH_JSON)

bench-peers: $(VENV)/installed-peers ## time networks against PyTorch, JAX, scikit-learn and ONNX Runtime, at equal work
	$(PYTHON) -m bench.peers $(PEERS_ARGS)

bench-limits: $(VENV)/installed-test,bench ## time each kernel against the limits of the machine
	$(PYTHON) -m bench.limits $(LIMITS_ARGS)

bench-gpu: $(OWN:yes=$(VENV)/installed-peers) ## time networks and kernels on this machine's GPU, beside PyTorch
	$(PYTHON) -m bench.gpu $(BENCH_GPU_ARGS)

gpu: ## test-gpu, then bench-gpu, whatever comes of the first
	status=0; $(MAKE) test-gpu || status=1; $(MAKE) bench-gpu || status=1; exit $$status

lint: $(VENV)/installed-test,lint ## check style (ruff), types (mypy) and the direction of imports (import-linter)
	$(PYTHON) -m ruff check --quiet --output-format=concise
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest tests/test_imports.py -k one_way

clean: ## remove .venv and everything built
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the comparison is with: releases of PyTorch differ in speed, so that one is pinned. On Linux its wheel brings
# CUDA's libraries unless pip is told of the CPU's: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
$(VENV)/installed-peers: $(VENV)/installed-test,bench
	echo "Installing PyTorch, JAX, ONNX Runtime and scikit-learn into $(VENV) ..."
	$(PYTHON) -m pip install -qq --disable-pip-version-check torch==2.13.0 jax onnxruntime onnx scikit-learn
	touch $@

$(VENV)/installed-%: pyproject.toml $(VENV)/made
	echo "Installing fastnn with [$*] into $(VENV) (the first time takes a minute or two) ..."
	$(PYTHON) -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	touch $@

$(VENV)/made:
	$(or $(NEWEST_PYTHON),$(error fastnn needs Python 3.11 or newer with its venv module: $(PYTHONS) are not)) -m venv --clear $(VENV)
	touch $@

# Of the interpreters that run and can make a virtual environment, the newest that is new enough.
PYTHONS := python3 python3.13 python3.12 python3.11
VERSION := import sys, ensurepip, venv; print(sys.version_info[0] * 100 + sys.version_info[1])
NEWEST_PYTHON = $(shell newest=310; for python in $(PYTHONS); do \
	version=$$($$python -c '$(VERSION)' 2>/dev/null) && [ "$$version" -gt "$$newest" ] && newest=$$version && best=$$python; \
	done; echo $$best)
