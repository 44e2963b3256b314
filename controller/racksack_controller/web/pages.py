"""The status page: whole pages for a browser without JavaScript, and their bodies alone for one that follows live.

Everything is made on the server by jinja2 with autoescaping; what users named or printed is never markup.
"""

from __future__ import annotations

import time
from importlib import resources
from typing import Any

import jinja2
from aiohttp import web

from racksack_controller.energy_store import slices_since
from racksack_controller.store import jobs_where
from racksack_controller.web.api_controller import controller_view, node_story, status_view
from racksack_controller.web.api_jobs import job_story
from racksack_controller.web.api_logs import Which, read_log
from racksack_controller.web.api_power import DAY_S, energy_view, power_lines
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_controller.web.energy_chart import chart
from racksack_jobspecs.units import format_duration, format_memory

LOG_TAIL_BYTES = 32 * 1024
HISTORY_PAGE = 100
STATIC = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}

routes = web.RouteTableDef()


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def _energy(kwh: float) -> str:
    """As the client shows it."""
    if 0 < abs(kwh) < 1e-5:
        return "<0.01 Wh"
    return f"{kwh:.2f} kWh" if abs(kwh) >= 0.1 else f"{1000 * kwh:.2f} Wh"


def _money(cost: float) -> str:
    if 0 < abs(cost) < 1e-4:
        return "<0.0001"
    return f"{cost:.2f}" if abs(cost) >= 0.1 or not cost else f"{cost:.4f}"


_pages = jinja2.Environment(
    loader=jinja2.PackageLoader("racksack_controller.web"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_pages.filters["memory"] = lambda size: format_memory(int(size))
_pages.filters["duration"] = lambda seconds: format_duration(max(0.0, float(seconds)))
_pages.filters["moment"] = _moment
_pages.filters["clock"] = lambda at_s: time.strftime("%d. %H:%M", time.localtime(at_s))
_pages.filters["energy"] = _energy
_pages.filters["money"] = _money


def _show(request: web.Request, name: str, values: dict[str, Any]) -> web.Response:
    """The page, or its body alone when it is asked for with `?fragment=1`."""
    context = request.app[CONTEXT]
    alone = request.query.get("fragment") == "1"
    template = _pages.get_template(f"{name}_body.html" if alone else f"{name}.html")
    address = request.rel_url.update_query(fragment="1")
    known = {"controller": controller_view(context), "fragment": str(address)}
    text = template.render({**known, **values})
    return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})


@routes.get("/")
async def overview(request: web.Request) -> web.Response:
    """Nodes, running jobs, the queue with its reasons, the last finished jobs."""
    return _show(request, "status", await status_view(request.app[CONTEXT]))


@routes.get("/history")
async def history(request: web.Request) -> web.Response:
    """Finished jobs, a page at a time."""
    context = request.app[CONTEXT]
    before = request.query.get("before", "")
    newest = int(before) if before.isascii() and before.isdecimal() and len(before) < 16 else 2**62
    found = await context.store.read(
        lambda connection: jobs_where(connection, "ended_at_s IS NOT NULL AND id < ?", (newest,), HISTORY_PAGE)
    )
    older = found[-1].id if len(found) == HISTORY_PAGE else None
    return _show(request, "history", {"finished": await context.job_views(found), "older": older})


@routes.get("/energy")
async def energy(request: web.Request) -> web.Response:
    """What was drawn and saved, as a chart and tables, and the timeline of power."""
    context = request.app[CONTEXT]
    days = request.query.get("days", "")
    chosen = int(days) if days.isascii() and days.isdecimal() and 0 < int(days[:5]) <= 3660 else 1
    since = time.time() - chosen * DAY_S
    report = await energy_view(context, since)
    slices = await context.store.read(lambda connection: slices_since(connection, since))
    lines = await power_lines(context, since, None)
    picture = chart(slices, since, report["until_s"])
    return _show(request, "energy", {"report": report, "chart": picture, "chosen": chosen, "lines": lines[-200:]})


@routes.get("/jobs/{id}")
async def job(request: web.Request) -> web.Response:
    """One job with its attempts, logs and story."""
    context = request.app[CONTEXT]
    try:
        found = await context.job(job_id_of(request))
    except web.HTTPNotFound:
        return _not_found(request, f"There is no job {request.match_info['id'][:40]}.")
    private = context.may_read(request, found)
    story = await job_story(context, found, private=private)
    logs = [(stream, await _tail(context, found, stream)) for stream in ("stdout", "stderr")] if private else None
    return _show(request, "job", {"job": story, "logs": logs})


async def _tail(context: Context, found: Any, stream: str) -> str:  # noqa: ANN401
    try:
        data, _after, _ended = await read_log(context, found, Which(stream, None), -LOG_TAIL_BYTES, LOG_TAIL_BYTES)
    except web.HTTPConflict:
        return "(on a node that does not answer now)"
    return data.decode(errors="replace")


@routes.get("/nodes/{name}")
async def node(request: web.Request) -> web.Response:
    """One node with its devices, jobs and story."""
    try:
        story = await node_story(request)
        context, since = request.app[CONTEXT], time.time() - DAY_S
        slices = await context.store.read(lambda connection: slices_since(connection, since))
        picture = chart({name: rows for name, rows in slices.items() if name == story["name"]}, since, time.time())
        lines = await power_lines(context, since, story["name"])
        return _show(request, "node", {"node": story, "chart": picture, "lines": lines[-200:]})
    except web.HTTPNotFound:
        return _not_found(request, f"There is no node {request.match_info['name'][:40]}.")


def _not_found(request: web.Request, sentence: str) -> web.Response:
    text = _pages.get_template("error.html").render(
        controller=controller_view(request.app[CONTEXT]), fragment=str(request.rel_url), sentence=sentence
    )
    return web.Response(text=text, content_type="text/html", status=404)


@routes.get("/static/{name}")
async def static(request: web.Request) -> web.Response:
    """The style sheet, the script and the icon."""
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    text = resources.files("racksack_controller.web").joinpath("static", name).read_text()
    return web.Response(text=text, content_type=STATIC[name], headers={"Cache-Control": "max-age=300"})
