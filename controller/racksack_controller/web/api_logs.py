"""`/api/v1/jobs/ID/logs/STREAM`: the log of a job, from its node while it runs, else from the return folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from racksack_controller.core.records import attempt_key
from racksack_controller.core.state import Attempt, Job
from racksack_controller.nodes.errors import AgentError, NodeError
from racksack_controller.returns import are_deleted, ready_rank
from racksack_controller.web.caller import forbidden, number, refusal
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ACTIVE, FINAL, WAITING, ExitCode

STREAMS = ("stdout", "stderr", "env", "times")
CHUNK_BYTES_MAX = 1024**2
FIND_BYTES_MAX = 200
FIND_CHUNKS = 16  # that one request looks through
POLL_S = 0.25  # a running job's log is on its node, which does not announce each line

routes = web.RouteTableDef()


class Which(NamedTuple):
    """One of a job's logs. `attempt` None: the latest."""

    stream: str
    attempt: int | None
    rank: int = 0


@routes.get("/api/v1/jobs/{id}/logs/{stream}")
async def logs(request: web.Request) -> web.Response:
    """Bytes from `offset`. Racksack-Offset is where to go on, Racksack-Ended says that no more will come."""
    context = request.app[CONTEXT]
    job, which = await _asked_for(request)
    offset = int(number(request.query, "offset", 0))
    limit = max(1, int(min(number(request.query, "limit", CHUNK_BYTES_MAX), CHUNK_BYTES_MAX)))
    wait_s = min(number(request.query, "wait_s", 0), 60.0)
    data, after, ended = await _until_something(context, job, which, offset, limit, wait_s)
    headers = {"Racksack-Offset": str(after), "Racksack-Ended": str(int(ended)), "X-Content-Type-Options": "nosniff"}
    return web.Response(body=data, headers=headers, content_type="text/plain", charset="utf-8")


@routes.get("/api/v1/jobs/{id}/logs/{stream}/find")
async def find(request: web.Request) -> web.Response:
    """Where `text` comes next from `offset` on, case ignored: `{at, next, ended}`; `at` null: ask again from `next`."""
    context = request.app[CONTEXT]
    job, which = await _asked_for(request)
    wanted = request.query.get("text", "").encode(errors="replace").lower()
    if not 0 < len(wanted) <= FIND_BYTES_MAX:
        raise refusal(f"text is empty, or longer than {FIND_BYTES_MAX} bytes", ExitCode.USAGE)
    offset = seen = max(0, int(number(request.query, "offset", 0)))
    for _ in range(FIND_CHUNKS):
        data, after, ended = await read_log(context, job, which, offset, CHUNK_BYTES_MAX)
        place = (await context.files.run(data.lower)).find(wanted)
        if place >= 0:
            return web.json_response({"at": after - len(data) + place, "next": after, "ended": ended})
        if after <= seen:
            return web.json_response({"at": None, "next": after, "ended": True})
        seen, offset = after, max(0, after - len(wanted) + 1)  # it may lie across two parts
    return web.json_response({"at": None, "next": offset, "ended": False})


async def _asked_for(request: web.Request) -> tuple[Job, Which]:
    """The log of the address, for a caller who may read it; a refusal where there is none."""
    context = request.app[CONTEXT]
    job = await context.job(job_id_of(request))
    if not context.may_read(request, job):
        raise forbidden(f"the logs of job {job.id} are for {job.owner} and operators only")
    stream = request.match_info["stream"]
    if stream not in STREAMS:
        raise refusal(f"{stream!r} is not a log; there are {', '.join(STREAMS)}", ExitCode.NOT_FOUND)
    which = Which(stream, int(number(request.query, "attempt", 0)) or None, int(number(request.query, "rank", 0)))
    if which.rank and which.rank >= job.spec.gang:
        raise refusal(f"job {job.id} has no rank {which.rank}; its last one is {job.spec.gang - 1}", ExitCode.NOT_FOUND)
    if which.attempt is not None and which.attempt > job.attempt:
        last = f"its last one is {job.attempt}" if job.attempt else "it was not started yet"
        raise refusal(f"job {job.id} has no attempt {which.attempt}; {last}", ExitCode.NOT_FOUND)
    if await context.files.run(are_deleted, context.spool, job):
        raise refusal(f"the logs of job {job.id} were deleted after its results were fetched", ExitCode.NOT_FOUND)
    return job, which


async def _until_something(
    context: Context, job: Job, which: Which, offset: int, limit: int, wait_s: float
) -> tuple[bytes, int, bool]:
    waited = 0.0
    while True:
        job = await context.job(job.id)
        data, after, ended = await read_log(context, job, which, offset, limit)
        if data or ended or waited >= wait_s:
            return data, after, ended
        await context.news.until(lambda: None, POLL_S)
        waited += POLL_S


async def read_log(context: Context, job: Job, which: Which, offset: int, limit: int) -> tuple[bytes, int, bool]:
    """(bytes, next offset, whether no more will come) of a job's log. Code 4 when its node cannot be asked now."""
    current = _current(context, job, which)
    if current is None:
        return await context.files.run(_stored, context.spool, job, which, offset, limit)
    if current.collected:  # the other ranks of its gang are not over yet
        path = ready_rank(context.spool, current.key) / f"{which.stream}.log"
        return *await context.files.run(_from_folder, path, offset, limit), False
    if not current.launched:
        return b"", max(offset, 0), False
    try:
        chunk = await context.nodes[current.node].tail(current.key, which.stream, offset, limit)
    except AgentError:
        return b"", max(offset, 0), False  # it is being collected: the next call finds the folder
    except (NodeError, KeyError) as error:
        sentence = f"the log of job {job.id} is on {current.node}, which does not answer: {error}"
        raise refusal(sentence, ExitCode.UNREACHABLE) from None
    return chunk.data, chunk.offset + len(chunk.data), False


def _current(context: Context, job: Job, which: Which) -> Attempt | None:
    """The attempt (of a gang: the rank) whose log is not in a return folder yet."""
    current = context.state.current(job)
    if current is None or job.state not in ACTIVE or which.attempt not in (None, current.number):
        return None
    return context.state.attempts.get(attempt_key(job.id, current.number, which.rank))


def _stored(spool: Spool, job: Job, which: Which, offset: int, limit: int) -> tuple[bytes, int, bool]:
    """A log from the return folder, if there is one yet. Runs in a thread."""
    if job.state in WAITING and which.attempt is None and not spool.returned(job.id).exists():
        return b"", max(offset, 0), False
    data, after = _from_folder(_folder(spool, job, which) / f"{which.stream}.log", offset, limit)
    return data, after, len(data) < limit


def _folder(spool: Spool, job: Job, which: Which) -> Path:
    final = spool.returned(job.id)
    folder = final
    if which.attempt is not None:
        earlier = final / "attempts" / str(which.attempt)
        # Until a later attempt has come back, the folder is that of the one before it.
        is_earlier = which.attempt != job.attempt and job.state in FINAL
        folder = earlier if is_earlier or earlier.is_dir() else final
    return folder / f"rank-{which.rank}" if which.rank else folder


def _from_folder(path: Path, offset: int, limit: int) -> tuple[bytes, int]:
    """Read a log that is complete; none is empty. It may not be a link: the folder's contents came from the job."""
    if path.is_symlink() or not path.is_file():
        return b"", max(offset, 0)
    with path.open("rb") as file:
        size = path.stat().st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        file.seek(start)
        data = file.read(limit)
    return data, start + len(data)
