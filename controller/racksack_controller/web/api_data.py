"""`/api/v1/data`: the data sets of users, and where they lie."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from racksack_controller.intake.data_sets import DataSets
from racksack_controller.intake.data_table import DataSet
from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.nodes.errors import NodeError
from racksack_controller.web.caller import Caller, body_of, forbidden, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.views import View
from racksack_jobspecs.data import NAME, VERSION_MAX
from racksack_jobspecs.states import ExitCode

WHERE_S = 10.0  # a node that does not answer within this time is left out

routes = web.RouteTableDef()


def _known_caller(request: web.Request) -> tuple[DataSets, Caller]:
    caller = request.app[CONTEXT].caller(request)
    if not caller.is_known:
        raise forbidden("data sets are for known users: use the unix socket, or sign in")
    sets: DataSets = request.app[CONTEXT].intake.data_sets
    return sets, caller


@routes.get("/api/v1/data")
async def list_data(request: web.Request) -> web.Response:
    """All versions of the caller's data sets (operators: of everybody's with `all=1`), and those that lie on nodes."""
    sets, caller = _known_caller(request)
    owner = None if caller.is_operator and request.query.get("all") == "1" else caller.name
    found = [_view(one) for one in await sets.all_of(owner)]
    found += [
        {"name": name, "path": one.path, "nodes": list(one.nodes), "owner": ""} for name, one in sets.on_nodes.items()
    ]
    return web.json_response(found)


@routes.post("/api/v1/data")
async def add(request: web.Request) -> web.Response:
    """Make content the newest version: `name`, `content` (an upload or snapshot:DIGEST), `digest` of an upload."""
    sets, caller = _known_caller(request)
    body = await body_of(request)
    name, content = text_of(body, "name", ""), text_of(body, "content", "")
    if not NAME.fullmatch(name):
        raise refusal(f"{name[:40]!r} is not a name of a data set; use letters, digits, . _ -", ExitCode.USAGE)
    assert caller.uid is not None  # noqa: S101 - it is known
    try:
        return web.json_response(
            _view(await sets.add(name, content, caller.name, caller.uid, text_of(body, "digest", ""))), status=201
        )
    except IngestError as error:
        raise refusal(f"data set {name}: {error}", ExitCode.USAGE) from None
    except IngestPostponed as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None


@routes.get("/api/v1/data/{name}")
async def show(request: web.Request) -> web.Response:
    """All versions of one, newest first."""
    sets, caller = _known_caller(request)
    found = await sets.versions(request.match_info["name"], caller.name)
    if not found:
        raise refusal(f"there is no data set {request.match_info['name'][:100]}", ExitCode.NOT_FOUND)
    return web.json_response([_view(one) for one in found])


@routes.get("/api/v1/data/{name}/where")
async def where(request: web.Request) -> web.Response:
    """The connected nodes that have a version's content: `{version, nodes, unknown}`."""
    sets, caller = _known_caller(request)
    one = await _version(request, sets, caller)
    nodes = request.app[CONTEXT].nodes
    answers = await asyncio.gather(*(_has(request.app[CONTEXT], name, one.digest) for name in nodes))
    having = dict(zip(nodes, answers, strict=True))
    return web.json_response(
        {
            "version": one.version,
            "nodes": [name for name, has in having.items() if has],
            "unknown": [name for name, has in having.items() if has is None],
        }
    )


async def _has(context: Context, name: str, digest: str) -> bool | None:
    """Whether a node has content; None when it does not say."""
    if not context.state.nodes[name].connected:
        return None
    try:
        async with asyncio.timeout(WHERE_S):
            return digest in await context.nodes[name].has([digest])
    except (NodeError, TimeoutError):
        return None


@routes.post("/api/v1/data/{name}/{verb:pin|unpin|rm|verify}")
async def act(request: web.Request) -> web.Response:
    """Keep a version, let it go, or read all of it again: `version` (the newest), for `rm` also `all`."""
    sets, caller = _known_caller(request)
    one, verb = await _version(request, sets, caller), request.match_info["verb"]
    if verb == "verify":
        return web.json_response(_view(one) | {"intact": await sets.verify(one)})
    if verb == "rm":
        doomed = await sets.versions(one.name, caller.name) if request.query.get("all") == "1" else [one]
        if pinned := next((found for found in doomed if found.pinned), None):
            raise refusal(f"data set {one.name} v{pinned.version} is pinned; unpin it first", ExitCode.REFUSED)
        for found in doomed:
            await sets.remove(found)
        return web.json_response([_view(found) for found in doomed])
    await sets.pin(one, pinned=verb == "pin")
    return web.json_response(_view(one) | {"pinned": verb == "pin"})


async def _version(request: web.Request, sets: DataSets, caller: Caller) -> DataSet:
    """The version that the address names, or the newest."""
    name, text = request.match_info["name"], request.query.get("version", "")
    if text and not (text.isascii() and text.isdecimal() and 1 <= int(text[:8]) <= VERSION_MAX):
        raise refusal(f"version {text[:20]!r} is not a number", ExitCode.USAGE)
    try:
        return await sets.find(name, int(text[:8]) if text else None, caller.name)
    except IngestError as error:
        raise refusal(str(error), ExitCode.NOT_FOUND) from None


def _view(one: DataSet) -> View:
    plain: View = msgspec.to_builtins(one)
    return plain | {"bytes": one.size_bytes}
