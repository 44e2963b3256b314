"""`/api/v1`: status, nodes, plans, submissions, events, and the controller itself."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from racksack_controller.config.changes import BusyNodesError, ReloadRefusedError
from racksack_controller.core import events as ev
from racksack_controller.core.state import Node
from racksack_controller.core.why import why_node
from racksack_controller.intake.ingest import IngestPostponed
from racksack_controller.store import jobs_where, story
from racksack_controller.web import sweep_jobs
from racksack_controller.web.caller import (
    Caller,
    body_of,
    forbidden,
    json_answer,
    number,
    refusal,
    text_of,
    utf8_of,
    while_connected,
)
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.power_views import power_view
from racksack_controller.web.privacy import node_for
from racksack_controller.web.sweeps import as_jobs, sweeps_where
from racksack_controller.web.views import View, node_view
from racksack_jobspecs.resources import DISK_BYTES_MAX
from racksack_jobspecs.states import ExitCode

LAST_FINISHED = 10
STATUS_JOBS_MAX = 1000
KEEPALIVE_S = 15.0
DEADLINE_S_MAX = 366 * 86400.0

routes = web.RouteTableDef()


@routes.get("/api/v1/status")
async def status(request: web.Request) -> web.Response:
    """The controller, its nodes, the jobs that are not over and the last finished ones."""
    return json_answer(await status_view(request.app[CONTEXT], request.app[CONTEXT].caller(request)))


async def status_view(context: Context, caller: Caller) -> View:
    """What `GET status` answers and the page shows."""
    active = sweep_jobs.without_runners(list(context.state.jobs.values()))
    active.sort(key=lambda job: (job.state in ("queued", "held"), job.id))
    finished = await context.store.read(
        lambda connection: jobs_where(
            connection, f"ended_at_s IS NOT NULL AND {sweep_jobs.NO_RUNNERS}", (), LAST_FINISHED, "ended_at_s"
        )
    )
    live = await sweeps_where(context, "ended_at_s IS NULL", (), STATUS_JOBS_MAX)
    over = await sweeps_where(context, "ended_at_s IS NOT NULL", (), LAST_FINISHED)
    ended = [*await context.job_views(finished, caller), *await as_jobs(context, over, caller)]
    ended.sort(key=lambda view: float(view["ended_at_s"]), reverse=True)
    return {
        "controller": controller_view(context),
        "jobs": [
            *await as_jobs(context, live, caller),
            *await context.job_views(active[:STATUS_JOBS_MAX], caller),
            *ended[:LAST_FINISHED],
        ],
        "jobs_total": len(active) + len(live),
        "nodes": node_views(context, caller),
    }


def controller_view(context: Context) -> View:
    """What the controller says about itself."""
    return {
        "version": context.version,
        "now_s": time.time(),
        "started_at_s": context.started_at_s,
        "spool": str(context.spool.root),
        "web": context.web_address,
        "problem": context.loop.unsaved_reason,
        "waiting": len(context.state.queued_ids),
    }


def node_views(context: Context, caller: Caller) -> list[View]:
    """All configured nodes, by name, as the caller may see them."""
    now, found = time.time(), []
    for name in sorted(context.state.nodes):
        if name in context.nodes:
            connector = context.connectors.get(name)
            stats = connector.stats if connector else None
            power = power_view(context.state, name, context.power.meter.watts(name), now)
            view = {**node_view(context.state.nodes[name], context.state, stats, now), "power": power}
            found.append(node_for(caller, view, context.hidden))
    return found


def view_of(context: Context, name: str, caller: Caller) -> View:
    """One configured node."""
    return next(view for view in node_views(context, caller) if view["name"] == name)


def node_of(request: web.Request) -> Node:
    """The node of the address; a 404 when there is none."""
    context, name = request.app[CONTEXT], request.match_info["name"]
    if name not in context.nodes or name not in context.state.nodes:
        known = ", ".join(sorted(context.nodes)) or "none"
        raise refusal(f"there is no node {name[:40]!r}; there are: {known}", ExitCode.NOT_FOUND)
    return context.state.nodes[name]


@routes.get("/api/v1/nodes")
async def nodes(request: web.Request) -> web.Response:
    """All nodes."""
    return web.json_response(node_views(request.app[CONTEXT], request.app[CONTEXT].caller(request)))


@routes.get("/api/v1/nodes/{name}")
async def node(request: web.Request) -> web.Response:
    """One node with its story."""
    return web.json_response(await node_story(request))


async def node_story(request: web.Request) -> View:
    """The node of the address with its story; a 404 when there is none."""
    context, found = request.app[CONTEXT], node_of(request)
    lines = await context.store.read(lambda connection: story(connection, node=found.name))
    events = [{"at_s": line.at_s, "sentence": line.sentence, "job": line.job} for line in lines]
    caller = context.caller(request)
    return {**view_of(context, found.name, caller), "events": events if caller.is_known else []}


@routes.get("/api/v1/nodes/{name}/why")
async def node_why(request: web.Request) -> web.Response:
    """Why the node is in its state."""
    context, found = request.app[CONTEXT], node_of(request)
    caller = context.caller(request)
    sentence = why_node(context.state, found, time.time())
    if not caller.is_known:
        sentence = str(view_of(context, found.name, caller)["why"])
    return web.json_response({"sentence": sentence, "state": str(context.state.node_state(found))})


@routes.post("/api/v1/nodes/{name}/drain")
async def drain(request: web.Request) -> web.Response:
    """Let a node take no more jobs; with `now` or after `deadline_s` its jobs are queued again."""
    context, found, caller = request.app[CONTEXT], node_of(request), operator(request)
    body = await body_of(request)
    reason = f"{text_of(body, 'reason', 'no reason given')} ({caller})"
    deadline_s = body.get("deadline_s")
    if deadline_s is not None and (not isinstance(deadline_s, int | float) or not 0 <= deadline_s <= DEADLINE_S_MAX):
        raise refusal("deadline_s is not a number of seconds up to a year", ExitCode.USAGE)
    then_off = body.get("then_off") is True
    await context.loop.submit(ev.DrainRequested(found.name, reason, body.get("now") is True, deadline_s, then_off))
    return web.json_response(view_of(context, found.name, context.caller(request)))


@routes.post("/api/v1/nodes/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """Let a drained node take jobs again."""
    context, found = request.app[CONTEXT], node_of(request)
    caller = operator(request)
    await context.loop.submit(ev.ResumeRequested(found.name, caller))
    return web.json_response(view_of(context, found.name, context.caller(request)))


def operator(request: web.Request) -> str:
    """The name of a caller who is an operator; a 403 for others."""
    caller = request.app[CONTEXT].caller(request)
    if not caller.is_operator:
        raise forbidden("only an operator may do this: root, the controller's user, or `operators:` of racksack.yaml")
    return caller.name


@routes.get("/api/v1/submissions/{key}")
async def submission(request: web.Request) -> web.Response:
    """The jobs of a submission of the caller, or why its file was rejected; waits up to `wait_s` for either."""
    context, key = request.app[CONTEXT], request.match_info["key"]
    wait_s = min(number(request.query, "wait_s", 0), 60.0)
    outcome = await context.intake.outcome(context.caller(request).name, key, wait_s)
    if outcome is None:
        raise refusal("no job file with this submission key was seen yet", ExitCode.NOT_FOUND)
    return json_answer(outcome)


@routes.post("/api/v1/plan")
async def plan(request: web.Request) -> web.Response:
    """What would become of a job file: its mistakes, the nodes that fit, and what it would wait for."""
    context = request.app[CONTEXT]
    owner = context.caller(request).name
    await context.nodes_called()
    try:
        work = context.intake.plan(await utf8_of(request), owner, time.time(), _sends_bytes(request))
        return web.json_response(await while_connected(request, work))
    except IngestPostponed as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None


def _sends_bytes(request: web.Request) -> int:
    """How large the project is, as its owner says."""
    return int(min(max(0.0, number(request.query, "bytes", 0)), DISK_BYTES_MAX))


@routes.get("/api/v1/snapshots/{digest}")
async def snapshot(request: web.Request) -> web.Response:
    """Whether the caller may submit `snapshot:<digest>`."""
    context, digest = request.app[CONTEXT], request.match_info["digest"]
    if not context.intake.may_refer(digest, context.caller(request).name):
        raise refusal("you have not uploaded this content before", ExitCode.NOT_FOUND)
    return web.json_response({"digest": digest})


@routes.post("/api/v1/controller/stop")
async def stop(request: web.Request) -> web.Response:
    """End the controller; jobs go on."""
    operator(request)
    context = request.app[CONTEXT]
    asyncio.get_running_loop().call_later(0.1, context.stop)
    return web.json_response({"stopping": True})


@routes.post("/api/v1/controller/reload")
async def reload(request: web.Request) -> web.Response:
    """Read the nodes of the configuration again; with `lose_jobs: true` also where running jobs are lost by it."""
    operator(request)
    body, context = await body_of(request), request.app[CONTEXT]
    try:
        changes = await context.reload(body.get("lose_jobs") is True)
    except ReloadRefusedError as error:
        code = ExitCode.REFUSED if isinstance(error, BusyNodesError) else ExitCode.USAGE
        raise refusal(f"nothing was changed: {error}", code) from None
    return web.json_response({"nodes": sorted(context.nodes), **msgspec.to_builtins(changes)})


@routes.get("/api/v1/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: a line for each job or node that changed."""
    context = request.app[CONTEXT]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    queue = context.news.open_stream()
    try:
        await response.write(b": hello\n\n")
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    news = await queue.get()
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            await response.write(news)
    except ConnectionError:
        return response  # the reader has gone; the stream ends with it
    finally:
        context.news.close_stream(queue)
