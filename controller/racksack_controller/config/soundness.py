"""What a well-formed configuration still gets wrong: one machine twice, all of it reserved, files not there."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from typing import TYPE_CHECKING

from racksack_controller.nodes.settings import SshSettings

if TYPE_CHECKING:
    from racksack_controller.config.config import Config


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
            yield f"nodes.{name}: has the host key of {other}; if both are one machine, its resources count twice"
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
