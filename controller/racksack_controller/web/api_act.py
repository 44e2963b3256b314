"""`POST /api/v1/jobs/act`: one thing done to many jobs; `POST /api/v1/jobs/ID/resubmit`: a job again with changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from racksack_controller.core import events as ev
from racksack_controller.core.state import Job
from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.web.caller import Caller, body_of, forbidden, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import FINAL, WAITING, ExitCode, JobState
from racksack_jobspecs.units import parse_cpus, parse_duration, parse_memory
from racksack_jobspecs.write import job_file

IDS_MAX = 10_000
TOGETHER = 300  # in one transaction; others have their turn between two of them
REFUSED_SHOWN = 20
PRIORITY_MAX = 1000
ACTS = ("cancel", "hold", "release", "priority", "retry")

routes = web.RouteTableDef()


@routes.post("/api/v1/jobs/act")
async def act(request: web.Request) -> web.Response:
    """`act` is done to the jobs with these `ids` and of these `arrays`; to how many, and why not to the others."""
    context, body = request.app[CONTEXT], await body_of(request)
    caller, verb = context.caller(request), text_of(body, "act", "")
    if verb not in ACTS:
        raise refusal(f"act {verb[:40]!r} is unknown; use {', '.join(ACTS)}", ExitCode.USAGE)
    jobs, refused = await _jobs_of(context, caller, verb, body)
    event_of = _maker(caller, verb, body)
    ready: list[tuple[Job, ev.Event]] = []
    for job in jobs:
        problem = _objection(caller, job, verb) or (await _kept(context, job) if verb == "retry" else None)
        if problem is None:
            ready.append((job, event_of(job)))
        else:
            refused.append({"id": job.id, "sentence": problem})
    done = await _submitted(context, ready, refused)
    answer = {"act": verb, "done": done, "refused": len(refused), "why": refused[:REFUSED_SHOWN]}
    return web.json_response(answer)


async def _submitted(context: Context, events: list[tuple[Job, ev.Event]], refused: list[dict[str, object]]) -> int:
    """Have the events applied, in parts; to how many jobs that was done. Raises StoreError."""
    done = 0
    for first in range(0, len(events), TOGETHER):
        part = events[first : first + TOGETHER]
        outcomes = await asyncio.gather(*(context.loop.submit(event) for _, event in part), return_exceptions=True)
        for (job, _), outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, ev.RefusedError):
                refused.append({"id": job.id, "sentence": str(outcome)})
            elif outcome is not None:
                raise outcome
            else:
                done += 1
    return done


async def _jobs_of(
    context: Context, caller: Caller, verb: str, body: Mapping[str, object]
) -> tuple[list[Job], list[dict[str, object]]]:
    """The jobs that are meant, those that wait before those that run; and ids that are of none."""
    ids, arrays = _ids(body, "ids"), set(_ids(body, "arrays"))
    found: dict[int, Job] = {}
    refused: list[dict[str, object]] = []
    for one in ids:
        try:
            found[one] = await context.job(one)
        except (web.HTTPNotFound, web.HTTPConflict):
            refused.append({"id": one, "sentence": f"there is no job {one}"})
    if arrays:
        wanted = (JobState.HELD,) if verb == "release" else WAITING
        for job in context.state.jobs.values():
            if job.array_id in arrays and job.state in wanted and caller.owns(job):
                found[job.id] = job
    jobs = sorted(found.values(), key=lambda job: (job.state not in WAITING, -job.id if verb == "cancel" else job.id))
    return jobs, refused


def _ids(body: Mapping[str, object], key: str) -> list[int]:
    ids = body.get(key, [])
    if not isinstance(ids, list) or len(ids) > IDS_MAX or not all(type(one) is int and 0 < one < 2**53 for one in ids):
        raise refusal(f"{key} is not a list of at most {IDS_MAX} ids of jobs", ExitCode.USAGE)
    return list(dict.fromkeys(ids))


def _objection(caller: Caller, job: Job, verb: str) -> str | None:
    """Why this is not done to a job, None where it can be."""
    if not caller.owns(job):
        return f"job {job.id} belongs to {job.owner}; only its owner or an operator may do this"
    if job.spec.runner_of is not None:
        return f"job {job.id} is a runner of sweep {job.spec.runner_of}; act on the sweep"
    if verb in ("hold", "priority") and job.state not in WAITING:
        return f"job {job.id} is {job.state}; this can be done while it waits"
    if verb == "release" and job.state is not JobState.HELD:
        return f"job {job.id} is {job.state}, not held"
    if verb == "retry" and job.state not in FINAL:
        return f"job {job.id} is {job.state}; only a finished job can be run again"
    if verb == "cancel" and job.state in FINAL:
        return f"job {job.id} is over: {job.state}"
    return None


async def _kept(context: Context, job: Job) -> str | None:
    """Have the project of a job that is to run again kept; why that cannot be."""
    try:
        await context.intake.keep_project(job)
    except IngestError as error:
        return f"job {job.id}: {error}"
    return None


def _maker(caller: Caller, verb: str, body: Mapping[str, object]) -> Callable[[Job], ev.Event]:
    """What makes the event for a job. Raises a refusal where the request lacks something."""
    reason = text_of(body, "reason", "")
    why = f": {reason}" if reason else ""
    if verb == "priority":
        priority = _priority(body)
        return lambda job: ev.PriorityRequested(job.id, priority, caller.name)
    discard = body.get("results") is False
    makers: dict[str, Callable[[Job], ev.Event]] = {
        "cancel": lambda job: ev.CancelRequested(job.id, f"cancelled by {caller.name}{why}", discard=discard),
        "hold": lambda job: ev.HoldRequested(job.id, f"held by {caller.name}{why}"),
        "release": lambda job: ev.ReleaseRequested(job.id, caller.name),
        "retry": lambda job: ev.RetryRequested(job.id, by=caller.name),
    }
    return makers[verb]


def _priority(body: Mapping[str, object]) -> int:
    value = body.get("priority")
    if type(value) is not int or not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise refusal(f"priority is not a whole number from {-PRIORITY_MAX} to {PRIORITY_MAX}", ExitCode.USAGE)
    return value


@routes.post("/api/v1/jobs/{id}/resubmit")
async def resubmit(request: web.Request) -> web.Response:
    """A new job of the same content with other `cpus`, `ram`, `gpus`, `time_limit` or `priority`; its id."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    body = await body_of(request)
    if caller.uid is None:
        raise forbidden("not signed in")
    if job.state not in FINAL:
        raise refusal(f"job {job.id} is {job.state}; only a finished job can be run again", ExitCode.REFUSED)
    if job.array_index is not None or job.spec.runner_of is not None:
        sentence = f"job {job.id} is one of many; it can be run again as it was, or submitted again"
        raise refusal(sentence, ExitCode.REFUSED)
    try:
        text = job_file(_changed(job, body))
        [new] = await context.intake.take_job(text, caller.name, caller.uid)
    except JobFileError as error:
        raise refusal("; ".join(map(str, error.problems)), ExitCode.USAGE) from None
    except IngestError as error:
        raise refusal(f"project: {error}", ExitCode.REFUSED) from None
    except IngestPostponed as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None
    return web.json_response({"id": new, "of": job.id}, status=201)


