"""A folder with a short path: sockets below it have at most 107 letters."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-at-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
