"""What all tests share: the checkout on the import path, fixtures from plugins, and patience on slow machines."""

import os
import signal
import sys
from pathlib import Path

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
