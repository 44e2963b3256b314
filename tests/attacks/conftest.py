"""A folder with a short path, since sockets below it have at most 107 letters; nothing of it runs on after a test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import end_everything


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-at-", dir="/tmp"))
    yield path
    if (path / "node/attempts").is_dir():
        end_everything(path / "node")
    shutil.rmtree(path, ignore_errors=True)
