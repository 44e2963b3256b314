"""A ranking is an expression over everything that a sweep has computed: it costs its author, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web

from racksack_controller.sandbox.operations import Query
from racksack_controller.sandbox.pool import Sandbox
from racksack_controller.sandbox.process import RefusedError, TooMuchError
from racksack_controller.store import Store, StoreError, open_database
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results.ranking import Ranking
from racksack_controller.sweeps.results.segments import build
from racksack_controller.web.caller import while_connected
from tests.sweeps.builders import progress, sweep, sweep_spec

POINTS = 400_000
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one sweep of very many points."""
    found = tmp_path_factory.mktemp("store") / "racksack.db"
    connection = open_database(found)
    made = sweep(spec=sweep_spec(POINTS))
    ledger.add_sweep(connection, made, progress(made))
    for low in range(0, POINTS, 50_000):
        numbers = np.arange(low, low + 50_000)
        column: Any = np.sin(numbers)
        part = build(numbers, np.full(50_000, 0.01, dtype=np.float32), {"v": column, "w": column * 2})
        ledger.add_segments(connection, 1, 0, 0, [part])
    connection.close()
    return found


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    found = Sandbox()
    yield found
    await found.close()


def query(path: Path, by: str | None) -> bytes:
    return msgspec.msgpack.encode(Query(str(path), 1, "rank", {"by": by, "count": 3, "run": 0}))


async def best(sandbox: Sandbox, user: str, path: Path, by: str | None) -> Ranking:
    answer = await sandbox.compute(user, "query", query(path, by), memory_bytes=3 * 2**30)
    return msgspec.msgpack.decode(answer, type=Ranking)


async def test_a_ranking_is_computed_apart(sandbox: Sandbox, path: Path) -> None:
    found = await best(sandbox, "ann", path, "v + x / 1e9")
    assert found.ranked == POINTS
    assert [row["value"] for row in found.rows] == sorted((row["value"] for row in found.rows), reverse=True)
    assert found.rows[0]["params"]["x"] == found.rows[0]["point"]


@pytest.mark.parametrize("by", ["v * (v in [0] * 2000000)", "nothing / 2", "v.__class__", "'a' * 1000000000", "s %"])
async def test_a_wrong_expression_is_refused_with_a_sentence(sandbox: Sandbox, path: Path, by: str) -> None:
    with pytest.raises(RefusedError) as error:
        await best(sandbox, "ann", path, by)
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


async def test_a_heavy_one_ends_at_its_limits_and_delays_nobody(sandbox: Sandbox, path: Path) -> None:
    heavy = " + ".join(["sqrt(v * v + w * w) ** 0.5"] * 18)
    eve = [asyncio.create_task(sandbox.compute("eve", "query", query(path, heavy), cpu_s=0.2)) for _ in range(5)]
    async with asyncio.timeout(60):
        assert (await best(sandbox, "ann", path, "v")).ranked == POINTS
        ended = await asyncio.gather(*eve, return_exceptions=True)
    assert all(isinstance(one, (TooMuchError, bytes)) for one in ended), ended
    with pytest.raises(TooMuchError, match="ranking its points takes more than 1 MiB of memory"):
        await sandbox.compute("eve", "query", query(path, heavy), memory_bytes=2**20)


async def test_a_store_that_is_not_there_is_said_to_be(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"could not be read|there is no sweep"):
        await best(sandbox, "ann", tmp_path / "none.db", None)


async def test_who_closes_the_connection_ends_the_computation() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return 7

    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=str(await while_connected(request, work())))

    async def quick(request: web.Request) -> web.Response:
        return web.Response(text=str(await while_connected(request, asyncio.sleep(0.01, 5))))

    app = web.Application()
    app.add_routes([web.get("/slow", handle), web.get("/quick", quick)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        _reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 30)
        writer.close()
        await asyncio.wait_for(ended.wait(), 30)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"\r\n\r\n5")
        writer.close()
    finally:
        await runner.cleanup()


async def test_an_endless_query_ends_and_others_are_read_beside_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("racksack_controller.store.READ_S", 1.0)
    store = Store(tmp_path / "racksack.db")
    try:
        endless = [
            asyncio.create_task(store.read(lambda connection: connection.execute(ENDLESS).fetchone())) for _ in range(3)
        ]
        for _ in range(20):
            assert await store.read(lambda connection: connection.execute("SELECT 7").fetchone()) == (7,)
        assert not any(task.done() for task in endless)
        for error in await asyncio.gather(*endless, return_exceptions=True):
            assert isinstance(error, StoreError)
            assert "took more than 1 s" in str(error)
        assert await store.read(lambda connection: connection.execute("SELECT 8").fetchone()) == (8,)
    finally:
        store.close()
