# `make demo` and `make test` each set everything up by themselves; see README.md.
# Three test files at a time: most tests wait for programs. PARALLEL= runs them one by one. tests/conftest.py orders them.
PARALLEL ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo rack-demo test check lint bench clean

help:
	@echo "make demo    install, run a real project on this machine, fetch its results"
	@echo "make rack-demo   servers that come on for a burst of jobs and go off again, in a minute (root)"
	@echo "make test    install, run all tests (what CI runs)"
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

# Where Debian packages cannot be installed, the tests that need them are skipped by name, each with its reason.
test: setup
	@scripts/debian-packages install tests || true
	.venv/bin/pytest $(PARALLEL) $(TESTS)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint test

bench: setup
	@scripts/debian-packages install bench || true
	.venv/bin/python tests/bench/run.py $(BENCH)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
