"""The worker: what hangs is left behind, and nothing else is held up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from time import monotonic

import pytest

from racksack_controller.power.blocking import LEFT_BEHIND_MAX, Worker


async def test_results_and_errors_come_back() -> None:
    worker = Worker("r1")
    assert await worker.call(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, 10)


async def test_one_call_at_a_time() -> None:
    worker, busy, most = Worker("r1"), [], []

    def work() -> None:
        busy.append(1)
        most.append(len(busy))
        threading.Event().wait(0.02)
        busy.pop()

    await asyncio.gather(*(worker.call(work, 20) for _ in range(5)))
    assert most == [1] * 5


async def test_waiting_in_line_counts() -> None:
    worker, gate = Worker("r1"), threading.Event()
    first = asyncio.create_task(worker.call(gate.wait, 20))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await worker.call(lambda: None, 0.1)
    gate.set()
    assert await first


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_an_abandoned_call_lets_go_when_it_comes_back(how: str) -> None:
    worker, gate, let_go = Worker("r1"), threading.Event(), threading.Event()
    call = asyncio.create_task(worker.call(gate.wait, 0.1 if how == "timeout" else 60, late=let_go.set))
    await asyncio.sleep(0.02)
    if how == "cancel":
        call.cancel()
    with pytest.raises(TimeoutError if how == "timeout" else asyncio.CancelledError):
        await call
    assert not let_go.is_set()
    assert await worker.call(lambda: "next", 10) == "next"
    gate.set()
    assert await asyncio.to_thread(let_go.wait, 20)


async def test_the_number_of_hung_threads_is_bounded_and_recovers() -> None:
    worker, gate = Worker("r1"), threading.Event()
    before = threading.active_count()
    for _ in range(LEFT_BEHIND_MAX + 3):
        with pytest.raises(TimeoutError):
            await worker.call(gate.wait, 0.05)
    assert threading.active_count() - before <= LEFT_BEHIND_MAX
    gate.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await worker.call(lambda: 1, 1) == 1
                break
            except TimeoutError:
                await asyncio.sleep(0.02)


def test_a_hung_call_does_not_hold_up_the_end_of_the_process() -> None:
    program = (
        "import asyncio, time\n"
        "from racksack_controller.power.blocking import Worker\n"
        "async def main():\n"
        "    try:\n"
        "        await Worker('r1').call(lambda: time.sleep(300), 0.2)\n"
        "    except TimeoutError:\n"
        "        print('left')\n"
        "asyncio.run(main())\n"
    )
    began_s = monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")
    assert monotonic() - began_s < 30
