"""`/api/v1/jobs/ID/files`: what a job brought back, to look at and to keep. For its owner and operators."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from racksack_controller.core.state import Job
from racksack_controller.web.caller import forbidden, json_answer, number, refusal
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_controller.web.result_files import Listing, NoFileError, listing, open_file, read_part
from racksack_jobspecs.states import ExitCode

PART_BYTES_MAX = 1024**2
# Nothing else has a type of its own: a browser runs what is called a script, and a page of ours must not load one.
IMAGES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
ALONE = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "no-store"}

routes = web.RouteTableDef()


@routes.get("/api/v1/jobs/{id}/files")
async def files(request: web.Request) -> web.Response:
    """`{files: [{path, size}], is_all}`."""
    context = request.app[CONTEXT]
    found = await files_of(context, await _readable(request))
    return json_answer({"files": found.entries, "is_all": found.is_all})


async def files_of(context: Context, job: Job) -> Listing:
    """The files of a job's return folder."""
    return await context.files.run(listing, context.spool.returned(job.id))


@routes.get("/api/v1/jobs/{id}/files/{path:.+}")
async def file(request: web.Request) -> web.StreamResponse:
    """The file as a download; with `offset` or `limit` that part of it as text, with `image=1` as an image."""
    context, path = request.app[CONTEXT], request.match_info["path"]
    job = await _readable(request)
    root = context.spool.returned(job.id)
    try:
        if "offset" in request.query or "limit" in request.query:
            return await _part(request, context, root, path)
        opened = await context.files.run(open_file, root, path)
    except NoFileError:
        raise refusal(f"job {job.id} brought back no file {path[:200]!r}", ExitCode.NOT_FOUND) from None
    return await _send(request, context, opened, path)


async def _readable(request: web.Request) -> Job:
    context = request.app[CONTEXT]
    job = await context.job(job_id_of(request))
    if not context.may_read(request, job):
        raise forbidden(f"the results of job {job.id} are for {job.owner} and operators only")
    return job


async def _part(request: web.Request, context: Context, root: Path, path: str) -> web.Response:
    offset = int(number(request.query, "offset", 0))
    limit = int(max(1, min(number(request.query, "limit", PART_BYTES_MAX), PART_BYTES_MAX)))
    data, size = await context.files.run(read_part, root, path, offset, limit)
    headers = {**ALONE, "Racksack-Size": str(size)}
    return web.Response(body=data, content_type="text/plain", charset="utf-8", headers=headers)


async def _send(request: web.Request, context: Context, opened: int, path: str) -> web.StreamResponse:
    """Send an open file, a part at a time; it is closed."""
    try:
        image = IMAGES.get(path.rpartition(".")[2].lower()) if request.query.get("image") == "1" else None
        name = quote(path.rpartition("/")[2])
        headers = {**ALONE, "Content-Disposition": "inline" if image else f"attachment; filename*=UTF-8''{name}"}
        size = os.fstat(opened).st_size
        response = web.StreamResponse(headers={**headers, "Content-Type": image or "application/octet-stream"})
        response.content_length = size
        await response.prepare(request)
        sent = 0
        while sent < size and request.method != "HEAD":
            data = await context.files.run(os.pread, opened, min(PART_BYTES_MAX, size - sent), sent)
            if not data:
                break  # it has become shorter: the connection ends early, so nobody takes this for all
            await response.write(data)
            sent += len(data)
        await response.write_eof()
        return response
    finally:
        os.close(opened)
