"""`/api/v1/sweeps`: submit, look, rank, export, and what owners may do with their sweeps."""

from __future__ import annotations

import sqlite3

import msgspec
from aiohttp import web

from racksack_controller.core.sweeps import stopping
from racksack_controller.core.sweeps.records import CONTROL, MAIN, Progress, Sweep
from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.store import open_snapshot, story
from racksack_controller.sweeps.manager import SweepError
from racksack_controller.sweeps.results import ledger, ranking, reports, tables
from racksack_controller.sweeps.results.export import Export
from racksack_controller.sweeps.results.importance import Importance
from racksack_controller.sweeps.results.queries import Curve
from racksack_controller.sweeps.results.tables import params_of_points
from racksack_controller.web import list_query, sweeps
from racksack_controller.web.caller import Caller, body_of, forbidden, number, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.privacy import lines_for
from racksack_controller.web.sweep_posts import job_file_of
from racksack_controller.web.sweep_queries import ask
from racksack_controller.web.sweeps import Found
from racksack_controller.web.views import View
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.sweep.states import SWEEP_FINAL, SweepState

LIST_MAX = 1000
POINTS_MAX = 10_000
CURVES_MAX = 200
WAIT_S_MAX = 60.0

routes = web.RouteTableDef()


def sweep_number(request: web.Request) -> int:
    """The number in the address; a 404 when it cannot be one."""
    text = request.match_info["id"]
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise refusal(f"{text[:40]!r} is not the number of a sweep", ExitCode.NOT_FOUND)
    return int(text)


@routes.get("/api/v1/sweeps")
async def list_sweeps(request: web.Request) -> web.Response:
    """Sweeps, newest first: `state`, `owner`, `name`, `fetched`, `limit`, `before`."""
    context, query = request.app[CONTEXT], request.query
    states = _states(query["state"]) if "state" in query else None
    caller = context.caller(request)
    owner = list_query.owner_of(query, caller.name)
    condition, values = list_query.condition(query, owner, states, also_over=True)
    limit = int(min(max(1, number(query, "limit", 100)), LIST_MAX))
    found = await sweeps.sweeps_where(context, condition, values, limit)
    return web.json_response([sweeps.view_of(context, one, caller) for one in found])


def _states(text: str) -> list[str]:
    states = [word.strip() for word in text.lower().split(",")]
    unknown = [word for word in states if word not in set(SweepState)]
    if unknown:
        raise refusal(f"state {unknown[0][:40]!r} is unknown; use {', '.join(SweepState)}", ExitCode.USAGE)
    return states


