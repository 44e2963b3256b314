"""Whether jobs of several users run with the rights of the controller itself."""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket

from racksack_controller.config.config import Config, NodeConfig
from racksack_controller.nodes.settings import LocalSettings, SshSettings
from racksack_jobspecs.findings import Finding, failed, ok, warning

CONSEQUENCE = (
    "every member's job there can read the nodes' SSH key, the passwords of BMCs and everybody's results, and act as "
    "an operator"
)


def look_at_sharing(config: Config) -> list[Finding]:
    """A finding for each node on which jobs are the controller's own user. Blocks for the machine's names."""
    if config.group is None:
        return []
    own_user, own_names = _own_user(), _own_names()
    findings = []
    for name, node in sorted(config.nodes.items()):
        if isinstance(node.reach, LocalSettings):
            findings.append(warning("sharing", f"{name} is `local: {{shared: yes}}`: {CONSEQUENCE}"))
        elif _is_this_account(node, own_user, own_names):
            findings.append(
                failed(
                    "sharing",
                    f"{name} is reached by ssh as the controller's own user: {CONSEQUENCE}; use another account",
                )
            )
    return findings or [ok("sharing", "no job runs as the controller's user")]


def _is_this_account(node: NodeConfig, own_user: str, own_names: frozenset[str]) -> bool:
    reach = node.reach
    if not isinstance(reach, SshSettings) or reach.jump is not None or reach.user != own_user:
        return False
    try:
        return ipaddress.ip_address(reach.host.strip("[]")).is_loopback
    except ValueError:
        return reach.host.lower().rstrip(".") in own_names


def _own_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, name.split(".")[0], socket.getfqdn().lower()})
