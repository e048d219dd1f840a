# The two commands of the README are `make demo` and `make test`; each makes its own virtual environment where needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check stress mutants memory forgetting paper paper-full bench docs format clean

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memodb needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY)   ## memorise, complete, trace, delete and verify on Python's own documentation
	$(BIN)/python tools/demo.py

test: $(READY)   ## the ordinary tests
	$(BIN)/python -m pytest -n 2

check: $(READY)  ## lint, format, types, generated documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

export MEMODB_STRESS ?= 0.4
stress: $(READY) ## the long tests, some twenty minutes; MEMODB_STRESS=1, or 10, for the figures of docs/reliability.md
	$(BIN)/python -m pytest -m stress -n 2

mutants: $(READY) ## break memodb in hundreds of ways and see each time the test fail that guards it; half an hour
	$(BIN)/python tools/mutants/run.py

memory: $(READY) ## the figures of docs/memory.md, on the installed Python's library
	$(BIN)/python tools/memory_report.py --write docs

forgetting: $(READY) ## the figures of docs/forgetting.md, some ten minutes
	$(BIN)/python tools/forgetting/run.py --write docs

paper: $(READY) ## the figures of docs/paper.md that are not measured yet, at quick sizes
	$(BIN)/python tools/paper/run.py all --write docs

paper-full: $(READY) ## every figure of docs/paper.md that a CPU can measure; hours
	$(BIN)/python tools/paper/run.py all --seeds 1,2,3
	$(BIN)/python tools/paper/run.py all --dims 512,1024,2048,4096 --write docs

bench: $(READY)  ## memodb beside its goals and its peers, and what its settings cost, on a machine that does nothing else; half an hour
	-$(BIN)/python -m pip install --quiet --only-binary :all: tokengrams
	-$(BIN)/python -m pip install --quiet --only-binary :all: infini-gram
	$(BIN)/python tools/bench/run.py all --write docs
	$(BIN)/python tools/bench/run.py plain --repeats 3 --write docs
	$(BIN)/python tools/bench/run.py tuning --tokens 300_000 --write docs

docs: $(READY)   ## what is generated: the reference of the command line
	$(BIN)/python tools/build_cli_reference.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
