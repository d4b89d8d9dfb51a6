# Every target sets up what it needs: a virtual environment with uv and the pinned, hashed packages.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.ready
SOURCES := src tests benchmarks tools

.PHONY: help setup demo test lint types unit wheel bench evidence docs pins clean

help:                ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)      ## the virtual environment with everything pinned

$(STAMP): requirements/uv.txt requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/uv.txt requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: setup          ## a first real game, three minutes on two cores
	$(BIN)/countermove demo

test: lint types unit wheel ## everything that CI runs

lint: setup          ## ruff
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: setup         ## pyright
	$(BIN)/pyright

unit: setup          ## pytest, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

wheel: setup         ## build the wheel, install it into an empty environment, play the quick demo from it
	BIN=$(abspath $(BIN)) tools/check_wheel.sh

bench: setup         ## speed claims: both sides in one run, a ratio each
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

evidence: setup      ## what must be seen, with seeds 0-2; many hours, run it alone; results go to docs/results
	$(BIN)/python tools/evidence.py

docs: setup          ## the method sheets in docs/methods.md, the bill of materials in docs/sbom.json
	$(BIN)/python tools/make_docs.py
	$(BIN)/python tools/make_sbom.py

pins: setup          ## resolve the pinned requirements anew
	BIN=$(abspath $(BIN)) tools/make_pins.sh

clean:               ## remove what was built, not the runs
	rm -rf $(VENV) dist build .pytest_cache .hypothesis .ruff_cache
