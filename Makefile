# make demo   installs what is needed into .venv and shows every tokenizer that ships, at work on a real sample
# make test   the same for the test suite
# make cover  the test suite once more, slower, and what of the code it runs
# make lint   style, types
# make bench  speed against the bare operations and against peers
# The first that runs and is new enough: a command of that name may be there and not work.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
# One test process a core, one thread each; tests of threading set their own. Each process begins with its share of the
# tests in order, so that what a file's tests have in common is made once, and takes others' when it is done with them.
# The processes that tests start read what the first has compiled.
JOBS ?= 2

PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo test cover lint bench clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo
	$(BIN)/python -m zoo.cli.demo --out demo

test: $(VENV)/.dev
	$(PYTEST)

cover: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python eval/benchmarks/import_time.py
	$(BIN)/python eval/benchmarks/quantizers.py
	$(BIN)/python eval/benchmarks/attention.py
	$(BIN)/python eval/benchmarks/actions.py
	$(BIN)/python eval/benchmarks/speech.py
	$(BIN)/python eval/benchmarks/images.py --steps 2 --turns 0
	$(BIN)/python eval/benchmarks/captioned.py --turns 0
	$(BIN)/python eval/benchmarks/image_decoders.py
	$(BIN)/python eval/benchmarks/videos.py --sizes nano

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The stamps record what pip has installed; a changed pyproject.toml installs again. About 5 GB, mostly torch.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
