"""The two doors of the HTTP server: a unix socket for clients, and a TCP address for the status page.

On the latter only callers with a token may do more than read, and only with sweeps.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from racksack_controller.store import StoreError
from racksack_controller.web import (
    api_controller,
    api_doctor,
    api_jobs,
    api_logs,
    api_power,
    api_sweeps,
    api_usage,
    metrics,
    pages,
    sweep_pages,
)
from racksack_controller.web.context import CONTEXT, Context
from racksack_jobspecs.states import ExitCode

log = logging.getLogger("racksack.web")

BODY_BYTES_MAX = 2 * 1024**2
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(context: Context, *, read_only: bool, hosts: frozenset[str] = frozenset()) -> web.Application:
    """The application of one door. On the read-only one only GET and the given host names are answered."""
    doors = [_read_only(hosts)] if read_only else []
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[*doors, _one_sentence])
    app[CONTEXT] = context
    for module in (
        api_jobs,
        api_sweeps,
        api_logs,
        api_power,
        api_usage,
        api_controller,
        api_doctor,
        pages,
        sweep_pages,
        metrics,
    ):
        app.add_routes(module.routes)
    app.on_response_prepare.append(_add_security_headers)
    return app


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _one_sentence(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure of the API is one sentence in JSON; none is a traceback."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.content_type == "application/json" or error.status < 400:
            raise
        return _error(f"{request.method} {request.path}: {error.reason.lower()}", error.status, ExitCode.ERROR)
    except StoreError as error:
        return _error(str(error), 503, ExitCode.ERROR)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("request failed: %s %s", request.method, request.path)
        return _error("the controller could not answer this; its log says why", 500, ExitCode.ERROR)


def _error(sentence: str, status: int, code: ExitCode) -> web.Response:
    return web.json_response({"error": sentence, "code": int(code)}, status=status)


def _read_only(hosts: frozenset[str]) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Foreign host names are refused, so that no web page can reach this one by DNS rebinding."""
        if request.method not in ("GET", "HEAD") and not _may_write(request):
            return _error(_refused_sentence(request), 403, ExitCode.REFUSED)
        origin = request.headers.get("Origin")
        if not _is_ours(request.host, hosts) or (origin is not None and not _is_ours(urlsplit(origin).netloc, hosts)):
            return _error("this host name is not one of this controller; see web.hosts", 403, ExitCode.REFUSED)
        return await handler(request)

    return check


def _may_write(request: web.Request) -> bool:
    """Whoever has a token may submit and change sweeps, and ask for servers; nothing else is done over TCP."""
    return _is_for_tokens(request) and request.app[CONTEXT].caller(request).uid is not None


def _is_for_tokens(request: web.Request) -> bool:
    path = request.path
    return path in ("/api/v1/sweeps", "/api/v1/scale") or path.startswith("/api/v1/sweeps/")


def _refused_sentence(request: web.Request) -> str:
    if not _is_for_tokens(request):
        return "this address is for reading; use the racksack command"
    return (
        "this needs a token of web.token_file, sent as `Authorization: Bearer TOKEN`; without one this address is for "
        "reading, and the racksack command needs none"
    )


def _is_ours(netloc: str, hosts: frozenset[str]) -> bool:
    """An IP address, or a name we know: rebinding needs a name."""
    name = (urlsplit(f"//{netloc}").hostname or "").rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in hosts
    return True


def own_hosts(configured: tuple[str, ...]) -> frozenset[str]:
    """The host names under which the page may be asked for."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, name.split(".")[0], socket.getfqdn().lower(), *map(str.lower, configured)})


async def serve_unix(context: Context, path: Path, *, group_access: bool) -> web.AppRunner:
    """Listen on a unix socket for clients. Raises OSError."""
    runner = web.AppRunner(build_app(context, read_only=False), access_log=None, shutdown_timeout=1.0)
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


async def serve_tcp(context: Context, host: str, port: int, hosts: frozenset[str]) -> web.AppRunner:
    """Listen for browsers. Raises OSError."""
    runner = web.AppRunner(build_app(context, read_only=True, hosts=hosts), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def address_of(runner: web.AppRunner) -> str:
    """The address that a browser opens, with the port that was really bound."""
    host, port = runner.addresses[0][:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
