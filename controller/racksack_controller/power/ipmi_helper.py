"""Owns the one process that speaks IPMI for all nodes; see `ipmi_child.py` for why it is a process.

Started with the first request, started again if it dies, ended by `close` or with the controller (its stdin closes).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from racksack_controller import programs

CHILD = Path(__file__).with_name("ipmi_child.py")
CLOSE_TIMEOUT_S = 2.0


class HelperGone(Exception):  # noqa: N818 - named for what happened
    """The helper process ended while a request was under way."""


class IpmiHelper:
    """Sends requests to the helper process and hands each answer to who asked."""

    def __init__(self) -> None:
        self._helper: programs.Talking | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._starting = asyncio.Lock()

    async def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to one request (see `ipmi_child.answer`). Raises TimeoutError, HelperGone and OSError."""
        async with asyncio.timeout(timeout_s):
            process = await self._running()
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            number = next(self._ids)
            answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                line = json.dumps({"id": number, "timeout_s": timeout_s, **request})
                process.stdin.write(line.encode() + b"\n")
                return await answer
            finally:
                del self._waiting[number]

    async def close(self) -> None:
        """End the helper. Children that are still talking end by their alarm."""
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.end(CLOSE_TIMEOUT_S)
        if self._reader is not None:
            self._reader.cancel()

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._helper is None or self._reader is None or self._reader.done():
                if self._helper is not None:
                    await self._helper.end(0.0)
                environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
                self._helper = await programs.talk(
                    [sys.executable, str(CHILD)], environment, stderr=asyncio.subprocess.DEVNULL
                )
                self._reader = asyncio.create_task(self._read(self._helper.process))
            return self._helper.process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while line := await process.stdout.readline():
            reply = json.loads(line)
            waiting = self._waiting.get(reply["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(HelperGone("the IPMI helper process ended"))
