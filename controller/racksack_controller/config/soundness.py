"""What a well-formed configuration still gets wrong: one machine twice, all of it reserved, files not there."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from racksack_controller.nodes.settings import SshSettings
from racksack_jobspecs.readers import Report
from racksack_jobspecs.units import format_cpus, format_memory

if TYPE_CHECKING:
    from racksack_controller.config.config import Config, NodeConfig


def check_nodes(nodes: Mapping[str, NodeConfig], lines: Mapping[str, int], report: Report) -> None:
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


def warnings(config: Config) -> Iterator[str]:
    """What is likely to be wrong, as seen from this machine; each may be right elsewhere."""
    keys: dict[str, str] = {}
    for name, node in config.nodes.items():
        reach = node.reach
        if not isinstance(reach, SshSettings):
            continue
        if reach.host_key is None:
            yield f"nodes.{name}: has no host_key, so it is not connected to; run `racksack node trust {name}`"
        elif reach.host_key in keys:
            other = keys[reach.host_key]
            yield f"nodes.{name}: has the host key of {other}; if both are one machine, it is booked twice"
        else:
            keys[reach.host_key] = name
        if reach.identity is not None and not os.path.exists(reach.identity.expanduser()):  # noqa: PTH110 - no error
            yield f"nodes.{name}: its identity {reach.identity} is not on this machine"
    yield from _people(config)
    switched = sum(node.power is not None for node in config.nodes.values())
    if config.power.keep_on > switched:
        yield f"power.keep_on: is {config.power.keep_on}, and {switched} nodes can be switched on"


def _people(config: Config) -> Iterator[str]:
    if config.group is not None:
        try:
            grp.getgrnam(config.group)
        except KeyError:
            yield f"group: there is no group {config.group} on this machine; see systemd/racksack.sysusers"
    named = {"operators": config.operators, "scheduling.shares": tuple(config.scheduling.shares)}
    for key, names in named.items():
        for name in names:
            try:
                pwd.getpwnam(name)
            except KeyError:
                yield f"{key}: there is no user {name} on this machine"
