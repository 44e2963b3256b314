"""Carrying actions out: whatever a node or the controller's own disk does, each action ends, and the job goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from racksack_controller import returns
from racksack_controller.core import events as ev
from racksack_controller.core.records import Node as NodeRecord
from racksack_controller.core.state import Attempt
from racksack_controller.effects.attempts import AttemptEffects
from racksack_controller.loop import Loop
from racksack_controller.nodes.errors import NodeUnreachable
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import JobState
from tests.core.builders import inventory, job
from tests.effects.machine import Machine, looping, until

SNAPSHOT = "0" * 64


class Scene:
    """One node that is up, a loop, and the effects between them."""

    def __init__(self, loop: Loop, spool: Spool) -> None:
        self.loop, self.spool, self.machine = loop, spool, Machine()
        self.machine.on_report = lambda told: loop.post(ev.Reported("n1", told))
        self.energy_faults: list[Exception] = []
        self.nodes = {"n1": self.machine}
        self.effects = AttemptEffects(
            loop,
            spool,
            self.nodes,
            {},
            {},
            self._energy,
            plan_of=lambda _job, _node: None,
            before_collect=self._nothing,
        )
        loop.attach(self.effects)

    async def _energy(self, _node: str, _jobs: Sequence[int]) -> Mapping[int, Mapping[str, object]]:
        if self.energy_faults:
            raise self.energy_faults.pop()
        return {}

    async def _nothing(self, _attempt: Attempt) -> None:
        return None

    async def submit(self, number: int = 1, **changes: Any) -> None:
        await self.loop.submit(ev.JobAccepted(job(number, snapshot=SNAPSHOT, submission=f"key-{number}", **changes)))

    async def reaches(self, state: JobState, number: int = 1) -> None:
        await until(lambda: self.loop.state.jobs.get(number) is None or self.state(number) is state, f"it is {state}")

    def state(self, number: int = 1) -> JobState | None:
        found = self.loop.state.jobs.get(number)
        return found.state if found else None

    def result(self, number: int = 1) -> Path:
        return self.spool.returns / str(number) / "out.txt"

    async def ends(self, number: int = 1) -> None:
        """The program ends well, and its results are here."""
        await until(lambda: self.state(number) is JobState.RUNNING, "it runs")
        self.machine.ends(self.loop.state.jobs[number].attempt_key)
        await until(lambda: self.result(number).exists(), "its results are here")
        await until(lambda: not self.machine.present, "nothing is left on the node")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with looping(tmp_path) as (loop, spool):
        (spool.snapshots / SNAPSHOT).mkdir(parents=True)
        one = Scene(loop, spool)
        task = asyncio.create_task(loop.run())
        await loop.submit(ev.NodeConfigured(NodeRecord(name="n1")))
        await loop.submit(ev.NodeConnected("n1", "b1", inventory(), ()))
        yield one
        assert not task.done()
        await one.effects.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


FAULTS = [RuntimeError("what is this?"), NodeUnreachable("no route to n1")]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["stage", "launch", "collect", "remove"])
async def test_a_call_that_fails_is_made_again_and_the_job_comes_to_its_end(
    scene: Scene, call: str, error: Exception
) -> None:
    scene.machine.faults[call] = [error]
    await scene.submit()
    await scene.ends()
    assert scene.machine.called.count(call) == 2
    assert scene.result().read_text() == "42"


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
async def test_a_stop_that_fails_is_asked_for_again(scene: Scene, error: Exception) -> None:
    await scene.submit()
    await until(lambda: scene.state() is JobState.RUNNING, "it runs")
    scene.machine.faults["stop"] = [error]
    await scene.loop.submit(ev.CancelRequested(1, "enough"))
    await until(lambda: not scene.machine.present, "nothing is left on the node")
    assert scene.machine.called.count("stop") == 2


async def test_what_fails_on_the_controller_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meter, and the disk on which results are put in place: in ways that nobody foresaw."""
    as_it_is, faults = returns.complete, [ValueError("what is this?"), OSError(28, "No space left on device")]

    def faulty(*given: Any) -> None:
        if faults:
            raise faults.pop()
        as_it_is(*given)

    monkeypatch.setattr(returns, "complete", faulty)
    scene.energy_faults = [RuntimeError("no such meter")]
    await scene.submit()
    await scene.ends()
    assert not faults
    assert not scene.energy_faults


