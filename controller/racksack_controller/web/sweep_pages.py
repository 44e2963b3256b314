"""The pages of sweeps: all of them, and one with its progress, its best points and plots."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from typing import Any

from aiohttp import web

from racksack_controller.core.sweeps.records import CONTROL, MAIN
from racksack_controller.sweeps.results import ledger, ranking
from racksack_controller.sweeps.results.queries import Page
from racksack_controller.sweeps.results.tables import params_of_points
from racksack_controller.web import sweeps
from racksack_controller.web.api_sweeps import sweep_number, sweep_story
from racksack_controller.web.context import CONTEXT
from racksack_controller.web.rendering import not_found, show
from racksack_controller.web.sweep_queries import ask
from racksack_controller.web.sweep_views import axis_text, sentence
from racksack_controller.web.sweeps import Found
from racksack_controller.web.views import View

LIST_MAX = 100
TOP = 20
FAILURES_MAX = 20
KEPT = 8  # pictures of sweeps that somebody looks at

routes = web.RouteTableDef()
_kept: OrderedDict[tuple[object, ...], Page] = OrderedDict()


@routes.get("/sweeps")
async def overview(request: web.Request) -> web.Response:
    """All sweeps, newest first."""
    context = request.app[CONTEXT]
    found = await sweeps.sweeps_where(context, "1", (), LIST_MAX)
    views = [_with_sentence(sweeps.view_of(context, one, context.caller(request))) for one in found]
    return show(request, "sweeps", {"sweeps": views})


@routes.get("/sweeps/{id}")
async def one_sweep(request: web.Request) -> web.Response:
    """One sweep: progress, nodes, the best points, plots, failures, its story."""
    context = request.app[CONTEXT]
    try:
        found = await sweeps.found_sweep(context, sweep_number(request))
    except web.HTTPNotFound:
        return not_found(request, f"There is no sweep {request.match_info['id'][:40]}.")
    private = sweeps.may_read(context, request, found[0])
    story = await sweep_story(context, found, context.caller(request))
    values: dict[str, Any] = {"sweep": _with_sentence(story), "axes": [], "found": None, "problem": ""}
    if private:
        values["axes"] = [(axis.name, axis_text(axis), axis.only_if) for axis in found[0].sweep.axes]
        values["axes"] += [(one.name, f"{one.low:g} to {one.high:g}", one.only_if) for one in found[0].sweep.domains]
        values |= await _results(request, found)
    return show(request, "sweep", values)


async def _results(request: web.Request, found: Found) -> dict[str, Any]:
    """The best points, plots and failures; `by`, `x` and `y` in the address choose what is drawn."""
    context, query = request.app[CONTEXT], request.query
    by = query.get("by") or None
    pair = (query["x"], query["y"]) if "x" in query and "y" in query else None
    try:
        found_page = await _page(request, found, by, pair)
    except ValueError as error:
        return {"problem": str(error)}
    failures = await context.store.read(lambda connection: _failures(connection, found))
    ranked = found_page.ranked
    columns = _columns(ranked)
    return {"found": {"ranked": ranked, "plots": found_page.plots, "failures": failures, "by": by or "", **columns}}


async def _page(request: web.Request, found: Found, by: str | None, pair: tuple[str, str] | None) -> Page:
    """The best points and plots; what has not changed since is kept. Raises ValueError."""
    sweep, progress = found
    key = (sweep.id, progress.run, progress.done, progress.failed, progress.ended_at_s, by, pair)
    if key not in _kept:
        _kept[key] = await ask(request, Page, sweep.id, "page", by=by, pair=pair, count=TOP)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    else:
        _kept.move_to_end(key)
    return _kept[key]


def _failures(connection: sqlite3.Connection, found: Found) -> list[View]:
    sweep, progress = found
    failures = ledger.failures_of(connection, sweep.id, MAIN, limit=FAILURES_MAX)
    if progress.run == CONTROL:
        failures += ledger.failures_of(connection, sweep.id, CONTROL, limit=FAILURES_MAX)
    params = params_of_points(connection, sweep, [failure.point for failure in failures])
    return [
        {
            "point": failure.point,
            "kind": failure.kind,
            "tries": failure.tries,
            "node": failure.node,
            "sentence": failure.sentence,
            "retry_at_s": failure.retry_at_s,
            "params": params.get(failure.point, {}),
        }
        for failure in failures
    ]


def _columns(ranked: ranking.Ranking) -> dict[str, list[str]]:
    """The columns of the table of the best."""
    params = list(dict.fromkeys(name for row in ranked.rows for name in row["params"]))
    metrics = list(dict.fromkeys(name for row in ranked.rows for name in row["metrics"]))
    control = list(dict.fromkeys(name for row in ranked.rows for name in row.get("control", {})))
    return {"params": params, "metrics": metrics, "control": control}


def _with_sentence(view: View) -> View:
    return {**view, "sentence": sentence(view)}
