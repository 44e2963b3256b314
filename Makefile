# `make demo` and `make test` each set everything up by themselves; see README.md.
# Six test files at a time: most tests wait for programs. PARALLEL= runs them one by one. tests/conftest.py orders them.
# They read the same tests, so what was compiled is kept whatever the environment says of that.
PARALLEL ?= --numprocesses 6 --dist loadfile --no-loadscope-reorder
PYTEST = PYTHONDONTWRITEBYTECODE= .venv/bin/pytest

.PHONY: help setup demo rack-demo slurm-demo test test-fast test-full fuzz sim check lint docs bench clean

help:
	@echo "make demo    install, run a real project on this machine, fetch its results"
	@echo "make rack-demo   servers that come on for a burst of jobs and go off again, in a minute (root)"
	@echo "make slurm-demo  two servers and a Slurm cluster that takes what they have no room for, in a minute (root)"
	@echo "make test    install, run all tests (what CI runs)"
	@echo "make test-fast   the tests that need neither root nor Debian packages, in less than a minute"
	@echo "make test-full   all tests at full size: hours (root)"
	@echo "make fuzz MINUTES=30   feed odd bytes to everything that reads bytes from outside"
	@echo "make sim     the controller on a simulated rack that breaks: SEEDS=100, or SEED=7 for the story of one"
	@echo "make docs    the documentation as a web site, in build/site/"
	@echo "make check   ruff, strict types, import rules and all tests"
	@echo "make bench   benchmarks beside other schedulers (root; tests/bench/README.md)"
	@echo "make setup   only .venv/ with everything in it"
	@echo "make clean   remove .venv/ and caches"

setup:
	@scripts/setup

demo: setup
	@scripts/debian-packages install demo || true
	@.venv/bin/python scripts/demo.py

rack-demo:
	@[ "$$(id -u)" = 0 ] || { echo "make rack-demo needs root, since it builds servers out of namespaces: run \`sudo make rack-demo\`."; exit 1; }
	@scripts/setup
	@scripts/debian-packages install tests || true
	@.venv/bin/python scripts/rack_demo.py $(DEMO)

slurm-demo:
	@[ "$$(id -u)" = 0 ] || { echo "make slurm-demo needs root, since it starts Slurm's daemons: run \`sudo make slurm-demo\`."; exit 1; }
	@scripts/setup
	@scripts/debian-packages install tests || true
	@.venv/bin/python scripts/slurm_demo.py

# Where Debian packages cannot be installed, the tests that need them are skipped by name, each with its reason.
# What failed is run once more, one test at a time: tests with real processes share two cores here, and a fault is
# what fails on a machine of its own too. Both runs are printed.
test: setup
	@scripts/debian-packages install tests || true
	$(PYTEST) $(PARALLEL) $(TESTS) || $(PYTEST) --last-failed --last-failed-no-failures none $(TESTS)

# The pure core, the vocabulary and the client against a stand-in.
FAST = tests/core tests/jobspecs tests/config tests/simulation tests/client/test_api.py tests/client/test_commands.py \
	tests/client/test_entry_options.py tests/sweeps/test_ranking.py
test-fast: setup
	$(PYTEST) --numprocesses auto --dist loadfile -m "not traces" --ignore tests/simulation/test_world.py $(FAST)

test-full: setup
	@scripts/debian-packages install tests || true
	RACKSACK_FULL_SIZE=1 $(PYTEST) $(PARALLEL) $(TESTS)

MINUTES ?= 30
fuzz: setup
	.venv/bin/python -m tests.fuzz.run $(MINUTES) $(TARGETS)

# What a seed does depends on nothing else: not on the machine, nor on how Python orders sets.
SIM = $(if $(SEED),--seed $(SEED) --story --shrink,--seeds $(or $(SEEDS),100) --shrink)
sim: setup
	PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE= .venv/bin/python -m tests.simulation.world $(SIM)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint test

docs: setup
	@.venv/bin/python scripts/build_docs.py

bench: setup
	@scripts/debian-packages install bench || true
	.venv/bin/python tests/bench/run.py $(BENCH)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
