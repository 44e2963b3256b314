"""What differs between two configurations, and what puts it to use."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from racksack_controller.config.config import Config, NodeConfig

RELOADED = (
    "partitions",
    "notify",
    "scheduling",
    "secrets",
)  # what a reload puts to use beside the nodes; else a restart


class ConfigChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Names of nodes and of settings that differ."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    settings: list[str] = []  # that a reload puts to use
    restart_for: list[str] = []  # settings that count from the next start of the controller


class ReloadRefusedError(Exception):
    """Why the configuration was not read again; nothing was changed."""


class BusyNodesError(ReloadRefusedError):
    """Nodes would go while jobs run on them."""

    def __init__(self, busy: Mapping[str, int]) -> None:
        nodes = ", ".join(f"{name} runs {count} job{'' if count == 1 else 's'}" for name, count in busy.items())
        super().__init__(
            f"{nodes}, which would be lost and run again elsewhere: drain it first "
            f"(`racksack drain {next(iter(busy))} --reason ...`), or reload with --force"
        )


def config_changes(before: Config, after: Config, at_start: Config | None = None) -> ConfigChanges:
    """From `before` to `after`. at_start: what settings that need a restart are compared with; None: `before`."""
    return ConfigChanges(
        added=[name for name in after.nodes if name not in before.nodes],
        removed=[name for name in before.nodes if name not in after.nodes],
        changed=_changed(before.nodes, after.nodes),
        settings=[name for name in RELOADED if getattr(before, name) != getattr(after, name)],
        restart_for=[name for name in _by_restart() if getattr(at_start or before, name) != getattr(after, name)],
    )


def _changed(before: Mapping[str, NodeConfig], after: Mapping[str, NodeConfig]) -> list[str]:
    return [name for name, node in after.items() if name in before and before[name] != node]


def _by_restart() -> list[str]:
    return [name for name in Config.__struct_fields__ if name not in ("nodes", "path", *RELOADED)]
