# setup: an environment in .venv          demo: a zoo on bundled images, in a minute
# test: the tests, all that they need     check: format, lint, types and the quick tests
# test-all: the tests, then those that take minutes, with Ray
# results: docs/results.md, README's table and each suite's report, from the run files in results/
PYTHON ?= python3
VENV := .venv
PIP_INSTALL := $(VENV)/bin/pip install --quiet
QUICK_TESTS := $(VENV)/bin/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal

.PHONY: setup demo test test-all check results

setup: $(VENV)/.installed

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/pip
	$(PIP_INSTALL) -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt requirements-tensorboard.txt | $(VENV)/bin/pip
	$(PIP_INSTALL) -r requirements-dev.txt
	touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	$(VENV)/bin/python modelzoo.py --continual --epochs 3 --seed 0 --overwrite --run_dir runs/digits \
		--data_config config/dataset/split_digits.yaml --hp_config config/hyperparam/conv.yaml

results: $(VENV)/.installed
	$(VENV)/bin/python results/pages.py

test: $(VENV)/.installed-dev
	$(QUICK_TESTS)

$(VENV)/.installed-ray: requirements-ray.txt $(VENV)/.installed-dev
	$(PIP_INSTALL) -r requirements-ray.txt
	touch $@

test-all: test $(VENV)/.installed-ray
	$(VENV)/bin/python -m pytest -m slow -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(QUICK_TESTS)
