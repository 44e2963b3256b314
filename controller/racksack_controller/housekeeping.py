"""What is done now and then: unused content leaves the spool, and an embedded controller ends when nobody needs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from racksack_controller.config.config import Keep
from racksack_controller.intake.ingest import collect_garbage
from racksack_controller.store import Store, forget_snapshots, snapshots_in_use
from racksack_jobspecs.layout import Spool

log = logging.getLogger("racksack.housekeeping")

EVERY_S = 3600.0
IDLE_LOOK_S = 5.0


class Housekeeping:
    """The slow rounds of a controller."""

    def __init__(
        self,
        spool: Spool,
        store: Store,
        keep: Keep,
        idle_exit_s: float | None,
        is_idle: Callable[[], bool],
        stop: Callable[[], None],
    ) -> None:
        self._spool, self._store, self._keep = spool, store, keep
        self._idle_exit_s, self._is_idle, self._stop = idle_exit_s, is_idle, stop

    async def run(self) -> None:
        """Until cancelled, or until it has stopped an idle controller."""
        next_round, busy_at = time.monotonic(), time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_round:
                await self._round()
                next_round = now + EVERY_S
            if not self._is_idle():
                busy_at = now
            elif self._idle_exit_s is not None and now - busy_at >= self._idle_exit_s:
                log.info("nothing to do for %.0f s", self._idle_exit_s)
                self._stop()
                return
            await asyncio.sleep(IDLE_LOOK_S if self._idle_exit_s is not None else EVERY_S)

    async def _round(self) -> None:
        since = time.time() - self._keep.snapshots_s
        used = await self._store.read(lambda connection: snapshots_in_use(connection, since))
        try:
            gone = await asyncio.to_thread(collect_garbage, self._spool, used, self._keep, time.time())
        except OSError as error:
            log.error("unused content could not be removed, the next round tries again: %s", error)
            return
        if gone:
            await self._store.write(lambda connection: forget_snapshots(connection, gone))
            log.info("removed unused snapshots=%d", len(gone))
