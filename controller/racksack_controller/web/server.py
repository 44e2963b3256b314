"""The two doors of the HTTP server: a unix socket for clients, and a TCP address for the status page.

Over the latter nobody is known but by a token or a session; see doors.py for what either may do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

from aiohttp import web

from racksack_controller.store import StoreError
from racksack_controller.web import (
    api_act,
    api_cancel,
    api_checkpoints,
    api_controller,
    api_data,
    api_doctor,
    api_files,
    api_jobs,
    api_logs,
    api_power,
    api_recurring,
    api_sweeps,
    api_usage,
    assets,
    job_pages,
    metrics,
    pages,
    signing_in,
    sweep_pages,
    sweep_report,
)
from racksack_controller.web.connections import BoundedRunner, watch_request
from racksack_controller.web.context import CONTEXT, Context, Handler
from racksack_controller.web.doors import Names, add_security_headers, error_response, guard
from racksack_controller.web.rendering import problem_page
from racksack_jobspecs.states import ExitCode

log = logging.getLogger("racksack.web")

BODY_BYTES_MAX = 2 * 1024**2
_CODES = {404: ExitCode.NOT_FOUND, 400: ExitCode.USAGE, 413: ExitCode.USAGE}


def build_app(context: Context, names: Names) -> web.Application:
    """The application of either door."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[watch_request, _one_sentence, guard(names)])
    app[CONTEXT] = context
    for module in (
        api_act,
        api_cancel,
        api_jobs,
        api_sweeps,
        api_logs,
        api_power,
        api_usage,
        api_controller,
        api_checkpoints,
        api_data,
        api_recurring,
        api_doctor,
        pages,
        job_pages,
        api_files,
        sweep_pages,
        sweep_report,
        signing_in,
        metrics,
        assets,
    ):
        app.add_routes(module.routes)
    app.on_response_prepare.append(add_security_headers)
    return app


@web.middleware
async def _one_sentence(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure of the API is one sentence in JSON; none is a traceback."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.content_type == "application/json" or error.status < 400:
            raise
        if error.status == 404:
            return _failure(request, f"There is nothing at {request.path[:80]}.", 404)
        return _failure(request, f"{request.method} {request.path[:80]}: {error.reason.lower()}", error.status)
    except StoreError as error:
        return _failure(request, str(error), 503)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("request failed: %s %s", request.method, request.path)
        return _failure(request, "The controller could not answer this; see its log.", 500)


def _failure(request: web.Request, sentence: str, status: int) -> web.Response:
    """For programs JSON, for people a page."""
    if request.path.startswith("/api/"):
        return error_response(sentence, status, _CODES.get(status, ExitCode.ERROR))
    return problem_page(request, sentence, status)


async def serve_unix(context: Context, path: Path, names: Names, *, group_access: bool) -> web.AppRunner:
    """Listen on a unix socket for clients. Raises OSError."""
    runner = BoundedRunner(build_app(context, names))
    await runner.setup()
    listener = _listen(path)
    path.chmod(0o660 if group_access else 0o600)
    await web.SockSite(runner, listener).start()
    return runner


def _listen(path: Path) -> socket.socket:
    """Bind to a path of any length: through the folder's descriptor, since a socket's name has at most 107 bytes."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        listener.listen(128)
        listener.setblocking(False)
    finally:
        os.close(folder)
    return listener


async def serve_tcp(context: Context, host: str, port: int, names: Names) -> web.AppRunner:
    """Listen for browsers. Raises OSError."""
    runner = BoundedRunner(build_app(context, names))
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def address_of(runner: web.AppRunner) -> str:
    """The address that a browser opens, with the port that was really bound."""
    host, port = runner.addresses[0][:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
