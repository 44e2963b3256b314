"""A controller with this machine as its node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.end_to_end.site import Site

CONFIG = """\
web: {listen: "off"}
watch: {settle: 1s, rescan: 2s}
nodes:
  here: {local: {}, cpus: 4, ram: 8G}
"""


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    if shutil.which("tmux") is None or shutil.which("rsync") is None:
        pytest.skip("needs tmux and rsync")
    site = Site(CONFIG)
    try:
        site.start()
        yield site
    finally:
        site.close()
