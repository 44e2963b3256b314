"""What handlers read and ask about sweeps: found, owned, shown; and as lines among jobs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from aiohttp import web

from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.sweeps.results import ledger
from racksack_controller.web.caller import Caller, forbidden, refusal
from racksack_controller.web.context import Context
from racksack_controller.web.privacy import job_for, sweep_for
from racksack_controller.web.sweep_views import as_job, sweep_view
from racksack_controller.web.views import View
from racksack_jobspecs.states import ExitCode

Found = tuple[Sweep, Progress]


async def find(context: Context, number: int) -> Found | None:
    """A sweep, from memory where it is not over."""
    active = context.sweeps.active.get(number)
    if active is not None:
        return active.sweep, active.progress
    return await context.store.read(lambda connection: ledger.sweep_by_id(connection, number))


async def found_sweep(context: Context, number: int) -> Found:
    """A sweep; a 404 when there is none."""
    found = await find(context, number)
    if found is None:
        raise refusal(f"there is no sweep {number}; `racksack sweep status` lists them", ExitCode.NOT_FOUND)
    return found


async def owned_sweep(context: Context, request: web.Request, number: int) -> tuple[Found, Caller]:
    """A sweep for a caller who may change it."""
    found, caller = await found_sweep(context, number), context.caller(request)
    if not may_change(caller, found[0]):
        raise forbidden(f"sweep {number} belongs to {found[0].owner}; only its owner or an operator may do this")
    return found, caller


def may_change(caller: Caller, sweep: Sweep) -> bool:
    """Whether the caller may change this sweep."""
    return caller.is_operator or (caller.uid is not None and caller.name == sweep.owner)


def may_read(context: Context, request: web.Request, sweep: Sweep) -> bool:
    """Whether the caller may see parameters and results."""
    return may_change(context.caller(request), sweep)


def view_of(context: Context, found: Found, caller: Caller) -> View:
    """How far a sweep is now, as the caller may see it."""
    sweep, progress = found
    now = time.time()
    pace = context.paces.of(sweep.id, progress, now)
    view = sweep_view(sweep, progress, context.sweeps.active.get(sweep.id), now, pace)
    return sweep_for(caller, view, context.hidden)


async def sweeps_where(context: Context, condition: str, values: Sequence[object], limit: int) -> list[Found]:
    """Sweeps by a fixed SQL condition, newest first, as they are now."""
    found = await context.store.read(lambda connection: ledger.sweeps_where(connection, condition, values, limit))
    active = context.sweeps.active
    return [
        (active[sweep.id].sweep, active[sweep.id].progress) if sweep.id in active else (sweep, progress)
        for sweep, progress in found
    ]


async def as_jobs(context: Context, found: Sequence[Found], caller: Caller) -> list[View]:
    """Sweeps as lines among jobs, as the caller may see them."""
    ids = [sweep.id for sweep, _ in found]
    fetched = await context.store.read(lambda connection: fetched_among(connection, ids)) if ids else set()
    views = [
        as_job(sweep, progress, view_of(context, (sweep, progress), caller), context.spool, fetched=sweep.id in fetched)
        for sweep, progress in found
    ]
    return [job_for(caller, view, context.hidden) for view in views]


def fetched_among(connection: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    """Which of these sweeps' results their owners have."""
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT id FROM sweeps WHERE fetched = 1 AND id IN ({marks})"  # noqa: S608 - question marks
    return {int(row[0]) for row in connection.execute(sql, ids)}


def save_fetched(connection: sqlite3.Connection, number: int, *, fetched: bool) -> None:
    """Whether the owner has the results."""
    connection.execute("UPDATE sweeps SET fetched = ? WHERE id = ?", (int(fetched), number))


def begin_anew(connection: sqlite3.Connection, number: int) -> None:
    """A sweep goes on: its results are to be fetched, and its end told, once more."""
    connection.execute("UPDATE sweeps SET fetched = 0, told = 0 WHERE id = ?", (number,))


STATES = {
    "queued": "running",
    "running": "running",
    "held": "stopped",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""The state of a job in a query -> the state of sweeps that stand among jobs under it."""
