"""What every power driver promises, for each of them on its real library and protocol."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from racksack_controller.power.driver import (
    PowerError,
    PowerLoginRefused,
    PowerNotAllowed,
    PowerPasswordMissing,
    PowerState,
    PowerTimedOut,
    PowerUnreachable,
)
from racksack_controller.power.secret import Secret
from tests.power.rigs import RIGS, Rig

every = pytest.mark.parametrize("rig", list(RIGS), indirect=True)
with_login = pytest.mark.parametrize("rig", ["redfish", "ipmi", "ilo4", "ilo2"], indirect=True)
with_state = pytest.mark.parametrize("rig", ["redfish", "ipmi", "ilo4", "ilo2", "command"], indirect=True)
can_hang = pytest.mark.parametrize(
    "rig", ["redfish", "ipmi", "ilo4", "ilo2", "command", "ssh", "wol-jump"], indirect=True
)

ACTS = ("on", "soft_off", "hard_off")


async def becomes(rig: Rig, wanted: bool) -> None:
    """Wait, with a bound, until the machine itself is as wanted (magic packets take their way in their own time)."""
    async with asyncio.timeout(20):
        while rig.machine.is_on() is not wanted:
            await asyncio.sleep(0.02)


@with_state
async def test_status_says_what_the_machine_is(rig: Rig) -> None:
    assert (await rig.driver.status()).state is PowerState.OFF
    rig.machine.on()
    reading = await rig.driver.status()
    assert reading.state is PowerState.ON
    assert reading.raw


@pytest.mark.parametrize("rig", ["wol", "wol-jump", "ssh"], indirect=True)
async def test_a_driver_that_cannot_know_never_says_off(rig: Rig) -> None:
    assert not rig.driver.knows_state
    assert (await rig.driver.status()).state is not PowerState.OFF
    assert (await rig.nowhere.status()).state is PowerState.UNKNOWN


@every
async def test_each_act_switches_or_is_refused_in_one_sentence(rig: Rig) -> None:
    for act in ACTS:
        rig.machine.off() if act == "on" else rig.machine.on()
        if act in rig.can:
            await getattr(rig.driver, act)()
            await becomes(rig, act == "on")
        else:
            with pytest.raises(PowerNotAllowed) as caught:
                await getattr(rig.driver, act)()
            assert rig.driver.target in str(caught.value)
            assert "\n" not in str(caught.value)


@every
async def test_already_in_that_state_is_success(rig: Rig) -> None:
    for act in sorted(rig.can & set(ACTS)):
        rig.machine.on() if act == "on" else rig.machine.off()
        await getattr(rig.driver, act)()
        await getattr(rig.driver, act)()
        assert rig.machine.is_on() is (act == "on")


@every
async def test_a_device_that_is_not_there(rig: Rig) -> None:
    act = sorted(rig.can & set(ACTS))[0]
    with pytest.raises(PowerUnreachable) as caught:
        await getattr(rig.nowhere, act)()
    assert rig.nowhere.target in str(caught.value)
    assert caught.value.advice in str(caught.value)
    report = await rig.nowhere.check()
    assert not report.ok


@with_login
async def test_a_wrong_password_is_refused_and_never_shown(rig: Rig, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pw"
    wrong.write_text("hunter2-hunter2\n")
    driver = rig.make(secret=Secret(file=wrong))
    rig.machine.on()
    for act in ("status", *ACTS):
        with pytest.raises(PowerLoginRefused) as caught:
            await getattr(driver, act)()
        assert "'admin'" in str(caught.value)
        assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {driver.__dict__!r}"
    assert rig.machine.is_on()
    report = await driver.check()
    assert not report.ok
    await driver.close()


@with_login
async def test_a_password_that_cannot_be_read_sends_nothing(rig: Rig, tmp_path: Path) -> None:
    driver = rig.make(secret=Secret(file=tmp_path / "nowhere.pw"))
    with pytest.raises(PowerPasswordMissing, match=r"nowhere\.pw"):
        await driver.status()


@with_login
async def test_the_password_is_read_at_use(rig: Rig, tmp_path: Path) -> None:
    good = rig.driver._settings.secret.read()
    file = tmp_path / "changing.pw"
    file.write_text("old\n")
    driver = rig.make(secret=Secret(file=file))
    with pytest.raises(PowerLoginRefused):
        await driver.status()
    file.write_text(good + "\n")
    assert (await driver.status()).state is PowerState.OFF
    await driver.close()


@can_hang
async def test_a_device_that_hangs_is_left_in_time_and_blocks_nothing(rig: Rig) -> None:
    rig.freeze()
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before_s = monotonic()
            await asyncio.sleep(0.02)
            gaps.append(monotonic() - before_s)

    ticker = asyncio.create_task(tick())
    began_s = monotonic()
    act = sorted(rig.can & set(ACTS))[0]
    for _ in range(2):
        if rig.driver.name == "ssh":
            # The link may be slow before the command is sent; nothing was asked for then.
            with pytest.raises(PowerTimedOut):
                await rig.driver.soft_off(0.5)
        else:
            with pytest.raises(PowerTimedOut) as caught:
                await getattr(rig.driver, act)(0.5)
            assert rig.driver.target in str(caught.value)
    took_s = monotonic() - began_s
    ticker.cancel()
    assert took_s < 20  # the driver's own limit is 20 s a call
    assert max(gaps) < 4.0, "the loop stood still"


@can_hang
async def test_a_hung_device_does_not_hold_up_another(rig: Rig, tmp_path: Path) -> None:
    other = RIGS["command"](tmp_path / "other")
    rig.freeze()
    hanging = asyncio.create_task(getattr(rig.driver, sorted(rig.can & set(ACTS))[0])(10))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(8):
        assert (await other.driver.status()).state is PowerState.OFF
    assert not hanging.done()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging


@every
async def test_check_switches_nothing(rig: Rig) -> None:
    rig.machine.on() if rig.driver.name == "ssh" else None
    before = rig.machine.is_on(), rig.machine.events
    report = await rig.driver.check()
    assert (rig.machine.is_on(), rig.machine.events) == before
    assert report.problems == () or rig.driver.name == "ssh"
    assert report.driver == rig.driver.name
    assert report.target == rig.driver.target


@with_login
async def test_check_tells_who_it_is(rig: Rig) -> None:
    report = await rig.driver.check()
    assert report.ok
    assert report.model
    assert report.firmware
    assert report.reset_types
    assert report.state is PowerState.OFF


@with_login
async def test_check_warns_of_a_password_others_can_read(rig: Rig) -> None:
    file = rig.driver._settings.secret.file
    file.chmod(0o644)
    report = await rig.driver.check()
    assert any("chmod 600" in problem for problem in report.problems)


@every
async def test_watts_are_a_number_or_none(rig: Rig) -> None:
    rig.machine.on()
    assert await rig.driver.watts() == rig.watts


@every
async def test_closing_twice_is_fine_and_a_closed_driver_works_again(rig: Rig) -> None:
    await rig.driver.status()
    await rig.driver.close()
    await rig.driver.close()
    await rig.driver.status()


@every
async def test_calls_at_the_same_time_all_come_back(rig: Rig) -> None:
    async with asyncio.timeout(60):
        readings = await asyncio.gather(*(rig.driver.status() for _ in range(5)))
    assert len({reading.state for reading in readings}) == 1


@every
async def test_an_error_is_one_sentence_with_its_parts(rig: Rig) -> None:
    act = sorted(rig.can & set(ACTS))[0]
    with pytest.raises(PowerError) as caught:
        await getattr(rig.nowhere, act)()
    error = caught.value
    assert str(error) == f"{error.driver} could not {error.act} {error.target}: {error.came_back}; {error.advice}"


def test_settings_do_not_hold_passwords() -> None:
    secret = Secret(credential="r1-bmc")
    assert "r1-bmc" in repr(secret)
    assert replace(secret, credential=None, file=Path("/x")).file == Path("/x")
