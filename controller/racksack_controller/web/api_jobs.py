"""`/api/v1/jobs`: what jobs there are, and what their owners may do with them."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from racksack_controller.core import events as ev
from racksack_controller.core.records import attempt_key
from racksack_controller.core.state import Attempt, Job
from racksack_controller.core.why import why_job
from racksack_controller.energy.report import job_energy_view
from racksack_controller.energy.store import energy_of_job
from racksack_controller.intake.ingest import IngestError
from racksack_controller.leftovers import LeftoversError
from racksack_controller.nodes.errors import NodeError
from racksack_controller.returns import RANK_FOLDER, are_deleted, not_brought
from racksack_controller.store import attempts_of, jobs_where, story
from racksack_controller.web import list_query, sweep_jobs
from racksack_controller.web.caller import Caller, body_of, json_answer, number, refusal, text_of
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_controller.web.privacy import lines_for, public_spec
from racksack_controller.web.views import View, attempt_view, checkpoints_view
from racksack_jobspecs.states import ACTIVE, FINAL, WAITING, ExitCode, JobState

LIST_MAX = 10_000
PATTERNS_MAX = 100
PATTERN_CHARS_MAX = 1000
WAIT_S_MAX = 60.0

routes = web.RouteTableDef()


@routes.get("/api/v1/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """Jobs by state, owner, name and whether they were fetched; newest first."""
    context = request.app[CONTEXT]
    query, owner = request.query, _owner(request, context)
    states = _states(query["state"]) if "state" in query else None
    condition, values = list_query.condition(query, owner, states)
    conditions = f"{condition} AND {sweep_jobs.NO_RUNNERS}"
    limit = _limit(request)
    found = await context.store.read(lambda connection: jobs_where(connection, conditions, values, limit))
    current = [context.state.jobs.get(job.id, job) for job in found]
    sweeps = await sweep_jobs.listed(context, request, owner, limit)
    return json_answer(sweep_jobs.merged(await context.job_views(current, context.caller(request)), sweeps, limit))


def _owner(request: web.Request, context: Context) -> str | None:
    return list_query.owner_of(request.query, context.caller(request).name)


def _limit(request: web.Request) -> int:
    return int(min(max(1, number(request.query, "limit", 1000)), LIST_MAX))


def _states(text: str) -> list[str]:
    states = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [state for state in states if state not in set(JobState)]
    if unknown or not states:
        raise refusal(f"state {', '.join(unknown)!r} is unknown; use {', '.join(JobState)}", ExitCode.USAGE)
    return states


@routes.get("/api/v1/history")
async def history(request: web.Request) -> web.Response:
    """Finished jobs since a time, newest first."""
    context = request.app[CONTEXT]
    since, limit = number(request.query, "since_s", 0), _limit(request)
    condition, values = f"ended_at_s >= ? AND {sweep_jobs.NO_RUNNERS}", [since]
    owner = _owner(request, context)
    if owner is not None:
        found = await context.store.read(
            lambda connection: jobs_where(connection, f"{condition} AND owner = ?", [*values, owner], limit)
        )
    else:
        found = await context.store.read(lambda connection: jobs_where(connection, condition, values, limit))
    sweeps = await sweep_jobs.ended_since(context, since, owner, limit, context.caller(request))
    return json_answer(sweep_jobs.merged(await context.job_views(found, context.caller(request)), sweeps, limit))


@routes.get("/api/v1/jobs/{id}")
@sweep_jobs.for_sweep(sweep_jobs.show)
async def show_job(request: web.Request) -> web.Response:
    """One job whole; with `wait_s` and `seen`, when its state is no longer the seen one."""
    context, job_id = request.app[CONTEXT], job_id_of(request)
    job = await context.job(job_id)
    seen = request.query.get("seen")
    wait_s = min(number(request.query, "wait_s", 0), WAIT_S_MAX)
    if wait_s > 0 and seen == job.state:

        def moved() -> bool | None:
            current = context.state.jobs.get(job_id)
            return True if current is None or current.state != seen else None

        await context.news.until(moved, wait_s)
        job = await context.job(job_id)
    return web.json_response(await job_story(context, job, context.caller(request)))


async def job_story(context: Context, job: Job, caller: Caller) -> View:
    """A job with its spec, attempts and story; its environment only for those who may read it."""
    [view] = await context.job_views([job], caller)
    private = caller.owns(job)
    attempts = await context.store.read(lambda connection: attempts_of(connection, job.id))
    lines = await context.store.read(lambda connection: story(connection, job=job.id))
    current = [context.state.attempts.get(attempt.key, attempt) for attempt in attempts]
    return {
        **view,
        "spec": msgspec.to_builtins(job.spec) if private else public_spec(job.spec),
        "attempts": lines_for(caller, [attempt_view(attempt) for attempt in current], context.hidden),
        "events": lines_for(
            caller,
            [{"at_s": line.at_s, "sentence": line.sentence, "node": line.node} for line in lines],
            context.hidden,
        ),
        "outputs": not_brought([(one.rank, one.ending) for one in current if one.number == job.attempt])
        if private
        else None,
        "checkpoint": next(iter(checkpoints_view(job, context.state.current(job))), None) if private else None,
        "energy": await _energy(context, job),
        "results_deleted": await context.files.run(are_deleted, context.spool, job),
    }


async def _energy(context: Context, job: Job) -> View:
    """What the job used so far; figures are None where no node's energy was metered."""
    used = context.power.meter.of_job(job.id)
    if used is None:
        used = await context.store.read(lambda connection: energy_of_job(connection, job.id))
    return job_energy_view(used, context.loop.power_policy.price_per_kwh)


