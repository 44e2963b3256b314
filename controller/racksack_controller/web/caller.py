"""Who calls, and what a caller may do.

On the unix socket the kernel says who is at the other end (SO_PEERCRED); over SSH that is the user who logged in.
On TCP nobody is known but by a token, so only reading is allowed, and only by pages of our own host name.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
from collections.abc import Mapping

import msgspec
from aiohttp import web

from racksack_controller.core.state import Job
from racksack_controller.web.tokens import Tokens
from racksack_jobspecs.states import ExitCode


class Caller(msgspec.Struct, frozen=True):
    """The user at the other end."""

    name: str
    uid: int | None  # None on TCP
    is_operator: bool

    def owns(self, job: Job) -> bool:
        """Whether the caller may change this job."""
        return self.is_operator or (self.uid is not None and self.name == job.owner)


def caller_of(request: web.Request, operators: frozenset[str], tokens: Tokens) -> Caller:
    """The caller of a request: over TCP whose token it has, if any."""
    peer: socket.socket | None = request.transport.get_extra_info("socket") if request.transport else None
    if peer is None or peer.family != socket.AF_UNIX:
        user = tokens.user_of(request.headers.get("Authorization"))
        if user is None:
            return Caller("", None, is_operator=False)
        return Caller(user[0], user[1], is_operator=user[1] in (0, os.geteuid()) or user[0] in operators)
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    name = user_name(uid)
    return Caller(name, uid, is_operator=uid in (0, os.geteuid()) or name in operators)


def user_name(uid: int) -> str:
    """The name of a user id, or the number as text where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


_STATUS = {
    ExitCode.NOT_FOUND: web.HTTPNotFound,
    ExitCode.REFUSED: web.HTTPConflict,
    ExitCode.USAGE: web.HTTPBadRequest,
    ExitCode.ERROR: web.HTTPInternalServerError,
}


def refusal(sentence: str, code: ExitCode) -> web.HTTPException:
    """The exception that answers with a sentence and the client's exit code."""
    body = json.dumps({"error": sentence, "code": int(code)})
    return _STATUS.get(code, web.HTTPBadRequest)(text=body, content_type="application/json")


def forbidden(sentence: str) -> web.HTTPException:
    """The exception for what this caller may not do."""
    body = json.dumps({"error": sentence, "code": int(ExitCode.REFUSED)})
    return web.HTTPForbidden(text=body, content_type="application/json")


def number(query: Mapping[str, str], key: str, default: float) -> float:
    """A number from a query string; a 400 with a sentence when it is none."""
    try:
        return float(query.get(key, default))
    except ValueError:
        raise refusal(f"{key}={query[key]!r} is not a number", ExitCode.USAGE) from None


async def body_of(request: web.Request) -> dict[str, object]:
    """The JSON object in the body, empty when there is none; a 400 with a sentence when it is not one."""
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError:
        raise refusal("the body is not JSON", ExitCode.USAGE) from None
    if not isinstance(body, dict):
        raise refusal("the body is not a JSON object", ExitCode.USAGE)
    return body


def text_of(body: Mapping[str, object], key: str, default: str) -> str:
    """A one-line text of at most 500 characters from a body."""
    value = body.get(key) or default
    if not isinstance(value, str):
        raise refusal(f"{key} is not a text", ExitCode.USAGE)
    return " ".join(value.split())[:500]
