# Each target does its own set-up; a second run skips it.
PYTHON := .venv/bin/python
SCENES ?=
MINUTES ?= 10
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test fuzz lint docs bench view setup

setup:
	@.ci/setup

demo: setup  ## reconstruct the sample photos into demo_scene/
	$(PYTHON) run_recon.py examples/courtyard/images --out demo_scene --overwrite

view: setup  ## open the demo's result
	$(PYTHON) -m viz demo_scene

# A process per core with one thread each: most tests are too small to share among threads.
test: setup
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile

fuzz: setup  ## make fuzz MINUTES=10: damaged files to every reader, and a table of what came of it
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests/helpers $(PYTHON) -m tests.fuzz --minutes $(MINUTES)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive pointmap recon viz pointmap_command.py run_recon.py

docs: setup  ## the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: setup  ## make bench SCENES="folder folder": accuracy and cost on scenes with true cameras
	$(PYTHON) -m benchmarks.scenes examples/courtyard $(SCENES) --out runs/bench --json runs/bench.json
