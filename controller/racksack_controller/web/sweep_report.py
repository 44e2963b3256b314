"""`racksack sweep report`: one self-contained page of a sweep, to keep or to send."""

from __future__ import annotations

import time
from importlib import resources
from typing import Any

from aiohttp import web

from racksack_controller.sweeps.results.queries import Summary
from racksack_controller.web.api_sweeps import readable, run_of
from racksack_controller.web.caller import refusal
from racksack_controller.web.rendering import page_text
from racksack_controller.web.sweep_queries import ask
from racksack_controller.web.sweep_views import axis_text, sentence, sweep_view
from racksack_jobspecs.states import ExitCode

TOP = 20
FRONT_MAX = 50

routes = web.RouteTableDef()


@routes.get("/api/v1/sweeps/{id}/report")
async def report(request: web.Request) -> web.Response:
    """What was tried, what is best, how sure that is, plots, and how to repeat it, as one HTML file."""
    context, found = await readable(request)
    run = run_of(request)
    try:
        looked_up = await ask(request, Summary, found[0].id, "summary", count=TOP, run=run)
    except ValueError as error:
        raise refusal(f"sweep {found[0].id}: {error}", ExitCode.REFUSED) from None
    values = _values(looked_up)
    values["sweep"] = sweep_view(*found, context.sweeps.active.get(found[0].id), time.time())
    values["sentence"] = sentence(values["sweep"])
    values["axes"] = [(axis.name, axis_text(axis), axis.only_if) for axis in found[0].sweep.axes]
    values["axes"] += [(one.name, f"{one.low:g} to {one.high:g}", one.only_if) for one in found[0].sweep.domains]
    values["style"] = resources.files("racksack_controller.web").joinpath("static", "style.css").read_text()
    text = page_text("sweep_report.html", values)
    name = f'attachment; filename="sweep-{found[0].id}.html"'
    return web.Response(text=text, content_type="text/html", headers={"Content-Disposition": name})


def _values(found: Summary) -> dict[str, Any]:
    return {
        "best": found.best,
        "belief": found.belief,
        "plots": found.plots,
        "curves": found.curves,
        "shares": found.shares,
        "note": found.note,
        "front": found.front,
        "params": list(dict.fromkeys(name for row in found.best.rows for name in row["params"])),
        "metrics": list(dict.fromkeys(name for row in found.best.rows for name in row["metrics"])),
    }
