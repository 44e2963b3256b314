"""One controller with a status page and hostile jobs on it, shared by the tests of the page."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.projects import make
from tests.end_to_end.site import Site

CONFIG = """\
web: {listen: "127.0.0.1:PORT"}
watch: {settle: 1s, rescan: 2s}
nodes:
  here: {local: {}, cpus: 8, ram: 16G, gpus: [{model: "RTX <b>4090</b>", vram: 24G, count: 2, vendor: nvidia}]}
"""
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SHOUT = f"import sys\nprint({HOSTILE!r})\nprint({HOSTILE!r}, file=sys.stderr)\n"
SHOUT += "for number in range(300):\n    print('line', number, file=sys.stderr)\nsys.exit(3)\n"


class Page:
    """A site with its address and the jobs that are on it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.address: str = site.ask("status")["controller"]["web"]
        self.netloc = urlsplit(self.address).netloc
        project = make(site.work / "shout", SHOUT)
        self.failed = site.submit(project, "--name", HOSTILE[:90], "--cpus", "1", "--ram", "100M", "--", HOSTILE)
        site.wait_for(self.failed, "failed")
        site.cli("racksack", "drain", "here", "--reason", HOSTILE)
        self.waiting = site.submit(project, "--name", "'\"><b>&amp;", "--cpus", "1", "--ram", "100M")


@pytest.fixture(scope="package")
def page() -> Iterator[Page]:
    """The page with a failed job and a waiting one, both with markup wherever a user can put some."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = Site(CONFIG.replace("PORT", str(port)))
    try:
        site.start()
        yield Page(site)
    finally:
        site.close()
