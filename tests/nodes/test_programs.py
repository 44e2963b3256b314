"""Helper programs end when they end, whoever else holds their output; giving up, they leave nobody behind."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from pathlib import Path

import psutil
import pytest

from racksack_controller import programs
from tests.nodes.conftest import bounded
from tests.nodes.sshd import name_of

# As ssh's master connection does: in a session of its own, with our stderr.
HELD = "setsid sh -c 'echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 600' >/dev/null & "


@pytest.fixture
def holder(tmp_path: Path):
    """The file with the id of the process that holds the output; it is ended after the test."""
    file = tmp_path / "holder"
    yield file
    psutil.Process(int(file.read_text())).kill()


def script(holder: Path, rest: str) -> list[str]:
    return ["sh", "-c", HELD.replace("{pid}", str(holder)) + rest]


async def test_output_and_exit_code() -> None:
    ended = await programs.run(["sh", "-c", 'printf out; printf "$WORD" >&2; exit 7'], {"WORD": "err"})
    assert ended == (7, b"out", b"err")
    assert (await programs.run(["sh", "-c", "kill -9 $$"])).exit_code == -9


async def test_the_end_of_a_program_whose_output_somebody_else_holds(holder: Path) -> None:
    async with bounded():
        ended = await programs.run(script(holder, f"until [ -e {holder} ]; do sleep 0.01; done; echo why >&2; exit 30"))
    assert (ended.exit_code, ended.stderr) == (30, b"why\n")


async def test_a_time_limit_holds_where_somebody_else_holds_the_output(holder: Path, tmp_path: Path) -> None:
    """The limit comes when the holder is there, however slow this machine is."""

    async def until_held(limit: asyncio.Timeout, pid: int) -> None:
        (tmp_path / "pid").write_text(str(pid))
        while not holder.exists():
            await asyncio.sleep(0.01)
        limit.reschedule(asyncio.get_running_loop().time())

    async with bounded():
        with pytest.raises(TimeoutError):
            await programs.run(script(holder, "sleep 600"), extend=until_held)
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_program_given_up_takes_its_group_along(tmp_path: Path) -> None:
    running = asyncio.create_task(programs.run(["sh", "-c", f"sleep 600 & echo $! >{tmp_path}/pid; wait"]))
    async with bounded():
        while not (text := _text(tmp_path / "pid")):
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while alive(int(text)):
            await asyncio.sleep(0.01)


async def test_a_program_given_up_while_it_starts_takes_its_group_along(tmp_path: Path) -> None:
    for number in range(20):
        argv = ["sh", "-c", f"sleep 600 & echo $! >{tmp_path}/pid{number}; wait"]
        running = asyncio.create_task(programs.run(argv))
        for _ in range(number % 5):
            await asyncio.sleep(0)  # somewhere on the way from its start to its first line
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    async with bounded():
        for path in tmp_path.iterdir():
            while (text := _text(path)) and alive(int(text)):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("keep", "kept"), [("first", b"first"), ("last", b"last\n")])
async def test_a_long_output_is_bounded(keep, kept: bytes) -> None:
    ended = await programs.run(["sh", "-c", "echo first; head -c 3000000 /dev/zero; echo last"], keep=keep)
    assert len(ended.stdout) == programs.OUTPUT_BYTES_MAX
    assert kept in ended.stdout


async def test_one_that_cannot_start() -> None:
    with pytest.raises(FileNotFoundError):
        await programs.run(["/nowhere/at-all"])


def test_no_transport_stays_open(tmp_path: Path) -> None:
    """Garbage of a closed event loop would complain; seen here, not in whichever test comes next."""

    async def several() -> None:
        await programs.run(["true"])
        with pytest.raises(TimeoutError):
            await programs.run(["sleep", "600"], timeout_s=0.05)

    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(several())
        gc.collect()
    assert time.monotonic() - began < 60
    assert not [child for child in psutil.Process().children() if name_of(child) == "sleep"]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
