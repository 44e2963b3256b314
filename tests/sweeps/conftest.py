"""A controller with sweeps in a folder with a short path: sockets below it have at most 107 letters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.sweeps.rig import Rig, running


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-sw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def rig(root: Path) -> AsyncIterator[Rig]:
    async with running(root) as one:
        yield one