def _changed(job: Job, body: Mapping[str, Any]) -> JobSpec:
    """The spec of a job with what a request changes. What it waited for is over."""
    spec, resources = job.spec, job.spec.resources
    try:
        if "cpus" in body:
            resources = msgspec.structs.replace(resources, cpus=parse_cpus(body["cpus"]))
        if "ram" in body:
            resources = msgspec.structs.replace(resources, ram_bytes=parse_memory(body["ram"]))
        if "gpus" in body:
            resources = msgspec.structs.replace(resources, gpus=_gpus(resources.gpus, body["gpus"]))
        if "time_limit" in body:
            limit_s = parse_duration(body["time_limit"]) if body["time_limit"] else None
            spec = msgspec.structs.replace(spec, time_limit_s=limit_s)
    except ValueError as error:
        raise refusal(str(error), ExitCode.USAGE) from None
    return msgspec.structs.replace(
        spec,
        resources=resources,
        priority=_priority(body) if "priority" in body else spec.priority,
        project=f"snapshot:{job.snapshot}",
        submission=f"http-{secrets.token_hex(12)}",
        after=(),
        hold=False,
        begin_at_s=None,
    )


def _gpus(asked: GpuRequest | None, text: object) -> GpuRequest | None:
    """The same kind of GPUs, so many of them."""
    count = 0.0 if str(text).strip() in ("", "0") else parse_cpus(text)
    if not count:
        return None
    return GpuRequest(count=count) if asked is None else msgspec.structs.replace(asked, count=count)
