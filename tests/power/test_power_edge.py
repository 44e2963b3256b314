"""Carrying out a decision about power: a step is saved before the next, a withdrawn one ends, a killed one goes on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from racksack_controller.config.config import load_config
from racksack_controller.core import events as ev
from racksack_controller.core.actions import Action, SwitchOff, SwitchOn
from racksack_controller.core.apply import apply
from racksack_controller.core.events import Event
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import Phase, PowerTraits
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power import Powered, PowerEffects
from racksack_controller.effects.power_nodes import PowerNodes
from racksack_controller.loop import Loop
from racksack_controller.power.build import Drivers
from racksack_controller.power.settings import PowerSettings
from racksack_controller.store import Store
from racksack_jobspecs.resources import Inventory
from tests.power import rigs
from tests.power.test_ladder import Way, World


class Recorder:
    """A loop that applies what it is told, and remembers it in order."""

    def __init__(self) -> None:
        self.state = State()
        self.told: list[Event] = []
        self.done: list[str] = []
        self.lost_after_s = 300.0
        self.after: list[Callable[[], None]] = []  # called with every step, as the loop calls its listeners
        self.state.put_node(Node(name="r1", boot_id="old"))
        apply(self.state, pe.PowerConfigured("r1", PowerTraits(hard_off=True)), 1.0)

    def post(self, event: Event) -> None:
        self.told.append(event)
        apply(self.state, event, 10.0)
        for listener in self.after:
            listener()

    async def submit(self, event: Event) -> None:
        self.post(event)
        await asyncio.sleep(0)

    def finished(self, action: Action) -> None:
        self.done.append(action.key)

    def steps(self) -> list[tuple[str, str]]:
        return [(event.act, event.outcome) for event in self.told if isinstance(event, pe.PowerStepped)]

    def switched(self) -> pe.PowerSwitched:
        [event] = [event for event in self.told if isinstance(event, pe.PowerSwitched)]
        return event


class Scene:
    """One node, its ways and its edge."""

    def __init__(self, *ways: Way, **settings: Any) -> None:
        self.loop = Recorder()
        self.logins: int | None = 0
        self.running = ""  # the boot in which the node runs on, with no shutdown under way
        self.let_go: list[str] = []
        self.expected = 0
        self.effects = PowerEffects(cast(Loop, self.loop))
        self.loop.after.append(lambda: self.effects.noticed(self.loop.state.take_changes()))
        drivers = {way.name: way for way in ways}
        usual = PowerSettings(drivers={}, on=tuple(drivers), off=tuple(drivers), hard_off=True, silence_s=0.1)
        self.effects.nodes["r1"] = Powered(
            drivers=Drivers(cast(Any, drivers), cast(Any, ways), cast(Any, ways)),
            settings=replace(usual, **settings),
            answers=self._silent,
            expect=self._expect,
            let_go=self.let_go.append,
            logins=self._logins,
            runs_on=self._runs_on,
        )

    async def _silent(self) -> bool | None:
        return False

    async def _runs_on(self, boot_id: str) -> bool:
        return boot_id == self.running

    def _expect(self) -> None:
        self.expected += 1

    async def _logins(self) -> int | None:
        return self.logins

    def connect(self, boot_id: str) -> None:
        inventory = Inventory(cpus=4, ram_bytes=2**32, disk_bytes=2**40)
        self.loop.post(ev.NodeConnected("r1", boot_id, inventory, ()))

    async def carry_out(self, action: Action) -> None:
        self.effects.start([action])
        async with asyncio.timeout(30):
            while not self.loop.done:
                await asyncio.sleep(0.01)

    @property
    def phase(self) -> Phase:
        return self.loop.state.power["r1"].phase


def booting(*ways: Way, **settings: Any) -> Scene:
    scene = Scene(*ways, **settings)
    scene.loop.post(pe.SwitchOnDecided("r1", "a job"))
    return scene


def stopping(*ways: Way, **settings: Any) -> Scene:
    scene = Scene(*ways, **settings)
    scene.connect("old")
    scene.loop.post(pe.SwitchOffDecided("r1", "idle"))
    return scene


async def test_a_boot_is_recorded_step_by_step_and_proven_by_another_boot_id() -> None:
    bmc = Way("redfish", World())
    scene = booting(bmc)
    asyncio.get_running_loop().call_later(0.5, scene.connect, "new")
    await scene.carry_out(SwitchOn("r1", "", 20.0))
    assert scene.loop.steps()[:2] == [("on", "accepted"), ("confirm", "confirmed")]
    assert scene.loop.switched().ok
    assert scene.phase is Phase.ON
    assert scene.expected == 1
    assert scene.loop.done == ["SwitchOn:r1"]


async def test_a_boot_that_was_under_way_is_not_asked_for_again() -> None:
    world = World(on=True)
    scene = booting(Way("wol", world, knows_state=False), Way("redfish", world))
    asyncio.get_running_loop().call_later(0.3, scene.connect, "new")
    await scene.carry_out(SwitchOn("r1", "redfish", 20.0))
    assert world.asked == []
    assert scene.loop.switched().ok


async def test_one_that_has_power_and_does_not_come_up_is_said_to_have_it() -> None:
    scene = booting(Way("redfish", World()))
    await scene.carry_out(SwitchOn("r1", "", 0.5))
    assert not scene.loop.switched().ok
    assert "did not come up" in scene.loop.switched().sentence
    record = scene.loop.state.power["r1"]
    assert (record.phase, record.seen_on) == (Phase.SET_ASIDE, True)


async def test_a_shutdown_lets_the_connection_go_and_is_proven_by_the_bmc() -> None:
    scene = stopping(Way("redfish", World(on=True)))
    await scene.carry_out(SwitchOff("r1", "", 20.0))
    assert scene.loop.steps() == [("soft_off", "asking"), ("soft_off", "accepted"), ("confirm", "done")]
    assert scene.let_go == ["it was switched off"]
    assert scene.phase is Phase.OFF


async def test_what_is_withdrawn_before_it_was_asked_for_is_never_asked_for() -> None:
    world = World(on=True)
    scene = stopping(Way("redfish", world))

    async def somebody_came() -> int | None:
        scene.loop.post(pe.SwitchWithdrawn("r1", "a job came"))
        await asyncio.sleep(5)
        return 0

    powered = scene.effects.nodes["r1"]
    scene.effects.nodes["r1"] = replace(powered, logins=somebody_came)
    await scene.carry_out(SwitchOff("r1", "", 20.0))
    assert world.asked == []
    assert scene.phase is Phase.ON
    assert scene.loop.done == ["SwitchOff:r1"]


async def test_from_the_asking_on_it_is_not_withdrawn() -> None:
    world = World(on=True)
    scene = stopping(Way("redfish", world))
    scene.loop.post(pe.PowerStepped("r1", "redfish", "soft_off", "asking", "asking redfish"))
    scene.loop.post(pe.SwitchWithdrawn("r1", "a job came"))
    assert scene.phase is Phase.STOPPING


async def test_logins_are_counted_once_more_at_the_last_moment() -> None:
    scene = stopping(Way("redfish", World(on=True)))
    scene.logins = 2
    await scene.carry_out(SwitchOff("r1", "", 20.0))
    assert pe.LoginsSeen("r1", 2) in scene.loop.told
    seen = scene.loop.told.index(pe.LoginsSeen("r1", 2))
    first = next(at for at, event in enumerate(scene.loop.told) if isinstance(event, pe.PowerStepped))
    assert seen < first


async def test_a_shutdown_that_a_killed_controller_never_asked_for_is_asked_for_after_the_restart() -> None:
    world = World(on=True)
    scene = stopping(Way("redfish", world))
    scene.loop.post(pe.PowerStepped("r1", "redfish", "soft_off", "asking", "asking redfish"))
    scene.running = "old"
    await scene.carry_out(SwitchOff("r1", "redfish", 3600.0))
    assert world.asked == ["redfish soft_off"]
    assert scene.phase is Phase.OFF


async def test_where_the_bmc_cannot_be_asked_the_silence_after_a_shutdown_is_off() -> None:
    scene = stopping(
        Way("ssh", World(on=True), knows_state=False, from_inside=True),
        Way("redfish", World(on=True), gone=True),
        off_grace_s=0.3,
    )
    await scene.carry_out(SwitchOff("r1", "", 0.3))
    assert scene.phase is Phase.OFF
    assert scene.loop.state.power["r1"].seen_on is None
    assert "no device could tell" in scene.loop.switched().sentence


@pytest.mark.parametrize("action", [SwitchOn("r1", "", 5.0), SwitchOff("r1", "", 5.0)])
async def test_a_fault_of_our_own_ends_in_an_event_too(action: Action) -> None:
    class Broken(Way):
        async def on(self, timeout_s: float | None = None) -> None:
            raise ZeroDivisionError("a fault of the driver's own")

        async def soft_off(self, timeout_s: float | None = None) -> None:
            raise ZeroDivisionError("a fault of the driver's own")

    way = Broken("redfish", World(on=True))
    scene = booting(way) if isinstance(action, SwitchOn) else stopping(way)
    await scene.carry_out(action)
    assert not scene.loop.switched().ok
    assert "see its log" in scene.loop.switched().sentence


async def test_closing_leaves_the_decision_to_be_carried_out_after_a_restart() -> None:
    scene = booting(Way("redfish", World()))
    scene.effects.start([SwitchOn("r1", "", 20.0)])
    await asyncio.sleep(0.2)
    await scene.effects.close()
    assert scene.phase is Phase.BOOTING
    assert not [event for event in scene.loop.told if isinstance(event, pe.PowerSwitched)]


async def test_a_boot_under_way_is_not_gone_on_with_before_its_drivers_are_there(tmp_path: Path) -> None:
    """After a restart the core asks for it as soon as it knows that the node can be switched."""
    file = tmp_path / "racksack.yaml"
    power = f'{{on: [{{wol: {{mac: "{rigs.MAC}"}}}}], off: [ssh]}}'
    file.write_text(
        f"spool: {tmp_path}\nnodes:\n  r1:\n    ssh: {{host: r1.example.org, user: u}}\n    power: {power}\n"
    )
    loop, store = Recorder(), Store(tmp_path / "racksack.db")
    side = PowerNodes(cast(Loop, loop), store)
    drivers_known: list[bool] = []
    loop.after.append(lambda: drivers_known.append("r1" in side.effects.nodes))
    connector = SimpleNamespace(retry_now=lambda: None, let_go=lambda sentence: None)
    await side.add("r1", load_config(file).nodes, cast(Connector, connector))
    assert isinstance(loop.told[0], pe.PowerConfigured)
    assert drivers_known[0]
    await side.close()
    store.close()


SINCE_S = 20.0


@pytest.mark.parametrize(
    ("events", "unchanged_since"),
    [
        ([], None),  # unknown until somebody says something
        ([pe.PowerSeen("r1", False, "Off")], None),  # as it was saved; nobody has confirmed it yet
        ([pe.PowerSeen("r1", False, "Off"), ev.NodeDisconnected("r1", "called in vain")], SINCE_S),
        ([ev.NodeConnected("r1", "new", Inventory(cpus=4, ram_bytes=2**32, disk_bytes=2**40), ())], SINCE_S),
        (
            [
                ev.NodeConnected("r1", "new", Inventory(cpus=4, ram_bytes=2**32, disk_bytes=2**40), ()),
                ev.NodeDisconnected("r1", "no answer"),
            ],
            None,
        ),
        (
            [
                ev.NodeConnected("r1", "new", Inventory(cpus=4, ram_bytes=2**32, disk_bytes=2**40), ()),
                pe.SwitchOffDecided("r1", "it was idle for long enough while the controller was off"),
            ],
            SINCE_S,
        ),
        ([pe.PowerSeen("r1", True, "On"), pe.SwitchOffDecided("r1", "of no use")], math.inf),
        ([pe.SwitchOnDecided("r1", "a job")], math.inf),
    ],
)
async def test_since_when_the_power_of_a_node_is_what_it_is(
    events: list[Event], unchanged_since: float | None, tmp_path: Path
) -> None:
    loop, store = Recorder(), Store(tmp_path / "racksack.db")
    for event in events:
        apply(loop.state, event, SINCE_S)
    side = PowerNodes(cast(Loop, loop), store)
    assert side.meter._senses.unchanged_since("r1") == unchanged_since
    await side.close()
    store.close()
