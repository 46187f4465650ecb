# Each target does its own set-up; a second run skips it.
PYTHON := .venv/bin/python
SCENES ?=
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint docs bench view setup

setup:
	@.ci/setup

demo: setup  ## reconstruct the sample photos into demo_scene/
	$(PYTHON) run_recon.py examples/courtyard/images --out demo_scene --overwrite

view: setup  ## open the demo's result
	$(PYTHON) -m viz demo_scene

# A process per core with one thread each: most tests are too small to share among threads.
test: setup
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: setup  ## the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: setup  ## make bench SCENES="folder folder": accuracy and cost on scenes with true cameras
	$(PYTHON) -m benchmarks.scenes examples/courtyard $(SCENES) --out runs/bench --json runs/bench.json
