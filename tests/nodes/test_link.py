"""The conversation with an agent, against a scripted one on the other end of real pipes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from racksack_controller.nodes import link as link_module
from racksack_controller.nodes.errors import AgentError, NodeUnreachable
from racksack_controller.nodes.link import Lines, Link
from racksack_controller.nodes.node import AttemptReport


class SocketPipes:
    """Our end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, limit: int) -> bytes:
        return await self._reader.read(limit)

    def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise BrokenPipeError("closed")
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def last_words(self) -> tuple[int | None, str]:
        return 3, "MemoryError"

    def close(self) -> None:
        self._writer.close()


class Talk:
    """A link and the far end of its pipes."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link, self.reader, self.writer = link, reader, writer
        self.reports: list[AttemptReport] = []
        self.ends: list[str] = []

    async def heard(self) -> dict[str, Any]:
        message = json.loads(await self.reader.readline())
        assert isinstance(message, dict)
        return message

    def say(self, message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def ended(self) -> str:
        async with asyncio.timeout(10):
            while not self.ends:
                await asyncio.sleep(0.005)
        return self.ends[0]


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)), "127.0.0.1", 0, limit=2**26
    )
    host, port = server.sockets[0].getsockname()
    ours = await asyncio.open_connection(host, port)
    reader, writer = await accepted
    pipes = SocketPipes(*ours)
    talks: list[Talk] = []
    link = Link(
        "r1",
        pipes,
        Lines(pipes),
        lambda report: talks[0].reports.append(report),
        lambda sentence: talks[0].ends.append(sentence),
    )
    talks.append(Talk(link, reader, writer))
    link.start()
    yield talks[0]
    await link.close()
    writer.close()
    server.close()


async def test_answers_find_their_requests_in_any_order(talk: Talk) -> None:
    calls = [asyncio.create_task(talk.link.call("has", {"digests": [str(n)]}, 10)) for n in range(20)]
    requests = [await talk.heard() for _ in calls]
    for request in reversed(requests):
        talk.say({"id": request["id"], "ok": True, "result": request["digests"]})
    assert await asyncio.gather(*calls) == [[str(n)] for n in range(20)]


async def test_a_refusal_is_an_error_with_its_kind(talk: Talk) -> None:
    call = asyncio.create_task(talk.link.call("remove", {"attempts": ["1.1"]}, 10))
    request = await talk.heard()
    talk.say({"id": request["id"], "ok": False, "kind": "running", "error": "1.1 is running; stop it first"})
    with pytest.raises(AgentError, match=r"r1: 1\.1 is running; stop it first") as caught:
        await call
    assert caught.value.kind == "running"
    assert talk.link.is_open


async def test_notices_arrive_between_answers(talk: Talk) -> None:
    talk.say({"report": {"attempt": "7.1", "state": "running"}})
    talk.say({"report": {"attempt": "7.1", "state": "ended", "outcome": "done", "dropped": ["caf\udce9"]}})
    call = asyncio.create_task(talk.link.call("stats", {}, 10))
    talk.say({"id": (await talk.heard())["id"], "ok": True, "result": {}})
    await call
    assert [report.state for report in talk.reports] == ["running", "ended"]
    assert talk.reports[1].dropped == ("caf\\udce9",)  # half a surrogate pair could not be stored further on
    assert talk.ends == []


async def test_a_reply_of_many_megabytes_is_fine(talk: Talk) -> None:
    call = asyncio.create_task(talk.link.call("fetch", {"attempts": ["1.1"]}, 30))
    request = await talk.heard()
    text = "x" * 20_000_000
    talk.say({"id": request["id"], "ok": True, "result": {"1.1": text}})
    assert (await call)["1.1"] == text


async def test_a_request_of_many_megabytes_is_fine(talk: Talk) -> None:
    text = "x" * 5_000_000
    call = asyncio.create_task(talk.link.call("put", {"tar_b64": text}, 30))
    request = await talk.heard()
    assert request["tar_b64"] == text
    talk.say({"id": request["id"], "ok": True, "result": {}})
    await call


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b"17\n",
        b"{}\n",
        b'{"report": 3}\n',
        b'{"report": {"state": "running"}}\n',
        b'{"id": 1}\n',
        b'{"id": [], "ok": true}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
async def test_what_is_not_the_protocol_ends_the_conversation_once(talk: Talk, line: bytes) -> None:
    call = asyncio.create_task(talk.link.call("stats", {}, 10))
    await talk.heard()
    talk.writer.write(line + line)
    with pytest.raises(NodeUnreachable, match="not its protocol"):
        await call
    assert "r1" in await talk.ended()
    with pytest.raises(NodeUnreachable):
        await talk.link.call("stats", {}, 10)
    assert len(talk.ends) == 1


async def test_a_line_without_end_does_not_fill_the_memory(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LINE_BYTES_MAX", 100_000)
    talk.writer.write(b"x" * 1_000_000)
    assert "line of over" in await talk.ended()


async def test_the_end_of_the_stream_fails_what_is_pending_and_is_told_once(talk: Talk) -> None:
    calls = [asyncio.create_task(talk.link.call("stats", {}, 10)) for _ in range(3)]
    for _ in calls:
        await talk.heard()
    talk.writer.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, NodeUnreachable) for result in results)
    assert await talk.ended() == "The agent on r1 ended with exit code 3: MemoryError"
    with pytest.raises(NodeUnreachable, match="MemoryError"):
        await talk.link.call("stats", {}, 10)
    assert len(talk.ends) == 1


async def test_an_agent_that_hangs_is_given_up(talk: Talk) -> None:
    other = asyncio.create_task(talk.link.call("probe", {}, 60))
    with pytest.raises(NodeUnreachable, match=r"did not answer 'stats' within 0\.05 s"):
        await talk.link.call("stats", {}, 0.05)
    with pytest.raises(NodeUnreachable):
        await other
    assert "did not answer" in await talk.ended()
    assert len(talk.ends) == 1


async def test_a_request_given_up_by_its_caller_leaves_the_link_whole(talk: Talk) -> None:
    call = asyncio.create_task(talk.link.call("probe", {}, 60))
    late = await talk.heard()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    talk.say({"id": late["id"], "ok": True, "result": "late"})
    again = asyncio.create_task(talk.link.call("stats", {}, 10))
    talk.say({"id": (await talk.heard())["id"], "ok": True, "result": "now"})
    assert await again == "now"


async def test_closing_is_not_a_disconnect(talk: Talk) -> None:
    call = asyncio.create_task(talk.link.call("probe", {}, 60))
    await talk.heard()
    await talk.link.close()
    with pytest.raises(NodeUnreachable, match="was closed"):
        await call
    assert talk.ends == []
