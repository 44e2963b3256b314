"""The power part of `racksack node check`: every way logs in and says what it may do; nothing is switched."""

from __future__ import annotations

import asyncio

from racksack_controller.commands.finding import Finding
from racksack_controller.config import Config
from racksack_controller.power.build import NodePower, build_power
from racksack_controller.power.driver import CheckReport, PowerState
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.means import means_of
from racksack_controller.power.settings import IloSettings, IpmiSettings, PowerSettings, RedfishSettings


async def check_power(config: Config, name: str) -> list[Finding]:
    """What the ways of a node's power say when asked whether they would work."""
    settings = config.nodes[name].power
    if settings is None:
        return [Finding("power", "good", "is always on: it has no power block")]
    ipmi = IpmiHelper()
    drivers = build_power(settings, means_of(name, {other: node.reach for other, node in config.nodes.items()}, ipmi))
    try:
        reports = await asyncio.gather(*(driver.check() for driver in drivers.drivers.values()))
    finally:
        await drivers.close()
        await ipmi.close()
    findings = [finding for report in reports for finding in _of_way(report)]
    return findings + _of_passwords(settings) + _of_ladders(settings, drivers)


def _of_way(report: CheckReport) -> list[Finding]:
    if report.problems:
        return [Finding(report.driver, "bad", problem) for problem in report.problems]
    words = [" ".join(filter(None, (report.model, report.firmware)))]
    if report.reset_types:
        words.append("may " + ", ".join(report.reset_types))
    if report.state in (PowerState.ON, PowerState.OFF):
        words.append(f"the server is {report.state}")
    if report.watts is not None:
        words.append(f"draws {report.watts:.0f} W")
    return [Finding(report.driver, "good", "; ".join(filter(None, words)) or "would work")]


def _of_passwords(settings: PowerSettings) -> list[Finding]:
    found = []
    for name, driver in settings.drivers.items():
        if isinstance(driver, RedfishSettings | IpmiSettings | IloSettings):
            exposed = driver.secret.exposed()
            if exposed:
                found.append(Finding(name, "warning", exposed))
    return found


def _of_ladders(settings: PowerSettings, drivers: NodePower) -> list[Finding]:
    """What the ways together cannot do."""
    found = [Finding("on", "good", "by " + ", then ".join(settings.on))]
    if not settings.off:
        found.append(Finding("off", "warning", "nothing is named in `off`, so it is never switched off"))
        return found
    found.append(Finding("off", "good", "by " + ", then ".join(settings.off)))
    if not drivers.devices:
        sentence = f"no device knows whether it is on; it counts as off when silent for {settings.silence_s:g} s"
        found.append(Finding("off", "warning", sentence))
    elif not settings.hard_off:
        found.append(Finding("off", "warning", "its power is never cut (hard_off: false), so one that hangs stays on"))
    return found
