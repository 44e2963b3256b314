"""A request is a stranger's too: whatever it holds gets one sentence, at once, and costs nobody else anything."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from racksack_controller.app import App
from tests.attacks.controllers import GOOD, config_of, drop, running, submitted, until, upload
from tests.lag import watched_loop

DEEP = "[" * 1_000_000


async def ask(app: App, method: str, call: str, **options: object) -> tuple[int, str]:
    """The status and the sentence of an answer; AssertionError for a traceback or a failure of the controller."""
    connector = aiohttp.UnixConnector(path=str(app.spool.socket))
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.request(method, f"http://localhost/api/v1/{call}", **options) as answer,  # type: ignore[arg-type]
    ):
        text = await answer.text()
    assert "Traceback" not in text
    return answer.status, str(json.loads(text).get("error", "")) if answer.status >= 400 else ""


@pytest.mark.parametrize(
    "call",
    [
        "jobs/1/logs/stdout?wait_s=nan",
        "jobs/1/logs/stdout?offset=inf",
        "jobs/1/logs/stdout?offset=1e300",
        "jobs/1?wait_s=nan&seen=held",
        "jobs?before=inf",
        "jobs?limit=nan",
        "history?since_s=-inf",
        "submissions/x?wait_s=nan",
    ],
)
async def test_numbers_of_a_query_are_numbers(root: Path, call: str) -> None:
    async with running(config_of(root)) as app:
        drop(app.spool, "a", GOOD.format(project=upload(app.spool, "up1")) + "name: a\nhold: true\n")
        await until(lambda: submitted(app, "a"), "a job")
        status, sentence = await ask(app, "GET", call)
        assert status == 400, sentence
        assert "is not a number that can be meant" in sentence


async def test_bodies_are_read_within_bounds(root: Path) -> None:
    async with running(config_of(root)) as app:
        async with watched_loop() as lag:
            for call in ("nodes/here/drain", "sweeps", "jobs/1/cancel"):
                for body in (DEEP, '{"a":' * 300_000, "1" * 1_000_000, "[]", "nonsense", b"\xff\xfe"):
                    status, sentence = await ask(
                        app, "POST", call, data=body, headers={"Content-Type": "application/json"}
                    )
                    assert 400 <= status < 500, (call, body[:20], status, sentence)
                    assert sentence
            status, sentence = await ask(
                app, "POST", "plan", data=b"\xff\xfe", headers={"Content-Type": "text/plain; charset=nonsense"}
            )
            assert (status, sentence) == (400, "the body is not UTF-8")
            assert (await ask(app, "POST", "plan", data=DEEP))[0] == 200, "its mistakes are told"
            assert (await ask(app, "GET", "status"))[0] == 200
        assert lag.busy_s < 1.0


async def test_what_nobody_foresaw_in_one_answer_is_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty at once; the others are answered meanwhile, and it is answered again afterwards."""
    async with running(config_of(root)) as app:
        drop(app.spool, "a", GOOD.format(project=upload(app.spool, "up1")) + "name: a\nhold: true\n")
        await until(lambda: submitted(app, "a"), "a job")
        with monkeypatch.context() as faulty:

            def fail() -> None:
                raise RecursionError("what is this?")

            faulty.setattr(app.loop, "reading", fail)
            answers = await asyncio.gather(*(ask(app, "GET", "jobs/1") for _ in range(20)), ask(app, "GET", "sweeps"))
        assert answers == [(500, "The controller could not answer this; see its log.")] * 20 + [(200, "")]
        assert await ask(app, "GET", "jobs/1") == (200, "")