@routes.get("/api/v1/jobs/{id}/why")
@sweep_jobs.for_sweep(sweep_jobs.why)
async def why(request: web.Request) -> web.Response:
    """Why the job is where it is."""
    context = request.app[CONTEXT]
    job = await context.job(job_id_of(request))
    sentence = job.reason if job.state in FINAL else why_job(context.loop.reading(), job)
    [line] = lines_for(context.caller(request), [{"sentence": sentence or str(job.state)}], context.hidden)
    return web.json_response({**line, "state": str(job.state)})


@routes.post("/api/v1/jobs/{id}/cancel")
@sweep_jobs.for_sweep(sweep_jobs.cancel)
async def cancel(request: web.Request) -> web.Response:
    """End a job; with `results: false` what it wrote is not fetched. Cancelling a finished job changes nothing."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    body = await body_of(request)
    grace_s = body.get("grace_s")
    if grace_s is not None and (not isinstance(grace_s, int | float) or not 0 <= grace_s <= 3600):
        raise refusal("grace_s is not a number of seconds from 0 to 3600", ExitCode.USAGE)
    name = _signal_of(body, "TERM")
    reason = text_of(body, "reason", "")
    sentence = f"cancelled by {caller.name}" + (f": {reason}" if reason else "")
    if job.state not in FINAL:
        discard = body.get("results") is False
        await context.loop.submit(
            ev.CancelRequested(job.id, sentence, None if grace_s is None else float(grace_s), name, discard)
        )
    return await _answer(context, request, job.id)


@routes.post("/api/v1/jobs/{id}/signal")
async def send_signal(request: web.Request) -> web.Response:
    """Send a signal to the program of a running job, of a gang to each rank; it does not end the job by itself."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    name = _signal_of(await body_of(request), "USR1")
    current = context.state.current(job)
    if current is None or job.state is not JobState.RUNNING:
        raise refusal(f"job {job.id} is {job.state}; only a running one can be signalled", ExitCode.REFUSED)
    try:
        for rank in context.state.ranks(current):
            await context.nodes[rank.node].signal(rank.key, name)
    except NodeError as error:
        raise refusal(f"job {job.id} was not signalled: {error}", ExitCode.REFUSED) from None
    await context.loop.submit(ev.Signalled(job.id, f"SIG{name} was sent to its program by {caller.name}"))
    return await _answer(context, request, job.id)


