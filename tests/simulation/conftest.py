"""Where the recorded workloads are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def traces() -> Path:
    """The folder of recorded workloads; a test that needs it is skipped where there is none."""
    folder = os.environ.get("RACKSACK_TRACES")
    if not folder:
        pytest.skip("RACKSACK_TRACES does not name a folder of workloads")
    return Path(folder)
