"""What is done now and then: unused content leaves the spool, old records leave the store, and an embedded controller
ends when nobody needs it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from racksack_controller import accepted, retention
from racksack_controller.config.config import Keep
from racksack_controller.intake.garbage import remove_tree
from racksack_controller.intake.ingest import collect_garbage
from racksack_controller.pruning import (
    AT_ONCE,
    OldJob,
    forget_programs,
    old_jobs,
    old_sweeps,
    remove_jobs,
    remove_segments,
    remove_stories,
    remove_sweep,
    runners_of,
    young_arrays,
)
from racksack_controller.store import Store, StoreError, forget_snapshots, snapshots_in_use, unfinished_ids
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.units import format_duration

log = logging.getLogger("racksack.housekeeping")

EVERY_S = 3600.0
PAUSE_S = 0.02  # between two transactions that remove old records
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
        programs: Callable[[], list[str]],
    ) -> None:
        """`programs`: the keys of those whose history is remembered, as they are stored."""
        self._spool, self._store, self._keep = spool, store, keep
        self._idle_exit_s, self._is_idle, self._stop = idle_exit_s, is_idle, stop
        self._programs = programs
        self._sizes = retention.Sizes()

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
                log.info("idle for %.0f s", self._idle_exit_s)
                self._stop()
                return
            await asyncio.sleep(IDLE_LOOK_S if self._idle_exit_s is not None else EVERY_S)

    async def _round(self) -> None:
        try:
            await self._remove_unused()
            await self._prune()
            await self._remove_notes()
            await self._remove_results()
        except StoreError as error:
            log.error("%s; retrying in the next round", error)

    async def _prune(self) -> None:
        """Let old records leave the store, some at a time, so that no step waits for it."""
        before_s = time.time() - self._keep.jobs_s
        young = await self._store.read(lambda connection: young_arrays(connection, before_s))
        jobs, last = 0, 0
        while found := await self._store.read(partial(old_jobs, before_s=before_s, after_id=last, limit=AT_ONCE)):
            last = found[-1].id
            ids = await asyncio.to_thread(self._removable, [one for one in found if one.array not in young])
            await self._remove_jobs(ids)
            jobs += len(ids)
        sweeps = await self._store.read(lambda connection: old_sweeps(connection, before_s))
        gone = [number for number, fetched in sweeps if fetched or not self._spool.returned(number).exists()]
        for number in gone:
            await self._remove_sweep(number)
        lines = 0
        while removed := await self._store.write(lambda connection: remove_stories(connection, before_s)):
            lines += removed
            await asyncio.sleep(PAUSE_S)
        programs = self._programs()
        await self._store.write(lambda connection: forget_programs(connection, programs))
        if jobs or gone or lines:
            log.info("removed from the store jobs=%d sweeps=%d lines=%d", jobs, len(gone), lines)

    async def _remove_results(self) -> None:
        """Results that are too old or too much go, once their owners were told."""
        keep, now = self._keep.returns, time.time()
        if not keep.is_limited:
            return
        try:
            sizes = await asyncio.to_thread(self._sizes.of, self._spool)
        except OSError as error:
            log.error("results could not be checked; retrying in the next round: %s", error)
            return
        ids = sorted(sizes)
        found = []
        for low in range(0, len(ids), AT_ONCE):
            part = await self._store.read(partial(retention.finished, ids=ids[low : low + AT_ONCE]))
            found += [one._replace(size_bytes=sizes[one.id]) for one in part]
        gone = retention.doomed(found, keep, now)
        warned = await self._store.read(retention.warned_at_s)
        fresh = {
            one.id: f"its results will be removed in {format_duration(keep.warn_s)}: {gone[one.id]}; fetch them before"
            for one in found
            if one.id in gone and not one.fetched and one.id not in warned
        }
        await self._store.write(partial(retention.warn, sentences=fresh, now_s=now))
        ripe = [
            one for one in found if one.id in gone and (one.fetched or now - warned.get(one.id, now) >= keep.warn_s)
        ]
        settled = [number for number in warned if number not in gone]
        for one in ripe:
            if await asyncio.to_thread(retention.remove, self._spool, one, gone[one.id], now):
                settled.append(one.id)
        await self._store.write(partial(retention.spare, ids=settled))
        if ripe or fresh:
            log.info("results removed=%d to be removed=%d", len(ripe), len(fresh))

    async def _remove_notes(self) -> None:
        """What was accepted and has ended since needs no note in projects/ any more."""
        highest, unfinished = await self._store.read(unfinished_ids)
        try:
            await asyncio.to_thread(accepted.remove_ended, self._spool, unfinished, highest)
        except OSError as error:
            log.error("notes of ended jobs could not be removed; retrying in the next round: %s", error)

    def _removable(self, found: list[OldJob]) -> list[int]:
        """Those whose results nobody could still want. Runs in a thread."""
        return [one.id for one in found if one.fetched or not self._spool.returned(one.id).exists()]

    async def _remove_jobs(self, ids: list[int]) -> None:
        """The copy of results that were fetched goes with its job: nobody could ask for it any more."""
        if ids:
            doomed = [
                path for number in ids for path in (self._spool.returned(number), self._spool.checkpoints / str(number))
            ]
            await asyncio.to_thread(_remove_trees, doomed)
            await self._store.write(lambda connection: remove_jobs(connection, ids))
            await asyncio.sleep(PAUSE_S)

    async def _remove_sweep(self, number: int) -> None:
        runners = await self._store.read(lambda connection: runners_of(connection, number))
        for low in range(0, len(runners), AT_ONCE):
            await self._remove_jobs(runners[low : low + AT_ONCE])
        await asyncio.to_thread(_remove_trees, [self._spool.returned(number)])
        while await self._store.write(lambda connection: remove_segments(connection, number)):
            await asyncio.sleep(PAUSE_S)
        await self._store.write(lambda connection: remove_sweep(connection, number))

    async def _remove_unused(self) -> None:
        since = time.time() - self._keep.snapshots_s
        used = await self._store.read(lambda connection: snapshots_in_use(connection, since))
        try:
            gone = await asyncio.to_thread(collect_garbage, self._spool, used, self._keep, time.time())
        except OSError as error:
            log.error("unused content could not be removed; retrying in the next round: %s", error)
            return
        if gone:
            await self._store.write(lambda connection: forget_snapshots(connection, gone))
            log.info("removed unused snapshots=%d", len(gone))


def _remove_trees(paths: list[Path]) -> None:
    """Runs in a thread. What stays is met again when its owner looks for it, and is logged."""
    for path in paths:
        try:
            remove_tree(path)
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error.strerror)
