"""Points that report while they run: curves, verdicts at rungs, and what a restart makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.sweeps.results import reports
from racksack_jobspecs.sweep.spec import Axis, Metric, Stopping, Target
from racksack_jobspecs.sweep.states import SweepState
from tests.sweeps.rig import Rig, over

# Point x gets better by 30 - x a step, so each that comes later is worse; it notes every step that it computes.
CLIMB = """
import racksack
def f(x):
    with open({log!r}, "a") as log:
        for step in range(1, 28):
            log.write(f"{{x}} {{step}}\\n")
            log.flush()
            racksack.report(step, score=(30 - x) * step)
    return {{"score": (30 - x) * 27}}
"""
ASHA = Stopping(kind="asha", grace=1.0, reduction=3, rungs=4)  # at steps 1, 3, 9, 27
SCORE = (Metric("score", "max"),)


def steps_of(log: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for line in log.read_text().splitlines():
        point, step = line.split()
        found.setdefault(int(point), []).append(int(step))
    return found


async def read(rig: Rig, number: int) -> tuple[dict[int, int], dict[int, list[dict[str, float]]]]:
    """The steps at which points were stopped, and all curves."""

    def look(connection):  # type: ignore[no-untyped-def]
        steps = [1, 3, 9, 27]
        stopped = {one.point: steps[one.rung] for one in reports.verdicts_of(connection, number, 0) if one.stop}
        return stopped, {point: reports.curve_of(connection, number, 0, point) for point in range(30)}

    return await rig.app.store.read(look)


async def test_hopeless_points_stop_at_a_rung_and_compute_nothing_past_it(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "steps"
    number = await rig.submit(CLIMB.format(log=str(log)), over(30, metrics=SCORE, stop=ASHA))
    progress = await rig.ended(number)
    assert (progress.state, progress.done, progress.failed) == (SweepState.DONE, 30, 0)
    stopped, curves = await read(rig, number)
    assert progress.stopped == len(stopped) > 0
    computed = steps_of(log)
    for point in range(30):
        assert computed[point] == list(range(1, stopped.get(point, 27) + 1)), point
        assert [one["step"] for one in curves[point]] == computed[point]
    results = await rig.results(number)
    assert {point: row["score"] for point, row in results.items()} == {
        point: (30 - point) * stopped.get(point, 27) for point in range(30)
    }
    assert 0 not in stopped, "the best one is never stopped"


async def test_a_restart_goes_on_with_the_same_rungs(rig: Rig, tmp_path: Path) -> None:
    """The verdicts are those of the values in the order in which they were stored, whatever was killed."""
    log = tmp_path / "steps"
    code = CLIMB.format(log=str(log)).replace("log.flush()", "log.flush(); __import__('time').sleep(0.01)")
    number = await rig.submit(code, over(30, metrics=SCORE, stop=ASHA))
    for _ in range(3):
        await rig.reached(number, 3)
        await rig.stop()
        await rig.start()
    progress = await rig.ended(number)
    assert (progress.done, progress.failed) == (30, 0)
    stopped, _ = await read(rig, number)
    assert progress.stopped == len(stopped)
    for point, steps in steps_of(log).items():
        assert max(steps) == stopped.get(point, 27), "nothing is computed past a stop"


async def test_a_program_reports_on_stdout_and_is_asked_to_end(rig: Rig) -> None:
    code = (
        "import json, sys, time\n"
        "x = int(sys.argv[2])\n"
        "for step in range(1, 200):\n"
        "    print(json.dumps({'step': step, 'score': x}), flush=True)\n"
        "    time.sleep(0.02 if x > 3 or step < 2 else 0.5)\n"
    )
    spec = over(
        0, axes=(Axis("x", (9, 1)),), metrics=SCORE, stop=ASHA, target=Target(kind="program", argv=("f.py",)), slots=1
    )
    number = await rig.submit(code, spec)
    progress = await rig.ended(number)
    assert (progress.done, progress.stopped, progress.failed) == (2, 1, 0)
    stopped, _ = await read(rig, number)
    assert set(stopped) == {1}
    assert (await rig.results(number))[0]["score"] == 9


@pytest.mark.parametrize("kind", ["hyperband", "median"])
async def test_other_rules_keep_the_best(rig: Rig, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "steps"
    stop = Stopping(kind=kind, grace=1.0, reduction=3, rungs=3)  # type: ignore[arg-type]
    number = await rig.submit(CLIMB.format(log=str(log)), over(30, metrics=SCORE, stop=stop))
    progress = await rig.ended(number)
    assert progress.done == 30
    assert progress.stopped > 0
    assert (await rig.results(number))[0]["score"] == 30 * 27


async def test_reports_without_a_rule_are_kept_thinned(rig: Rig) -> None:
    loop = "    for step in range(1000):\n        racksack.report(step, v=step)\n"
    code = "import racksack\ndef f(x):\n" + loop + "    return x\n"
    number = await rig.submit(code, over(2))
    await rig.ended(number)
    _, curves = await read(rig, number)
    for point in (0, 1):
        steps = [one["step"] for one in curves[point]]
        assert 100 <= len(steps) <= 500
        assert steps[-1] > 900
