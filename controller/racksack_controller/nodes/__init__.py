"""Ways to reach a node; `make_node` is the one door."""

from __future__ import annotations

from racksack_controller.nodes.agent_node import AgentNode
from racksack_controller.nodes.local import LocalTransport
from racksack_controller.nodes.node import Node
from racksack_controller.nodes.settings import LocalSettings, NodeSettings
from racksack_controller.nodes.ssh import SshTransport


def make_node(name: str, settings: NodeSettings) -> Node:
    """The node of these settings, not connected yet."""
    if isinstance(settings, LocalSettings):
        return AgentNode(name, LocalTransport(name, settings))
    return AgentNode(name, SshTransport(name, settings))
