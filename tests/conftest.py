"""What all tests share: the checkout on the import path, and the fixtures that come from plugins."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

pytest_plugins = ["tests.rack.fixtures"]
