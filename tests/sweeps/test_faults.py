"""What goes wrong, injected: points that fail, runners that die, hang or lie, and a store that cannot be written."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from racksack_agent.sweep_runner import frames
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.sandbox.searches import SearchProcess
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps import receive
from racksack_controller.sweeps.results import segments
from racksack_controller.sweeps.results.segments import FrameError
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.spec import Metric, Search
from racksack_jobspecs.sweep.states import SweepState
from tests.sweeps.builders import ok_frame
from tests.sweeps.rig import MIB, Rig, over
from tests.sweeps.test_running import PLAIN, SLOW

FAULTS = """
import ctypes, os
def f(x):
    if os.path.exists({mended!r}): return x
    if x == 3: raise ValueError("no good")
    if x == 5: ctypes.string_at(0)
    if x == 7:
        while True: pass
    if x == 9:
        a = b"x" * (500 << 20)
    return x
"""


async def test_failed_points_are_kept_and_retried_alone(rig: Rig) -> None:
    mended = rig.root / "mended"
    spec = over(30, retries=1, backoff_s=0.05, point_timeout_s=2.5)
    code = FAULTS.format(mended=str(mended))
    number = await rig.submit(code, spec, resources=ResourceRequest(2.0, 200 * MIB))
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (26, 4)
    failures = await rig.failures(number)
    assert {point: (one.kind, one.tries) for point, one in failures.items()} == {
        3: ("error", 2), 5: ("crash", 2), 7: ("timeout", 2), 9: ("oom", 2)
    }  # fmt: skip
    assert failures[3].sentence == "ValueError: no good (f.py:5)"
    assert len((rig.app.spool.returned(number) / "results.csv").read_text().splitlines()) == 31
    mended.touch()
    assert await rig.app.sweeps.retry_failed(number, "retried by ann") == 4
    assert (await rig.ended(number)).done == 30
    assert await rig.failures(number) == {}
    assert {point: row["value"] for point, row in (await rig.results(number)).items()} == {x: x for x in range(30)}


async def test_a_point_that_does_well_the_second_time(rig: Rig) -> None:
    folder = rig.root / "tried"
    folder.mkdir()
    code = f"import os\ndef f(x):\n    path = f'{folder}/{{x}}'\n    if x % 5 == 0 and not os.path.exists(path):\n"
    code += "        open(path, 'w'); raise RuntimeError('not yet')\n    return x\n"
    number = await rig.submit(code, over(50, retries=2, backoff_s=0.05))
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (50, 0)
    assert await rig.failures(number) == {}


async def test_too_many_failures_end_it(rig: Rig) -> None:
    code = "import time\ndef f(x):\n    time.sleep(0.01)\n    raise RuntimeError('never')\n"
    number = await rig.submit(code, over(5000, retries=0, fails_max=5))
    progress = await rig.ended(number, SweepState.FAILED)
    assert "more than the 5 that it allows" in progress.reason
    assert progress.failed < 5000
    await rig.until(lambda: not rig.app.state.jobs, "its runners have ended")


async def test_chunks_grow_where_every_point_fails(rig: Rig) -> None:
    """A speed is learnt from failures until the first result; else chunks would stay as small as the first one."""
    fails = rig.root / "fails"
    fails.touch()
    code = f"import os\ndef f(x):\n    if os.path.exists({str(fails)!r}): raise RuntimeError('not yet')\n    return x\n"
    number = await rig.submit(code, over(20_000, retries=0))
    progress = await rig.ended(number, SweepState.FAILED)
    assert (progress.done, progress.failed) == (0, 20_000)
    assert progress.reason.startswith("all 20,000 points failed, point ")
    assert " with: RuntimeError: not yet" in progress.reason
    assert progress.chunks < 200
    told = progress.speeds
    fails.unlink()
    assert await rig.app.sweeps.retry_failed(number, "retried by ann") == 20_000
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (20_000, 0)
    assert progress.speeds != told, "what failures told is forgotten with the first result"


async def test_a_target_that_cannot_be_used_ends_it_with_the_reason(rig: Rig) -> None:
    number = await rig.submit("import nothing_like_this\n", over(10))
    progress = await rig.ended(number, SweepState.FAILED)
    assert progress.reason.startswith("f.py could not be imported: ModuleNotFoundError")


async def test_cancel_keeps_what_was_computed(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(5000))
    done = (await rig.reached(number, 10)).done
    await rig.app.sweeps.cancel(number, "cancelled by ann")
    progress = await rig.ended(number, SweepState.CANCELLED)
    assert done <= progress.done < 5000
    await rig.until(lambda: not rig.app.state.jobs and number not in rig.app.sweeps.active, "all is settled")


def programs(rig: Rig, word: str) -> list[int]:
    """Processes of this rig's nodes with a word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(rig.root).encode() in part for part in line) and word.encode() in line:
            found.append(int(entry.name))
    return found


