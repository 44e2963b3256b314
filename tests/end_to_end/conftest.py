"""Sites that end with their test, whatever happens in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

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
