"""The conversation with an agent, against a scripted one on the other end of real pipes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from racksack_controller.nodes import lines
from racksack_controller.nodes.errors import AgentError, NodeUnreachable
from racksack_controller.nodes.lines import ANSWER_BYTES_MAX, NOTICE_BYTES_MAX, Lines, without_lone_surrogates
from racksack_controller.nodes.link import UNASKED_AT_ONCE, Link
from racksack_controller.nodes.node import AttemptReport, NodeStats
from tests.lag import BUSY_S_MAX, watched_loop


def decode(result: msgspec.Raw) -> Any:
    return msgspec.json.decode(result)


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
    assert [decode(result) for result in await asyncio.gather(*calls)] == [[str(n)] for n in range(20)]


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
    call = asyncio.create_task(talk.link.call("fetch", {"attempts": ["1.1"]}, 30, 30_000_000))
    request = await talk.heard()
    text = "x" * 20_000_000
    talk.say({"id": request["id"], "ok": True, "result": {"1.1": text}})
    assert decode(await call)["1.1"] == text


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
    with pytest.raises(NodeUnreachable, match="an invalid message"):
        await call
    assert "r1" in await talk.ended()
    with pytest.raises(NodeUnreachable):
        await talk.link.call("stats", {}, 10)
    assert len(talk.ends) == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_a_line_without_end_does_not_fill_the_memory(talk: Talk, asked: bool) -> None:
    """What a node says unasked is short; an answer is as long as what was asked for may be."""
    call = asyncio.create_task(talk.link.call("stats", {}, 10)) if asked else None
    if asked:
        await talk.heard()
    talk.writer.write(b"x" * (ANSWER_BYTES_MAX if asked else NOTICE_BYTES_MAX) + b"x" * lines.READ_BYTES * 4)
    assert "line of over" in await talk.ended()
    if call is not None:
        with pytest.raises(NodeUnreachable):
            await call


async def test_an_answer_is_no_longer_than_its_own_request_allows(talk: Talk) -> None:
    large = asyncio.create_task(talk.link.call("fetch", {}, 10, 2_000_000))
    small = asyncio.create_task(talk.link.call("stats", {}, 10, 100_000))
    asked = {message["op"]: message["id"] for message in [await talk.heard(), await talk.heard()]}
    talk.say({"id": asked["stats"], "ok": True, "result": "x" * 1_000_000})
    with pytest.raises(NodeUnreachable, match="100000 at most were asked for"):
        await small
    with pytest.raises(NodeUnreachable):
        await large


HOSTILE = {
    "empty lists": b'{"id": 1, "ok": true, "result": [' + b"[]," * 1_300_000 + b"[]]}\n",
    "numbers": b'{"id": 1, "ok": true, "result": [' + b"1," * 2_000_000 + b"1]}\n",
    "keys": b'{"id": 1, "ok": true, "result": {' + b",".join(b'"%06d":1' % n for n in range(300_000)) + b"}}\n",
    "half surrogates": b'{"id": 1, "ok": true, "result": "' + b"\\udce9" * 600_000 + b'"}\n',
    "blank lines": b"\n" * 3_000_000,
    "lines that nobody asked for": b'{"id":9}\n' * 300_000,
    "reports": b'{"report":{"attempt":"1.1","state":"running"}}\n' * 50_000,
    "reports without sense": b'{"report":{"attempt":"1.1","state":"?"}}\n' * 50_000,
    "a deep list": b'{"id": 1, "ok": true, "result": ' + b"[" * 3_000_000 + b"}\n",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_nothing_that_a_node_sends_holds_up_the_event_loop(talk: Talk, what: str) -> None:
    call = asyncio.create_task(talk.link.call("stats", {}, 2.0))
    await talk.heard()
    async with watched_loop() as lag:
        talk.writer.write(HOSTILE[what])
        with contextlib.suppress(NodeUnreachable, TimeoutError):
            async with asyncio.timeout(3.0):
                with contextlib.suppress(ValueError):
                    lines.decode(await call, NodeStats)
    assert lag.busy_s < BUSY_S_MAX, lag
    await talk.link.close()


async def test_a_node_that_reports_without_end_is_slowed_down(talk: Talk) -> None:
    talk.writer.write(b'{"report":{"attempt":"1.1","state":"running"}}\n' * 10 * UNASKED_AT_ONCE)
    counts: list[int] = []
    async with asyncio.timeout(30):
        while len(talk.reports) < 10 * UNASKED_AT_ONCE:
            counts.append(len(talk.reports))
            await asyncio.sleep(0)
    most = max(after - before for before, after in itertools.pairwise(counts))
    assert most <= UNASKED_AT_ONCE


STRANGE: list[dict[str, Any]] = [
    {"state": "paused"},
    {"state": "unheard of " * 1000},
    {"outcome": "splendid"},
    {"outcome": "queued"},
    {"at_fault": "somebody"},
    {"output_bytes": -1},
    {"output_bytes": 10**23},
    {"output_files": 2.5},
    {"boot_id": "b" * 1000},
    {"reason": 7},
    {"dropped": "all"},
]


@pytest.mark.parametrize("change", STRANGE, ids=lambda change: str(change)[:30])
async def test_a_report_that_makes_no_sense_is_about_its_own_attempt_alone(talk: Talk, change: dict[str, Any]) -> None:
    talk.say({"report": {"attempt": "7.1", "state": "ended", **change}})
    talk.say({"report": {"attempt": "8.1", "state": "running"}})
    async with asyncio.timeout(10):
        while len(talk.reports) < 2:
            await asyncio.sleep(0.005)
    assert [(report.attempt, str(report.state)) for report in talk.reports] == [
        ("7.1", "unreadable"),
        ("8.1", "running"),
    ]
    assert "r1 sent an invalid report of attempt 7.1" in talk.reports[0].reason
    assert len(talk.reports[0].reason) < 500
    assert talk.ends == []


async def test_measured_figures_that_cannot_be_are_unknown_and_long_texts_are_cut(talk: Talk) -> None:
    talk.writer.write(
        b'{"report": {"attempt": "7.1", "state": "ended", "outcome": "done", "started_at_s": -1e300, "cpu_s": 1e300,'
        b'"ended_at_s": 1e12, "prepare_s": -5, "ram_peak_bytes": 100000000000000000000000, "exit_code": -9999999999999,'
        b'"signal": 77777777, "reason": "%s", "dropped": [%s]}}\n'
        % (b"r" * 500_000, b",".join(b'"%s"' % (b"d" * 2000) for _ in range(200)))
    )
    async with asyncio.timeout(10):
        while not talk.reports:
            await asyncio.sleep(0.005)
    report = talk.reports[0]
    measured = (report.started_at_s, report.ended_at_s, report.prepare_s, report.cpu_s, report.ram_peak_bytes)
    assert measured == (None,) * 5
    assert (report.exit_code, report.signal) == (None, None)
    assert len(report.reason) <= 2000
    assert len(report.dropped) <= 101
    assert max(map(len, report.dropped)) <= 500


def test_half_surrogate_pairs_become_visible_escapes_and_whole_ones_stay() -> None:
    text = rb'{"a": "\udce9 \ud83d\ude00 \\udce9 \ud800\ud83d\ude00 \u00e9 \""}'
    repaired = json.loads(without_lone_surrogates(text))
    assert repaired == {"a": '\\udce9 \U0001f600 \\udce9 \\ud800\U0001f600 \xe9 "'}


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
    assert decode(await again) == "now"


async def test_closing_is_not_a_disconnect(talk: Talk) -> None:
    call = asyncio.create_task(talk.link.call("probe", {}, 60))
    await talk.heard()
    await talk.link.close()
    with pytest.raises(NodeUnreachable, match="was closed"):
        await call
    assert talk.ends == []