async def test_a_runner_that_is_killed_costs_no_point(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(300))
    await rig.reached(number, 20)
    killed = programs(rig, "sweep")
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (300, 0)
    assert set(await rig.results(number)) == set(range(300))


async def test_a_supervisor_that_is_killed_costs_no_point(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(200))
    await rig.reached(number, 10)
    for attempt in list(rig.app.state.attempts.values()):
        lock = rig.root / "here/attempts" / attempt.key / "lock"
        os.kill(int(lock.read_text()), signal.SIGKILL)
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (200, 0)
    assert set(await rig.results(number)) == set(range(200))


async def test_a_point_that_takes_its_runner_with_it_is_found(rig: Rig) -> None:
    code = "import os, signal\ndef f(x):\n    if x == 13: os.kill(os.getppid(), signal.SIGKILL)\n    return x\n"
    number = await rig.submit(code, over(32, retries=0))
    progress = await rig.ended(number, timeout_s=100)
    failures = await rig.failures(number)
    assert {point: one.kind for point, one in failures.items()} == {13: "lost"}
    assert progress.done == 31


async def test_a_runner_that_says_nothing_is_given_up(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(150, stuck_after_s=1.0))
    await rig.reached(number, 10)
    stopped = programs(rig, "sweep")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    progress = await rig.ended(number)
    assert progress.done == 150
    assert set(await rig.results(number)) == set(range(150))


async def test_results_of_points_that_a_runner_does_not_have_do_not_count(rig: Rig) -> None:
    """A runner repeats itself and tells of points that it never had: what counted first stays."""
    number = await rig.submit(SLOW, over(200))
    await rig.reached(number, 20)
    [path, *_] = sorted((rig.root / "here/attempts").glob("*/sweep/results.bin"))
    with path.open("ab") as file:
        file.write(ok_frame(1, range(4), [{"value": -1}] * 4))
        file.write(ok_frame(99, range(150, 154), [{"value": -1}] * 4))
    await rig.ended(number)
    assert {point: row["value"] for point, row in (await rig.results(number)).items()} == {x: x for x in range(200)}


async def test_a_runner_that_sends_nonsense_is_replaced(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(200))
    await rig.reached(number, 20)
    for path in (rig.root / "here/attempts").glob("*/sweep/results.bin"):
        with path.open("ab") as file:
            file.write(frames.LENGTHS.pack(9, 0) + b"not json}")
    progress = await rig.ended(number)
    assert progress.done == 200
    assert set(await rig.results(number)) == set(range(200))


async def test_a_store_that_cannot_be_written_for_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await rig.submit(SLOW, over(300))
    await rig.reached(number, 20)
    real, failing = Store.write, [5]

    async def write(self: Store, work: Any) -> Any:
        if failing[0]:
            failing[0] -= 1
            raise StoreError("the disk is full")
        return await real(self, work)

    monkeypatch.setattr(Store, "write", write)
    assert (await rig.ended(number)).done == 300
    assert failing == [0]
    assert set(await rig.results(number)) == set(range(300))


async def test_a_sweep_that_cannot_be_loaded_again_for_a_while_is_not_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await rig.submit(SLOW, over(300))
    await rig.reached(number, 20)
    real, failing = Store.read, [1]

    async def read(self: Store, work: Any) -> Any:
        if failing[0] and work.__qualname__.startswith("Sweeps._load."):
            failing[0] -= 1
            raise StoreError("the disk does not answer")
        return await real(self, work)

    monkeypatch.setattr(Store, "read", read)
    rig.app.sweeps.active[number].is_stale = True
    assert (await rig.ended(number)).done == 300
    assert failing == [0]


