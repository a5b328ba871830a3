# Every target works on a fresh clone: it makes its own .venv first. PYTHON=python3.12 make test takes another interpreter.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# What to install besides the core, see setup.cfg. JOBS: how many test processes.
EXTRAS := dev,mat,det,tb,plot,weights,bench
JOBS ?= 2
DEMO := $(BIN)/ubertrain train configs/demo.yaml --compare-memory

# One thread per process: the tests run side by side, and sums in a fixed order repeat bit for bit.
test: export OMP_NUM_THREADS := 1

.PHONY: help venv demo test bench lint

help:
	@echo "make venv    install ubertrain and what its tests need into .venv"
	@echo "make demo    train a small model on rendered scenes, a few minutes on a CPU"
	@echo "make test    run the tests; UBERTRAIN_DATA=folder adds those on real images, PYTEST_ADDOPTS='-m slow' takes the slow ones"
	@echo "make bench   run every benchmark; the results go to bench/results"
	@echo "make lint    check style, formatting, types and imports"

venv: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: $(INSTALLED)
	$(DEMO)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

# A benchmark is a script that answers one question, or a file test_*.py for pytest-benchmark. The other files are what they share.
bench: $(INSTALLED)
	set -e; for script in $$(grep -l __main__ bench/*.py); do $(BIN)/python $$script; done
	$(if $(wildcard bench/test_*.py),$(BIN)/python -m pytest bench --benchmark-only)

# The import checker's cache does not notice that a module has come or gone.
lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
