"""Nodes on which no runner can be prepared: the sweep goes on elsewhere, and tries them again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from racksack.sweep_client.text import sweep_story
from racksack_controller.core.records import Attempt
from racksack_controller.core.sweeps import backoff
from racksack_controller.web.sweep_views import sentence
from racksack_jobspecs.sweep.states import SweepState
from tests.sweeps.rig import Rig, over, running
from tests.sweeps.test_ram import memory, project, view, view_of
from tests.sweeps.test_running import SLOW


@pytest.fixture(autouse=True)
def short_backoffs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.5)


def block(rig: Rig, node: str) -> str:
    """Make a node's memory unusable, as if its folder were another user's; the sentence of whoever wants to use it."""
    memory(rig, node).touch()
    return f"{memory(rig, node)} belongs to another user"


def failures(rig: Rig, number: int) -> dict[str, int]:
    """By node, how often in a row a runner could not be prepared there."""
    return {name: one.failures for name, one in rig.app.sweeps.active[number].progress.backoffs.items()}


async def test_it_goes_on_elsewhere_and_comes_back(root: Path) -> None:
    """The first runner fails on b while a is busy: the sweep waits for either of them, and has a reason to tell."""
    async with running(root, a=2, b=2) as rig:
        other = await rig.submit(SLOW, over(100_000), nodes=("a",))
        await rig.reached(other, 1)
        why = block(rig, "b")
        placed: dict[str, Attempt] = {}
        rig.app.loop.listen(lambda changes: placed.update((one.key, one) for one in changes.attempts))
        number = await rig.submit_folder(project(rig), over(100, ramdisk=("data",), runners_max=1))
        try:
            await rig.until(lambda: failures(rig, number).get("b", 0) >= 3, "b was tried three times")
            progress = rig.app.sweeps.active[number].progress
            assert (progress.state, progress.done, progress.faults) == (SweepState.RUNNING, 0, 0)
            seen = view(rig, number)
            assert f"waits for room on a node, no new runner on b: {why}; " in sentence(seen)
            assert "NO NEW RUNNER" in sweep_story(view_of(seen), None)
            assert f"b     {why}; " in sweep_story(view_of(seen), None)
        finally:
            memory(rig, "b").unlink()
        await rig.until(lambda: not failures(rig, number), "a runner works on b")
        assert (await rig.ended(number)).done == 100
        began = sorted({one.placed_at_s for one in placed.values() if one.node == "b"})
        waits = [later - earlier for earlier, later in itertools.pairwise(began)]
        assert [wait >= least for wait, least in zip(waits, (0.5, 1.0, 2.0), strict=False)] == [True] * 3, waits
        await rig.app.sweeps.cancel(other, "the test is over")


async def test_when_no_node_can_it_ends_with_the_reason(root: Path) -> None:
    async with running(root, a=2, b=2) as rig:
        reasons = {name: block(rig, name) for name in "ab"}
        number = await rig.submit_folder(project(rig), over(100, ramdisk=("data",)))
        try:
            progress = await rig.ended(number, SweepState.FAILED)
        finally:
            for name in "ab":
                memory(rig, name).unlink()
        assert progress.reason == f"a: {reasons['a']}; b: {reasons['b']}"
        await rig.app.sweeps.resume(number, "resumed by ann")
        assert (await rig.ended(number)).done == 100, "nothing of it is held against the nodes"


async def test_what_the_project_lacks_is_not_looked_for_on_every_node(root: Path) -> None:
    async with running(root, a=2, b=2) as rig:
        other = await rig.submit(SLOW, over(100_000), nodes=("a",))
        await rig.reached(other, 1)
        number = await rig.submit_folder(project(rig), over(100, ramdisk=("prices",)))
        progress = await rig.ended(number, SweepState.FAILED)
        assert progress.reason == "the project has no prices to copy into memory"
        await rig.app.sweeps.cancel(other, "the test is over")


async def test_backoffs_are_known_after_a_restart(root: Path) -> None:
    async with running(root, a=2, b=2) as rig:
        other = await rig.submit(SLOW, over(100_000), nodes=("a",))
        await rig.reached(other, 1)
        why = block(rig, "b")
        try:
            number = await rig.submit_folder(project(rig), over(100, ramdisk=("data",)))
            await rig.until(lambda: failures(rig, number).get("b", 0) >= 2, "b was tried twice")
            await rig.stop()
            await rig.start()
            assert failures(rig, number)["b"] >= 2
            assert rig.app.sweeps.active[number].progress.backoffs["b"].reason == why
        finally:
            memory(rig, "b").unlink()
        assert (await rig.ended(number)).done == 100
        await rig.app.sweeps.cancel(other, "the test is over")
