"""Where the recorded workloads are: where RACKSACK_TRACES says, else in shared/traces beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "traces"


@pytest.fixture
def traces() -> Path:
    """The folder of recorded workloads; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("RACKSACK_TRACES") or BESIDE)
    if not folder.is_dir():
        pytest.skip("no recorded workloads here; RACKSACK_TRACES names their folder")
    return folder
