"""Whole sweeps on a real node: every point once, whatever fails on the way."""

from __future__ import annotations

from tests.sweeps.rig import Rig, over


async def test_a_sweep_from_beginning_to_end(rig: Rig) -> None:
    number = await rig.submit("def f(x):\n    return {'x': x, 'half': x / 2}\n", over(3000))
    progress = await rig.ended(number)
    assert (progress.done, progress.failed, progress.pending) == (3000, 0, ())
    assert await rig.results(number) == {x: {"x": x, "half": x / 2} for x in range(3000)}
    await rig.until(lambda: not rig.app.state.jobs, "its runners have ended")
    folder = rig.app.spool.returned(number)
    assert len((folder / "results.csv").read_text().splitlines()) == 3001
