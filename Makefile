# Everything lives in .venv beside this file; `make clean` removes it. Another Python: make PYTHON=python3.12 …

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
SOURCES := pyproject.toml setup.py qxfleet/_fastparse.pyx

.PHONY: demo test test-more bench lint soak manual release clean

demo: $(VENV)/demo.done ## A simulated fleet and a real agent, live, until Ctrl-C
	@$(BIN)/qxfleet demo

test: $(VENV)/test.done ## The whole suite, with the real parts it needs
	@scripts/setup-test-parts.sh
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not more"

test-more: $(VENV)/test.done ## The slower rooms, up to 25 minutes
	@scripts/setup-test-parts.sh
	$(BIN)/python -m pytest -n 3 --dist loadfile -m more

bench: $(VENV)/test.done ## Every benchmark's table
	$(BIN)/python -m tests.benchmarks

lint: $(VENV)/test.done ## Style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PIP) check

soak: $(VENV)/test.done ## The long forms: hours, not minutes
	$(BIN)/python tests/fuzz_fastparse.py --frames 10000000
	QXFLEET_SOAK=1 $(BIN)/python -m pytest --timeout 7200

manual: $(VENV)/test.done ## Man pages and shell completions in share/, from the command line's own words
	$(BIN)/python scripts/manual.py

release: $(VENV)/test.done ## Archives, a lock with hashes and a bill of materials in dist/
	$(BIN)/python scripts/release.py dist

clean:
	rm -rf $(VENV) build *.egg-info qxfleet/*.so qxfleet/_fastparse.c

$(BIN)/python:
	@echo "making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "qxfleet needs Python 3.11 or newer: name one with make PYTHON=…" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler here: apt-get install -y gcc" >&2; exit 1; }
	@$(PYTHON) -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || \
		{ echo "Python's C headers are missing: apt-get install -y python3-dev" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "venv is missing: apt-get install -y python3-venv" >&2; exit 1; }

$(VENV)/demo.done: $(SOURCES) | $(BIN)/python
	@echo "compiling and installing qxfleet into $(VENV), about a minute"
	@$(PIP) install --editable '.[tui,web]'
	@touch $@

$(VENV)/test.done: $(SOURCES) | $(BIN)/python
	@echo "compiling and installing qxfleet and its tests' tools into $(VENV), about two minutes"
	@$(PIP) install --editable '.[test,lint]'
	@touch $@ $(VENV)/demo.done
