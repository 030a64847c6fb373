# Two commands are all a newcomer needs: `make demo` and `make test`. Both make .venv by themselves.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-real check bench clean install

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

# Two processes, a file each at a time; what measures time runs by itself afterwards.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not real and not alone"
	$(BIN)/python -m pytest -m "alone and not real"

test-real: $(STAMP)
	$(BIN)/python -m pytest tests/real -m ""

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV)
