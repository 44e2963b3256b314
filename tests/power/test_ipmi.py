"""IPMI on the real ipmi_sim, through the helper process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from racksack_controller.power.driver import PowerNotAllowed, PowerProtocolError, PowerState, PowerTimedOut
from racksack_controller.power.ipmi import IpmiDriver
from racksack_controller.power.ipmi_helper import IpmiHelper
from tests.power import ipmi_bmc, rigs
from tests.power.rigs import Rig

pytestmark = pytest.mark.skipif(ipmi_bmc.MISSING is not None, reason=ipmi_bmc.MISSING or "")


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = rigs.ipmi(tmp_path)
    yield made
    made.device.stop()
    await made.driver._helper.close()


def helper_of(rig: Rig) -> IpmiHelper:
    return rig.driver._helper


async def test_many_bmcs_at_once_through_one_helper(rig: Rig, tmp_path: Path) -> None:
    """pyghmi in threads locks up for good within seconds of this."""
    settings = rig.driver._settings
    bmcs = [
        ipmi_bmc.IpmiBmc(rig.machine.commands, tmp_path / f"bmc{n}", password="Ipmi&<20>").start() for n in range(3)
    ]
    drivers = [rig.driver, *(rig.make(port=bmc.port) for bmc in bmcs)]
    gone = rig.make(port=ipmi_bmc.free_port("127.0.0.1"))

    async def hammer(driver: IpmiDriver) -> None:
        for _ in range(10):
            assert (await driver.status()).state is PowerState.OFF

    missing = asyncio.create_task(gone.check())
    async with asyncio.timeout(60):
        await asyncio.gather(*(hammer(driver) for driver in drivers))
    assert not (await missing).ok
    assert settings.host == "127.0.0.1"
    for bmc in bmcs:
        bmc.stop()


async def test_the_password_is_in_no_process_list(rig: Rig) -> None:
    rig.device.freeze()
    asking = asyncio.create_task(rig.driver.status(3))
    helper = helper_of(rig)
    async with asyncio.timeout(20):
        while helper._helper is None or len(psutil.Process(helper._helper.process.pid).children()) == 0:
            await asyncio.sleep(0.02)
    family = [psutil.Process(helper._helper.process.pid)]
    family += family[0].children()
    for process in family:
        words = " ".join(process.cmdline()) + json.dumps(process.environ())
        assert "Ipmi&" not in words
    with pytest.raises(PowerTimedOut):
        await asking


async def test_a_child_that_hangs_ends_by_its_alarm(rig: Rig) -> None:
    rig.device.freeze()
    with pytest.raises(PowerTimedOut):
        await rig.driver.status(0.5)
    helper = helper_of(rig)
    assert helper._helper is not None
    process = psutil.Process(helper._helper.process.pid)
    async with asyncio.timeout(20):
        while any(child.status() != psutil.STATUS_ZOMBIE for child in process.children()):
            await asyncio.sleep(0.05)
    rig.device.thaw()
    assert (await rig.driver.status()).state is PowerState.OFF


async def test_a_helper_that_dies_is_started_again(rig: Rig) -> None:
    await rig.driver.status()
    helper = helper_of(rig)
    assert helper._helper is not None
    rig.device.freeze()
    asking = asyncio.create_task(rig.driver.status(20))
    async with asyncio.timeout(20):
        while not helper._waiting:
            await asyncio.sleep(0.01)
    children = psutil.Process(helper._helper.process.pid).children()
    os.kill(helper._helper.process.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    with pytest.raises(PowerProtocolError, match="helper process ended"):
        await asking
    rig.device.thaw()
    assert (await rig.driver.status()).state is PowerState.OFF


async def test_closing_the_helper_ends_its_process(rig: Rig) -> None:
    await rig.driver.status()
    helper = helper_of(rig)
    assert helper._helper is not None
    pid = helper._helper.process.pid
    await helper.close()
    assert not psutil.pid_exists(pid)


async def test_a_user_name_the_bmc_does_not_know(rig: Rig) -> None:
    report = await rig.make(user="nobody").check()
    assert "refused user 'nobody'" in report.problems[0]


async def test_no_dcmi_means_no_watts_not_an_error(rig: Rig) -> None:
    rig.machine.on()
    assert await rig.driver.watts() is None


async def test_a_slow_chassis(rig: Rig, tmp_path: Path) -> None:
    slow = ipmi_bmc.IpmiBmc(rig.machine.commands, tmp_path / "slow", password="Ipmi&<20>", slow_s=0.3).start()
    await rig.make(port=slow.port).on()
    slow.stop()
    assert rig.machine.is_on()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"error": "Insufficient privilege level", "code": 0xD4}, PowerNotAllowed),
        ({"error": "Command not supported in present state", "code": 0xD5}, PowerNotAllowed),
        ({"error": "AssertionError: ", "code": 0, "crash": True}, PowerProtocolError),
    ],
)
def test_what_a_bmc_says_becomes_an_error(rig: Rig, reply: dict[str, object], kind: type[Exception]) -> None:
    error = rig.driver._from_reply("on", reply)
    assert type(error) is kind
    assert str(reply["error"]) in str(error)
