"""What all tests share: the checkout on the import path, fixtures from plugins, and patience on slow machines."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

pytest_plugins = ["tests.rack.fixtures"]

# Hypothesis has a profile of its own for CI (the same examples each time, no deadline); elsewhere it may explore,
# but no example fails for being slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("patient")

# A shell that starts the tests with & has Ctrl-C ignored in them, and so in every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files are given out one after another to whoever is free: those that take longest come first, as measured, so that no
# process is left with a long one at the end; then whole folders of those that wait for servers and programs.
LONG_ONES_FIRST = (
    "end_to_end/test_rack.py",
    "end_to_end/test_embedded.py",
    "rack/test_rack.py",
    "sweeps/test_faults.py",
    "agent/test_ending.py",
    "end_to_end/test_rack_power.py",
    "end_to_end/test_killed.py",
    "end_to_end/test_rack_power_lost.py",
    "end_to_end/test_dependencies.py",
    "web/test_browser.py",
    "nodes/test_contract.py",
    "power/test_contract.py",
    "rack/test_bmc.py",
    "web/test_sweeps.py",
    "packaging/test_demo.py",
    "simulation/test_traces.py",
    "end_to_end",
    "rack",
    "sweeps",
    "web",
    "nodes",
    "agent",
    "recovery",
    "data_sets",
    "checkpoints",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long at the beginning."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix()
        return next((at for at, start in enumerate(LONG_ONES_FIRST) if name.startswith(start)), len(LONG_ONES_FIRST))

    items.sort(key=rank)
