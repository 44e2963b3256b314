"""RIBCL as iLOs speak it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from racksack_controller.power.driver import (
    PowerNotAllowed,
    PowerPasswordMissing,
    PowerProtocolError,
    PowerState,
    PowerUntrusted,
)
from racksack_controller.power.tls import Trust
from tests.power import rigs
from tests.power.ribcl_server import RibclServer
from tests.power.rigs import Rig


@pytest_asyncio.fixture(params=[2, 3, 4])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = rigs.ilo(tmp_path, generation=request.param)
    yield made
    await made.driver.close()
    made.device.stop()


@pytest.fixture
def server(rig: Rig) -> RibclServer:
    return rig.device


async def test_off_uses_the_button_as_each_act_needs(rig: Rig, server: RibclServer) -> None:
    rig.machine.on()
    rig.machine.deaf = True
    await rig.driver.soft_off()
    assert rig.machine.is_on()
    await rig.driver.hard_off()
    assert not rig.machine.is_on()
    switched = [word for word in server.record.commands if not word.startswith("GET_")]
    assert switched == ["PRESS_PWR_BTN", "HOLD_PWR_BTN"]


async def test_a_button_is_never_pressed_on_a_server_that_is_off(rig: Rig) -> None:
    await rig.driver.soft_off()
    await rig.driver.hard_off()
    assert rig.machine.events == []


async def test_a_user_without_the_power_right(rig: Rig, server: RibclServer) -> None:
    server.faults.no_power_right = True
    with pytest.raises(PowerNotAllowed, match="Virtual Power and Reset"):
        await rig.driver.on()
    assert not rig.machine.is_on()


async def test_no_sensor_no_watts(rig: Rig, server: RibclServer) -> None:
    server.faults.watts = 0
    assert await rig.driver.watts() is None


async def test_an_answer_that_is_not_ribcl(rig: Rig, server: RibclServer) -> None:
    server.faults.garbage = True
    with pytest.raises(PowerProtocolError):
        await rig.driver.status()


async def test_an_ilo_that_repeats_the_request_does_not_leak_the_password(
    rig: Rig, server: RibclServer, tmp_path: Path
) -> None:
    server.faults.echo_login = True
    driver = rig.make(secret=rigs.password_file(tmp_path / "plain", "opensesame"))
    with pytest.raises(PowerProtocolError, match=r"syntax error near \*\*\*") as caught:
        await driver.status()
    assert "opensesame" not in str(caught.value)


async def test_a_password_ribcl_cannot_carry(rig: Rig, tmp_path: Path) -> None:
    driver = rig.make(secret=rigs.password_file(tmp_path / "odd", 'say "friend"'))
    with pytest.raises(PowerPasswordMissing, match="double quote"):
        await driver.status()


async def test_certificates(rig: Rig, server: RibclServer) -> None:
    for trust in (Trust(fingerprint="sha256:" + "0" * 64, legacy=True), Trust(legacy=True)):
        with pytest.raises(PowerUntrusted, match=server.fingerprint):
            await rig.make(trust=trust).status()
    assert server.record.commands == []
    assert (await rig.make(trust=Trust(verify=False, legacy=True)).status()).state is PowerState.OFF


async def test_tls_of_1999(tmp_path: Path) -> None:
    made = rigs.ilo2(tmp_path)
    await made.driver.on()
    assert made.machine.is_on()
    made.device.stop()
