"""Puts back what is taken away from the spool while the controller runs: its folders, and the socket of the API.

Somebody who tidies up removes an empty folder, and a program that cleans temporary folders removes a socket. Without
this the controller would go on without them until somebody starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from racksack_controller.intake.spool import SpoolError, folders, prepare
from racksack_jobspecs.layout import Spool

log = logging.getLogger("racksack.spool")

LOOK_EVERY_S = 2.0

Identity = tuple[int, int]
"""Device and inode: another file of the same name is not the same file."""


class Upkeep:
    """The watch over one spool's own parts; `run` it."""

    def __init__(self, spool: Spool, group: str | None, listen_again: Callable[[], Awaitable[None]]) -> None:
        """`listen_again` makes the socket anew, and raises OSError when it cannot."""
        self._spool, self._group, self._listen_again = spool, group, listen_again
        self._said = ""

    async def run(self) -> None:
        """Until cancelled."""
        socket = await asyncio.to_thread(self._socket)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if gone := await asyncio.to_thread(self._missing):
                    self._say(f"{', '.join(gone)} was removed from the spool and has been recreated")
                    await asyncio.to_thread(prepare, self._spool, self._group)
                if socket is None or await asyncio.to_thread(self._socket) != socket:
                    self._say(f"the socket {self._spool.socket} was removed and has been recreated")
                    await self._listen_again()
                    socket = await asyncio.to_thread(self._socket)
                self._said = ""
            except (OSError, SpoolError) as error:
                self._say(f"{error}; retrying every {LOOK_EVERY_S:g} s")

    def _say(self, sentence: str) -> None:
        """Once for as long as it lasts."""
        if sentence != self._said:
            log.error("%s", sentence)
        self._said = sentence

    def _missing(self) -> list[str]:
        return [folder.name for folder in folders(self._spool) if not folder.is_dir()]

    def _socket(self) -> Identity | None:
        try:
            info = os.lstat(self._spool.socket)
        except FileNotFoundError:
            return None
        return info.st_dev, info.st_ino
