"""Who calls, and what a caller may do.

On the unix socket the kernel says who is at the other end (SO_PEERCRED); over SSH that is the user who logged in.
On TCP a caller is known by a token of the configuration, or by a session of the page; anybody else is nobody, who may
read what everybody may know.
"""

from __future__ import annotations

import asyncio
import enum
import json
import math
import os
import socket
import struct
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from racksack_controller import users
from racksack_controller.core.state import Job
from racksack_controller.web.sessions import Sessions
from racksack_controller.web.tokens import Tokens
from racksack_jobspecs.states import ExitCode

T = TypeVar("T")
NUMBER_MAX = 2.0**53  # of a query; ids, bytes and seconds are smaller
LOOK_EVERY_S = 0.5  # whether whoever asked is still there


class Way(enum.Enum):
    """How a caller is known."""

    SOCKET = "socket"
    TOKEN = "token"  # noqa: S105 - a word
    SESSION = "session"
    NONE = "none"


class Caller(msgspec.Struct, frozen=True):
    """The user at the other end."""

    name: str
    uid: int | None  # None: nobody in particular
    is_operator: bool
    way: Way = Way.NONE

    @property
    def is_known(self) -> bool:
        """Whether it is anybody in particular."""
        return self.uid is not None

    def owns(self, job: Job) -> bool:
        """Whether the caller may see all of this job and change it."""
        return self.is_operator or (self.is_known and self.name == job.owner)


NOBODY = Caller("", None, is_operator=False)


def caller_of(request: web.Request, operators: frozenset[str], tokens: Tokens, sessions: Sessions) -> Caller:
    """The caller of a request: who holds the other end of the socket; over TCP whose token or session it has."""
    peer: socket.socket | None = request.transport.get_extra_info("socket") if request.transport else None
    if peer is not None and peer.family == socket.AF_UNIX:
        uid = peer_uid(peer)
        return _known(users.name_of(uid), uid, operators, Way.SOCKET)
    if "Authorization" in request.headers:
        user = tokens.user_of(request.headers["Authorization"])
        return NOBODY if user is None else _known(*user, operators, Way.TOKEN)
    session = sessions.of(sessions.token_of(request))
    return NOBODY if session is None else _known(users.name_of(session.uid), session.uid, operators, Way.SESSION)


def peer_uid(peer: socket.socket) -> int:
    """The user at the other end of a unix socket, as the kernel says."""
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _known(name: str, uid: int, operators: frozenset[str], way: Way) -> Caller:
    return Caller(name, uid, uid in (0, os.geteuid()) or name in operators, way)


_STATUS = {
    ExitCode.NOT_FOUND: web.HTTPNotFound,
    ExitCode.REFUSED: web.HTTPConflict,
    ExitCode.USAGE: web.HTTPBadRequest,
    ExitCode.ERROR: web.HTTPInternalServerError,
}


def json_answer(value: object) -> web.Response:
    """A JSON answer that may be large: written ten times as fast as by the standard library; NaN is null."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", charset="utf-8")


def refusal(sentence: str, code: ExitCode) -> web.HTTPException:
    """The exception that answers with a sentence and the client's exit code."""
    body = json.dumps({"error": sentence, "code": int(code)})
    return _STATUS.get(code, web.HTTPBadRequest)(text=body, content_type="application/json")


def forbidden(sentence: str) -> web.HTTPException:
    """The exception for what this caller may not do."""
    body = json.dumps({"error": sentence, "code": int(ExitCode.REFUSED)})
    return web.HTTPForbidden(text=body, content_type="application/json")


def number(query: Mapping[str, str], key: str, default: float) -> float:
    """A number from a query string; a 400 with a sentence when it is none, or larger than any that is meant."""
    try:
        value = float(query.get(key, default))
    except ValueError:
        value = math.nan
    if not abs(value) <= NUMBER_MAX:  # nan is neither
        raise refusal(f"{key}={query[key][:40]!r} is not a number that can be meant", ExitCode.USAGE)
    return value


async def utf8_of(request: web.Request) -> str:
    """The text of the body; a 400 with a sentence when it is not UTF-8, whatever its headers say."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError:
        raise refusal("the body is not UTF-8", ExitCode.USAGE) from None


async def body_of(request: web.Request) -> dict[str, object]:
    """The JSON object in the body, empty when there is none; a 400 with a sentence when it is not one."""
    data = await request.read()
    try:
        body = msgspec.json.decode(data) if data.strip() else {}
    except (ValueError, RecursionError):
        raise refusal("the body is not JSON", ExitCode.USAGE) from None
    if not isinstance(body, dict):
        raise refusal("the body is not a JSON object", ExitCode.USAGE)
    return body


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when nobody waits for the answer any more. For work that changes nothing."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait([task], timeout=LOOK_EVERY_S))[0]:
            if request.transport is None or request.transport.is_closing():
                task.cancel()
        return task.result()
    except asyncio.CancelledError:
        task.cancel()
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client has disconnected") from None
        raise


def text_of(body: Mapping[str, object], key: str, default: str) -> str:
    """A one-line text of at most 500 characters from a body."""
    value = body.get(key) or default
    if not isinstance(value, str):
        raise refusal(f"{key} is not a string", ExitCode.USAGE)
    return " ".join(value.split())[:500]
