"""What no configuration may say about its nodes, whatever machine reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from racksack_controller.nodes.settings import NodeSettings, SshSettings
from racksack_jobspecs.readers import Report
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.units import format_cpus, format_memory


class Described(Protocol):
    """What is looked at of a NodeConfig."""

    @property
    def reach(self) -> NodeSettings:
        """How the node is reached."""

    @property
    def reserve(self) -> ResourceRequest:
        """What it keeps for itself."""

    @property
    def cpus(self) -> int | None:
        """As configured."""

    @property
    def ram_bytes(self) -> int | None:
        """As configured."""


def check_nodes(nodes: Mapping[str, Described], lines: Mapping[str, int], report: Report) -> None:
    """Report nodes that are one machine, which would be booked twice, and reserves that leave nothing."""
    seen: dict[object, str] = {}
    for name, node in nodes.items():
        where, line, reach = f"nodes.{name}", lines[name], node.reach
        if isinstance(reach, SshSettings):
            address = (reach.host, reach.port, reach.home, _way(reach.jump))
            if address in seen:
                report.add(line, where, f"is the same machine as {seen[address]} ({reach.host}); remove one of them")
            seen.setdefault(address, name)
        if node.cpus is not None and node.reserve.cpus >= node.cpus:
            told = f"reserves {format_cpus(node.reserve.cpus)} of {node.cpus} CPUs, so no job fits; reserve less"
            report.add(line, where, told)
        if node.ram_bytes is not None and node.reserve.ram_bytes >= node.ram_bytes:
            told = f"reserves {format_memory(node.reserve.ram_bytes)} of {format_memory(node.ram_bytes)} of memory"
            report.add(line, where, f"{told}, so no job fits; reserve less")


def _way(jump: SshSettings | None) -> tuple[object, ...]:
    return () if jump is None else (jump.host, jump.port, *_way(jump.jump))