async def test_the_failure_of_one_node_is_not_the_others(scene: Scene) -> None:
    other = Machine("n2")
    other.on_report = lambda told: scene.loop.post(ev.Reported("n2", told))
    scene.nodes["n2"] = other
    await scene.loop.submit(ev.NodeConfigured(NodeRecord(name="n2")))
    await scene.loop.submit(ev.NodeConnected("n2", "b2", inventory(), ()))

    async def hang() -> None:
        await asyncio.Event().wait()

    scene.machine.faults["stage"] = [hang]
    await scene.submit(1, nodes=("n1",))
    await scene.submit(2, nodes=("n2",))
    await until(lambda: scene.state(2) is JobState.RUNNING, "the other node's job runs")
    other.ends("2.1")
    await until(lambda: scene.result(2).exists(), "its results are here")
    assert scene.state(1) is JobState.STAGING


async def test_an_attempt_that_is_over_by_the_time_of_its_start_is_left_alone(scene: Scene) -> None:
    """Cancelled while its content was on the way: what was asked for is forgotten, nothing is launched for it."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await go.wait()

    scene.machine.faults["stage"] = [wait]
    await scene.submit()
    async with asyncio.timeout(30):
        await reached.wait()
    await scene.loop.submit(ev.CancelRequested(1, "enough"))
    go.set()
    await until(lambda: not scene.loop.state.attempts and not scene.machine.present, "nothing is left of it")
    assert not scene.result().exists() or scene.result().read_text() == "42"


async def test_two_of_one_content_are_started_together_and_once(scene: Scene) -> None:
    await scene.loop.submit_all(
        [ev.JobAccepted(job(number, snapshot=SNAPSHOT, submission=f"key-{number}")) for number in (1, 2)]
    )
    await until(lambda: scene.state(1) is scene.state(2) is JobState.RUNNING, "both run")
    assert (scene.machine.called.count("stage"), scene.machine.called.count("launch")) == (1, 1)
    for number in (1, 2):
        scene.machine.ends(f"{number}.1")
    await until(lambda: scene.result(1).exists() and scene.result(2).exists(), "the results of both are here")


async def test_a_node_that_was_taken_out_of_the_configuration_fails_the_action(scene: Scene) -> None:
    """Until it is back."""
    taken_out = dict(scene.nodes)
    scene.nodes.clear()
    told: list[str] = []
    scene.loop.listen(lambda changes: told.extend(sentence for _job, _node, _at_s, sentence in changes.events))
    await scene.submit()
    await until(lambda: any("is not in the configuration" in one for one in told), "the reason is in its story")
    assert scene.machine.called == []
    scene.nodes.update(taken_out)
    await scene.ends()


async def test_a_job_that_is_cancelled_while_its_project_is_sent_holds_up_no_other(scene: Scene) -> None:
    """Jobs of one project are started together."""

    async def meanwhile() -> None:
        await scene.loop.submit(ev.CancelRequested(1, "cancelled by ann"))

    scene.machine.faults["stage"] = [meanwhile]
    jobs = [job(number, snapshot=SNAPSHOT, submission=f"key-{number}") for number in (1, 2)]
    await scene.loop.submit_all([ev.JobAccepted(one) for one in jobs])
    await until(lambda: scene.state(2) is JobState.RUNNING, "the other one runs")
    assert scene.machine.called.count("launch") == 1
    assert list(scene.machine.present) == ["2.1"]
