"""`/api/v1`: the power of nodes, its timeline, and energy."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web

from racksack_controller.core.power import events as ev
from racksack_controller.core.power.operator import objection, requests_for
from racksack_controller.core.power.scale import scaled
from racksack_controller.core.power_records import OperatorRequest, PowerRecord
from racksack_controller.energy import store as table
from racksack_controller.energy.report import report
from racksack_controller.store import jobs_by_id, power_story
from racksack_controller.web.api_controller import node_of, operator, view_of
from racksack_controller.web.caller import Caller, body_of, number, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.privacy import power_lines_for
from racksack_controller.web.views import View
from racksack_jobspecs.states import ExitCode

DAY_S = 86400.0
JOBS_MAX = 200

routes = web.RouteTableDef()


@routes.post("/api/v1/nodes/{name}/power")
async def power(request: web.Request) -> web.Response:
    """Have a node switched on, off, off and on, or its power held or released: `act`, `for_s`, `reason`, `force`."""
    context, found, caller = request.app[CONTEXT], node_of(request), operator(request)
    record = context.state.power.get(found.name)
    if record is None:
        raise refusal(f"{found.name} has no power block in the configuration, so it is always on", ExitCode.REFUSED)
    body = await body_of(request)
    act = text_of(body, "act", "")
    if act in ("hold", "release"):
        await _hold(context, found.name, act, body, caller)
    elif act in (OperatorRequest.ON, OperatorRequest.OFF, OperatorRequest.CYCLE):
        force = body.get("force") is True
        _check(context, record, OperatorRequest(act), force=force)
        await context.loop.submit_all(
            requests_for(context.state, found.name, OperatorRequest(act), caller, force=force)
        )
    else:
        raise refusal(f"act {act[:40]!r} is unknown; use on, off, cycle, hold or release", ExitCode.USAGE)
    return web.json_response(view_of(context, found.name, context.caller(request)))


@routes.post("/api/v1/scale")
async def scale(request: web.Request) -> web.Response:
    """Have `nodes` servers on for `for_s`, null: as many as the queue needs; which ones these are."""
    context, caller = request.app[CONTEXT], operator(request)
    body = await body_of(request)
    count: Any = body.get("nodes")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 9999):
        raise refusal("nodes is not a number of servers, nor null", ExitCode.USAGE)
    events, chosen = scaled(context.state, count, _until_s(body), caller)
    if events:
        await context.loop.submit_all(events)
    return web.json_response({"asked": count, "nodes": chosen})


def _until_s(body: dict[str, object]) -> float | None:
    for_s: Any = body.get("for_s")
    if for_s is not None and (isinstance(for_s, bool) or not isinstance(for_s, (int, float)) or not 0 < for_s < 1e10):
        raise refusal("for_s is not a number of seconds", ExitCode.USAGE)
    return None if for_s is None else time.time() + for_s


async def _hold(context: Context, name: str, act: str, body: dict[str, object], caller: str) -> None:
    if act == "release":
        await context.loop.submit(ev.PowerReleased(name, caller))
        return
    until_s = _until_s(body)
    await context.loop.submit(ev.PowerHeld(name, until_s, caller, text_of(body, "reason", "")))


def _check(context: Context, record: PowerRecord, request: OperatorRequest, *, force: bool) -> None:
    """Refuse what the configuration cannot do, and what would end somebody's work."""
    traits, name = context.state.power_traits.get(record.node), record.node
    powered = context.power.effects.nodes.get(name)
    if powered is None or traits is None:
        raise refusal(f"{name} is just being configured; try again", ExitCode.REFUSED)
    if request is not OperatorRequest.OFF and not powered.settings.on:
        raise refusal(f"{name} has no way to be switched on; see `on` of its power block", ExitCode.REFUSED)
    if request is not OperatorRequest.ON and not powered.settings.off:
        raise refusal(f"{name} has no way to be switched off; see `off` of its power block", ExitCode.REFUSED)
    against = objection(context.state, name, request, time.time(), force=force)
    if against is not None:
        raise refusal(against, ExitCode.REFUSED)


@routes.get("/api/v1/power")
async def timeline(request: web.Request) -> web.Response:
    """What happened to the power of a node, or of all, oldest first: `since_s`, `node`."""
    context = request.app[CONTEXT]
    since = number(request.query, "since_s", time.time() - DAY_S)
    return web.json_response(await power_lines(context, since, request.query.get("node"), context.caller(request)))


async def power_lines(context: Context, since_s: float, node: str | None, caller: Caller) -> list[View]:
    """The timeline as values, as the caller may see it."""
    lines = await context.store.read(lambda connection: power_story(connection, since_s, node=node))
    return [msgspec.to_builtins(line) for line in power_lines_for(caller, lines)]


@routes.get("/api/v1/energy")
async def energy(request: web.Request) -> web.Response:
    """Energy by node and by job since a moment, and what was saved: `since_s`."""
    since = number(request.query, "since_s", time.time() - 7 * DAY_S)
    return web.json_response(await energy_view(request.app[CONTEXT], since))


async def energy_view(context: Context, since_s: float) -> View:
    """The report that `GET energy` answers and the page shows."""
    await context.power.meter.tick()
    slices = await context.store.read(lambda connection: table.slices_since(connection, since_s))
    energies = await context.store.read(lambda connection: table.job_energies(connection, since_s, JOBS_MAX))
    ids = [one.job for one in energies]
    stored = await context.store.read(lambda connection: jobs_by_id(connection, ids))
    jobs = {job.id: context.state.jobs.get(job.id, job) for job in stored}
    pairs = [(one, jobs[one.job]) for one in energies if one.job in jobs]
    return report(slices, pairs, since_s, time.time(), context.loop.power_policy.price_per_kwh)
