# make demo, make test and make lint set everything up on a machine that has only Python >= 3.10.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_DIR ?= demo_output
BENCH_DIR ?= benchmark_output

.PHONY: install demo test test-long fuzz kill dist-check lint docs bench bench-gpu format clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python >= 3.10 is needed, found $$($(PYTHON) --version); set PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/triad-demo $(DEMO_DIR)

# Two processes with a thread each, as two cores have room for; tests that share a module's
# fixtures stay together.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

# What `make test` leaves out.
test-long: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m long

# Ten thousand command lines a program, and as many files a reader: hours.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 TRIAD_FUZZ_TRIES=10000 $(BIN)/python -m pytest tests/fuzz --timeout 0

# Three hundred rounds of kills at random moments of each command in tests/faults/kills.py: hours.
kill: $(STAMP)
	OMP_NUM_THREADS=1 TRIAD_KILLS=300 $(BIN)/python -m pytest tests/faults/test_kills.py --timeout 0

# The wheel and the source distribution, each in an environment of its own: downloads gigabytes.
dist-check:
	PYTHON=$(PYTHON) tests/check_distribution.sh

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, after spelling, links within the checkout, and what is hard to read (a warning alone).
docs: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/codespell *.md docs/*.md docs/evidence/*.md studies/*.md
	$(BIN)/md-dead-link-check
	$(BIN)/python docs/check_prose.py
	$(BIN)/mkdocs build --strict

# All side-by-side figures, one after another: QUICK=--quick for few rounds, ONLY=NAME for one.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(QUICK) $(if $(ONLY),--only $(ONLY)) --output $(BENCH_DIR)

# Steps on this machine's GPU beside MONAI's and nnU-Net's, in ten minutes: a table and a JSON.
bench-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu_speed --output $(BENCH_DIR)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO_DIR) build dist *.egg-info