async def test_points_that_cannot_be_read_for_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of drawn points are read when they are sent: it is tried again, and soon."""
    real, failing = Store.read, [3]

    async def read(self: Store, work: Any) -> Any:
        if failing[0] and work.__qualname__.startswith("_message."):
            failing[0] -= 1
            raise StoreError("the disk does not answer")
        return await real(self, work)

    monkeypatch.setattr(Store, "read", read)
    number = await rig.submit(SLOW, over(200, search=Search(kind="random", count=100)), Ranges([(0, 100)]))
    assert (await rig.ended(number)).done == 100
    assert failing == [0]


async def test_results_that_cannot_be_written_for_a_while(rig: Rig) -> None:
    """The sweep is over only when its folder is there; the controller lives on, and other sweeps go on."""
    beside = rig.app.spool.returns / ".receiving-sweep-1"
    beside.parent.mkdir(exist_ok=True)
    beside.touch()  # a file where the folder would be
    number = await rig.submit(SLOW, over(20))
    assert number == 1
    await rig.reached(number, 20)
    other = await rig.submit(SLOW, over(20))
    await rig.ended(other)
    assert (await rig.progress(number)).state is SweepState.RUNNING
    with pytest.raises(StoreError, match=r"the results of sweep 1 cannot be written|sweep 1 is about to be reloaded"):
        await cancelled(rig, number)
    beside.unlink()
    assert (await rig.ended(number)).done == 20
    assert len((rig.app.spool.returned(number) / "results.csv").read_text().splitlines()) == 21


async def cancelled(rig: Rig, number: int) -> None:
    """Cancel it between two tries to end it, when it is in memory."""
    while True:
        try:
            return await rig.app.sweeps.cancel(number, "cancelled by ann")
        except StoreError as error:
            if "loaded again" not in str(error):
                raise
        await asyncio.sleep(0.01)


async def test_a_search_whose_library_fails_ends_the_sweep(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: SearchProcess, outcomes: Any) -> None:
        raise ZeroDivisionError("a division")

    monkeypatch.setattr(SearchProcess, "tell", fail)
    number = await rig.submit(PLAIN, over(30, search=Search(kind="tpe", count=20)), Ranges([(0, 20)]))
    progress = await rig.ended(number, SweepState.FAILED)
    assert progress.reason == "the search failed: ZeroDivisionError: a division"


async def test_a_runner_that_a_person_cancels_is_replaced(rig: Rig) -> None:
    from racksack_controller.core import events as ev

    number = await rig.submit(SLOW, over(200, runners_max=1))
    await rig.reached(number, 10)
    [job] = [job for job in rig.app.state.jobs.values() if job.state is JobState.RUNNING]
    rig.app.loop.post(ev.CancelRequested(job.id, "cancelled by ann"))
    assert (await rig.ended(number)).done == 200


async def test_a_metric_that_no_point_returns_ends_the_sweep_early(rig: Rig) -> None:
    code = "import time\ndef f(x):\n    time.sleep(0.02)\n    return {'loss': x, 'size': 1}\n"
    number = await rig.submit(code, over(2000, metrics=(Metric("lossy", "min"),)))
    progress = await rig.ended(number, SweepState.FAILED)
    assert progress.reason == "no point returned the metric 'lossy'; they returned loss, size"
    assert progress.done < 1000
    alone = await rig.submit("def f(x):\n    return {'loss': x}\n", over(1, metrics=(Metric("lossy", "min"),)))
    assert "lossy" in (await rig.ended(alone, SweepState.FAILED)).reason


@pytest.mark.parametrize("points", [[7, 7], [2**63 - 1], [-1], [2**60]])
def test_results_of_points_that_cannot_be_are_refused(points: list[int]) -> None:
    """Of 2**63 - 1 the number behind it wraps round, and the range of it seems to be empty."""
    data = ok_frame(1, points, [{"value": 1}] * len(points))
    with pytest.raises(FrameError):
        receive._checked(segments.split(data)[0])