@routes.post("/api/v1/sweeps")
async def submit(request: web.Request) -> web.Response:
    """Submit a sweep: a job file as text, or JSON with `parameters`, `optimization_type`, `max_iterations`."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if caller.uid is None:
        raise forbidden("authentication needed: send `Authorization: Bearer TOKEN` with a token of web.token_file")
    text = await job_file_of(context, request, caller)
    try:
        sweep = await context.intake.take_sweep(text, caller.name, caller.uid)
    except JobFileError as error:
        problems = [{"line": p.line, "path": p.path, "sentence": p.sentence} for p in error.problems]
        body = {"error": "; ".join(map(str, error.problems)), "code": int(ExitCode.USAGE), "problems": problems}
        return web.json_response(body, status=400)
    except IngestError as error:
        raise refusal(f"project: {error}", ExitCode.USAGE) from None
    except IngestPostponed as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None
    found = await sweeps.found_sweep(context, sweep)
    return web.json_response(
        sweeps.view_of(context, found, caller), status=201, headers={"Location": f"/api/v1/sweeps/{sweep}"}
    )


@routes.get("/api/v1/sweeps/{id}")
async def show(request: web.Request) -> web.Response:
    """One sweep with its space and story; with `wait_s` and `seen`, once its state is no longer the seen one."""
    context, sweep = request.app[CONTEXT], sweep_number(request)
    found = await sweeps.found_sweep(context, sweep)
    wait_s = min(number(request.query, "wait_s", 0), WAIT_S_MAX)
    seen = request.query.get("seen")
    if wait_s > 0 and seen == found[1].state:
        await context.news.until(lambda: _moved(context, sweep, str(seen)), wait_s)
        found = await sweeps.found_sweep(context, sweep)
    return web.json_response(await sweep_story(context, found, context.caller(request)))


def _moved(context: Context, sweep: int, seen: str) -> bool | None:
    active = context.sweeps.active.get(sweep)
    return True if active is None or active.progress.state != seen else None


async def sweep_story(context: Context, found: Found, caller: Caller) -> View:
    """A sweep with its spec and story; what it is given only for those who may read it."""
    sweep, _ = found
    lines = await context.store.read(lambda connection: story(connection, job=sweep.id))
    spec = msgspec.to_builtins(sweep.spec) if sweeps.may_change(caller, sweep) else None
    events = [{"at_s": line.at_s, "sentence": line.sentence} for line in lines]
    return {**sweeps.view_of(context, found, caller), "spec": spec, "events": lines_for(caller, events, context.hidden)}


async def readable(request: web.Request) -> tuple[Context, Found]:
    """The sweep in the address, for whoever may see its points; 403 or 404 otherwise."""
    context = request.app[CONTEXT]
    found = await sweeps.found_sweep(context, sweep_number(request))
    if not sweeps.may_read(context, request, found[0]):
        raise forbidden(f"the points of sweep {found[0].id} are for {found[0].owner} and operators")
    return context, found


@routes.get("/api/v1/sweeps/{id}/results")
async def results(request: web.Request) -> web.StreamResponse:
    """Points by rank: `by`, `n`, `run`; or all of them with `all=1`, as JSON lines or `format=csv`."""
    context, found = await readable(request)
    run = run_of(request)
    if request.query.get("all") == "1":
        return await _stream(request, context, found[0], run)
    count = int(min(max(0, number(request.query, "n", 10)), ranking.COUNT_MAX))
    by, is_front = request.query.get("by"), request.query.get("pareto") == "1"

    number_ = found[0].id
    try:
        if is_front:
            ranked = await ask(request, ranking.Ranking, number_, "front", count=count, run=run)
        else:
            ranked = await ask(request, ranking.Ranking, number_, "rank", by=by, count=count, run=run)
    except ValueError as error:
        raise refusal(f"sweep {found[0].id}: {error}", ExitCode.USAGE) from None
    return web.Response(body=msgspec.json.encode(ranked), content_type="application/json")


def run_of(request: web.Request) -> int:
    """The run that `run` in the address names: main or control."""
    run = request.query.get("run", "main")
    if run not in ("main", "control"):
        raise refusal(f"run={run[:40]!r} is unknown; use main or control", ExitCode.USAGE)
    return CONTROL if run == "control" else MAIN


async def _stream(request: web.Request, context: Context, sweep: Sweep, run: int) -> web.StreamResponse:
    as_csv = request.query.get("format") == "csv"
    read = context.store.read
    snapshot = await read(lambda _: open_snapshot(context.store.path))
    kind = "text/csv; charset=utf-8" if as_csv else "application/x-ndjson"
    name = f"sweep-{sweep.id}.{'csv' if as_csv else 'jsonl'}"
    headers = {"Content-Type": kind, "Content-Disposition": f'attachment; filename="{name}"'}
    response = web.StreamResponse(headers=headers)
    response.enable_compression()
    try:
        export = await read(lambda _: Export(snapshot, sweep, run, as_csv=as_csv))
        await response.prepare(request)
        while block := await read(lambda _: export.next_block(snapshot)):
            await response.write(block)
        await response.write_eof()
    finally:
        await read(lambda _: snapshot.close())
    return response


@routes.get("/api/v1/sweeps/{id}/points")
async def points(request: web.Request) -> web.Response:
    """Points that failed, with their parameters: `failed`, `waiting`, `limit`, `after`; or one point: `point`."""
    context, found = await readable(request)
    sweep, run = found[0], run_of(request)
    if "point" in request.query:
        return web.json_response(await _one_point(context, found, int(number(request.query, "point", 0)), run))
    limit = int(min(max(1, number(request.query, "limit", 1000)), POINTS_MAX))
    after = int(number(request.query, "after", -1))
    is_waiting = {"1": True, "0": False}.get(request.query.get("waiting", ""))

    def read(connection: sqlite3.Connection) -> list[View]:
        failures = ledger.failures_of(connection, sweep.id, run, waiting=is_waiting)
        chosen = [failure for failure in failures if failure.point > after][:limit]
        params = params_of_points(connection, sweep, [failure.point for failure in chosen])
        return [
            {**msgspec.to_builtins(failure), "params": params.get(failure.point, {}), "state": "failed"}
            for failure in chosen
        ]

    return web.json_response(await context.store.read(read))


async def _one_point(context: Context, found: Found, point: int, run: int) -> View:
    sweep, _ = found

    def read(connection: sqlite3.Connection) -> View:
        try:
            params = params_of_points(connection, sweep, [point]).get(point)
        except IndexError:
            params = None
        if params is None:
            raise refusal(f"sweep {sweep.id} has no point {point}", ExitCode.NOT_FOUND)
        metrics = tables.rows_of(connection, sweep.id, [point], run).get(point)
        failures = [one for one in ledger.failures_of(connection, sweep.id, run) if one.point == point]
        state = "done" if metrics is not None else "failed" if failures else "waiting"
        failure = msgspec.to_builtins(failures[0]) if failures else None
        stopped = reports.stop_of(connection, sweep.id, run, point)
        steps = stopping.rungs(sweep.sweep.stop) if sweep.sweep.stop is not None else []
        return {
            "point": point,
            "params": params,
            "metrics": metrics,
            "state": state,
            "failure": failure,
            "stopped_at_step": None if stopped is None else steps[stopped],
            "curve": reports.curve_of(connection, sweep.id, run, point),
        }

    return await context.store.read(read)


@routes.get("/api/v1/sweeps/{id}/importance")
async def importance(request: web.Request) -> web.Response:
    """How much each parameter matters for the first metric: `[{name, share}]`."""
    _, found = await readable(request)
    sweep, run = found[0], run_of(request)
    try:
        shares = await ask(request, list[Importance], sweep.id, "importance", run=run)
    except ValueError as error:
        raise refusal(f"sweep {sweep.id}: {error}", ExitCode.REFUSED) from None
    return web.json_response(msgspec.to_builtins(shares))


@routes.get("/api/v1/sweeps/{id}/curves")
async def curves(request: web.Request) -> web.Response:
    """A metric over the steps of the best `n` points: `{metric, curves: [{point, steps, values, stopped}]}`."""
    _, found = await readable(request)
    sweep = found[0]
    run, metric = run_of(request), request.query.get("metric", sweep.sweep.metrics[0].name)
    count = int(min(max(1, number(request.query, "n", 20)), CURVES_MAX))

    try:
        found_curves = await ask(request, list[Curve], sweep.id, "curves", metric=metric, count=count, run=run)
    except ValueError as error:
        raise refusal(f"sweep {sweep.id}: {error}", ExitCode.REFUSED) from None
    return web.json_response({"metric": metric, "curves": msgspec.to_builtins(found_curves)})


@routes.post("/api/v1/sweeps/{id}/{verb:stop|resume|retry|cancel}")
async def act(request: web.Request) -> web.Response:
    """Stop or go on, run the failed points again, or end it: `reason`."""
    context = request.app[CONTEXT]
    found, caller = await sweeps.owned_sweep(context, request, sweep_number(request))
    reason = text_of(await body_of(request), "reason", "")
    count = await change(context, found, request.match_info["verb"], caller.name, reason)
    view = sweeps.view_of(context, await sweeps.found_sweep(context, found[0].id), context.caller(request))
    return web.json_response(view if count is None else {**view, "retried": count})


async def change(context: Context, found: Found, verb: str, who: str, reason: str) -> int | None:
    """Carry out an owner's wish; for `retry` how many points run again. A wish that is met already is no error."""
    sweep, progress = found
    past = {"stop": "stopped", "resume": "resumed", "cancel": "cancelled", "retry": "failed points retried"}[verb]
    sentence = f"{past} by {who}" + (f": {reason}" if reason else "")
    count = None
    if verb == "stop" and progress.state in SWEEP_FINAL:
        raise refusal(f"sweep {sweep.id} is {progress.state}; there is nothing to stop", ExitCode.REFUSED)
    try:
        if verb == "stop" and progress.state is not SweepState.STOPPED:
            await context.sweeps.stop(sweep.id, sentence)
        elif verb == "cancel" and progress.state not in SWEEP_FINAL:
            await context.sweeps.cancel(sweep.id, sentence)
        elif verb == "resume":
            _check_resume(sweep, progress)
            await context.sweeps.resume(sweep.id, sentence)
        elif verb == "retry":
            if not progress.failed and not (progress.state in SWEEP_FINAL and progress.main_failed):
                raise refusal(f"no point of sweep {sweep.id} has failed for good", ExitCode.REFUSED)
            count = await context.sweeps.retry_failed(sweep.id, sentence)
    except SweepError as error:
        raise refusal(str(error), ExitCode.REFUSED) from None
    if verb in ("resume", "retry"):
        await context.store.write(lambda connection: sweeps.begin_anew(connection, sweep.id))
    return count


def _check_resume(sweep: Sweep, progress: Progress) -> None:
    if progress.state is SweepState.RUNNING:
        raise refusal(f"sweep {sweep.id} is running", ExitCode.REFUSED)
    if progress.state is SweepState.DONE:
        raise refusal(
            f"sweep {sweep.id} is done; `racksack sweep retry {sweep.id} --failed` runs its failed points again",
            ExitCode.REFUSED,
        )
