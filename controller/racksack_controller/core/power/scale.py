"""`racksack scale N`: which servers are switched on and held, and which are let go, so that N are on.

Servers that are on come first, then those that are booting, then those that are off, those that boot fastest first. A
hold that this made is known by its reason, so that another number lets go of what is too much and of nothing else.
"""

from __future__ import annotations

from racksack_controller.core.events import Event
from racksack_controller.core.power import events as ev
from racksack_controller.core.power_records import OperatorRequest, Phase, PowerRecord
from racksack_controller.core.state import State

REASON = "scaled to "
_RANK = {Phase.ON: 0, Phase.BOOTING: 1, Phase.UNKNOWN: 2, Phase.OFF: 3}


def scaled(state: State, count: int | None, until_s: float | None, by: str) -> tuple[list[Event], list[str]]:
    """What is to happen so that `count` servers are on (None: as many as the queue needs), and these servers."""
    chosen = _chosen(state, count) if count is not None else []
    events: list[Event] = []
    for name in chosen:
        power = state.power.get(name)
        if power is None:
            continue  # it is always on
        if power.phase not in (Phase.ON, Phase.BOOTING) or power.request.goes_off:
            events.append(ev.PowerRequested(name, OperatorRequest.ON, by))
        if power.hold is None or power.hold.reason.startswith(REASON):
            events.append(ev.PowerHeld(name, until_s, by, f"{REASON}{count}"))
    for name, power in sorted(state.power.items()):
        if name not in chosen and power.hold is not None and power.hold.reason.startswith(REASON):
            events.append(ev.PowerReleased(name, by))
    return events, chosen


def _chosen(state: State, count: int) -> list[str]:
    always = [name for name, node in state.nodes.items() if name not in state.power and node.connected]
    switched = [power for power in state.power.values() if _can_be_on(state, power)]
    switched.sort(key=lambda power: _order(state, power))
    return [*sorted(always), *(power.node for power in switched)][:count]


def _can_be_on(state: State, power: PowerRecord) -> bool:
    node, traits = state.nodes.get(power.node), state.power_traits.get(power.node)
    if node is None or node.drain is not None or power.phase not in _RANK:
        return False
    return power.phase in (Phase.ON, Phase.BOOTING) or node.connected or (traits is not None and traits.can_switch_on)


def _order(state: State, power: PowerRecord) -> tuple[int, float, str]:
    traits = state.power_traits.get(power.node)
    return _RANK[power.phase], traits.boot_s if traits is not None else 0.0, power.node
