"""A refused password is not sent again soon, and a mended one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.power.cautious import LOGIN_WAIT_S, Cautious
from racksack_controller.power.driver import (
    CheckReport,
    PowerLoginRefused,
    PowerPasswordMissing,
    PowerReading,
    PowerState,
    PowerUnreachable,
)
from racksack_controller.power.secret import Secret


class Device:
    """A driver that fails as a test says, and counts how often it was asked."""

    name, target, knows_state, from_inside = "redfish", "https://bmc", True, False

    def __init__(self) -> None:
        self.asked = 0
        self.fault: type[PowerLoginRefused | PowerUnreachable] | None = PowerLoginRefused

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        self.asked += 1
        if self.fault is not None:
            raise self.fault(self.name, "read", self.target, "no", "mend it")
        return PowerReading(PowerState.ON, "On")

    async def on(self, timeout_s: float | None = None) -> None:
        await self.status()

    soft_off = hard_off = on

    async def watts(self, timeout_s: float | None = None) -> float | None:
        await self.status()
        return 100.0

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        self.asked += 1
        return CheckReport(self.name, self.target)

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "pw"
    path.write_text("old\n")
    return path


async def refused(driver: Cautious) -> None:
    for call in (driver.status, driver.on, driver.soft_off, driver.hard_off, driver.watts):
        with pytest.raises(PowerLoginRefused):
            await call()


async def test_one_refusal_is_enough_for_a_while(password: Path) -> None:
    device, now = Device(), [0.0]
    driver = Cautious(device, Secret(file=password), lambda: now[0])
    await refused(driver)
    assert device.asked == 1
    now[0] = LOGIN_WAIT_S
    await refused(driver)
    assert device.asked == 2
    assert (await driver.check()).ok  # a person asked
    assert device.asked == 3


async def test_another_password_is_tried_at_once(password: Path) -> None:
    device = Device()
    driver = Cautious(device, Secret(file=password))
    await refused(driver)
    password.write_text("new\n")
    device.fault = None
    assert (await driver.status()).state is PowerState.ON
    assert await driver.watts() == 100.0


@pytest.mark.parametrize("fault", [PowerPasswordMissing, PowerUnreachable])
async def test_where_no_password_was_sent_nothing_is_held_back(password: Path, fault: type[PowerUnreachable]) -> None:
    device = Device()
    device.fault = fault
    driver = Cautious(device, Secret(file=password))
    for _ in range(3):
        with pytest.raises(fault):
            await driver.status()
    assert device.asked == 3
