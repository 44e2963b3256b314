"""Sites that end with their test, whatever happens in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.site import CONFIG, Site


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Make sites for one test."""
    if not (shutil.which("tmux") or shutil.which("screen")):
        pytest.skip("neither tmux nor screen is installed")
    sites: list[Site] = []

    def make(config: str | None = CONFIG) -> Site:
        sites.append(Site(config))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """The usual one: a node `here` of 8 cores and 16 GiB, by configuration."""
    return make_site()


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """One whose controller the tests of a module share."""
    if not (shutil.which("tmux") or shutil.which("screen")):
        pytest.skip("neither tmux nor screen is installed")
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], None]]:
    """Put a folder on a disk of so many MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted: list[Path] = []

    def mount(folder: Path, size_mb: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}M,mode=700", "tmpfs", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this machine cannot mount a small disk: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
