"""Who is off, who of those may be switched on by the queue, and whether the way to a node is on.

A jump host may be a node that is switched itself. What lies behind it can be neither woken nor reached while it is off.
"""

from __future__ import annotations

from racksack_controller.core.power_records import Phase, PowerRecord, boot_s
from racksack_controller.core.state import State


def is_off(state: State, power: PowerRecord) -> bool:
    """Whether a node is off, or was called in vain so that it may be."""
    if power.phase in (Phase.OFF, Phase.SET_ASIDE):
        return True
    node = state.nodes[power.node]
    return power.phase is Phase.UNKNOWN and not node.connected and node.connection_since_s > 0.0


def could_wake(state: State, power: PowerRecord, now: float) -> bool:
    """Whether the queue may have a node switched on: it is off, and neither held, drained nor left alone.

    The same goes for the jump hosts on the way to it that are off.
    """
    return _could_wake(state, power, now) and blocked_by(state, power.node, now) is None


def _could_wake(state: State, power: PowerRecord, now: float) -> bool:
    if not is_off(state, power) or backing_off(power, now) or power.held(now):
        return False
    return state.nodes[power.node].drain is None


def closed_jumps(state: State, name: str) -> list[PowerRecord]:
    """The jump hosts on the way to a node that let nobody through now; those without a power block always do."""
    traits = state.power_traits.get(name)
    hosts = traits.through if traits is not None else ()
    ways = [state.power[host] for host in hosts if host in state.power]
    return [way for way in ways if not (way.phase is Phase.ON and way.takes_jobs and state.nodes[way.node].connected)]


def blocked_by(state: State, name: str, now: float) -> str | None:
    """A jump host on the way to a node that is off and may not be switched on, or is to go off; or None."""
    for way in closed_jumps(state, name):
        traits = state.power_traits.get(way.node)
        if way.request.goes_off:
            return way.node
        if is_off(state, way) and not (_could_wake(state, way, now) and traits is not None and traits.can_switch_on):
            return way.node
    return None


def way_boot_s(state: State, name: str) -> float:
    """How long the jump hosts on the way to a node take to boot first, one after the other. Seconds."""
    off = [way for way in closed_jumps(state, name) if is_off(state, way) and way.node in state.power_traits]
    return sum(boot_s(way, state.power_traits[way.node]) for way in off)


def on_behind(state: State, name: str) -> list[str]:
    """The switched nodes behind a jump host that are on, boot, go down, or were left on."""
    traits = state.power_traits.get(name)
    found = []
    for other in traits.behind if traits is not None else ():
        power = state.power.get(other)
        if power is None:
            continue
        left_on = power.phase is Phase.SET_ASIDE and power.seen_on is True
        if left_on or power.phase in (Phase.BOOTING, Phase.ON, Phase.STOPPING):
            found.append(other)
    return found


def always_on_behind(state: State, name: str) -> list[str]:
    """The nodes behind a jump host that are not switched."""
    traits = state.power_traits.get(name)
    return [other for other in (traits.behind if traits is not None else ()) if other not in state.power]


def backing_off(power: PowerRecord, now: float) -> bool:
    """Whether a failed boot is too fresh to try another. A shutdown that failed is no reason not to boot."""
    return power.retry_at_s > now and (power.failures > 0 or power.stops_failed == 0)
