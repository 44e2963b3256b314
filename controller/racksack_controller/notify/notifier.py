"""Tells each channel of each sweep that has ended: once, with tries at growing distances, never in anybody's way.

Which sweeps were told is stored, so a controller that is killed between the end and the telling tells after its
restart. It may then tell twice, which is better than not at all.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from racksack_controller.config.notify import Channel
from racksack_controller.core.sweeps.records import CONTROL, Progress, Sweep
from racksack_controller.notify.ways import NotTold, tell
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps.results import ledger, ranking
from racksack_jobspecs.units import format_duration

log = logging.getLogger("racksack.notify")

TRIES = 6
FIRST_WAIT_S = 2.0  # then four times as long each time: about 45 minutes in all
AT_ONCE = 8
WAITING_MAX = 1000
OLDEST_S = 86400.0  # of what is told after a restart


class Notifier:
    """The telling of ends."""

    def __init__(self, store: Store, channels: Mapping[str, Channel], web_address: str = "") -> None:
        self._store = store
        self.channels = dict(channels)
        self.web_address = web_address
        self.first_wait_s = FIRST_WAIT_S
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Go on with what was not told before the controller ended. Raises StoreError."""
        since = time.time() - OLDEST_S
        for sweep, progress in await self._store.read(lambda connection: _untold(connection, since)):
            self.ended(sweep, progress)

    def ended(self, sweep: Sweep, progress: Progress) -> None:
        """A sweep has ended. Returns at once."""
        if sweep.id in self._under_way:
            return
        if len(self._under_way) >= WAITING_MAX:
            log.error("sweep=%s nobody is told of its end: %s others wait to be told", sweep.id, WAITING_MAX)
            return
        task = asyncio.create_task(self._tell_all(sweep, progress), name=f"notify {sweep.id}")
        self._under_way[sweep.id] = task
        task.add_done_callback(lambda _: self._under_way.pop(sweep.id, None))

    async def close(self) -> None:
        """Stop; what was not told is told after the next start."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def chosen(self, sweep: Sweep, progress: Progress) -> list[Channel]:
        """Who is to be told of this end."""
        named = sweep.sweep.notify
        channels = [self.channels[name] for name in named if name in self.channels]
        if not named:
            channels = [channel for channel in self.channels.values() if channel.of_all]
        return [channel for channel in channels if str(progress.state) in channel.when]

    async def _tell_all(self, sweep: Sweep, progress: Progress) -> None:
        channels = self.chosen(sweep, progress)
        try:
            if channels:
                best = await self._store.read(lambda connection: _best(connection, sweep, progress))
                notice = notice_of(sweep, progress, best, self.web_address)
                await asyncio.gather(*(self._tell(channel, notice) for channel in channels))
            await self._store.write(lambda connection: _save_told(connection, sweep.id))
        except StoreError as error:
            log.error("sweep=%s its end is told after the next start: %s", sweep.id, error)

    async def _tell(self, channel: Channel, notice: dict[str, Any]) -> None:
        for number in range(TRIES):
            try:
                async with self._gate:
                    await tell(channel, notice)
            except NotTold as error:
                is_last = error.is_final or number == TRIES - 1
                log.warning(
                    "sweep=%s channel=%s %s%s", notice["sweep"], channel.name, error,
                    "; given up" if is_last else "; tried again",
                )  # fmt: skip
                if is_last:
                    return
                await asyncio.sleep(self.first_wait_s * 4**number)
            else:
                log.info("sweep=%s channel=%s told", notice["sweep"], channel.name)
                return


def notice_of(sweep: Sweep, progress: Progress, best: dict[str, Any] | None, web_address: str) -> dict[str, Any]:
    """What is told: one sentence, and the facts."""
    took_s = (
        progress.ended_at_s - progress.started_at_s
        if progress.ended_at_s and progress.started_at_s is not None
        else None
    )
    return {
        "event": "sweep",
        "sentence": _sentence(sweep, progress, best, took_s),
        "sweep": sweep.id,
        "name": sweep.spec.name,
        "owner": sweep.owner,
        "state": str(progress.state),
        "reason": progress.reason,
        "points": progress.points,
        "done": progress.done,
        "failed": progress.failed,
        "run": "control" if progress.run == CONTROL else "main",
        "took_s": took_s,
        "metric": sweep.sweep.metrics[0].name,
        "best": best,
        "url": f"{web_address}sweeps/{sweep.id}" if web_address else None,
    }


def _sentence(sweep: Sweep, progress: Progress, best: dict[str, Any] | None, took_s: float | None) -> str:
    took = f" in {format_duration(took_s)}" if took_s is not None else ""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    reason = f": {progress.reason}" if progress.reason else ""
    points = f"{progress.done:,} of {progress.points:,} points"
    if progress.run == CONTROL:
        points = f"all {sweep.points_total:,} points, control run {points}"
    text = f"sweep {sweep.id} ({sweep.spec.name}) {progress.state}{took}: {points}"
    if best is not None:
        params = ", ".join(f"{name}={value}" for name, value in best["params"].items())
        failed += f"; best {sweep.sweep.metrics[0].name} {best['value']:.6g} at {params}"
    # On one line and without control characters, whatever parameters hold.
    return "".join(char if char.isprintable() else " " for char in f"{text}{failed}{reason}")[:1000]


def _best(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> dict[str, Any] | None:
    rows = ranking.rank(connection, sweep, progress, count=1).rows
    return rows[0] if rows else None


def _untold(connection: sqlite3.Connection, since_s: float) -> list[tuple[Sweep, Progress]]:
    return ledger.sweeps_where(connection, "told = 0 AND ended_at_s >= ?", (since_s,), WAITING_MAX)[::-1]


def _save_told(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("UPDATE sweeps SET told = 1 WHERE id = ?", (number,))
