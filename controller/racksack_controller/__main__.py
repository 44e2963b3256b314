"""`python -m racksack_controller`: the controller in the foreground."""

from __future__ import annotations

import sys

from racksack_controller.main import main

if __name__ == "__main__":
    sys.exit(main())
