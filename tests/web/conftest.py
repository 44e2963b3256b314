"""One controller with a status page and hostile jobs on it, shared by the tests of the page."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
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
    """A site with its address and the jobs that are on it. `cookie`: of a browser in which its user is signed in."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.address: str = site.ask("status")["controller"]["web"]
        self.netloc = urlsplit(self.address).netloc
        self.cookie = self.sign_in()
        project = make(site.work / "shout", SHOUT)
        self.failed = site.submit(project, "--name", HOSTILE[:90], "--cpus", "1", "--ram", "100M", "--", HOSTILE)
        site.wait_for(self.failed, "failed")
        site.cli("racksack", "drain", "here", "--reason", HOSTILE)
        self.waiting = site.submit(project, "--name", "'\"><b>&amp;", "--cpus", "1", "--ram", "100M")

    def link(self) -> str:
        """A link that signs a browser in."""
        return str(self.site.cli("racksack", "web").stdout.strip())

    def sign_in(self, link: str | None = None, **headers: str) -> str:
        """Follow a link as a browser does; the cookie that it gives, empty when it gives none."""
        _status, answer, _text = self.ask(link or self.link(), headers)
        return (answer.get("Set-Cookie") or "").partition(";")[0]

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, body: object = None, method: str | None = None
    ) -> tuple[int, Any, str]:
        """(status, headers, text) of a request that follows no redirect."""
        url = path if path.startswith("http") else self.address.rstrip("/") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)
        try:
            with _direct.open(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        return None


_direct = urllib.request.build_opener(_Stay)


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
