"""How much the tests try: a part of it always, all of it where RACKSACK_FULL_SIZE is set (`make test-full`)."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("RACKSACK_FULL_SIZE", "") not in ("", "0")


def sized(usual: T, full: T) -> T:
    """A number of examples, seeds or jobs: the usual one, or the full one where that is asked for."""
    return full if FULL else usual
