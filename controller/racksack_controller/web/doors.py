"""What a request must be before any handler sees it: asked for under our name, by our own pages, and allowed to change.

Both doors are guarded, the socket too: `ssh -L 8470:.../controller.sock` brings it to a browser, and there every page
of the web could otherwise act as the user who forwarded it (a foreign Origin), or read as that user (a foreign name
that leads to this machine: DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from racksack_controller.web.caller import Caller, Way
from racksack_controller.web.connections import read_body
from racksack_controller.web.context import CONTEXT, Handler
from racksack_controller.web.signing_in import answer_link, is_link, proof_of
from racksack_jobspecs.states import ExitCode

PROOF_HEADER = "Racksack-Proof"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Names(msgspec.Struct, frozen=True):
    """The host names of the page."""

    own: frozenset[str]  # of this machine
    configured: frozenset[str]  # web.hosts: also those under which a proxy offers the page


def names_of(configured: tuple[str, ...]) -> Names:
    """The names under which the page may be asked for: this machine's, and those of `web.hosts`."""
    name = socket.gethostname().lower()
    own = {"localhost", name, name.split(".")[0], socket.getfqdn().lower()}
    return Names(frozenset(own), frozenset(map(str.lower, configured)))


def guard(names: Names) -> Middleware:
    """The middleware of both doors."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = foreign(request, names)
        if problem is not None:
            return error_response(problem, 403, ExitCode.REFUSED)
        if is_link(request):
            return await answer_link(request)
        if request.method not in ("GET", "HEAD"):
            problem = _why_not(request)
            if problem is not None:
                return error_response(problem, 403, ExitCode.REFUSED)
        await read_body(request)
        await _note_use(request)
        return await handler(request)

    return check


async def _note_use(request: web.Request) -> None:
    sessions = request.app[CONTEXT].sessions
    session = sessions.of(sessions.token_of(request))
    if session is not None:
        await sessions.used(session)


def foreign(request: web.Request, names: Names) -> str | None:
    """Why a request may come from a page that is not ours; None when it does not."""
    if not _is_ours(request.host, names) and not _is_made_up(request):
        return "this is not a host name of this controller; see web.hosts"
    origin = request.headers.get("Origin")
    if origin is not None and not _is_own_origin(origin, request.host, names):
        return "this request came from a page of another site; open the status page itself"
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _is_a_visit(request):
        return "this request came from a page of another site; open the status page itself"
    return None


def _is_ours(netloc: str, names: Names) -> bool:
    """An IP address, or a name we know: rebinding needs a name."""
    try:
        name = (urlsplit(f"//{netloc}").hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names.own or name in names.configured
    return True


def _is_made_up(request: web.Request) -> bool:
    """On the socket a program writes whatever name it likes (`curl --unix-socket ... http://x/`). One without a dot is
    under no domain that somebody could own, so no page can be behind it.
    """
    peer = request.transport.get_extra_info("socket") if request.transport else None
    name = request.host.partition(":")[0]
    return peer is not None and peer.family == socket.AF_UNIX and name.isascii() and name.isalnum()


def _is_own_origin(origin: str, host: str, names: Names) -> bool:
    """The very address that was asked for, port included: other ports of this machine are other people's programs."""
    try:
        found = urlsplit(origin)
        hostname = (found.hostname or "").lower()
    except ValueError:
        return False
    return found.scheme in ("http", "https") and (found.netloc.lower() == host.lower() or hostname in names.configured)


def _is_a_visit(request: web.Request) -> bool:
    """Whether somebody followed a link from another site to one of our pages, which they see for themselves."""
    is_page = (
        request.headers.get("Sec-Fetch-Dest") == "document" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    )
    return is_page and request.method in ("GET", "HEAD") and not request.path.startswith("/api/")


def _why_not(request: web.Request) -> str | None:
    """Why this request may change nothing, whatever it asks for; None when its handler may decide."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if caller.way is Way.TOKEN:
        return None if _is_for_tokens(request) else "a token is for sweeps and for scale; use the racksack command"
    if not caller.is_known:
        if _is_for_tokens(request):
            return (
                "this needs a token of web.token_file, sent as `Authorization: Bearer TOKEN`, or a browser that is "
                "signed in; the racksack command needs neither"
            )
        return "not signed in, so this page is read-only; use the racksack command, or `racksack web login`"
    if caller.way is Way.SESSION or _is_browser(request):
        return None if _is_proven(request, caller) else f"the header {PROOF_HEADER} is missing or not that of this page"
    return None


def _is_for_tokens(request: web.Request) -> bool:
    """Whoever has a token may submit and change sweeps, and ask for servers; nothing else."""
    path = request.path
    return path in ("/api/v1/sweeps", "/api/v1/scale") or path.startswith("/api/v1/sweeps/")


def _is_browser(request: web.Request) -> bool:
    """Whether a browser asks: over a forwarded socket it has the rights of whoever forwards, cookie or not."""
    marks = ("Origin", "Sec-Fetch-Site", "Referer", "Cookie")
    return any(mark in request.headers for mark in marks) or "Mozilla/" in request.headers.get("User-Agent", "")


def _is_proven(request: web.Request, caller: Caller) -> bool:
    given = request.headers.get(PROOF_HEADER, "").encode(errors="surrogatepass")
    return hmac.compare_digest(proof_of(request, caller).encode(), given)


async def add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """For every response of both doors."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def error_response(sentence: str, status: int, code: ExitCode) -> web.Response:
    """One sentence in JSON."""
    return web.Response(
        text=json.dumps({"error": sentence, "code": int(code)}), status=status, content_type="application/json"
    )
