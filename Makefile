# make setup   everything needed, from nothing; does nothing (in under 2 s) when nothing changed
# make demo    the closed loop in simulation; ARGS="--episodes 50 --seed 7 --json out.json" goes to `qt-ros demo`
# make test    setup, ruff, mypy, pytest (ARGS="-k name" goes to pytest)
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format lock clean distclean

ARGS ?=
# One thread per test worker: two workers share two cores.
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadscope

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@tools/bootstrap.sh

demo: setup
	@. ./env.sh && exec qt-ros demo $(ARGS)

test: setup
	@. ./env.sh && $(MAKE) --no-print-directory lint-here && $(PYTEST) -m "not slow" $(ARGS)

test-slow: setup
	@. ./env.sh && $(PYTEST) -m slow $(ARGS)

lint: setup
	@. ./env.sh && $(MAKE) --no-print-directory lint-here

.PHONY: lint-here
lint-here:
	@ruff check .
	@ruff format --check --quiet .
	@mypy

format: setup
	@. ./env.sh && ruff format . && ruff check --fix .

# Writes the exact version of every installed wheel into tools/, after changing a requirements file.
lock: setup
	@. ./env.sh && python tools/lock.py

clean:
	rm -rf build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find qt_ros test tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf .venv
