"""From the settings of a node's power to its drivers. Libraries are imported only for the kinds that are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from racksack_controller.power.cautious import Cautious
from racksack_controller.power.driver import PowerDriver
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.settings import (
    CommandSettings,
    DriverSettings,
    IloSettings,
    IpmiSettings,
    PowerSettings,
    RedfishSettings,
    WolSettings,
)
from racksack_controller.power.ssh import Run, SshDriver
from racksack_controller.power.wol import RunOn


@dataclass(frozen=True, slots=True)
class Means:
    """What the drivers of a node need from outside: its shell, the jump hosts, the IPMI helper all nodes share."""

    node: str
    run: Run
    run_on: RunOn
    ipmi: IpmiHelper


@dataclass(frozen=True, slots=True)
class Drivers:
    """The drivers of one node: all by name, and the ladders in order."""

    drivers: Mapping[str, PowerDriver]
    on: tuple[PowerDriver, ...]
    off: tuple[PowerDriver, ...]

    @property
    def devices(self) -> tuple[PowerDriver, ...]:
        """The drivers that can tell on from off."""
        return tuple(driver for driver in self.drivers.values() if driver.knows_state)

    async def close(self) -> None:
        """Log out everywhere; each driver bounds its own time."""
        for driver in self.drivers.values():
            await driver.close()


def build_power(settings: PowerSettings, means: Means) -> Drivers:
    """The drivers of a node. Nothing is connected yet."""
    drivers = {name: _cautious(build_driver(name, driver, means), driver) for name, driver in settings.drivers.items()}
    return Drivers(
        drivers=drivers,
        on=tuple(drivers[name] for name in settings.on),
        off=tuple(drivers[name] for name in settings.off),
    )


def _cautious(driver: PowerDriver, settings: DriverSettings) -> PowerDriver:
    """The driver, kept from trying a refused password again and again where it logs in with one."""
    if isinstance(settings, RedfishSettings | IpmiSettings | IloSettings):
        return Cautious(driver, settings.secret)
    return driver


def build_driver(name: str, settings: DriverSettings, means: Means) -> PowerDriver:
    """One driver under its name in the configuration."""
    if isinstance(settings, RedfishSettings):
        from racksack_controller.power.redfish import RedfishDriver

        return RedfishDriver(settings, name)
    if isinstance(settings, IpmiSettings):
        from racksack_controller.power.ipmi import IpmiDriver

        return IpmiDriver(settings, means.ipmi, name)
    if isinstance(settings, IloSettings):
        from racksack_controller.power.ilo import IloDriver

        return IloDriver(settings, name)
    if isinstance(settings, WolSettings):
        from racksack_controller.power.wol import WolDriver

        return WolDriver(settings, means.run_on, name)
    if isinstance(settings, CommandSettings):
        from racksack_controller.power.command import CommandDriver

        return CommandDriver(settings, name)
    return SshDriver(settings, means.run, means.node, name)