def _signal_of(body: Mapping[str, object], otherwise: str) -> str:
    """The name of the signal in a request, without SIG."""
    name = text_of(body, "signal", otherwise).upper().removeprefix("SIG")
    if f"SIG{name}" not in signal.Signals.__members__:
        raise refusal(f"{name} is not the name of a signal; use TERM, INT, HUP, USR1 or KILL", ExitCode.USAGE)
    return name


@routes.post("/api/v1/jobs/{id}/hold")
@sweep_jobs.for_sweep(sweep_jobs.hold)
async def hold(request: web.Request) -> web.Response:
    """Keep a queued job from starting."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    if job.state not in WAITING:
        raise refusal(f"job {job.id} is {job.state}; only a queued job can be held", ExitCode.REFUSED)
    await context.loop.submit(ev.HoldRequested(job.id, f"held by {caller.name}"))
    return await _answer(context, request, job.id)


@routes.post("/api/v1/jobs/{id}/release")
@sweep_jobs.for_sweep(sweep_jobs.release)
async def release(request: web.Request) -> web.Response:
    """Let a held job start."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    if job.state is not JobState.HELD:
        raise refusal(f"job {job.id} is {job.state}, not held", ExitCode.REFUSED)
    await context.loop.submit(ev.ReleaseRequested(job.id, caller.name))
    return await _answer(context, request, job.id)


@routes.post("/api/v1/jobs/{id}/retry")
@sweep_jobs.for_sweep(sweep_jobs.retry)
async def retry(request: web.Request) -> web.Response:
    """Run a finished job again, as a new attempt; with `from_checkpoint` it goes on from what it saved."""
    context = request.app[CONTEXT]
    job, caller = await context.owned_job(request)
    if job.state not in FINAL:
        raise refusal(f"job {job.id} is {job.state}; only a finished job can be run again", ExitCode.REFUSED)
    from_checkpoint = (await body_of(request)).get("from_checkpoint") is True
    if from_checkpoint and not job.checkpoints:
        raise refusal(
            f"job {job.id} has no checkpoint; without --from-checkpoint it starts from the beginning", ExitCode.REFUSED
        )
    try:
        await context.intake.keep_project(job)
        await context.loop.submit(ev.RetryRequested(job.id, from_checkpoint=from_checkpoint, by=caller.name))
    except (ev.RefusedError, IngestError) as error:
        raise refusal(str(error), ExitCode.REFUSED) from None
    return await _answer(context, request, job.id)


@routes.post("/api/v1/jobs/{id}/fetched")
@sweep_jobs.for_sweep(sweep_jobs.fetched)
async def fetched(request: web.Request) -> web.Response:
    """The owner has the results; with `delete` the controller's copy goes."""
    context = request.app[CONTEXT]
    job, _caller = await context.owned_job(request)
    if job.state not in FINAL:
        raise refusal(f"job {job.id} is {job.state}; its results are incomplete", ExitCode.REFUSED)
    body = await body_of(request)
    try:
        await context.intake.mark_fetched(job, delete=body.get("delete") is True)
    except ev.RefusedError as error:
        raise refusal(str(error), ExitCode.REFUSED) from None
    return await _answer(context, request, job.id)


