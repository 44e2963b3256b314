"""`/api/v1/jobs/ID/usage` and `/api/v1/usage`: what was used of what was asked for."""

from __future__ import annotations

import time

from aiohttp import web

from racksack_controller.store import ended_attempts
from racksack_controller.web.caller import number
from racksack_controller.web.context import CONTEXT, job_id_of
from racksack_controller.web.usage import job_usage, program_usage

RUNS_MAX = 50_000

routes = web.RouteTableDef()


@routes.get("/api/v1/jobs/{id}/usage")
async def usage_of_job(request: web.Request) -> web.Response:
    """What a job's latest attempt used of what it asked for."""
    context = request.app[CONTEXT]
    job = await context.job(job_id_of(request))
    ranks = (await context.ranks_of([job]))[job.id]
    return web.json_response(job_usage(job, ranks, context.state.history, time.time()))


@routes.get("/api/v1/usage")
async def usage_of_programs(request: web.Request) -> web.Response:
    """Sums over the runs that ended since a time, program by program."""
    context, query = request.app[CONTEXT], request.query
    since = number(query, "since_s", 0)
    owner = query.get("owner")
    if owner == "me":
        owner = context.caller(request).name
    runs = await context.store.read(lambda connection: ended_attempts(connection, since, owner, RUNS_MAX))
    return web.json_response(program_usage(runs, context.state.history, query.get("project")))
