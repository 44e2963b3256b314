"""Who is off, and who of those may be switched on by the queue."""

from __future__ import annotations

from racksack_controller.core.power_records import NodePower, Phase
from racksack_controller.core.state import State


def is_dark(state: State, power: NodePower) -> bool:
    """Whether a node is off, or was called in vain so that it may be."""
    if power.phase in (Phase.OFF, Phase.SET_ASIDE):
        return True
    node = state.nodes[power.node]
    return power.phase is Phase.UNKNOWN and not node.connected and node.connection_since_s > 0.0


def could_wake(state: State, power: NodePower, now: float) -> bool:
    """Whether the queue may have a node switched on: it is dark, and neither held, drained nor left alone."""
    if not is_dark(state, power) or left_alone(power, now) or power.held(now):
        return False
    return state.nodes[power.node].drain is None


def left_alone(power: NodePower, now: float) -> bool:
    """Whether a failed boot is too fresh to try another. A shutdown that failed is no reason not to boot."""
    return power.retry_at_s > now and (power.failures > 0 or power.stops_failed == 0)