@routes.post("/api/v1/jobs/{id}/bring")
async def bring(request: web.Request) -> web.Response:
    """Bring files that had stayed on the job's node into its return folder; `{under_way}` means to ask again."""
    context = request.app[CONTEXT]
    job, _caller = await context.owned_job(request)
    patterns = _patterns_of(await body_of(request))
    if job.state not in FINAL:
        raise refusal(f"job {job.id} is {job.state}; what it leaves can be fetched when it has ended", ExitCode.REFUSED)
    attempts = await context.store.read(lambda connection: attempts_of(connection, job.id))
    latest = [one for one in attempts if one.number == job.attempt and one.ending and one.ending.left_files]
    if not latest:
        raise refusal(f"job {job.id} left nothing on its node", ExitCode.NOT_FOUND)
    try:
        found = [
            await context.leftovers.bring(job, one, wanted) for one in latest if (wanted := _of_rank(one, patterns))
        ]
    except LeftoversError as error:
        raise refusal(str(error), ExitCode.REFUSED) from None
    brought = [one for one in found if one is not None]
    return web.json_response(
        {
            "under_way": len(brought) < len(found),
            "files": sum(one.files for one in brought),
            "bytes": sum(one.bytes for one in brought),
            "missing": [sentence for one in brought for sentence in one.missing],
        }
    )


def _of_rank(attempt: Attempt, patterns: Sequence[str]) -> list[str]:
    """The patterns that mean files of this rank: those of rank 3 begin with `rank-3/`."""
    if attempt.rank == 0:
        return [pattern for pattern in patterns if not RANK_FOLDER.fullmatch(pattern.partition("/")[0])]
    return [pattern.partition("/")[2] for pattern in patterns if pattern.partition("/")[0] == f"rank-{attempt.rank}"]


def _patterns_of(body: Mapping[str, object]) -> list[str]:
    """The patterns of a request, in the words of a job file's `outputs`."""
    patterns = body.get("patterns")
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise refusal("patterns is not a list of patterns such as figures/*", ExitCode.USAGE)
    if len(patterns) > PATTERNS_MAX or any(len(one) > PATTERN_CHARS_MAX for one in patterns):
        raise refusal(f"these are more than {PATTERNS_MAX} patterns, or one is too long", ExitCode.USAGE)
    return patterns


@routes.get("/api/v1/jobs/{id}/attach")
async def attach(request: web.Request) -> web.Response:
    """What to run on the controller's host to enter the job's terminal, only see it (`view=1`), or have a shell."""
    context = request.app[CONTEXT]
    job, _caller = await context.owned_job(request)
    attempt = context.state.current(job)
    if attempt is None or job.state not in ACTIVE:
        raise refusal(f"job {job.id} is {job.state}; only a job on a node can be attached to", ExitCode.REFUSED)
    rank = int(number(request.query, "rank", 0))
    if rank >= attempt.ranks:
        raise refusal(f"job {job.id} has no rank {rank}; its last one is {attempt.ranks - 1}", ExitCode.NOT_FOUND)
    attempt = context.state.attempts[attempt_key(job.id, attempt.number, rank)]
    node = context.nodes[attempt.node]
    shell, view = request.query.get("shell") == "1", request.query.get("view") == "1"
    try:
        argv = await node.attach(attempt.key, "shell" if shell else "view" if view else "session")
    except NodeError as error:
        raise refusal(f"job {job.id} cannot be attached to: {error}", ExitCode.REFUSED) from None
    if not argv:
        raise refusal(
            f"{attempt.node} has screen, which cannot show a terminal read-only; use `racksack logs -f {job.id}`",
            ExitCode.REFUSED,
        )
    hint = "leave the shell with exit" if shell else f"leave with {_DETACH[_is_screen(argv)]}; the job goes on"
    return web.json_response({"argv": argv, "hint": hint})


_DETACH = {True: "Ctrl-a d", False: "Ctrl-b d"}


def _is_screen(argv: list[str]) -> bool:
    """Whether an attach command uses screen, whose keys differ from tmux's."""
    return any(word.split("/")[-1].startswith("screen") for text in argv for word in text.split())


async def _answer(context: Context, request: web.Request, job_id: int) -> web.Response:
    [view] = await context.job_views([await context.job(job_id)], context.caller(request))
    return web.json_response(view)
