"""The connection of one node: whatever one machine does, it is tried again, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import PowerTraits
from racksack_controller.core.records import Node as NodeRecord
from racksack_controller.effects import connector as module
from racksack_controller.effects.connector import Connector
from racksack_controller.loop import Loop
from racksack_controller.nodes.errors import NodeUnreachable
from racksack_jobspecs.resources import Inventory
from tests.effects.machine import Machine, looping, until


class Scene:
    """Two machines that a controller connects to; the second is there to be left alone."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.machine, self.other = Machine("n1"), Machine("n2")
        self.looks: list[object] = []  # what the next looks at a booting node meet
        self.connector = Connector(loop, self.machine, self.complete, self.answers)
        self.beside = Connector(loop, self.other, lambda found: found)
        self.odd_inventories = 0

    def complete(self, found: Inventory) -> Inventory:
        if self.odd_inventories:
            self.odd_inventories -= 1
            raise ValueError("more cores reserved than there are")
        return found

    async def answers(self) -> bool:
        found = self.looks.pop(0) if self.looks else True
        if isinstance(found, Exception):
            raise found
        return bool(found)

    def is_up(self, name: str = "n1") -> bool:
        return self.loop.state.nodes[name].connected

    def reason(self) -> str:
        return self.loop.state.nodes["n1"].connection_reason


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "RETRY_S_MAX", 0.05)
    monkeypatch.setattr(module, "RETRY_ANSWERING_S_MAX", 0.05)
    for every in ("BOOT_LOOK_EVERY_S", "LOOK_EVERY_S"):
        monkeypatch.setattr(module, every, 0.01)
    async with looping(tmp_path) as (loop, _spool):
        one = Scene(loop)
        tasks = [asyncio.create_task(loop.run())]
        for name in ("n1", "n2"):
            await loop.submit(ev.NodeConfigured(NodeRecord(name=name)))
        tasks += [asyncio.create_task(one.connector.run()), asyncio.create_task(one.beside.run())]
        yield one
        assert not [task for task in tasks if task.done()], "it ends only when it is cancelled"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


UNFORESEEN = [RuntimeError("what is this?"), MemoryError()]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["connect", "probe", "reports", "stats", "close"])
async def test_whatever_fails_the_node_is_tried_again(scene: Scene, call: str, error: Exception) -> None:
    await until(scene.is_up, "it is connected")
    scene.machine.faults[call] = [error, error]
    calls = scene.other.called.copy()
    while scene.machine.faults[call]:
        before = scene.machine.called.count("connect")
        scene.machine.on_disconnect("the line was cut")
        await until(lambda before=before: scene.machine.called.count("connect") > before, "it is tried again")  # type: ignore[misc]
        await until(scene.is_up, "it is connected again")
    assert (scene.is_up("n2"), scene.other.called) == (True, calls), "the other node was left alone"


async def test_a_failure_is_told_with_its_reason(scene: Scene) -> None:
    await until(scene.is_up, "it is connected")

    async def fail() -> None:
        raise NodeUnreachable("no route to n1")

    scene.machine.faults["connect"] = [fail] * 3
    scene.machine.on_disconnect("the line was cut")
    await until(lambda: scene.reason() == "no route to n1", "the reason of the failure")
    await until(scene.is_up, "it is connected again")


async def test_a_node_that_says_what_cannot_be_is_tried_again(scene: Scene) -> None:
    """As an agent of another version, or one that a user's job speaks for."""
    await until(scene.is_up, "it is connected")
    scene.odd_inventories = 2
    scene.machine.on_disconnect("the line was cut")
    await until(lambda: "more cores reserved" in scene.reason(), "the reason is shown")
    await until(scene.is_up, "it is connected again")


async def test_a_look_at_a_booting_node_may_fail(scene: Scene) -> None:
    await until(scene.is_up, "it is connected")
    scene.looks = [OSError("no more sockets"), RuntimeError("what is this?"), False]
    scene.machine.faults["connect"] = [NodeUnreachable("it boots")] * 10_000
    await scene.loop.submit(pe.PowerConfigured("n1", PowerTraits(hard_off=True)))
    scene.machine.on_disconnect("the line was cut")
    await until(lambda: not scene.is_up(), "the end of the connection is known")
    await scene.loop.submit(pe.SwitchOnDecided("n1", "a job"))
    await until(lambda: not scene.looks, "it was looked at")
    scene.machine.faults.clear()
    await until(scene.is_up, "it is connected again")


async def test_a_connection_that_breaks_while_it_is_made_ends_at_once(scene: Scene) -> None:
    """The end may be told before the beginning is."""
    await until(scene.is_up, "it is connected")

    async def breaks() -> None:
        scene.machine.on_disconnect("cut in mid-sentence")

    scene.machine.faults["reports"] = [breaks]
    before = scene.machine.called.count("connect")
    scene.machine.on_disconnect("the line was cut")
    await until(lambda: scene.machine.called.count("connect") >= before + 2, "it was tried twice")
    await until(scene.is_up, "it is connected again")


async def test_two_ends_at_once_are_one(scene: Scene) -> None:
    await until(scene.is_up, "it is connected")
    before = scene.machine.called.count("connect")
    scene.connector.let_go("it was switched off")
    scene.connector.let_go("it was switched off again")
    scene.machine.on_disconnect("and the line broke")
    await until(lambda: scene.machine.called.count("connect") == before + 1, "it was tried again")
    await until(scene.is_up, "it is connected again")
    assert scene.machine.called.count("connect") == before + 1


async def test_a_look_at_a_node_that_hangs_or_fails_says_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await until(scene.is_up, "it is connected")
    await until(lambda: scene.connector.stats, "its first figures")
    monkeypatch.setattr(module, "SIGN_OF_LIFE_S", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    scene.machine.faults["stats"] = [hang, NodeUnreachable("gone")]
    assert await asyncio.gather(scene.connector.look(), scene.connector.look()) == [None, None]
    assert await scene.connector.look() is not None
    scene.connector.let_go("switched off")
    assert await scene.connector.look() is None


async def test_cancelling_ends_it_wherever_it_is(tmp_path: Path) -> None:
    for call in ("connect", "probe", "reports", "stats", "close"):
        async with looping(tmp_path / call) as (loop, _spool):
            machine, reached = Machine(), asyncio.Event()

            async def hang(reached: asyncio.Event = reached) -> None:
                reached.set()
                await asyncio.Event().wait()

            machine.faults[call] = [hang]
            connector = Connector(loop, machine, lambda found: found)
            task = asyncio.create_task(connector.run())
            if call == "close":
                await until(lambda machine=machine: "stats" in machine.called, "it is connected")  # type: ignore[misc]
                machine.on_disconnect("cut")
            async with asyncio.timeout(30):
                await reached.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
