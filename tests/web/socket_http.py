"""Requests over the controller's unix socket with any headers, as they come through a forwarded one."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

from tests.web.conftest import Page


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask_socket(page: Page, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """(status, text) of one request."""
    connection = _Connection(str(page.site.spool / "controller.sock"))
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
