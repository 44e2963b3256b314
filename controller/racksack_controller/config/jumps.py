"""From the `ssh` blocks of all nodes to settings in which each jump is resolved, however many follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from racksack_controller.config.node_fields import JumpName
from racksack_controller.nodes.settings import SshSettings
from racksack_jobspecs.readers import Report, closest, shown

Blocks = Mapping[str, dict[str, Any] | None]
"""The ssh block of each node by name, None for a node that is not reached by ssh."""


def resolve_ssh(name: str, blocks: Blocks, report: Report) -> SshSettings | None:
    """The settings of one node; None when its own block or a jump on the way has a mistake, which is in the report."""
    block = blocks[name]
    return None if block is None else _settings(block, blocks, (name,), report)


def _settings(block: dict[str, Any], blocks: Blocks, way: tuple[str, ...], report: Report) -> SshSettings | None:
    if "host" not in block or "user" not in block:
        return None  # said by the reader
    jump = block.get("jump")
    through = None
    if isinstance(jump, JumpName):
        fault = _fault(jump, blocks, way)
        if fault:
            report.add(jump.line, jump.path, fault)
            return None
        through = _settings(blocks[jump.name] or {}, blocks, (*way, jump.name), report)
    elif jump is not None:
        through = _settings(jump, blocks, way, report)
    return SshSettings(
        **{
            key: block[key]
            for key in ("host", "user", "port", "identity", "host_key", "home", "python")
            if key in block
        },
        **({"connect_timeout_s": block["connect_timeout"]} if "connect_timeout" in block else {}),
        **({"keepalive_s": block["keepalive"]} if "keepalive" in block else {}),
        jump=through,
    )


def _fault(jump: JumpName, blocks: Blocks, way: tuple[str, ...]) -> str:
    """What is wrong with a jump that names a node; empty when nothing is."""
    if jump.name not in blocks:
        meant = closest(jump.name, blocks)
        hint = f"did you mean {meant}? " if meant else "name one of them. "
        return f"{shown(jump.name)} is not a node; {hint}For another host write jump: {{host: ..., user: ...}}"
    if jump.name in way:
        loop = " -> ".join((*way[way.index(jump.name) :], jump.name))
        return f"these jumps form a loop ({loop}); reach one of them without a jump"
    if blocks[jump.name] is None:
        return f"{jump.name} is not reached by ssh; remove the jump or name a node that is"
    return ""
