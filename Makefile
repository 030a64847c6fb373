# Two commands are all a newcomer needs: `make demo` and `make test`. Both make .venv by themselves.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FIGURES := $(VENV)/fault-figures.json

.PHONY: demo test test-long test-streamed test-installed test-real check bench kinds clean explore install faults faults-release fault-rows soak http-schema

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): once, a minute or two"
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing $(VENV); \
	else for p in python3 python3.13 python3.12 python3.11; do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then $$p -m venv $(VENV); break; fi; done; fi
	@test -x $(BIN)/python || { echo "hotseat needs Python 3.11 or newer, or uv"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[all,dev]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'; fi
	@touch $@

demo: $(STAMP)
	$(BIN)/hotseat demo $(DEMO_FLAGS)

# Three processes, a file each at a time; what measures time runs by itself afterwards.
test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not real and not alone and not installed and not long"
	$(BIN)/python -m pytest -m "alone and not real"

# Further cases of what the suite shows in cheaper ones.
test-long: $(STAMP)
	$(BIN)/python -m pytest tests/integration -n 2 --dist loadfile -m long

# The engine's tests with every layer, then with most experts, read from the disk at every step.
test-streamed: $(STAMP)
	HOTSEAT_SPOIL_ROOMS=1 HOTSEAT_TEST_RESIDENCE=layers $(BIN)/python -m pytest tests/unit/engine -n 2 --dist loadfile
	HOTSEAT_SPOIL_ROOMS=1 HOTSEAT_TEST_RESIDENCE=experts $(BIN)/python -m pytest tests/unit/engine -n 2 --dist loadfile

# New examples for every property; `make test` draws the same ones everywhere.
explore: $(STAMP)
	$(BIN)/python -m pytest tests/property tests/unit -n 2 --hypothesis-profile explore -m "not real and not alone and not installed and not long"

# The wheel in an environment of its own: served, upgraded, taken away.
test-installed: $(STAMP)
	$(BIN)/python -m pytest tests/integration/test_installed_tool.py -m installed

test-real: $(STAMP)
	$(BIN)/python -m pytest tests/real -m ""

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

# A tiny model of each architecture through the engine; some minutes. Draws docs/kinds.md anew.
kinds: $(STAMP)
	$(BIN)/python -m benchmarks kinds $(KINDS)
	$(BIN)/python tests/unit/repository/test_kinds_page.py --write

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV)

# The rows of tests/faults, printed as one table. What measures time runs by itself afterwards; the
# rest waits for processes most of the time, so that three share two cores.
faults: $(STAMP)
	$(MAKE) fault-rows COUNTS=push

faults-release: $(STAMP)
	$(MAKE) fault-rows COUNTS=release

# One file of figures for both runs; the second prints the table of both.
fault-rows: $(STAMP)
	@rm -f $(FIGURES); export HOTSEAT_FAULT_FIGURES=$(FIGURES); failed=0; \
	$(BIN)/python -m pytest tests/faults -n 3 --dist worksteal -m "not alone" --fault-counts $(COUNTS) \
	  --fault-table-later || failed=1; \
	$(BIN)/python -m pytest tests/faults -m alone --fault-counts $(COUNTS) || failed=1; exit $$failed

# Ten thousand requests made of the gateway's own description; CASES=2000 for fewer.
http-schema: $(STAMP)
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[all,dev,schema]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev,schema]'; fi
	$(BIN)/python -m tests.http_schema $(if $(CASES),--cases $(CASES))

# A fault every 30 s for a day; HOTSEAT_SOAK_S=300 for another length.
soak: $(STAMP)
	$(BIN)/python -m pytest tests/faults/test_row_22_soak.py --fault-counts release -s
