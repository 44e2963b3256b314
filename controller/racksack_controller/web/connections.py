"""Connections to the HTTP server, bounded in number and in the time that each part of a request may take.

Who connects and says nothing, says it a byte a minute, never reads the answer or leaves before it comes must cost
nobody else anything: a slow request or a reader that stands still is cut off, what was computed for a reader who has
gone ends, and above the limit whoever has most connections loses one, those without a request first. Who asks for many
lists at a time has a few of them made at once, and the others in turn.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, cast

from aiohttp import web

from racksack_controller import users
from racksack_controller.turns import Turns
from racksack_controller.web.caller import peer_uid
from racksack_controller.web.context import Handler

HEAD_S = 10.0  # from a connection's first moment, or the first byte of a further request, to the end of its headers
BODY_S = 60.0  # for the body, of at most BODY_BYTES_MAX
STALL_S = 60.0  # a reader that takes nothing for so long is cut off
KEEPALIVE_S = 75.0  # between two requests
ANSWERS_AT_ONCE = 16  # of lists and the like, which the event loop makes, a slice of each in turn
ANSWERS_OF_ONE = 4  # of one peer
LIMIT = 1000  # connections of one door, where the process may open four times as many files

CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections")
_Protocol = web.RequestHandler


class Connection(asyncio.Protocol):
    """One connection: hands everything on to aiohttp's handler, and watches the clock."""

    def __init__(self, door: Connections, handler: _Protocol) -> None:
        self._door, self._handler = door, handler
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self.peer: Hashable = None
        self.is_busy = False  # whether a request is being answered
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.peer = _peer(self.transport.get_extra_info("socket"))
        self._handler.connection_made(transport)
        self._expect_head()
        self._door.add(self)

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        if not self.is_busy and self._timer is None:
            self._expect_head()
        self._handler.data_received(data)

    def eof_received(self) -> None:
        """The peer will send no more."""
        self._handler.eof_received()

    def pause_writing(self) -> None:
        """The reader is slower than we are."""
        self._handler.pause_writing()
        self._stall = asyncio.get_running_loop().call_later(STALL_S, self.cut)

    def resume_writing(self) -> None:
        """The reader goes on."""
        _cancel(self._stall)
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        _cancel(self._timer)
        _cancel(self._stall)
        self._door.remove(self, self._handler)
        self._handler.connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    def begin(self, task: asyncio.Task[object] | None) -> None:
        """A request begins to be answered; `task` is of no use once its reader has gone."""
        _cancel(self._timer)
        self._timer, self.is_busy, self._task = None, True, task

    def end(self) -> None:
        """It was answered."""
        self.is_busy, self._task = False, None

    def cut(self) -> None:
        """End it now."""
        if self.transport is not None:
            self.transport.abort()

    def _expect_head(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self.cut)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _peer(peer: socket.socket) -> Hashable:
    """Who connects, as far as that is known: the user of a unix socket, else the address (of IPv6 the network)."""
    if peer.family == socket.AF_UNIX:
        return peer_uid(peer)
    try:
        address = str(peer.getpeername()[0])
    except OSError:
        return None  # gone already
    return ":".join(address.split(":")[:4]) if peer.family == socket.AF_INET6 else address


class Connections:
    """Those of one door."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit or default_limit()
        self._all: dict[_Protocol, Connection] = {}  # oldest first
        self._of: Counter[Hashable] = Counter()
        self.turns = Turns(ANSWERS_AT_ONCE, ANSWERS_OF_ONE)

    def __len__(self) -> int:
        return len(self._all)

    def factory(self, server: Callable[[], _Protocol]) -> Callable[[], Connection]:
        """What an asyncio server calls for each connection."""

        def make() -> Connection:
            handler = server()
            connection = Connection(self, handler)
            self._all[handler] = connection
            return connection

        return make

    def of(self, request: web.Request) -> Connection | None:
        """The connection that a request came over; None once it is lost."""
        return self._all.get(request.protocol)

    def add(self, connection: Connection) -> None:
        """It is open. Above the limit another one goes."""
        self._of[connection.peer] += 1
        if len(self._all) > self._limit:
            self._one_too_many(connection).cut()

    def remove(self, connection: Connection, handler: _Protocol) -> None:
        """It is closed."""
        if self._all.pop(handler, None) is not None:
            self._of[connection.peer] -= 1
            if not self._of[connection.peer]:
                del self._of[connection.peer]

    def _one_too_many(self, newest: Connection) -> Connection:
        """Of the peer with most connections: the oldest without a request, else the oldest but the newest."""
        peer, _ = self._of.most_common(1)[0]
        own = [
            one for one in self._all.values() if one.peer == peer and one is not newest and one.transport is not None
        ]
        return next((one for one in own if not one.is_busy), own[0] if own else newest)


def default_limit() -> int:
    """A quarter of the files that this process may open: nodes, transfers and the store need the others."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LIMIT if soft == resource.RLIM_INFINITY else max(16, min(LIMIT, soft // 4))


class BoundedRunner(web.AppRunner):
    """aiohttp's runner, with bounds on the connections of its sites."""

    def __init__(self, app: web.Application, limit: int | None = None) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=KEEPALIVE_S)
        self.door = app[CONNECTIONS] = Connections(limit)

    @property
    def server(self) -> Any:  # noqa: ANN401 - a factory of protocols, which is all that sites make of a server
        """What makes the protocol of each connection."""
        server = super().server
        return None if server is None else self.door.factory(server)


@web.middleware
async def watch_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection that it is at work. What only reads ends when its reader has gone."""
    connection = request.app[CONNECTIONS].of(request)
    if connection is None:
        raise ConnectionResetError("the client has disconnected")
    if isinstance(connection.peer, int):
        await users.learn(connection.peer)
    only_reads = request.method in ("GET", "HEAD")
    connection.begin(asyncio.current_task() if only_reads else None)
    try:
        if not only_reads or _waits(request):
            return await handler(request)
        async with request.app[CONNECTIONS].turns.of(str(connection.peer)):
            return await handler(request)
    finally:
        connection.end()


@web.middleware
async def watch_alone(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The same for an application whose answers are short, or take no more than their reader takes."""
    connection = request.app[CONNECTIONS].of(request)
    if connection is None:
        raise ConnectionResetError("whoever asked has gone")
    connection.begin(asyncio.current_task())
    try:
        return await handler(request)
    finally:
        connection.end()


def bounded(app: web.Application) -> BoundedRunner:
    """A runner with bounds for an application that knows nothing of them."""
    app.middlewares.insert(0, watch_alone)
    return BoundedRunner(app)


def _waits(request: web.Request) -> bool:
    """Whether a request that changes nothing does little but wait: for news, or for the sandbox and the store."""
    return "wait_s" in request.query or request.path.startswith(("/api/v1/events", "/api/v1/sweeps/", "/sweeps/"))


async def read_body(request: web.Request) -> None:
    """Have the whole body, within a bound of time. Raises HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    if not request.can_read_body:
        return
    try:
        async with asyncio.timeout(BODY_S):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
