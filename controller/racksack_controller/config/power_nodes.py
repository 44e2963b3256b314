"""What only all nodes together can tell about power: which nodes are jump hosts, and hosts that packets leave from.

Also the translation of a node's power settings to what the core decides by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from racksack_controller.core.power_records import PowerTraits
from racksack_controller.nodes.openssh import host_called
from racksack_controller.nodes.settings import LocalSettings, NodeSettings, SshSettings
from racksack_controller.power.settings import PowerSettings, WolSettings
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


@dataclass(frozen=True, slots=True)
class JumpNodes:
    """The nodes that others are reached through or woken from, however many follow each other."""

    through: Mapping[str, tuple[str, ...]]  # of each node: those on the way to it
    behind: Mapping[str, tuple[str, ...]]  # of each node: those to which it is on the way


def jump_nodes(nodes: Ways) -> JumpNodes:
    """Which nodes are jump hosts for which others."""
    direct = {name: _jumps_of(name, nodes) for name in nodes}
    through = {name: tuple(sorted(_closure(name, direct) - {name})) for name in nodes}
    behind = {name: tuple(other for other in nodes if name in through[other]) for name in nodes}
    return JumpNodes(through, behind)


def _jumps_of(name: str, nodes: Ways) -> set[str]:
    """The nodes that a node's own `ssh` and `wol` blocks name."""
    way, power = nodes[name]
    found: set[str] = set()
    hop = way.jump if isinstance(way, SshSettings) else None
    while hop is not None:
        found |= {other for other, (reach, _) in nodes.items() if _is_same_host(reach, hop)}
        hop = hop.jump
    for settings in power.drivers.values() if power else ():
        if isinstance(settings, WolSettings) and settings.jump is not None and settings.jump in nodes:
            found.add(settings.jump)
    return found


def _closure(name: str, direct: Mapping[str, set[str]]) -> set[str]:
    """`direct` followed to its end."""
    found, new = set[str](), direct[name]
    while new - found:
        found |= new
        new = set().union(*(direct[one] for one in found))
    return found


def _is_same_host(reach: NodeSettings, hop: SshSettings) -> bool:
    return isinstance(reach, SshSettings) and (reach.host, reach.port) == (hop.host, hop.port)


def traits_of(name: str, power: PowerSettings, jumps: JumpNodes) -> PowerTraits:
    """What the core decides by."""
    return PowerTraits(
        can_switch_on=bool(power.on),
        can_switch_off=bool(power.off),
        idle_off_s=power.idle_off_s,
        min_on_s=power.min_on_s,
        boot_timeout_s=power.boot_timeout_s,
        boot_timeout_is_set=power.boot_timeout_is_set,
        off_grace_s=power.off_grace_s,
        hard_off=power.hard_off,
        watts_idle=power.watts.idle if power.watts else None,
        watts_max=power.watts.max if power.watts else None,
        through=jumps.through[name],
        behind=jumps.behind[name],
    )
