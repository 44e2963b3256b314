"""The ladder: each way is tried in order and verified before the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic

import pytest

from racksack_controller.power import shutdown
from racksack_controller.power.driver import (
    ONCE,
    Asks,
    CheckReport,
    PowerNotAllowed,
    PowerReading,
    PowerState,
    PowerUnreachable,
)
from racksack_controller.power.ladder import Limits, switch_off, switch_on
from racksack_controller.power.steps import Act, Outcome, Step

FAST = Limits(boot_s=0.3, grace_s=0.3, confirm_s=0.2, silent_s=0.1, poll_s=0.02)
PATIENT = Limits(boot_s=20, grace_s=20, confirm_s=20, poll_s=0.02)


@dataclass
class World:
    """A server and who asked it for what."""

    on: bool = False
    asked: list[str] = field(default_factory=list)


@dataclass
class Way:
    """A driver whose device obeys, or not, as a test says."""

    name: str
    world: World
    knows_state: bool = True
    from_inside: bool = False
    asks: Asks = ONCE
    obeys: frozenset[str] = frozenset({"on", "soft_off", "hard_off"})
    unable: frozenset[str] = frozenset()
    gone: bool = False
    states: list[PowerState] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"{self.name}-device"

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        if self.gone:
            raise PowerUnreachable(self.name, "read", self.target, "nothing", "look")
        if self.states:
            return PowerReading(self.states.pop(0), "scripted")
        state = PowerState.ON if self.world.on else PowerState.OFF
        return PowerReading(state if self.knows_state else PowerState.UNKNOWN, state.value)

    async def on(self, timeout_s: float | None = None) -> None:
        self._asked("on")
        self.world.on = self.world.on or "on" in self.obeys

    async def soft_off(self, timeout_s: float | None = None) -> None:
        self._asked("soft_off")
        self.world.on = self.world.on and "soft_off" not in self.obeys

    async def hard_off(self, timeout_s: float | None = None) -> None:
        self._asked("hard_off")
        self.world.on = self.world.on and "hard_off" not in self.obeys

    def _asked(self, act: str) -> None:
        if act in self.unable:
            raise PowerNotAllowed(self.name, act, self.target, "cannot", "use another")
        if self.gone:
            raise PowerUnreachable(self.name, act, self.target, "nothing", "look")
        self.world.asked.append(f"{self.name} {act}")

    async def watts(self, timeout_s: float | None = None) -> float | None:
        return None

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        return CheckReport(self.name, self.target)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class Dying(Way):
    """A device that says on so many times, and nothing from then on."""

    looks_left: int = 0

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        self.gone = self.looks_left <= 0
        self.looks_left -= 1
        return PowerReading(PowerState.ON, "On") if not self.gone else await super().status(timeout_s)


async def taken(steps: AsyncIterator[Step]) -> list[tuple[str, Act, Outcome]]:
    async with asyncio.timeout(30):
        return [(step.way, step.act, step.outcome) async for step in steps]


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


def up_when_on(world: World):
    async def verify() -> None:
        while not world.on:
            await asyncio.sleep(0.01)

    return verify


async def test_the_first_way_works() -> None:
    world = World()
    bmc, wol = Way("redfish", world), Way("wol", world, knows_state=False)
    assert await taken(switch_on([bmc, wol], [bmc, wol], up_when_on(world), PATIENT)) == [
        ("redfish", Act.ON, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.CONFIRMED),
        ("redfish", Act.VERIFY, Outcome.DONE),
    ]
    assert world.asked == ["redfish on"]


async def test_a_way_that_fails_leads_to_the_next() -> None:
    world = World()
    bmc, wol = Way("redfish", world, gone=True), Way("wol", world, knows_state=False)
    assert await taken(switch_on([bmc, wol], [bmc, wol], up_when_on(world), FAST)) == [
        ("redfish", Act.ON, Outcome.FAILED),
        ("wol", Act.ON, Outcome.ACCEPTED),
        ("wol", Act.CONFIRM, Outcome.SKIPPED),
        ("wol", Act.VERIFY, Outcome.DONE),
    ]


async def test_a_way_that_is_accepted_but_does_nothing_is_found_out() -> None:
    """The BMC, though it did not obey, is the witness that the magic packet worked."""
    world = World()
    bmc, wol = Way("redfish", world, obeys=frozenset()), Way("wol", world, knows_state=False)
    assert await taken(switch_on([bmc, wol], [bmc, wol], up_when_on(world), FAST)) == [
        ("redfish", Act.ON, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.NOT_CONFIRMED),
        ("wol", Act.ON, Outcome.ACCEPTED),
        ("wol", Act.CONFIRM, Outcome.CONFIRMED),
        ("wol", Act.VERIFY, Outcome.DONE),
    ]


async def test_on_but_not_up_ends_the_ladder() -> None:
    world = World()
    first, second = Way("redfish", world), Way("ipmi", world)
    steps = await taken(switch_on([first, second], [first, second], never, FAST))
    assert steps[-1] == ("redfish", Act.VERIFY, Outcome.STUCK)
    assert world.asked == ["redfish on"]


async def test_without_a_witness_each_way_gets_its_boot_time() -> None:
    world = World()
    first, second = Way("wol", world, knows_state=False), Way("wol2", world, knows_state=False)
    steps = await taken(switch_on([first, second], [first, second], never, FAST))
    assert [step for step in steps if step[1] is Act.VERIFY] == [
        ("wol", Act.VERIFY, Outcome.FAILED),
        ("wol2", Act.VERIFY, Outcome.FAILED),
    ]


async def test_lag_and_transitions_are_waited_for() -> None:
    world = World()
    states = [PowerState.OFF, PowerState.OFF, PowerState.TRANSITION, PowerState.ON]
    bmc = Way("redfish", world, states=states)

    async def up_when_said() -> None:
        while states:
            await asyncio.sleep(0.01)

    steps = await taken(switch_on([bmc], [bmc], up_when_said, PATIENT))
    assert steps[1] == ("redfish", Act.CONFIRM, Outcome.CONFIRMED)
    assert states == []


async def test_a_node_that_is_up_needs_no_device_to_say_so() -> None:
    world = World()
    wol, bmc = Way("wol", world, knows_state=False), Way("redfish", world, gone=True)
    assert await taken(switch_on([wol], [wol, bmc], up_when_on(world), PATIENT)) == [
        ("wol", Act.ON, Outcome.ACCEPTED),
        ("wol", Act.CONFIRM, Outcome.SKIPPED),
        ("wol", Act.VERIFY, Outcome.DONE),
    ]


async def test_power_lost_while_booting_ends_the_wait_early() -> None:
    world = World()
    bmc = Way("redfish", world, states=[PowerState.ON, PowerState.OFF, PowerState.OFF, PowerState.OFF])
    steps = await taken(switch_on([bmc], [bmc], never, PATIENT))
    assert steps[-1] == ("redfish", Act.VERIFY, Outcome.FAILED)


async def test_one_reading_of_off_is_lag_not_loss() -> None:
    world = World()
    bmc = Way("redfish", world, states=[PowerState.ON, PowerState.OFF, PowerState.ON])

    async def verify() -> None:
        while bmc.states:
            await asyncio.sleep(0.01)

    steps = await taken(switch_on([bmc], [bmc], verify, PATIENT))
    assert steps[-1][2] is Outcome.DONE


async def test_a_boot_that_was_under_way_goes_on_with_its_remaining_time() -> None:
    world = World(on=True)
    bmc, wol = Way("redfish", world), Way("wol", world, knows_state=False)
    steps = await taken(switch_on([bmc, wol], [bmc, wol], at_once, PATIENT, resume_s=5))
    assert steps == [("redfish", Act.VERIFY, Outcome.DONE)]
    assert world.asked == []


async def test_a_way_nobody_confirms_is_asked_again_until_a_device_says_on() -> None:
    world = World()
    wol = Way("wol", world, knows_state=False, asks=Asks(5, 0.05), obeys=frozenset())
    bmc = Way("redfish", world)
    asking = asyncio.create_task(
        taken(switch_on([wol], [wol, bmc], never, Limits(boot_s=0.5, confirm_s=20, poll_s=0.02)))
    )
    async with asyncio.timeout(20):
        while len(world.asked) < 3:
            await asyncio.sleep(0.005)
    world.on = True
    steps = await asking
    assert steps[1] == ("wol", Act.CONFIRM, Outcome.CONFIRMED)
    assert steps[-1] == ("wol", Act.VERIFY, Outcome.STUCK)
    assert world.asked == ["wol on"] * 3


async def test_asking_again_that_fails_is_told() -> None:
    world = World()
    wol = Way("wol", world, knows_state=False, asks=Asks(2, 0.05), obeys=frozenset())
    steps = switch_on([wol], [wol], never, FAST)
    assert (await anext(steps)).outcome is Outcome.ACCEPTED
    wol.gone = True
    last = [step async for step in steps][-1]
    assert "asked again: wol could not on" in last.detail


async def test_no_time_left_goes_down_the_ladder() -> None:
    world = World()
    first, second = Way("wol", world, knows_state=False, obeys=frozenset()), Way("ipmi", world)
    steps = await taken(switch_on([first, second], [first, second], up_when_on(world), PATIENT, resume_s=0))
    assert steps[0] == ("wol", Act.VERIFY, Outcome.FAILED)
    assert steps[-1] == ("ipmi", Act.VERIFY, Outcome.DONE)


async def test_soft_off_is_confirmed_by_the_bmc() -> None:
    world = World(on=True)
    ssh, bmc = Way("ssh", world, knows_state=False), Way("redfish", world)
    assert await taken(switch_off([ssh, bmc], [ssh, bmc], never, hard=True, limits=PATIENT)) == [
        ("ssh", Act.SOFT_OFF, Outcome.ASKING),
        ("ssh", Act.SOFT_OFF, Outcome.ACCEPTED),
        ("ssh", Act.CONFIRM, Outcome.DONE),
    ]
    assert world.asked == ["ssh soft_off"]


async def test_silence_does_not_count_where_a_bmc_knows() -> None:
    world = World(on=True)
    stubborn = frozenset[str]()
    ssh = Way("ssh", world, knows_state=False, obeys=stubborn)
    bmc = Way("redfish", world, obeys=stubborn)
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], at_once, hard=False, limits=FAST))
    assert steps[-1][2] is Outcome.STUCK


async def test_silence_counts_where_nothing_knows() -> None:
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False)
    steps = await taken(switch_off([ssh], [ssh], at_once, hard=False, limits=PATIENT))
    assert steps[-1] == ("ssh", Act.VERIFY, Outcome.DONE)
    steps = await taken(switch_off([ssh], [ssh], never, hard=False, limits=FAST))
    assert steps[-1][2] is Outcome.STUCK


async def test_hard_only_after_grace_and_only_if_allowed() -> None:
    world = World(on=True)
    deaf = frozenset({"hard_off"})
    ssh = Way("ssh", world, knows_state=False, obeys=deaf, unable=frozenset({"hard_off"}))
    bmc = Way("redfish", world, obeys=deaf)
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], never, hard=False, limits=FAST))
    assert steps[-1] == ("", Act.CONFIRM, Outcome.STUCK)
    assert world.on
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], never, hard=True, limits=FAST))
    assert steps == [
        ("ssh", Act.SOFT_OFF, Outcome.ASKING),
        ("ssh", Act.SOFT_OFF, Outcome.ACCEPTED),
        ("ssh", Act.CONFIRM, Outcome.NOT_CONFIRMED),
        ("redfish", Act.SOFT_OFF, Outcome.ASKING),
        ("redfish", Act.SOFT_OFF, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.NOT_CONFIRMED),
        ("ssh", Act.HARD_OFF, Outcome.ASKING),
        ("ssh", Act.HARD_OFF, Outcome.SKIPPED),
        ("redfish", Act.HARD_OFF, Outcome.ASKING),
        ("redfish", Act.HARD_OFF, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.DONE),
    ]


async def test_where_the_bmc_is_gone_silence_counts_after_a_shutdown_that_the_system_accepted() -> None:
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False, from_inside=True)
    bmc = Way("redfish", world, gone=True)
    began_s = monotonic()
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], at_once, hard=True, limits=FAST))
    assert steps[-1] == ("ssh", Act.VERIFY, Outcome.DONE)
    assert monotonic() - began_s >= FAST.grace_s, "the BMC may come back until then"
    assert "redfish hard_off" not in world.asked


@pytest.mark.parametrize("what", ["not accepted", "still answers", "the BMC has said on"])
async def test_a_bmc_that_is_gone_confirms_nothing(what: str) -> None:
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False, from_inside=True, unable=frozenset({"hard_off"}))
    ssh.gone = what == "not accepted"
    bmc = Dying("redfish", world, looks_left=2) if what == "the BMC has said on" else Way("redfish", world, gone=True)
    silent = never if what == "still answers" else at_once
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], silent, hard=True, limits=FAST))
    assert ("redfish", Act.HARD_OFF, Outcome.FAILED) in steps
    assert steps[-1][2] is Outcome.STUCK


async def test_what_is_off_already_is_asked_for_nothing() -> None:
    world = World(on=False)
    ssh, bmc = Way("ssh", world, knows_state=False), Way("redfish", world)
    steps = await taken(switch_off([ssh, bmc], [ssh, bmc], never, hard=True, limits=PATIENT))
    assert steps == [("", Act.CONFIRM, Outcome.DONE)]
    assert world.asked == []


async def test_a_shutdown_that_was_under_way_is_waited_for_before_anything_is_asked_again() -> None:
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False)
    steps = await taken(switch_off([ssh], [ssh], at_once, hard=False, limits=PATIENT, resume=(ssh, 20.0)))
    assert steps == [("ssh", Act.VERIFY, Outcome.DONE)]
    assert world.asked == []


async def test_a_shutdown_with_a_moment_left_after_a_restart_has_the_time_to_prove_silence() -> None:
    """Nobody asks a server that is off to go off: it would not answer, and count as not switched off."""
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False)

    async def silent() -> None:
        await asyncio.sleep(0.3)

    steps = await taken(switch_off([ssh], [ssh], silent, hard=False, limits=PATIENT, resume=(ssh, 0.01)))
    assert steps == [("ssh", Act.VERIFY, Outcome.DONE)]
    assert world.asked == []


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at what runs on follow each other fast."""
    monkeypatch.setattr(shutdown, "RUNNING_LOOK_EVERY_S", 0.05)


