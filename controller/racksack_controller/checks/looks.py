"""Looks that block (a disk, a database, a program) in threads of their own, each with a time limit.

A disk that does not answer holds its thread for as long as it likes, and a thread cannot be ended. So a look that is
still under way is never begun a second time: whoever asks meanwhile waits for the same one. The threads are daemons,
which do not keep a controller from ending.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from racksack_jobspecs.findings import Finding, failed

log = logging.getLogger("racksack.checks")

Look = Callable[[], Sequence[Finding]]


class Looks:
    """The looks that are under way, by name."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Sequence[Finding]]] = {}

    async def take(self, what: str, look: Look, limit_s: float, overdue: str) -> list[Finding]:
        """What the look finds, or after `limit_s` a failure with the sentence `overdue`."""
        future = self._under_way.get(what)
        if future is None:
            future = self._under_way[what] = self._begin(what, look)
        await asyncio.wait({future}, timeout=limit_s)
        if not future.done():
            return [failed(what, f"no answer within {limit_s:.0f} s: {overdue}")]
        return list(future.result())

    def _begin(self, what: str, look: Look) -> asyncio.Future[Sequence[Finding]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Finding]] = loop.create_future()

        def done(found: Sequence[Finding]) -> None:
            del self._under_way[what]
            future.set_result(found)

        def work() -> None:
            found = _told(what, look)
            try:
                loop.call_soon_threadsafe(done, found)
            except RuntimeError:
                log.info("the controller ended before %s was checked", what)

        threading.Thread(target=work, name=f"look at {what}", daemon=True).start()
        return future


def _told(what: str, look: Look) -> Sequence[Finding]:
    """What the look finds. Whatever goes wrong in one is told as its finding and does not spoil the others."""
    try:
        return look()
    except Exception:
        log.exception("%s could not be checked", what)
        return [failed(what, "could not be checked; see the controller's log")]
