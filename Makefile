# The verbs of the project; `make help` lists them. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test fuzz torture lint format typecheck bench docs dist weights clean

help:  ## list the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## make .venv and install xecg into it

demo: .venv/installed  ## fine-tune, test and explain on the embedded synthetic ECGs, about 2 minutes
	$(BIN)/xecg fit --config configs/finetune_frozen3.yaml

test: .venv/installed-dev  ## run the tests (real ECGs too where XECG_DATA names their folder)
	$(BIN)/python -m pytest -n auto --dist worksteal

fuzz: .venv/installed-dev  ## damage 10,000 files by chance and count how they are read
	$(BIN)/python tests/reliability/fuzz.py --cases 10000

torture: .venv/installed-dev  ## kill xecg at 100 random moments, half an hour
	$(BIN)/python tests/reliability/torture.py

lint: .venv/installed-dev  ## look for mistakes and check the formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/installed-dev  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

typecheck: .venv/installed-dev  ## check the types
	$(BIN)/mypy

bench: .venv/installed-dev  ## measure speed next to the plain alternative
	$(BIN)/python benchmarks/report.py

docs: .venv/installed-dev  ## make the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: .venv/installed-dev  ## make a wheel and an sdist in dist/
	$(BIN)/python -m build

weights: .venv/installed  ## how the released weights are made again
	@sed -n '/^## How they are made/,/^## /p' xecg/weights/README.md | sed '$$d'

clean:  ## remove .venv and caches; runs and stores stay
	rm -rf .venv .cache site .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "xecg needs Python 3.11 or newer; found $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip  # the one of venv takes half as long again

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/installed