@pytest.mark.usefixtures("looks_often")
async def test_a_shutdown_that_nobody_was_asked_for_is_asked_for_as_soon_as_that_is_seen() -> None:
    world = World(on=True)
    bmc = Way("redfish", world)

    async def runs_on() -> bool:
        return world.on

    steps = await taken(
        switch_off([bmc], [bmc], never, hard=False, limits=PATIENT, resume=(bmc, 3600.0), runs_on=runs_on)
    )
    assert steps == [
        ("redfish", Act.CONFIRM, Outcome.NOT_CONFIRMED),
        ("redfish", Act.SOFT_OFF, Outcome.ASKING),
        ("redfish", Act.SOFT_OFF, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.DONE),
    ]


@pytest.mark.usefixtures("looks_often")
async def test_a_system_that_goes_down_is_not_asked_again_although_it_still_answers() -> None:
    world = World(on=True)
    ssh = Way("ssh", world, knows_state=False)
    looks = []

    async def goes_down() -> bool:
        looks.append(len(looks))
        return len(looks) == 1  # the shutdown was accepted a moment ago

    async def silent() -> None:
        while len(looks) < 3:
            await asyncio.sleep(0.01)

    steps = await taken(
        switch_off([ssh], [ssh], silent, hard=False, limits=PATIENT, resume=(ssh, 3600.0), runs_on=goes_down)
    )
    assert steps == [("ssh", Act.VERIFY, Outcome.DONE)]
    assert world.asked == []


