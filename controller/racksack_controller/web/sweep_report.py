"""`racksack sweep report`: one self-contained page of a sweep, to keep or to send."""

from __future__ import annotations

import sqlite3
import time
from importlib import resources
from typing import Any

from aiohttp import web

from racksack_controller.sweeps.results import ranking
from racksack_controller.sweeps.results.belief import believe
from racksack_controller.sweeps.results.curve_plot import curve_plot
from racksack_controller.sweeps.results.fronts import pareto_of
from racksack_controller.sweeps.results.importance import importances
from racksack_controller.sweeps.results.plots import plots
from racksack_controller.web.api_sweeps import readable, run_of
from racksack_controller.web.rendering import page_text
from racksack_controller.web.sweep_views import axis_text, sentence, sweep_view
from racksack_controller.web.sweeps import Found

TOP = 20
FRONT_MAX = 50

routes = web.RouteTableDef()


@routes.get("/api/v1/sweeps/{id}/report")
async def report(request: web.Request) -> web.Response:
    """What was tried, what is best, how sure that is, plots, and how to repeat it, as one HTML file."""
    context, found = await readable(request)
    run = run_of(request)
    values = await context.store.read(lambda connection: _looked_up(connection, found, run))
    values["sweep"] = sweep_view(*found, context.sweeps.active.get(found[0].id), time.time())
    values["sentence"] = sentence(values["sweep"])
    values["axes"] = [(axis.name, axis_text(axis), axis.only_if) for axis in found[0].sweep.axes]
    values["axes"] += [(one.name, f"{one.low:g} to {one.high:g}", one.only_if) for one in found[0].sweep.domains]
    values["style"] = resources.files("racksack_controller.web").joinpath("static", "style.css").read_text()
    text = page_text("sweep_report.html", values)
    name = f'attachment; filename="sweep-{found[0].id}.html"'
    return web.Response(text=text, content_type="text/html", headers={"Content-Disposition": name})


def _looked_up(connection: sqlite3.Connection, found: Found, run: int) -> dict[str, Any]:
    sweep, progress = found
    results = ranking.results_of(connection, sweep, run)
    best = ranking.rank_of(connection, sweep, progress, results, count=TOP)
    points = [int(row["point"]) for row in best.rows]
    shares, note = [], ""
    try:
        shares = importances(connection, sweep, results)
    except ValueError as error:
        note = str(error)
    front = pareto_of(connection, sweep, results, FRONT_MAX) if len(sweep.sweep.metrics) > 1 else None
    return {
        "best": best,
        "belief": believe(connection, sweep, results, best),
        "plots": plots(connection, sweep, results, None, None),
        "curves": curve_plot(connection, sweep, run, points),
        "shares": shares,
        "note": note,
        "front": front,
        "params": list(dict.fromkeys(name for row in best.rows for name in row["params"])),
        "metrics": list(dict.fromkeys(name for row in best.rows for name in row["metrics"])),
    }
