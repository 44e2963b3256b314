"""Makes the jobs of a spec and puts them into the store: one, or the many of an array in parts.

A part is small enough that nothing else waits for it, and users who add arrays take turns, part by part. An array is
whole once all of its jobs are saved; a start that finds fewer of them meets the file again and adds the others.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from racksack_controller import accepted
from racksack_controller.core import events as ev
from racksack_controller.core.records import DataMount, Wait
from racksack_controller.core.state import Job
from racksack_controller.loop import Loop
from racksack_controller.store import Store
from racksack_controller.threads import Threads
from racksack_jobspecs.array import expand
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

PART = 200  # jobs of an array that are saved together


class Waits(msgspec.Struct, frozen=True):
    """What a job waits for; `paired` is what one element of an array waits for besides, by its index."""

    all: tuple[Wait, ...] = ()
    paired: dict[int, tuple[Wait, ...]] = {}

    def of(self, index: int | None) -> tuple[Wait, ...]:
        """What the element with this index waits for, or (None) the job."""
        return self.all + self.paired.get(index, ()) if index is not None else self.all


class Origin(msgspec.Struct, frozen=True):
    """What the jobs of one file have in common beside their spec."""

    owner: str
    snapshot: str
    data: tuple[DataMount, ...]
    waits: Waits = Waits()
    size_bytes: int = 0  # of the snapshot


class Adding:
    """The way of new jobs into the store."""

    def __init__(self, loop: Loop, store: Store, spool: Spool, take_ids: Callable[[int], int]) -> None:
        self._loop, self._store, self._spool = loop, store, spool
        self._take_ids = take_ids
        self._threads = Threads("links", 1)
        self._turn = asyncio.Lock()  # one part at a time; asyncio's locks are fair
        self._under_way: dict[int, asyncio.Event] = {}  # arrays that are not whole yet, by their id

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.close()

    async def add(self, spec: JobSpec, origin: Origin) -> list[int]:
        """The ids of a spec's jobs, once all of them are saved. Raises StoreError and OSError."""
        if spec.array is None:
            first = self._take_ids(1)
            await self._save([self._job(spec, origin, first, None, time.time())])
            return [first]
        known = await self._store.read(lambda connection: jobs_of_array(connection, spec.submission))
        if not known:
            size = len(spec.array.indices)
            await self._store.write(lambda connection: save_array(connection, spec.submission, size))
        return await self._add_array(spec, origin, known)

    async def _add_array(self, spec: JobSpec, origin: Origin, known: dict[int, int]) -> list[int]:
        assert spec.array is not None  # noqa: S101 - the caller looked
        missing = (one for one in expand(spec) if one.array is not None and one.array.indices[0] not in known)
        upcoming = self._take_ids(len(spec.array.indices) - len(known))
        array_id, now = min(known.values(), default=upcoming), time.time()
        ids = list(known.values())
        whole = self._under_way[array_id] = asyncio.Event()
        try:
            while part := list(islice(missing, PART)):
                async with self._turn:
                    numbered = enumerate(part, upcoming)
                    await self._save([self._job(one, origin, number, array_id, now) for number, one in numbered])
                ids += range(upcoming, upcoming + len(part))
                upcoming += len(part)
        finally:
            del self._under_way[array_id]
            whole.set()
        return sorted(ids)

    async def whole(self, array_id: int) -> None:
        """Wait until an array has all of its jobs; not at all for what is none."""
        event = self._under_way.get(array_id)
        if event is not None:
            await event.wait()

    def _job(self, spec: JobSpec, origin: Origin, number: int, array_id: int | None, now: float) -> Job:
        return Job(
            id=number,
            owner=origin.owner,
            spec=spec,
            snapshot=origin.snapshot,
            snapshot_bytes=origin.size_bytes,
            data=origin.data,
            submitted_at_s=now,
            state=JobState.HELD if spec.hold else JobState.QUEUED,
            reason=f"held by {origin.owner}" if spec.hold else "",
            array_id=array_id,
            array_index=spec.array.indices[0] if spec.array else None,
            key=secrets.token_hex(8),
            after=origin.waits.of(spec.array.indices[0] if spec.array else None),
        )

    async def _save(self, jobs: Sequence[Job]) -> None:
        # Of an array the first job's link is enough: all of it has one content.
        linked = [(job.id, job.snapshot) for job in jobs if job.array_id in (None, job.id)]
        await self._threads.run(_note, self._spool, linked, jobs)
        await self._loop.submit_all([ev.JobAccepted(job) for job in jobs])


def _note(spool: Spool, linked: Sequence[tuple[int, str]], jobs: Sequence[Job]) -> None:
    """What stands in projects/ of new jobs: what was accepted, in case the store is lost, and for people who look a
    link from the id to the content. Runs in a thread.
    """
    accepted.note_jobs(spool, jobs)
    for number, snapshot in linked:
        link = spool.projects / str(number)
        link.unlink(missing_ok=True)  # left by a crash before this id was saved
        link.symlink_to(os.path.relpath(spool.snapshots / snapshot, spool.projects))


def jobs_of_array(connection: sqlite3.Connection, submission: str) -> dict[int, int]:
    """The ids of an array's jobs that are saved, by index."""
    rows = connection.execute("SELECT array_index, id FROM jobs WHERE submission = ?", (submission,))
    return {int(index): int(number) for index, number in rows if index is not None}


def save_array(connection: sqlite3.Connection, submission: str, size: int) -> None:
    """Note how many jobs an array is to have, before the first of them is saved."""
    connection.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?)", (submission, size))


def count_accepted(connection: sqlite3.Connection, submission: str) -> int:
    """How many jobs of a submission are saved."""
    return int(connection.execute("SELECT count(*) FROM jobs WHERE submission = ?", (submission,)).fetchone()[0])


def accepted_jobs(connection: sqlite3.Connection, submission: str) -> list[int]:
    """The ids of the jobs that one job file became, in order; none while they are not all there."""
    rows = connection.execute("SELECT id FROM jobs WHERE submission = ? ORDER BY id", (submission,)).fetchall()
    size = connection.execute("SELECT size FROM arrays WHERE submission = ?", (submission,)).fetchone()
    return [int(row[0]) for row in rows] if size is None or len(rows) >= size[0] else []
