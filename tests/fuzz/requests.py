"""Requests to both doors of a whole controller: whatever they hold, the answer is a sentence and never a failure.

An input is a request as text: `METHOD PATH`, header lines, an empty line and the body. The length of the body and the
end of the connection are added, so that each input is one whole request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from racksack_controller.app import App
from racksack_controller.config.config import Web
from racksack_controller.config.fields import Listen
from tests.attacks.controllers import GOOD, config_of, drop, running, submitted, until, upload

ANSWER_S = 20.0
BODY_BYTES_MAX = 64 * 1024


class Served:
    """A controller with a held job, in a thread of its own; it lasts as long as the process."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="rs-fz-", ignore_cleanup_errors=True)
        self.socket, self.port = "", 0
        self._is_up = threading.Event()
        self._end: Callable[[], object] = lambda: None
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # as the controller itself has it
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._is_up.wait(60)

    async def _serve(self) -> None:
        config = replace(config_of(Path(self._place.name)), web=Web(listen=Listen("127.0.0.1", 0)))
        ended = asyncio.Event()
        with contextlib.suppress(RuntimeError):
            async with running(config) as app:
                self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
                drop(app.spool, "a", GOOD.format(project=upload(app.spool, "up1")) + "name: a\nhold: true\n")
                await until(lambda: submitted(app, "a"), "a job")
                self.socket, self.port = str(app.spool.socket), port_of(app)
                self._is_up.set()
                await ended.wait()

    def close(self) -> None:
        """End it."""
        self._end()
        self._thread.join(30)
        self._place.cleanup()

    def ask(self, request: bytes, *, over_tcp: bool, waits: bool) -> bytes:
        """The whole answer, of one that waits or never ends the first piece."""
        with socket.socket(socket.AF_INET if over_tcp else socket.AF_UNIX) as door:
            door.settimeout(0.3 if waits else ANSWER_S)
            door.connect(("127.0.0.1", self.port) if over_tcp else self.socket)
            door.sendall(request)
            answer = b""
            try:
                while piece := door.recv(65536):
                    answer += piece
                    if waits:
                        break
            except TimeoutError:
                assert waits, "no answer"
            except ConnectionResetError:
                pass
            return answer


def port_of(app: App) -> int:
    """The TCP port of its page."""
    return next(address[1] for runner in app._runners for address in runner.addresses if isinstance(address, tuple))


_served: list[Served] = []


def close() -> None:
    """End the controller, if there is one."""
    while _served:
        _served.pop().close()


def requests(data: bytes) -> None:
    """One request at each door."""
    if not _served:
        _served.append(Served())
    head, _, body = data.partition(b"\n\n")
    first, *headers = head.split(b"\n")
    if b"/stop" in first or b"%73top" in first.lower() or b"reload" in first or not first.strip():
        return
    waits = b"wait" in first or b"events" in first or b"follow" in first
    lines = [first + b" HTTP/1.1", *headers]
    if not any(line.lower().startswith((b"content-length", b"transfer-encoding", b"expect")) for line in headers):
        lines += [b"Content-Length: %d" % len(body[:BODY_BYTES_MAX]), b"Connection: close"]
    else:
        waits = True
    request = b"\r\n".join(lines) + b"\r\n\r\n" + body[:BODY_BYTES_MAX]
    for over_tcp in (False, True):
        answer = _served[0].ask(request, over_tcp=over_tcp, waits=waits)
        status = answer[9:12]
        assert status != b"500", answer[-600:]
        assert b"Traceback" not in answer


TARGETS: dict[str, Callable[[bytes], None]] = {"requests": requests}
