"""What the controller knows about its nodes already, a line each; nothing is asked of them."""

from __future__ import annotations

from collections.abc import Mapping

from racksack_controller.checks.node import free_space
from racksack_controller.core.state import Node, State
from racksack_controller.core.why import why_node
from racksack_controller.effects.connector import Connector
from racksack_jobspecs.findings import Finding, Verdict, clock, failed, not_looked_at
from racksack_jobspecs.states import NodeState
from racksack_jobspecs.units import format_duration

_VERDICTS = {
    NodeState.UP: Verdict.OK,
    NodeState.OFF: Verdict.OK,
    NodeState.BOOTING: Verdict.OK,
    NodeState.STOPPING: Verdict.OK,
    NodeState.CONNECTING: Verdict.WARNING,
    NodeState.DRAINING: Verdict.WARNING,
    NodeState.DRAINED: Verdict.WARNING,
    NodeState.UNREACHABLE: Verdict.FAILED,
    NodeState.SET_ASIDE: Verdict.FAILED,
}
_WORST_FIRST = (Verdict.FAILED, Verdict.WARNING, Verdict.NOT_LOOKED_AT, Verdict.OK)


def look_at_known(state: State, connectors: Mapping[str, Connector], now: float) -> list[Finding]:
    """A finding for each configured node: state, since when, the last error, clock, free disk, agent."""
    if not connectors:
        return [failed("none", "the configuration has no nodes, so no job can run; see `racksack node add`")]
    return [
        _known(state, state.nodes[name], connectors[name], now) if name in state.nodes else _new(name)
        for name in sorted(connectors)
    ]


def _new(name: str) -> Finding:
    return not_looked_at(name, "was just added to the configuration")


def _known(state: State, node: Node, connector: Connector, now: float) -> Finding:
    shown = state.node_state(node)
    verdicts = [_VERDICTS[shown]]
    said = [f"{shown.replace('_', ' ')}{_since(state, node, now)}", why_node(state, node, now).rstrip(".")]
    if node.cool_until_s > now:
        verdicts.append(Verdict.WARNING)
    if node.connected:
        of_connection = _of_connection(connector)
        verdicts += [finding.verdict for finding in of_connection]
        said += [f"{finding.what} {finding.sentence}" for finding in of_connection] + _agent(connector)
    said.append(_remedy(shown, node.name))
    worst = next(verdict for verdict in _WORST_FIRST if verdict in verdicts)
    return Finding(node.name, worst, "; ".join(filter(None, said)))


def _since(state: State, node: Node, now: float) -> str:
    """For how long it has been so, where that is known."""
    power = state.power.get(node.name)
    is_of_power = state.node_state(node) in (NodeState.OFF, NodeState.BOOTING, NodeState.STOPPING, NodeState.SET_ASIDE)
    since_s = power.since_s if power is not None and is_of_power else node.connection_since_s
    return f" for {format_duration(max(0.0, now - since_s))}" if since_s else ""


def _of_connection(connector: Connector) -> list[Finding]:
    stats = connector.stats
    if stats is None:
        return []
    found = [free_space("disk", stats.disk_free_bytes)]
    if stats.clock_s is not None:
        found.insert(0, clock("clock", stats.clock_s - connector.stats_at_s, "the controller's"))
    return found


def _agent(connector: Connector) -> list[str]:
    hello = connector.hello
    if hello is None:
        return []
    return [f"agent {hello.agent[:8]} on Python {hello.python}"]


def _remedy(shown: NodeState, name: str) -> str:
    if shown in (NodeState.UNREACHABLE, NodeState.SET_ASIDE):
        return f"`racksack doctor {name}` tries everything that it needs"
    if shown in (NodeState.DRAINING, NodeState.DRAINED):
        return f"`racksack resume {name}` lets it take jobs"
    return ""
