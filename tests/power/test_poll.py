"""Looking at a node's devices now and then: what is seen is told, and what no device can say is left to silence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import Phase
from racksack_controller.effects import bmc_poll
from racksack_controller.effects.bmc_poll import Poller
from racksack_controller.effects.connector import Connector
from racksack_controller.loop import Loop
from racksack_controller.power.driver import PowerReading
from tests.power.test_ladder import Way, World
from tests.power.test_power_edge import Scene

LOST_AFTER_S = 0.3


def polled(*ways: Way) -> tuple[Scene, Poller]:
    """A node that was on and does not answer any more, and the eyes on its devices."""
    scene = Scene(*ways, silence_s=0.1)
    scene.connect("boot")
    scene.loop.post(ev.NodeDisconnected("r1", "no answer"))
    scene.loop.lost_after_s = LOST_AFTER_S
    connector = SimpleNamespace(retry_now=lambda: None, let_go=lambda sentence: None)
    return scene, Poller(cast(Loop, scene.loop), "r1", scene.effects.nodes["r1"], cast(Connector, connector))


def seen(scene: Scene) -> list[pe.PowerSeen]:
    return [event for event in scene.loop.told if isinstance(event, pe.PowerSeen)]


async def test_a_device_that_says_off_is_believed_at_once() -> None:
    scene, poller = polled(Way("redfish", World(on=False)))
    await poller.look()
    assert [event.on for event in seen(scene)] == [False]
    assert scene.phase is Phase.OFF


async def test_a_node_that_lost_its_power_is_not_on_for_ever_because_its_bmc_cannot_be_asked() -> None:
    scene, poller = polled(Way("redfish", World(on=False), gone=True))
    await poller.look()
    assert seen(scene) == [], "the BMC may be back in a moment"
    assert scene.phase is Phase.ON
    await asyncio.sleep(LOST_AFTER_S)
    await poller.look()
    [event] = seen(scene)
    assert not event.on
    assert "no device could tell (redfish could not read" in event.words
    assert scene.phase is Phase.OFF


async def test_a_bmc_that_answers_now_and_then_speaks_for_itself() -> None:
    bmc = Way("redfish", World(on=True), gone=True)
    scene, poller = polled(bmc)
    await poller.look()
    await asyncio.sleep(LOST_AFTER_S)
    bmc.gone = False
    await poller.look()
    bmc.gone = True
    await poller.look()
    assert [one for one in seen(scene) if not one.on] == [], "it has said on, and silence counts from then on"
    assert scene.phase is Phase.ON


async def test_a_silence_that_was_taken_for_off_ends_when_the_bmc_can_be_asked_again() -> None:
    bmc = Way("redfish", World(on=True), gone=True)
    scene, poller = polled(bmc)
    scene.loop.post(pe.SwitchOffDecided("r1", "idle"))
    scene.loop.post(pe.PowerStepped("r1", "ssh", "verify", "done", "it is silent"))
    scene.loop.post(pe.PowerSwitched("r1", False, True, "it is silent"))
    assert scene.phase is Phase.OFF
    bmc.gone = False
    await poller.look()
    assert scene.phase is Phase.SET_ASIDE
    assert "it stopped answering after its shutdown, but redfish says on" in scene.loop.state.power["r1"].problem


async def test_an_unforeseen_failure_does_not_end_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Way):
        async def status(self, timeout_s: float | None = None) -> PowerReading:
            looks.append(len(looks))
            if looks == [0]:
                raise ZeroDivisionError("a fault of the driver's own")
            return await super().status(timeout_s)

    looks: list[int] = []
    monkeypatch.setattr(bmc_poll, "POLL_SOON_S", 0.01)
    scene, poller = polled(Broken("redfish", World(on=False)))
    task = asyncio.create_task(poller.run())
    async with asyncio.timeout(20):
        while not seen(scene):
            await asyncio.sleep(0.01)
    task.cancel()
    assert len(looks) >= 2
