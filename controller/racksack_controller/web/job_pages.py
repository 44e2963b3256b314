"""The page of a job, and those of the files that it brought back."""

from __future__ import annotations

import csv
import io
import time
from typing import Any

from aiohttp import web

from racksack_controller.core.advice import advise
from racksack_controller.core.state import Job
from racksack_controller.web.api_files import IMAGES, files_of
from racksack_controller.web.api_jobs import job_story
from racksack_controller.web.api_logs import Which, read_log
from racksack_controller.web.context import CONTEXT, Context, job_id_of
from racksack_controller.web.log_text import plain_log
from racksack_controller.web.rendering import not_found, problem_page, show
from racksack_controller.web.result_files import NoFileError, read_part
from racksack_controller.web.stages import stages
from racksack_controller.web.sweeps import find

LOG_TAIL_BYTES = 32 * 1024
FILES_SHOWN = 200
TEXT_BYTES = 256 * 1024
ROWS_MAX, COLUMNS_MAX = 200, 50
_LOGS = ("stdout", "stderr")

routes = web.RouteTableDef()


@routes.get("/jobs/{id}")
async def job(request: web.Request) -> web.Response:
    """One job: what can be done, its stages, attempts, logs, files and story; `attempt` chooses whose logs."""
    context = request.app[CONTEXT]
    try:
        if await find(context, job_id_of(request)) is not None:
            raise web.HTTPSeeOther(f"/sweeps/{job_id_of(request)}")
        found = await context.job(job_id_of(request))
    except web.HTTPNotFound:
        return not_found(request, f"There is no job {request.match_info['id'][:40]}.")
    values: dict[str, Any] = {"logs": None, "files": None, "advice": [], "chosen": None, "rank": 0}
    values["job"] = await job_story(context, found, context.caller(request))
    values["stages"] = stages(values["job"], time.time())
    if context.may_read(request, found):
        values["chosen"] = _number(request, "attempt", 1, found.attempt)
        values["rank"] = _number(request, "rank", 0, found.spec.gang - 1) or 0
        which = [Which(stream, values["chosen"], values["rank"]) for stream in _LOGS]
        values["logs"] = [(one.stream, await _tail(context, found, one)) for one in which]
        values["files"] = await files_of(context, found)
        values["advice"] = list(advise(context.state.history, found.owner, found.spec))
    return show(request, "job", {**values, "files_shown": FILES_SHOWN})


def _number(request: web.Request, key: str, least: int, most: int) -> int | None:
    """A whole number of the address, if it is one that there is."""
    text = request.query.get(key, "")
    is_one = text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most
    return int(text) if is_one else None


async def _tail(context: Context, found: Job, which: Which) -> str:
    """The end of a log for those without JavaScript."""
    try:
        data, _after, _ended = await read_log(context, found, which, -LOG_TAIL_BYTES, LOG_TAIL_BYTES)
    except web.HTTPConflict:
        return "(on a node that does not answer now)"
    return plain_log(data.decode(errors="replace"))


@routes.get("/jobs/{id}/files/{path:.+}")
async def file(request: web.Request) -> web.Response:
    """A file of the results: an image, the first rows of a table, or the beginning of a text."""
    context, path = request.app[CONTEXT], request.match_info["path"]
    try:
        found = await context.job(job_id_of(request))
    except (web.HTTPNotFound, web.HTTPConflict):
        return not_found(request, f"There is no job {request.match_info['id'][:40]}.")
    if not context.may_read(request, found):
        return problem_page(request, f"The results of job {found.id} are for {found.owner} and operators only.", 403)
    try:
        data, size = await context.files.run(read_part, context.spool.returned(found.id), path, 0, TEXT_BYTES)
    except NoFileError:
        return not_found(request, f"Job {found.id} brought back no file {path[:200]}.")
    kind, text, rows = await context.files.run(_looked_at, path, data)
    values = {"job": found.id, "path": path, "size": size, "kind": kind, "text": text, "rows": rows}
    return show(request, "file", {**values, "is_all": size <= TEXT_BYTES, "rows_max": ROWS_MAX})


def _looked_at(path: str, data: bytes) -> tuple[str, str, list[list[str]]]:
    """(image, table, text or binary; the text; the rows) of the beginning of a file."""
    ending = path.rpartition(".")[2].lower()
    if ending in IMAGES:
        return "image", "", []
    if b"\0" in data[:8192]:
        return "binary", "", []
    text = data.decode(errors="replace")
    if ending in ("csv", "tsv"):
        rows = _rows(text, "\t" if ending == "tsv" else ",")
        if rows:
            return "table", "", rows
    return "text", plain_log(text), []


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows of a table; none where it is not one."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            rows.append([cell[:200] for cell in row[:COLUMNS_MAX]])
            if len(rows) > ROWS_MAX:
                break
    except csv.Error:
        return []
    return rows
