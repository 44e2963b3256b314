"""Which nodes are to be switched on or off: a function of (state, time). Decisions are events, applied like placements.

A node with anything of a job on it is never switched off, and no job is placed on one that is not on.
"""

from __future__ import annotations

import msgspec

from racksack_controller.core.events import Event
from racksack_controller.core.power_apply import has_work
from racksack_controller.core.power_events import SwitchOffDecided, SwitchOnDecided
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.power_records import NodePower, Phase
from racksack_controller.core.state import State

FIXED_IDLE_OFF_S = 300.0


class PowerPlan(msgspec.Struct, frozen=True):
    """What to decide now, and the Unix time at which time alone may change that (None: never)."""

    events: tuple[Event, ...]
    wake_s: float | None


def plan_power(state: State, now: float, policy: PowerPolicy = DEFAULT_POWER) -> PowerPlan:
    """The decisions about power at `now` (Unix seconds)."""
    events: list[Event] = []
    wakes: list[float] = []
    waiting = bool(len(state.lines.open_lines()))
    for name, power in state.power.items():
        if waiting and _could_wake(state, power, now):
            events.append(SwitchOnDecided(name, "jobs are waiting"))
        due = _off_at_s(state, power)
        if due is not None and not waiting:
            if due <= now:
                events.append(SwitchOffDecided(name, "idle"))
            else:
                wakes.append(due)
    return PowerPlan(tuple(events), min(wakes, default=None))


def _could_wake(state: State, power: NodePower, now: float) -> bool:
    off = power.phase in (Phase.OFF, Phase.SET_ASIDE, Phase.UNKNOWN) and not state.nodes[power.node].connected
    return off and power.retry_at_s <= now and not power.held(now)


def _off_at_s(state: State, power: NodePower) -> float | None:
    traits = state.power_traits.get(power.node)
    if traits is None or power.phase is not Phase.ON or power.idle_since_s is None or not traits.can_switch_off:
        return None
    if has_work(state, power.node) or power.logins or state.nodes[power.node].drain is not None:
        return None
    idle = FIXED_IDLE_OFF_S if traits.idle_off_s is None else traits.idle_off_s
    return max(power.idle_since_s + idle, (power.on_since_s or 0.0) + traits.min_on_s, power.retry_at_s)
