"""The status page: whole pages for a browser without JavaScript, and their bodies alone for one that follows.

Everything is made on the server by jinja2 with autoescaping; what users named or printed is never markup.
"""

from __future__ import annotations

import time

from aiohttp import web

from racksack_controller.energy.store import slices_since
from racksack_controller.store import jobs_where
from racksack_controller.web.api_controller import node_story, status_view
from racksack_controller.web.api_power import DAY_S, energy_view, power_lines
from racksack_controller.web.context import CONTEXT
from racksack_controller.web.energy_chart import chart
from racksack_controller.web.power_objections import objections
from racksack_controller.web.rendering import not_found, show
from racksack_controller.web.sweep_jobs import NO_RUNNERS, merged
from racksack_controller.web.sweeps import as_jobs, sweeps_where

HISTORY_PAGE = 100

routes = web.RouteTableDef()


@routes.get("/")
async def overview(request: web.Request) -> web.Response:
    """Nodes, running jobs, the queue with its reasons, the last finished jobs."""
    return show(request, "status", await status_view(request.app[CONTEXT], request.app[CONTEXT].caller(request)))


@routes.get("/history")
async def history(request: web.Request) -> web.Response:
    """Finished jobs, a page at a time."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    before = request.query.get("before", "")
    newest = int(before) if before.isascii() and before.isdecimal() and len(before) < 16 else 2**62
    condition = f"ended_at_s IS NOT NULL AND id < ? AND {NO_RUNNERS}"
    found = await context.store.read(lambda connection: jobs_where(connection, condition, (newest,), HISTORY_PAGE))
    over = await sweeps_where(context, "ended_at_s IS NOT NULL AND id < ?", (newest,), HISTORY_PAGE)
    finished = merged(await context.job_views(found, caller), await as_jobs(context, over, caller), HISTORY_PAGE)
    older = finished[-1]["id"] if len(finished) == HISTORY_PAGE else None
    return show(request, "history", {"finished": finished, "older": older})


@routes.get("/energy")
async def energy(request: web.Request) -> web.Response:
    """What was drawn and saved, as a chart and tables, and the timeline of power."""
    context = request.app[CONTEXT]
    days = request.query.get("days", "")
    chosen = int(days) if days.isascii() and days.isdecimal() and 0 < int(days[:5]) <= 3660 else 1
    since = time.time() - chosen * DAY_S
    report = await energy_view(context, since)
    slices = await context.store.read(lambda connection: slices_since(connection, since))
    lines = await power_lines(context, since, None, context.caller(request))
    picture = chart(slices, since, report["until_s"])
    return show(request, "energy", {"report": report, "chart": picture, "chosen": chosen, "lines": lines[-200:]})


@routes.get("/nodes/{name}")
async def node(request: web.Request) -> web.Response:
    """One node with its devices, jobs and story."""
    try:
        story = await node_story(request)
        context, since = request.app[CONTEXT], time.time() - DAY_S
        slices = await context.store.read(lambda connection: slices_since(connection, since))
        picture = chart({name: rows for name, rows in slices.items() if name == story["name"]}, since, time.time())
        lines = await power_lines(context, since, story["name"], context.caller(request))
        against = objections(context.state, story["name"], time.time())
        values = {"node": story, "chart": picture, "lines": lines[-200:], "objections": against}
        return show(request, "node", values)
    except web.HTTPNotFound:
        return not_found(request, f"There is no node {request.match_info['name'][:40]}.")
