"""Submits recurring jobs when their time comes.

A run is a submission with a key made of the recurring job and the time that it was due. So a controller that is killed
between submitting it and noting that does not submit it twice, and one that was off when a run was due submits it once
at its next start: the latest one, not all that were missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from cronsim import CronSim, CronSimError
from msgspec.structs import replace

from racksack_controller.core.records import DataMount
from racksack_controller.intake import recurring_table as table
from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.intake.recurring_table import RecurringJob
from racksack_controller.store import Store, StoreError
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.recurrence import Recurrence
from racksack_jobspecs.spec import Dependency, JobSpec

log = logging.getLogger("racksack.recurring")

LOOK_EVERY_S = 30.0  # the wall clock may be set
RETRY_S = 5.0
BATCH = 50
OF_ONE_MAX = 200  # of one user

Submit = Callable[[RecurringJob, JobSpec], Awaitable[tuple[int, ...]]]
"""Takes a spec in, in the name of the owner; the ids of its jobs, or of its sweep. Raises JobFileError, IngestError,
IngestPostponed, StoreError."""
IsOver = Callable[[int], bool]


class RecurrenceError(ValueError):
    """It can never run; the sentence says why."""


class Recurring:
    """All recurring jobs of a controller."""

    def __init__(self, store: Store, submit: Submit, is_over: IsOver, clock: Callable[[], float] = time.time) -> None:
        """`is_over`: whether a job or sweep of this id has ended."""
        self._store, self._submit, self._is_over, self._clock = store, submit, is_over, clock
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()  # one change at a time: what was read is what is changed

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            delay_s = LOOK_EVERY_S
            try:
                await self.submit_due()
                next_s = await self._store.read(table.next_due_s)
                delay_s = LOOK_EVERY_S if next_s is None else min(LOOK_EVERY_S, max(0.0, next_s - self._clock()))
            except (StoreError, IngestPostponed, OSError) as error:
                log.error("recurring jobs are delayed: %s; retrying", error)
                delay_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            self._wake.clear()

    async def submit_due(self) -> None:
        """Submit those whose time has come. Raises StoreError, IngestPostponed, OSError."""
        now = self._clock()
        for one in await self._store.read(lambda connection: table.due(connection, now, BATCH)):
            async with self._lock:
                fresh = await self._store.read(lambda connection, number=one.id: table.by_id(connection, number))  # type: ignore[misc]
                if fresh is not None and fresh.due_at_s is not None and fresh.due_at_s <= now:
                    await self._save(await self._submitted(fresh, fresh.due_at_s))

    async def add(self, spec: JobSpec, owner: str, snapshot: str, data: tuple[DataMount, ...]) -> int:
        """Take a new one in; its id. Raises RecurrenceError, StoreError."""
        assert spec.every is not None  # noqa: S101 - the caller looked
        has = await self._store.read(lambda connection: table.count_of(connection, owner))
        if has >= OF_ONE_MAX:
            raise RecurrenceError(f"{owner} has {has} recurring jobs, the most that one user may have; remove one")
        now = self._clock()
        new = RecurringJob(
            id=0,
            owner=owner,
            spec=spec,
            snapshot=snapshot,
            data=data,
            made_at_s=now,
            due_at_s=None if spec.hold else next_after(spec.every, now),
        )
        saved = await self._store.write(lambda connection: table.add(connection, new))
        self._wake.set()
        return saved.id

    async def all_of(self, owner: str | None) -> list[RecurringJob]:
        """Those of an owner, or of everybody. Raises StoreError."""
        return await self._store.read(lambda connection: table.all_of(connection, owner))

    async def by_id(self, number: int) -> RecurringJob | None:
        """The one with this id. Raises StoreError."""
        return await self._store.read(lambda connection: table.by_id(connection, number))

    async def act(self, number: int, verb: str) -> RecurringJob | None:
        """Pause | resume | remove | run (now, beside its times). None: there is none. Raises as `Submit`."""
        async with self._lock:
            one = await self._store.read(lambda connection: table.by_id(connection, number))
            if one is None:
                return None
            if verb == "remove":
                await self._store.write(lambda connection: table.remove(connection, number))
                return one
            if verb == "run":
                before = one.due_at_s
                one = replace(await self._submitted(one, self._clock()), due_at_s=before)
            else:
                due_at_s = next_after(one.recurrence, self._clock()) if verb == "resume" else None
                one = replace(one, due_at_s=due_at_s)
            await self._save(one)
            self._wake.set()
            return one

    async def _save(self, one: RecurringJob) -> None:
        await self._store.write(lambda connection: table.save(connection, one))

    async def _submitted(self, one: RecurringJob, due_s: float) -> RecurringJob:
        """Submit the run that was due at a time, unless the one before is not over and is not to be waited for."""
        following = replace(one, due_at_s=next_after(one.recurrence, self._clock()), last_due_s=due_s, problem="")
        unfinished = [number for number in one.last_jobs if not self._is_over(number)]
        if unfinished and one.recurrence.overlap == "skip":
            log.info("recurring=%s skipped: job %s of the previous run has not ended", one.id, unfinished[0])
            return replace(following, left_out=one.left_out + 1)
        before = () if not unfinished else (Dependency("any", str(one.last_jobs[0])),)
        spec = replace(
            one.spec,
            every=None,
            hold=False,
            after=(*one.spec.after, *before),
            submission=f"{one.spec.submission}:every-{due_s:.3f}",
        )
        try:
            jobs = await self._submit(one, spec)
        except (JobFileError, IngestError) as error:
            problems = "; ".join(map(str, error.problems)) if isinstance(error, JobFileError) else str(error)
            log.warning("recurring=%s could not be submitted: %s", one.id, problems)
            return replace(following, problem=problems[:1000])
        log.info("recurring=%s submitted job=%s", one.id, jobs[0] if jobs else "-")
        return replace(following, last_jobs=jobs, runs=one.runs + 1)


def next_after(recurrence: Recurrence, now_s: float) -> float:
    """The next time that it is due, in Unix seconds; clock changes are treated as Debian's cron does.

    Raises RecurrenceError where there is none, such as on February 31.
    """
    zone = zone_of(recurrence.zone)
    try:
        return next(CronSim(recurrence.cron, datetime.fromtimestamp(now_s, zone))).timestamp()
    except (CronSimError, StopIteration):
        raise RecurrenceError(f"{recurrence.cron!r} never comes; write times that there are") from None


def zone_of(name: str) -> tzinfo:
    """A time zone by its name; the controller's own for an empty one. Raises RecurrenceError for an unknown one."""
    name = name or os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return zoneinfo.ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return zoneinfo.ZoneInfo.from_file(file, "local")
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        if name:
            raise RecurrenceError(f"the controller does not know the time zone {name!r}") from None
        return UTC
