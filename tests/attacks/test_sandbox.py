"""What users' texts ask for is computed in processes with limits, users in turn, and the limits end it for real."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from racksack_controller.intake.ingest import IngestPostponed
from racksack_controller.intake.reading import Reader, legible_key
from racksack_controller.sandbox import pool
from racksack_controller.sandbox.pool import Sandbox
from racksack_controller.sandbox.process import BusyError, FaultError, RefusedError, TooMuchError
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.sweep.spec import SweepSpec

GOOD = "project: up1\nentrypoint: main.py\n"
WAIT_S = 60.0


def space(where: str, size: int = 460) -> SweepSpec:
    params = ", ".join(f"{name}: 1:{size}:1" for name in "abc")
    text = f"{GOOD}sweep: {{function: f, params: {{{params}}}, where: '{where}'}}\n"
    found = parse_job(text).sweep
    assert found is not None
    return found


def heavy() -> bytes:
    """A hundred million combinations and an expression for each, which takes minutes."""
    return msgspec.msgpack.encode(space(" and ".join(["a * b * c % 7 > -1"] * 25)))


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(") ")[2].split()[1]) == os.getpid():
                found.add(int(path.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


async def until_gone(pids: set[int]) -> None:
    async with asyncio.timeout(WAIT_S):
        while pids & children():
            await asyncio.sleep(0.02)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    before = children()
    found = Sandbox()
    yield found
    await found.close()
    await until_gone(children() - before)


async def read(sandbox: Sandbox, user: str) -> None:
    spec = await Reader(sandbox).spec(user, GOOD)
    assert spec.entrypoint == "main.py"


async def test_time_is_limited(sandbox: Sandbox) -> None:
    with pytest.raises(TooMuchError, match=r"counting its points takes more than 0\.5 s of computing"):
        await sandbox.compute("ann", "number", heavy(), cpu_s=0.5)
    await read(sandbox, "ann")


async def test_memory_is_limited(sandbox: Sandbox) -> None:
    with pytest.raises(TooMuchError, match="takes more than 2 MiB of memory"):
        await sandbox.compute("ann", "number", heavy(), memory_bytes=2 * 2**20)
    await read(sandbox, "ann")


async def test_what_nobody_foresaw_is_a_fault_and_the_process_goes_on(sandbox: Sandbox) -> None:
    await read(sandbox, "ann")
    processes = children()
    with pytest.raises(FaultError, match="KeyError"):
        await sandbox.compute("ann", "no such operation", b"")
    with pytest.raises(FaultError, match=r"DecodeError|ValidationError"):
        await sandbox.compute("ann", "number", b"nonsense")
    await read(sandbox, "ann")
    assert children() == processes


async def test_a_process_that_dies_is_replaced(sandbox: Sandbox) -> None:
    before = children()
    await read(sandbox, "ann")
    [process] = children() - before
    os.kill(process, signal.SIGSEGV)
    await until_gone({process})
    with pytest.raises(FaultError, match="signal 11"):
        await sandbox.compute("ann", "read", GOOD.encode())
    await read(sandbox, "ann")


async def test_a_constraint_without_a_value_is_refused_with_its_sentence(sandbox: Sandbox) -> None:
    words = msgspec.structs.replace(space("a > 1"), where="a > 'x'")
    with pytest.raises(RefusedError, match="has no value here"):
        await sandbox.compute("ann", "number", msgspec.msgpack.encode(words))


async def test_heavy_texts_of_one_user_delay_no_other(sandbox: Sandbox) -> None:
    """Seven of them once filled the pool of threads that everybody shared, and no file was taken any more."""
    work = [asyncio.create_task(sandbox.compute("eve", "number", heavy(), cpu_s=60.0)) for _ in range(20)]
    before = children()
    async with asyncio.timeout(WAIT_S):
        while not children() - before:
            await asyncio.sleep(0.01)
        for user in ("ann", "bob", "ann", "cy"):
            await read(sandbox, user)
    assert not any(task.done() for task in work)
    assert len(children() - before) <= 3, "one computes for eve, and one or two are at hand"
    for task in work:
        task.cancel()
    assert await asyncio.gather(*work, return_exceptions=True) == [] or all(task.cancelled() for task in work)
    await read(sandbox, "eve")


async def test_who_stops_waiting_stops_the_computation(sandbox: Sandbox) -> None:
    before = children()
    await read(sandbox, "ann")
    processes = children() - before
    assert processes
    task = asyncio.create_task(sandbox.compute("ann", "number", heavy(), cpu_s=60.0))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(processes)
    await read(sandbox, "ann")


async def test_more_than_a_user_may_have_waiting_is_refused(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("racksack_controller.sandbox.pool.WAITING_MAX", 5)
    tasks = [asyncio.create_task(sandbox.compute("ann", "number", heavy(), cpu_s=60.0)) for _ in range(10)]
    await asyncio.sleep(0.1)
    with pytest.raises(BusyError, match="5 of your requests are already waiting"):
        await sandbox.compute("ann", "read", GOOD.encode())
    with pytest.raises(IngestPostponed):
        await Reader(sandbox).read("ann", GOOD)
    await read(sandbox, "bob")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_reader_words_it_for_whoever_dropped_the_file(sandbox: Sandbox) -> None:
    reader = Reader(sandbox)
    with pytest.raises(JobFileError, match=r"sweep\.where: a > 'x' has no value here"):
        await reader.points("ann", msgspec.structs.replace(space("a > 1"), where="a > 'x'"))
    with pytest.raises(JobFileError, match="is missing; add project"):
        await reader.spec("ann", "entrypoint: a.py\n")
    assert (await reader.points("ann", space("a < 3", size=10))).size == 200


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"{GOOD}submission: laptop-1\n", "laptop-1"),
        (f"{GOOD}submission: 'a:b'\nname: x\n", "a:b"),
        (GOOD, ""),
        ("name: 'submission: no'\n", ""),
        ("x" * 500_000 + "\nsubmission: k1", "k1"),
    ],
)
def test_the_key_of_a_text_that_cannot_be_read(text: str, key: str) -> None:
    assert legible_key(text) == key


async def test_many_heavy_users_leave_a_reserve_for_the_others(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven who were found to be heavy ask at once, and one who was not is answered beside them."""
    monkeypatch.setattr(pool, "LONG_S", 0.0)
    users = [f"heavy{at}" for at in range(7)]
    for user in users:
        await sandbox.compute(user, "read", GOOD.encode())
    monkeypatch.setattr(pool, "LONG_S", WAIT_S)
    heavies = [asyncio.create_task(sandbox.compute(user, "number", heavy(), cpu_s=60.0)) for user in users]
    while len(sandbox._working) < pool.PROCESSES_MAX - pool.RESERVE:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(WAIT_S):
        assert await sandbox.compute("light", "read", GOOD.encode())
    assert len(sandbox._working) == pool.PROCESSES_MAX - pool.RESERVE
    assert not any(task.done() for task in heavies)
    for task in heavies:
        task.cancel()
    await asyncio.gather(*heavies, return_exceptions=True)
