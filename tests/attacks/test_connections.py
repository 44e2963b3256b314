"""Connections that say nothing, say it slowly, never read or leave: they are cut, and others are answered meanwhile."""

import asyncio
import contextlib
import pwd
import socket
import threading
import time
import types
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from racksack_controller import users
from racksack_controller.config.config import Listen, Web
from racksack_controller.news import STREAM_BACKLOG
from racksack_controller.web import connections
from racksack_controller.web.connections import BoundedRunner, read_body, watch_request
from tests.attacks.controllers import GOOD, config_of, drop, running, until, upload
from tests.attacks.test_requests import ask
from tests.lag import BUSY_S_MAX, watched_loop

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE_S = 60


class Rig:
    """A server with a page of each kind, and what became of its handlers."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.now = self.most = 0  # how many lists are made at the same time
        self.ended = asyncio.Event()
        self.door: connections.Connections
        self.address: tuple[str, int] = ("", 0)

    async def quick(self, _request: web.Request) -> web.Response:
        return web.Response(text="fine")

    async def slow(self, _request: web.Request) -> web.Response:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended.set()
        return web.Response()

    async def listing(self, _request: web.Request) -> web.Response:
        """What the loop makes slice by slice."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(20):
                await asyncio.sleep(0.005)
        finally:
            self.now -= 1
        return web.Response(text="a list")

    async def large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.begun.set()
        try:
            while True:
                await response.write(bytes(2**16))
        finally:
            self.ended.set()

    async def change(self, request: web.Request) -> web.Response:
        await read_body(request)
        return web.Response(text="changed")

    @contextlib.asynccontextmanager
    async def running(self, limit: int) -> AsyncIterator["Rig"]:
        app = web.Application(middlewares=[watch_request])
        app.add_routes([web.get("/", self.quick), web.get("/slow", self.slow), web.get("/large", self.large)])
        app.add_routes([web.post("/", self.change), web.get("/listing", self.listing)])
        runner = BoundedRunner(app, limit)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.door, self.address = runner.door, runner.addresses[0][:2]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def connect(self, words: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(words)
        return reader, writer


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The first line of an answer; nothing when the connection was cut."""
    try:
        return (await asyncio.wait_for(reader.readline(), PATIENCE_S)).strip()
    except ConnectionError:
        return b""


async def test_idle_connections_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of whoever has most go first, those without a request before others."""
    monkeypatch.setattr(connections, "HEAD_S", 3600.0)
    async with Rig().running(limit=20) as rig:
        waiting, _ = await rig.connect(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(rig.begun.wait(), PATIENCE_S)
        idle = [await rig.connect() for _ in range(100)]
        reader, writer = await rig.connect(GET)
        assert await answer(reader) == b"HTTP/1.1 200 OK"
        assert len(rig.door) <= 20
        await until(lambda: sum(one.at_eof() for one, _ in idle) >= 80, "the oldest idle ones are cut")
        assert not waiting.at_eof(), "a request under way is the last to go"
        for _, one in [*idle, (reader, writer)]:
            one.close()


@pytest.mark.parametrize("words", [b"", b"GET /x", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_does_not_come_is_not_waited_for(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a byte comes now and then, and when it is the second request of a connection."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    async with Rig().running(limit=20) as rig:
        for first in (b"", GET if words else b""):
            reader, writer = await rig.connect(first)
            if first:
                assert await answer(reader) == b"HTTP/1.1 200 OK"
                assert (await reader.readuntil(b"fine")).endswith(b"fine")
            writer.write(words)

            async def drip(writer: asyncio.StreamWriter = writer) -> None:
                with contextlib.suppress(ConnectionError):
                    while words:
                        await asyncio.sleep(0.1)
                        writer.write(b"x")
                        await writer.drain()

            dripping = asyncio.create_task(drip())
            assert await answer(reader) == b""
            await until(lambda: len(rig.door) == 0, "it is forgotten")
            dripping.cancel()
            writer.close()


async def test_a_body_that_does_not_come_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_S", 0.3)
    async with Rig().running(limit=20) as rig:
        reader, writer = await rig.connect(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        assert await answer(reader) == b"HTTP/1.1 408 Request Timeout"
        writer.close()


async def test_what_is_computed_for_a_reader_who_has_gone_ends() -> None:
    async with Rig().running(limit=20) as rig:
        _, writer = await rig.connect(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(rig.begun.wait(), PATIENCE_S)
        writer.close()
        await asyncio.wait_for(rig.ended.wait(), PATIENCE_S)


async def test_lists_are_made_for_one_peer_a_few_at_a_time() -> None:
    """Hundreds of requests for long lists would otherwise share the loop with everybody's."""
    async with Rig().running(limit=100) as rig:
        asked = [await rig.connect(b"GET /listing HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(40)]
        gone = asked[10:15]
        for _, writer in gone:  # some leave while they wait for their turn
            writer.close()
        assert {await answer(reader) for reader, _ in asked[:10] + asked[15:]} == {b"HTTP/1.1 200 OK"}
        assert 1 < rig.most <= connections.ANSWERS_OF_ONE
        for _, writer in asked:
            writer.close()


async def test_many_readers_of_the_events_cost_one_text(root: Path) -> None:
    async with running(config_of(root)) as app:
        streams = [app.news.open_stream() for _ in range(1000)]
        drop(app.spool, "a", GOOD.format(project=upload(app.spool, "up1")) + "name: a\nhold: true\n")
        texts = [b""]
        while b'"kind":"job"' not in texts[0]:  # the node may have connected before
            texts = [await asyncio.wait_for(stream.get(), PATIENCE_S) for stream in streams]
        assert {id(text) for text in texts} == {id(texts[0])}
        for stream in streams:
            app.news.close_stream(stream)


async def test_a_reader_of_events_that_falls_behind_is_kept_within_bounds(root: Path) -> None:
    async with running(config_of(root)) as app:
        stream = app.news.open_stream()
        for number in range(STREAM_BACKLOG + 100):
            app.news.sweep_changed(number, "running")
        assert stream.qsize() == STREAM_BACKLOG
        app.news.close_stream(stream)


async def test_a_slow_directory_of_users_keeps_only_its_own_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up in a thread before the loop asks for them, and again after some minutes."""
    looked = []

    def slow(uid: int) -> pwd.struct_passwd:
        looked.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.3)
        return pwd.struct_passwd((f"user{uid}-{len(looked)}", "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(users, "pwd", types.SimpleNamespace(getpwuid=slow))
    monkeypatch.setattr(users, "_names", {})
    async with watched_loop() as lag:
        await users.learn(4242)
        assert users.name_of(4242) == "user4242-1"
        await users.learn(4242)
        monkeypatch.setattr(users, "KEPT_S", -1.0)
        await users.learn(4242)
        assert users.name_of(4242) == "user4242-2"
    assert looked == [False, False]
    assert lag.busy_s < BUSY_S_MAX


async def test_a_reader_that_stands_still_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its answer, and the view of the store that this is made from, would be kept for ever."""
    monkeypatch.setattr(connections, "STALL_S", 0.5)
    async with Rig().running(limit=20) as rig:
        with socket.create_connection(rig.address) as one:
            one.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(rig.begun.wait(), PATIENCE_S)
            await asyncio.wait_for(rig.ended.wait(), PATIENCE_S)
            await until(lambda: len(rig.door) == 0, "it is forgotten")


async def test_a_controller_answers_under_idle_connections(root: Path) -> None:
    """Both doors, while somebody opens more of them than the page may have."""
    config = config_of(root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = msgspec.structs.replace(config, web=Web(listen=Listen("127.0.0.1", port)))
    async with running(config) as app:
        limit = connections.default_limit()
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(min(limit + 50, 350))]
        idle += [await asyncio.open_unix_connection(str(app.spool.socket)) for _ in range(20)]
        assert (await ask(app, "GET", "status"))[0] == 200
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/api/v1/status") as found:
            assert found.status == 200
        for _, writer in idle:
            writer.close()
