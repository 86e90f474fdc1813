# make demo       the whole line in the embedded sandbox
# make test       the test suite
# make lint       ruff, mypy, import contracts
# make test-vllm  a real vLLM on CPU (its own environment, several GB)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TEST_FLAGS ?= -n 2

.PHONY: demo test lint format clean test-vllm parity

demo: $(VENV)/.installed
	$(BIN)/rlhf-eval demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(TEST_FLAGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and alone, so that the other packages keep the build that was chosen for this machine.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet '$(TORCH)'
	touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(BIN)/pip install --quiet --editable '.[train,dashboard]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-vllm build *.egg-info .mypy_cache .ruff_cache .pytest_cache
