"""Sweeps among jobs: `GET jobs` lists them, and what is done to a job by its id is done to a sweep by its own.

So `status`, `wait`, `cancel`, `hold` and `fetch-results` work for a sweep as for any job. Its runners are jobs too,
which lists leave out.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from racksack_controller.core.records import Job
from racksack_controller.intake.garbage import remove_tree
from racksack_controller.store import NO_RUNNERS as NO_RUNNERS
from racksack_controller.web import list_query, sweeps
from racksack_controller.web.api_sweeps import change, sweep_story
from racksack_controller.web.caller import Caller, body_of, forbidden, number, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_controller.web.privacy import public_spec
from racksack_controller.web.sweep_views import sentence
from racksack_controller.web.sweeps import Found
from racksack_controller.web.views import View
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.sweep.states import SWEEP_FINAL

Handler = Callable[[web.Request], Awaitable[web.Response]]
ForSweep = Callable[[Context, web.Request, Found], Awaitable[web.Response]]


def for_sweep(handle: ForSweep) -> Callable[[Handler], Handler]:
    """A handler of a job's address that has `handle` do it where the id is a sweep's."""

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def either(request: web.Request) -> web.Response:
            context, number_ = request.app[CONTEXT], job_id_of(request)
            if number_ not in context.state.jobs:
                found = await sweeps.find(context, number_)
                if found is not None:
                    return await handle(context, request, found)
            return await handler(request)

        return either

    return decorate


async def listed(context: Context, request: web.Request, owner: str | None, limit: int) -> list[View]:
    """The sweeps that belong into a list of jobs with this query."""
    query = request.query
    wanted = {word.strip().lower() for word in query.get("state", "").split(",")}
    states = sorted({sweeps.STATES[word] for word in wanted if word in sweeps.STATES})
    condition, values = list_query.condition(query, owner, states if "state" in query else None)
    found = await sweeps.sweeps_where(context, condition, values, limit)
    views = await sweeps.as_jobs(context, found, context.caller(request))
    return [view for view in views if "state" not in query or view["state"] in wanted]


async def ended_since(context: Context, since_s: float, owner: str | None, limit: int, caller: Caller) -> list[View]:
    """The sweeps that ended since a moment."""
    if owner is None:
        found = await sweeps.sweeps_where(context, "ended_at_s >= ?", (since_s,), limit)
    else:
        found = await sweeps.sweeps_where(context, "ended_at_s >= ? AND owner = ?", (since_s, owner), limit)
    return await sweeps.as_jobs(context, found, caller)


def merged(jobs: Sequence[View], sweep_views: Sequence[View], limit: int) -> list[View]:
    """Both, newest first."""
    return sorted([*jobs, *sweep_views], key=lambda view: int(view["id"]), reverse=True)[:limit]


def without_runners(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that somebody submitted."""
    return [job for job in jobs if job.spec.runner_of is None]


async def show(context: Context, request: web.Request, found: Found) -> web.Response:
    """`GET jobs/ID`."""
    sweep, _progress = found
    seen, wait_s = request.query.get("seen"), min(number(request.query, "wait_s", 0), 60.0)
    [view] = await sweeps.as_jobs(context, [found], context.caller(request))
    if wait_s > 0 and seen == view["state"]:
        await context.news.until(lambda: _moved(context, found), wait_s, every_s=2.0)
        found = await sweeps.found_sweep(context, sweep.id)
        [view] = await sweeps.as_jobs(context, [found], context.caller(request))
    may_read = sweeps.may_read(context, request, sweep)
    story = await sweep_story(context, found, context.caller(request))
    shown = {
        "spec": msgspec.to_builtins(sweep.spec) if may_read else public_spec(sweep.spec),
        "attempts": [],
        "events": story["events"],
        "energy": None,
    }
    is_there = await context.files.run(context.spool.returned(sweep.id).exists)
    is_deleted = view["fetched"] and found[1].state in SWEEP_FINAL and not is_there
    return web.json_response({**view, **shown, "results_deleted": is_deleted})


def _moved(context: Context, before: Found) -> bool | None:
    active = context.sweeps.active.get(before[0].id)
    return None if active is not None and active.progress.state is before[1].state else True


async def why(context: Context, request: web.Request, found: Found) -> web.Response:
    """`GET jobs/ID/why`."""
    view = sweeps.view_of(context, found, context.caller(request))
    return web.json_response({"sentence": sentence(view), "state": view["state"]})


def _verb(verb: str) -> ForSweep:
    async def handle(context: Context, request: web.Request, found: Found) -> web.Response:
        sweep, caller = found[0], context.caller(request)
        if not sweeps.may_change(caller, sweep):
            raise forbidden(f"sweep {sweep.id} belongs to {sweep.owner}; only its owner or an operator may do this")
        await change(context, found, verb, caller.name, text_of(await body_of(request), "reason", ""))
        return await _answer(context, request, sweep.id)

    return handle


cancel = _verb("cancel")
hold = _verb("stop")
release = _verb("resume")


async def retry(context: Context, request: web.Request, found: Found) -> web.Response:
    """`POST jobs/ID/retry`: the failed points again; of a sweep that was ended, what is missing."""
    return await _verb("retry" if found[1].failed or found[1].main_failed else "resume")(context, request, found)


async def fetched(context: Context, request: web.Request, found: Found) -> web.Response:
    """`POST jobs/ID/fetched`."""
    (sweep, progress), _caller = await sweeps.owned_sweep(context, request, found[0].id)
    if progress.state not in SWEEP_FINAL:
        raise refusal(f"sweep {sweep.id} is {progress.state}; its results are incomplete", ExitCode.REFUSED)
    await context.store.write(lambda connection: sweeps.save_fetched(connection, sweep.id, fetched=True))
    if (await body_of(request)).get("delete") is True:
        await context.files.run(remove_tree, context.spool.returned(sweep.id))
    return await _answer(context, request, sweep.id)


async def _answer(context: Context, request: web.Request, number_: int) -> web.Response:
    [view] = await sweeps.as_jobs(context, [await sweeps.found_sweep(context, number_)], context.caller(request))
    return web.json_response(view)
