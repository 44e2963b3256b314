"""`POST /api/v1/cancel`: many jobs in one request, those that wait before those that run."""

from __future__ import annotations

from aiohttp import web

from racksack_controller.core import events as ev
from racksack_controller.web.caller import body_of, refusal, text_of
from racksack_controller.web.context import CONTEXT
from racksack_jobspecs.states import FINAL, WAITING, ExitCode

IDS_MAX = 100_000
TOGETHER = 300  # in one transaction; others have their turn between two of them

routes = web.RouteTableDef()


@routes.post("/api/v1/cancel")
async def cancel_many(request: web.Request) -> web.Response:
    """Cancel the caller's jobs with these `ids`; those that are over, another's, or none are left alone."""
    context = request.app[CONTEXT]
    caller, body = context.caller(request), await body_of(request)
    ids = body.get("ids")
    if not isinstance(ids, list) or len(ids) > IDS_MAX or not all(type(one) is int for one in ids):
        raise refusal(f"ids is not a list of at most {IDS_MAX} job ids", ExitCode.USAGE)
    reason = text_of(body, "reason", "")
    sentence = f"cancelled by {caller.name}" + (f": {reason}" if reason else "")
    jobs = [job for one in dict.fromkeys(ids) if (job := context.state.jobs.get(one)) is not None]
    mine = [job for job in jobs if caller.owns(job) and job.state not in FINAL and job.spec.runner_of is None]
    mine.sort(key=lambda job: (job.state not in WAITING, -job.id))  # else those that wait would start meanwhile
    events = [ev.CancelRequested(job.id, sentence, discard=body.get("results") is False) for job in mine]
    for first in range(0, len(events), TOGETHER):
        await context.loop.submit_all(events[first : first + TOGETHER])
    return web.json_response({"cancelled": sorted(job.id for job in mine)})
