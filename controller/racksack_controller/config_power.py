"""What only all nodes together can tell about power: jump hosts that must stay on, and hosts that packets leave from.

Also the translation of a node's power settings to what the core decides by.
"""

from __future__ import annotations

from collections.abc import Mapping

from racksack_controller.core.power_records import PowerTraits
from racksack_controller.nodes.settings import LocalSettings, NodeSettings, SshSettings
from racksack_controller.power.settings import PowerSettings, WolSettings
from racksack_controller.power_means import host_called
from racksack_jobspecs.readers import Report, shown

Ways = Mapping[str, tuple[NodeSettings, PowerSettings | None]]
"""How each node is reached and switched, by name."""


def check_power(nodes: Ways, lines: Mapping[str, int], report: Report) -> None:
    """Report what cannot work: the controller's own machine, and packets that would leave from an unknown host."""
    reach = {name: way for name, (way, _) in nodes.items()}
    for name, (way, power) in nodes.items():
        if power is None:
            continue
        where = f"nodes.{name}.power"
        if isinstance(way, LocalSettings):
            report.add(lines[name], where, "would switch off the controller's own machine; remove it")
            continue
        for driver, settings in power.drivers.items():
            jump = settings.jump if isinstance(settings, WolSettings) else None
            if jump is not None and host_called(jump, name, reach) is None:
                report.add(
                    lines[name],
                    f"{where}: {driver}.jump",
                    f"{shown(jump)} is neither a node nor the host of a jump in this node's ssh; name one of these",
                )


def jump_nodes(nodes: Ways) -> dict[str, list[str]]:
    """The nodes that others are reached through or woken from, with the names of those others."""
    found: dict[str, list[str]] = {}
    for name, (way, power) in nodes.items():
        through: set[str] = set()
        hop = way.jump if isinstance(way, SshSettings) else None
        while hop is not None:
            through |= {other for other, (reach, _) in nodes.items() if _is_same_host(reach, hop)}
            hop = hop.jump
        for settings in power.drivers.values() if power else ():
            if isinstance(settings, WolSettings) and settings.jump is not None and settings.jump in nodes:
                through.add(settings.jump)
        for other in through - {name}:
            found.setdefault(other, []).append(name)
    return found


def _is_same_host(reach: NodeSettings, hop: SshSettings) -> bool:
    return isinstance(reach, SshSettings) and (reach.host, reach.port) == (hop.host, hop.port)


def traits_of(power: PowerSettings, others_behind: bool) -> PowerTraits:
    """What the core decides by. A node that others are reached through is never switched off by itself."""
    return PowerTraits(
        can_switch_on=bool(power.on),
        can_switch_off=bool(power.off) and not others_behind,
        idle_off_s=power.idle_off_s,
        min_on_s=power.min_on_s,
        boot_timeout_s=power.boot_timeout_s,
        off_grace_s=power.off_grace_s,
        hard_off=power.hard_off,
        watts_idle=power.watts.idle if power.watts else None,
        watts_max=power.watts.max if power.watts else None,
    )
