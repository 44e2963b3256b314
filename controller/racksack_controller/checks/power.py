"""The power of a node: every way logs in and says what it may do; nothing is switched."""

from __future__ import annotations

import asyncio

from racksack_controller.config.config import Config
from racksack_controller.effects.power_means import means_of
from racksack_controller.power.build import Drivers, build_power
from racksack_controller.power.driver import CheckReport, PowerState
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.settings import IloSettings, IpmiSettings, PowerSettings, RedfishSettings
from racksack_jobspecs.findings import Finding, failed, ok, warning


async def check_power(config: Config, name: str) -> list[Finding]:
    """What the ways of a node's power say when asked whether they would work."""
    settings = config.nodes[name].power
    if settings is None:
        return [ok("power", "always on: it has no power block")]
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
        return [failed(report.driver, problem) for problem in report.problems]
    words = [" ".join(filter(None, (report.model, report.firmware)))]
    if report.reset_types:
        words.append("may " + ", ".join(report.reset_types))
    if report.state in (PowerState.ON, PowerState.OFF):
        words.append(f"the server is {report.state}")
    if report.watts is not None:
        words.append(f"draws {report.watts:.0f} W")
    return [ok(report.driver, "; ".join(filter(None, words)) or "would work")]


def _of_passwords(settings: PowerSettings) -> list[Finding]:
    found = []
    for name, driver in settings.drivers.items():
        if isinstance(driver, RedfishSettings | IpmiSettings | IloSettings):
            exposed = driver.secret.exposed()
            if exposed:
                found.append(warning(name, exposed))
    return found


def _of_ladders(settings: PowerSettings, drivers: Drivers) -> list[Finding]:
    """What the ways together cannot do."""
    found = [ok("on", "by " + ", then ".join(settings.on))]
    if not settings.off:
        found.append(warning("off", "`off` is empty, so it is never switched off"))
        return found
    found.append(ok("off", "by " + ", then ".join(settings.off)))
    if not drivers.devices:
        sentence = f"no device reports whether it is on; it counts as off after no answer for {settings.silence_s:g} s"
        found.append(warning("off", sentence))
    elif not settings.hard_off:
        found.append(warning("off", "its power is never cut (hard_off: false), so one that hangs stays on"))
    return found
