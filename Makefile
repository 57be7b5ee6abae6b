# Two commands set everything up on a fresh machine: `make demo` and `make test`.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu    # no GPU: smaller download
PYTHON      ?= python3
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
VENV        := .venv
BIN         := $(VENV)/bin
PIP         := $(BIN)/python -m pip --disable-pip-version-check
OUT         ?= runs/demo
# One process a core and one thread in each: threads that spin for a core double the time of a loaded machine.
TESTS       ?= -n auto --timeout 900

.PHONY: demo test check lint clean

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -q -c constraints.txt -e ".[dev,all]"
	touch $@

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -q -c constraints.txt -e ".[export]"
	touch $@

demo: $(VENV)/.demo             ## search on the embedded digits, train, export, report
	$(BIN)/archduel search digits --time 3m --out $(OUT)
	@echo "open $(OUT)/report.html"

test: $(VENV)/.ready            ## what a newcomer runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" $(TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check archduel tests benchmarks examples
	$(BIN)/mypy

check: lint test

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache runs
