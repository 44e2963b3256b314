"""Ways to reach a node; `make_node` is the one door."""

from __future__ import annotations

import json

from racksack_controller.nodes.agent_node import AgentNode
from racksack_controller.nodes.local import LocalTransport
from racksack_controller.nodes.node import Node
from racksack_controller.nodes.settings import LocalSettings, NodeSettings, SlurmSettings
from racksack_controller.nodes.ssh import SshTransport


def make_node(name: str, settings: NodeSettings, slurm: SlurmSettings | None = None) -> Node:
    """The node of these settings, not connected yet. `slurm`: it is the login node of such a cluster."""
    options = () if slurm is None else ("--slurm", _of_agent(slurm))
    if isinstance(settings, LocalSettings):
        return AgentNode(name, LocalTransport(name, settings), options)
    return AgentNode(name, SshTransport(name, settings), options)


def _of_agent(slurm: SlurmSettings) -> str:
    """What the agent has to know before it is asked for anything."""
    names = [partition.name for partition in slurm.partitions if partition.name]
    return json.dumps({"partitions": names, "absent_s": slurm.absent_s, "conf": slurm.conf})
