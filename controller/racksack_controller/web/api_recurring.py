"""`/api/v1/recurring`: recurring jobs of users."""

from __future__ import annotations

from aiohttp import web

from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.intake.recurring_table import RecurringJob
from racksack_controller.web.caller import Caller, forbidden, refusal
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.views import View
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.states import ExitCode

routes = web.RouteTableDef()


def _known_caller(request: web.Request) -> tuple[Context, Caller]:
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if not caller.is_known:
        raise forbidden("recurring jobs are for known users: use the unix socket, or sign in")
    return context, caller


@routes.get("/api/v1/recurring")
async def list_recurring(request: web.Request) -> web.Response:
    """The caller's recurring jobs (operators: everybody's with `all=1`)."""
    context, caller = _known_caller(request)
    owner = None if caller.is_operator and request.query.get("all") == "1" else caller.name
    return web.json_response([_view(one) for one in await context.intake.recurring.all_of(owner)])


@routes.get("/api/v1/recurring/{id:[0-9]{1,15}}")
async def show(request: web.Request) -> web.Response:
    """One of them."""
    context, caller = _known_caller(request)
    return web.json_response(_view(await _own(request, context, caller)))


@routes.post("/api/v1/recurring/{id:[0-9]{1,15}}/{verb:pause|resume|remove|run}")
async def act(request: web.Request) -> web.Response:
    """Pause it, let it go on, remove it, or submit a run now; jobs that it has submitted go on."""
    context, caller = _known_caller(request)
    one = await _own(request, context, caller)
    try:
        found = await context.intake.recurring.act(one.id, request.match_info["verb"])
    except (JobFileError, IngestError) as error:
        raise refusal(f"recurring job {one.id}: {error}", ExitCode.REFUSED) from None
    except IngestPostponed as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None
    return web.json_response(_view(found or one))


async def _own(request: web.Request, context: Context, caller: Caller) -> RecurringJob:
    number = int(request.match_info["id"])
    one = await context.intake.recurring.by_id(number)
    if one is None or (one.owner != caller.name and not caller.is_operator):
        raise refusal(f"there is no recurring job {number}", ExitCode.NOT_FOUND)
    return one


def _view(one: RecurringJob) -> View:
    return {
        "id": one.id,
        "name": one.spec.name,
        "owner": one.owner,
        "cron": one.recurrence.cron,
        "zone": one.recurrence.zone,
        "overlap": one.recurrence.overlap,
        "is_paused": one.due_at_s is None,
        "due_at_s": one.due_at_s,
        "last_due_s": one.last_due_s,
        "last_jobs": list(one.last_jobs[:1]),
        "runs": one.runs,
        "left_out": one.left_out,
        "problem": one.problem,
    }
