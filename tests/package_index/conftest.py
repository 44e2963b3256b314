"""An index to ask: a real server with wheels made by hand, which counts what it is asked for and can go away."""

from __future__ import annotations

import base64
import hashlib
import html
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.agent.wheels import make_wheel


class Upstream:
    """Projects by name, each with wheels; `asked` counts paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.logins: set[str] = set()  # as `user:password`, empty for none
        self.damaged: set[str] = set()  # files that are sent with another content
        self.cut: set[str] = set()  # files of which half is sent
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked[self.path] += 1
                given = self.headers.get("Authorization", "").removeprefix("Basic ")
                upstream.logins.add(base64.b64decode(given).decode())
                parts = self.path.strip("/").split("/")
                if parts[0] == "simple" and (folder / parts[1]).is_dir():
                    self._send(upstream.page(parts[1]).encode(), "text/html")
                elif parts[0] == "packages" and (folder / parts[1] / parts[2]).is_file():
                    data = (folder / parts[1] / parts[2]).read_bytes()
                    if parts[2] in upstream.damaged:
                        data = data[:-1] + b"x"
                    self._send(data, "application/octet-stream", cut=parts[2] in upstream.cut)
                else:
                    self.send_error(404)

            def do_HEAD(self) -> None:
                self.do_GET()

            def _send(self, data: bytes, kind: str, *, cut: bool = False) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data[: len(data) // 2] if cut else data)

            def log_message(self, *words: object) -> None:
                del words

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        self._is_up = True

    def add(self, name: str, version: str = "1.0", code: str = "answer = 42\n") -> Path:
        return make_wheel(self.folder / name, name, version, code)

    def page(self, name: str) -> str:
        lines = []
        for path in sorted((self.folder / name).iterdir()):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            href = f"../../packages/{name}/{path.name}#sha256={digest}"
            lines.append(f'<a href="{href}" data-requires-python="{html.escape(">=3.8")}">{path.name}</a>')
        return "<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>"

    def files_asked(self) -> int:
        return sum(count for path, count in self.asked.items() if path.startswith("/packages/"))

    def go_away(self) -> None:
        if self._is_up:
            self._is_up = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    (tmp_path / "upstream").mkdir()
    made = Upstream(tmp_path / "upstream")
    yield made
    made.go_away()
