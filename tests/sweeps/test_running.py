"""Whole sweeps on real nodes: what an owner sees of them from the beginning to the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from racksack_controller.core import events as ev
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.spec import Axis, Chunking, Control, Metric, Range, Script, Target
from racksack_jobspecs.sweep.states import SweepState
from tests.sweeps.rig import MIB, Rig, over, running

PLAIN = "def f(x):\n    return {'x': x, 'half': x / 2}\n"
SLOW = "import time\ndef f(x):\n    time.sleep(0.02)\n    return x\n"
GATED = "import os, time\ndef f(x):\n    while not os.path.exists({go!r}): time.sleep(0.01)\n    return x\n"


async def test_a_sweep_from_beginning_to_end(rig: Rig) -> None:
    number = await rig.submit(PLAIN, over(3000, metrics=(Metric("half", "max"),)))
    progress = await rig.ended(number)
    assert (progress.done, progress.failed, progress.pending) == (3000, 0, ())
    assert await rig.results(number) == {x: {"x": x, "half": x / 2} for x in range(3000)}
    await rig.until(lambda: not rig.app.state.jobs, "its runners have ended")
    folder = rig.app.spool.returned(number)
    with (folder / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["point"]) for line in lines] == list(range(3000))
    assert lines[7]["half"] == "3.5"
    best = json.loads((folder / "best.json").read_text())
    assert best[0]["params"] == {"x": 2999}
    assert json.loads((folder / "summary.json").read_text())["state"] == "done"


async def test_constraints_ranges_and_scripts(rig: Rig) -> None:
    axes = (Axis("a", (1, 2, 3)), Axis("b", (1, 2, 3)))
    allowed = Ranges([(1, 3), (5, 6)])
    grid = await rig.submit("def f(a, b):\n    return a * 10 + b\n", over(0, axes=axes), allowed)
    parts = await rig.submit(
        "def f(start, end):\n    return end - start\n", over(0, axes=(), range=Range("seed", 0, 2**32, 2**30 + 1))
    )
    scripts = tuple(Script(job_id=f"j{index}", script="f.py", args=(str(index),)) for index in range(5))
    listed = await rig.submit(
        "import json, sys\nprint(json.dumps({'arg': int(sys.argv[1])}))\n",
        over(0, axes=(), scripts=scripts, target=Target(kind="script")),
    )
    for number in (grid, parts, listed):
        await rig.ended(number)
    assert {point: row["value"] for point, row in (await rig.results(grid)).items()} == {1: 12, 2: 13, 5: 23}
    assert sum(row["value"] for row in (await rig.results(parts)).values()) == 2**32
    assert await rig.results(listed) == {index: {"arg": index} for index in range(5)}


async def test_stop_and_resume(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(400))
    await rig.reached(number, 20)
    await rig.app.sweeps.stop(number, "stopped by ann")
    await rig.until(lambda: not rig.app.state.jobs, "its runners have ended")
    await rig.until(lambda: not rig.app.sweeps.active[number].leases, "their points are free again")
    stopped = await rig.progress(number)
    assert stopped.state is SweepState.STOPPED
    assert stopped.done < 400
    assert stopped.done + sum(high - low for low, high in stopped.pending) == 400
    await rig.app.sweeps.resume(number, "resumed by ann")
    assert (await rig.ended(number)).done == 400
    assert set(await rig.results(number)) == set(range(400))


async def test_the_controller_is_restarted_in_the_middle(rig: Rig) -> None:
    number = await rig.submit(SLOW, over(500))
    await rig.reached(number, 20)
    await rig.stop()
    await rig.start()
    assert (await rig.ended(number)).done == 500
    assert {point: row["value"] for point, row in (await rig.results(number)).items()} == {x: x for x in range(500)}


async def test_the_best_run_again_on_other_data(rig: Rig) -> None:
    code = (
        "import os\ndef f(x, until=0):\n    return {'score': -abs(x - 7), 'until': until, 'p': os.environ.get('P')}\n"
    )
    control = Control(top=3, env={"P": "out"}, args={"until": 2026})
    number = await rig.submit(code, over(50, metrics=(Metric("score", "max"),), control=control))
    progress = await rig.ended(number)
    assert (progress.run, progress.done) == (1, 3)
    assert len(await rig.results(number)) == 50
    again = await rig.results(number, run=1)
    assert set(again) == {6, 7, 8}
    assert {(row["until"], row["p"]) for row in again.values()} == {(2026, "out")}
    assert len((rig.app.spool.returned(number) / "control.csv").read_text().splitlines()) == 4
    summary = json.loads((rig.app.spool.returned(number) / "summary.json").read_text())
    assert (summary["points"], summary["done"], summary["failed"]) == (50, 50, 0)
    assert summary["control"] == {"points": 3, "done": 3, "failed": 0}


async def test_what_was_computed_before_is_not_computed_again(rig: Rig) -> None:
    trace = rig.root / "trace"
    code = f"def f(x):\n    open({str(trace)!r}, 'a').write(f'{{x}}\\n')\n    return x\n"
    first = await rig.submit(code, over(20))
    await rig.ended(first)
    again = await rig.submit(code, over(20))
    assert (await rig.ended(again)).reused == 20
    wider = await rig.submit(code, over(0, axes=(Axis("x", (5, 19, 20, 21, -1)),)))
    progress = await rig.ended(wider)
    assert (progress.done, progress.reused) == (5, 2)
    assert {point: row["value"] for point, row in (await rig.results(wider)).items()} == {
        0: 5,
        1: 19,
        2: 20,
        3: 21,
        4: -1,
    }
    other = await rig.submit(code + "#\n", over(3))
    assert (await rig.ended(other)).reused == 0
    computed = sorted(int(line) for line in trace.read_text().split())
    assert computed == sorted([*range(20), 20, 21, -1, 0, 1, 2])


async def test_the_tail_is_shared(root) -> None:  # type: ignore[no-untyped-def]
    """One runner has all of it before the other is there: what it has not begun comes back and is shared."""
    async with running(root, a=2, b=2) as rig:
        await rig.submit("def f(x):\n    return x\n", over(1))
        rig.app.loop.post(ev.DrainRequested("b", "for the test"))
        code = "import os, time\ndef f(x):\n    time.sleep(0.05)\n    return {'node': os.environ['RACKSACK_NODE']}\n"
        number = await rig.submit(code, over(160, chunking=Chunking(points_min=200)))
        await rig.reached(number, 4)
        rig.app.loop.post(ev.ResumeRequested("b"))
        await rig.ended(number)
        nodes = [row["node"] for row in (await rig.results(number)).values()]
        assert len(nodes) == 160
        assert set(nodes) == {"a", "b"}


async def test_it_makes_room_for_a_job_of_higher_priority(root) -> None:  # type: ignore[no-untyped-def]
    async with running(root, here=2) as rig:
        number = await rig.submit(SLOW, over(600, chunking=Chunking(target_s=5.0, points_max=20)))
        await rig.reached(number, 5)
        urgent = await rig.submit(PLAIN, over(4), priority=50)
        await rig.ended(urgent)
        assert (await rig.progress(number)).state is SweepState.RUNNING
        assert (await rig.ended(number)).done == 600


async def test_runners_hold_what_was_asked_for_and_go(rig: Rig) -> None:
    go = rig.root / "go"
    number = await rig.submit(
        GATED.format(go=str(go)), over(40, runners_max=1), resources=ResourceRequest(3.0, 128 * MIB), name="held"
    )
    await rig.until(lambda: any(job.state is JobState.RUNNING for job in rig.app.state.jobs.values()), "it runs")
    [job] = rig.app.state.jobs.values()
    assert (job.owner, job.spec.name, job.spec.runner_of) == ("root", "held", number)
    assert rig.app.state.attempts[job.attempt_key].allocation.cpus == 3.0
    go.touch()
    await rig.ended(number)
    await rig.until(lambda: not rig.app.state.jobs, "it has gone")


async def test_each_node_has_its_own_number_of_workers(tmp_path: Path) -> None:
    """Both runners wait in their first points until all six workers of the two nodes have begun one."""
    code = (
        "import os, time\n"
        f"GATE = {str(tmp_path / 'begun')!r}\n"
        "os.makedirs(GATE, exist_ok=True)\n"
        "def f(x):\n"
        "    open(f'{GATE}/{os.getpid()}', 'w').close()\n"
        "    while len(os.listdir(GATE)) < 6: time.sleep(0.01)\n"
        "    return x\n"
    )
    async with running(tmp_path / "rack", r1=2, r2=2) as rack:
        number = await rack.submit(code, over(60, slots=2, slots_on={"r2": 4}))
        assert (await rack.ended(number)).done == 60
        assert len(list((tmp_path / "begun").iterdir())) == 6
