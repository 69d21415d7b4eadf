# `make demo` and `make test` make the virtual environment by themselves; they need Python 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS ?= requirements.txt

.PHONY: demo test test-slow lint

$(VENV)/installed: requirements-core.txt $(REQUIREMENTS) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

# The whole chain on the embedded scenes: teacher, pseudo labels, student, scores, SavedModel, page.
demo: $(VENV)/installed
	$(BIN)/python -m kd_tf.main --flagfile=experiments/demo/flags.txt

test: $(VENV)/installed
	$(BIN)/python -m pytest -q -m "not slow"

# Most of their time is tracing, which uses one core: two files at a time.
test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile --durations=15

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
