"""`/api/v1/doctor`: what the controller finds out about itself, its nodes and its jobs."""

from __future__ import annotations

import msgspec
from aiohttp import web

from racksack_controller.web.api_controller import controller_view
from racksack_controller.web.caller import forbidden, refusal
from racksack_controller.web.context import CONTEXT
from racksack_jobspecs.states import ExitCode

routes = web.RouteTableDef()


@routes.get("/api/v1/controller")
async def controller(request: web.Request) -> web.Response:
    """What the controller says about itself, at once."""
    return web.json_response(controller_view(request.app[CONTEXT]))


@routes.get("/api/v1/doctor")
async def doctor(request: web.Request) -> web.Response:
    """All findings; `node=a,b` has these checked in full. It costs reading the store, so only known users may ask."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if caller.uid is None:
        raise forbidden("requests to this address are anonymous; use `racksack doctor`")
    names = [name for name in request.query.get("node", "").split(",") if name]
    unknown = [name for name in names if name not in context.nodes]
    if unknown:
        known = ", ".join(sorted(context.nodes)) or "none"
        raise refusal(f"there is no node {unknown[0][:40]!r}; there are: {known}", ExitCode.NOT_FOUND)
    await context.nodes_called()
    findings = await context.doctor.examine(list(dict.fromkeys(names)), is_operator=caller.is_operator)
    return web.json_response([msgspec.to_builtins(finding) for finding in findings])