async def test_a_shutdown_under_way_that_does_not_end_is_asked_for_again() -> None:
    world = World(on=True)
    bmc = Way("redfish", world)
    steps = await taken(switch_off([bmc], [bmc], never, hard=False, limits=FAST, resume=(bmc, 0.1)))
    assert steps == [
        ("redfish", Act.CONFIRM, Outcome.NOT_CONFIRMED),
        ("redfish", Act.SOFT_OFF, Outcome.ASKING),
        ("redfish", Act.SOFT_OFF, Outcome.ACCEPTED),
        ("redfish", Act.CONFIRM, Outcome.DONE),
    ]


async def test_every_step_says_something_and_how_long_it_took() -> None:
    world = World(on=True)
    bmc = Way("redfish", world, obeys=frozenset())
    async for step in switch_off([bmc], [bmc], never, hard=True, limits=FAST):
        assert step.detail
        assert step.took_s >= 0


async def test_a_ladder_that_is_left_cancels_its_verify() -> None:
    world = World()
    bmc = Way("redfish", world)
    ended = asyncio.Event()

    async def verify() -> None:
        try:
            await never()
        finally:
            ended.set()

    task = asyncio.create_task(taken(switch_on([bmc], [bmc], verify, PATIENT)))
    async with asyncio.timeout(20):
        while not world.on:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ended.wait()


async def until_off(world: World) -> None:
    """Silent once the server is off."""
    while world.on:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("was_asked", [False, True])
async def test_a_shutdown_of_which_only_the_asking_is_known_is_asked_for_once_more(was_asked: bool) -> None:
    """The controller was killed between the note and the answer: the request may have come through, or not."""
    world = World(on=not was_asked)
    ssh = Way("ssh", world, knows_state=False, from_inside=True, gone=was_asked)
    steps = await taken(
        switch_off([ssh], [ssh], lambda: until_off(world), hard=False, limits=PATIENT, resume=(ssh, 3600.0), again=True)
    )
    assert steps[0][1] is Act.SOFT_OFF
    assert steps[-1][2] is Outcome.DONE, "and one that has gone off meanwhile is seen to be silent"
    assert world.asked.count("ssh soft_off") <= 1
    assert not world.on
