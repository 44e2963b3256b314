"""`/api/v1/jobs/ID/checkpoints`: what jobs have saved to go on from."""

from __future__ import annotations

import msgspec
from aiohttp import web

from racksack_controller.acl import AclError, let_read, uid_to_open_to
from racksack_controller.core.state import Checkpoint, Job
from racksack_controller.web.caller import refusal
from racksack_controller.web.context import CONTEXT, Context
from racksack_controller.web.views import checkpoints_view
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ExitCode

routes = web.RouteTableDef()


@routes.get("/api/v1/jobs/{id}/checkpoints")
async def checkpoints(request: web.Request) -> web.Response:
    """Those on the controller, newest first; one on the node that is yet to come stands before them."""
    context = request.app[CONTEXT]
    job, _caller = await context.owned_job(request)
    attempt = context.state.current(job)
    return web.json_response(
        {
            "paths": list(job.spec.checkpoint),
            "every_s": job.spec.checkpoint_every_s,
            "checkpoints": checkpoints_view(job, attempt),
            "problem": attempt.pull.problem if attempt is not None else "",
        }
    )


@routes.post("/api/v1/jobs/{id}/checkpoint")
async def fetch(request: web.Request) -> web.Response:
    """The newest on the controller, opened to its owner: `{path, digest, files, bytes, ...}`."""
    context = request.app[CONTEXT]
    job, _caller = await context.owned_job(request)
    if not job.checkpoints:
        raise refusal(f"job {job.id} has no checkpoint on the controller{_hint(context, job)}", ExitCode.NOT_FOUND)
    newest = job.checkpoints[-1]
    try:
        await context.files.run(_open_to_owner, context.spool, job, newest)
    except (AclError, OSError) as error:
        raise refusal(f"the checkpoint of job {job.id} cannot be read: {error}", ExitCode.REFUSED) from None
    path = context.spool.checkpoint(job.id, newest.digest).relative_to(context.spool.root)
    return web.json_response({**msgspec.to_builtins(newest), "path": str(path)})


def _hint(context: Context, job: Job) -> str:
    """Why there is none."""
    if not job.spec.checkpoint:
        return "; submit it with --checkpoint PATH"
    attempt = context.state.current(job)
    return f": {attempt.pull.problem}" if attempt is not None and attempt.pull.problem else ""


def _open_to_owner(spool: Spool, job: Job, one: Checkpoint) -> None:
    """Runs in a thread. Raises AclError, OSError when it is gone."""
    path = spool.checkpoint(job.id, one.digest)
    path.stat()
    uid = uid_to_open_to(job.owner)
    if uid is not None:
        let_read(uid, [path.parent])
        let_read(uid, [path], recursive=True)
