"""Who may ask the package index: programs that ask for it by the address of this machine's loopback interface.

A page of the web that has its name lead here (DNS rebinding) asks under that name, and could else read what a private
index has. And addresses as they may be shown: without the login in them.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import unquote, urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what was asked for under a foreign name."""
    if not _is_loopback(request.host):
        raise web.HTTPForbidden(text="this package index answers only under 127.0.0.1 and localhost\n")
    return await handler(request)


def _is_loopback(netloc: str) -> bool:
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Login:
    """The login of an index, for that index alone: files may lie on other hosts."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._place = (parts.scheme, parts.hostname, parts.port)
        said = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        is_one = parts.username is not None
        self._headers = {"Authorization": f"Basic {base64.b64encode(said).decode()}"} if is_one else {}

    def headers(self, url: str) -> dict[str, str]:
        """What a request to this address is sent with."""
        parts = urlsplit(url)
        return self._headers if (parts.scheme, parts.hostname, parts.port) == self._place else {}


def without_login(url: str) -> str:
    """An address for logs and for those who ask."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
