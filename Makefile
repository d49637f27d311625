# setup: an environment in .venv          demo: a zoo on bundled images, in a minute
# test: the tests, all that they need     check: format, lint, types and the quick tests
PYTHON ?= python3
VENV := .venv

.PHONY: setup demo test check

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(VENV)/bin/pip install --quiet -r requirements-dev.txt
	touch $@

demo: $(VENV)/.installed
	$(VENV)/bin/python modelzoo.py --continual --epochs 3 --seed 0 --overwrite --run_dir runs/digits \
		--data_config config/dataset/split_digits.yaml --hp_config config/hyperparam/conv.yaml

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile
