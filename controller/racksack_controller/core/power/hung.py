"""Servers that hang: a device says that they are on, and nothing on them answers. They are switched off, with bounds.

What such a server ran was given up before, so nothing runs twice. Whatever waits for it then has it switched on again.
Several that fall silent together are taken for a cut of the network and left alone for longer. One that hangs again
within a day stays off and set aside, with the reason.
"""

from __future__ import annotations

from racksack_controller.core.power.events import SwitchOffDecided
from racksack_controller.core.power_records import Phase, PowerRecord, boot_limit_s
from racksack_controller.core.state import State
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_duration

SILENT_S = 300.0  # and its attempts were given up, which takes as long as `lost_after` says
CUT_S = 1800.0  # the same where others are silent, too
TOGETHER_S = 60.0  # silences that began within this time of each other have one cause
AGAIN_S = 86400.0
ASIDE_S = 6 * 3600.0


def hangs_at_s(state: State, power: PowerRecord) -> float | None:
    """When a silent server counts as hung (Unix time), or None: it answers, or nobody says that it is on."""
    node, traits = state.nodes[power.node], state.power_traits.get(power.node)
    since_s = node.connection_since_s
    if power.phase not in (Phase.ON, Phase.UNKNOWN) or node.connected or not since_s or traits is None:
        return None
    if power.confirmed_on_s < since_s or not traits.can_switch_off or not traits.hard_off:
        return None
    if any(attempt.state is not JobState.COLLECTING for attempt in state.on_node(power.node)):
        return None
    if power.phase is Phase.UNKNOWN:  # somebody may just have switched it on
        since_s = max(since_s, power.since_s + boot_limit_s(power, traits))
    return since_s + (CUT_S if _silent_together(state, power.node) else SILENT_S)


def _silent_together(state: State, name: str) -> bool:
    began_s = state.nodes[name].connection_since_s
    others = (state.nodes[other] for other in state.silent if other != name)
    return any(
        abs(other.connection_since_s - began_s) <= TOGETHER_S and _is_thought_on(state, other.name) for other in others
    )


def _is_thought_on(state: State, name: str) -> bool:
    power = state.power.get(name)
    return power is None or power.phase in (Phase.ON, Phase.UNKNOWN)


def switch_off_hung(state: State, now: float, wakes: list[float]) -> list[SwitchOffDecided]:
    """The servers that hang now; when the next one will is added to `wakes`."""
    decided = []
    for power in state.power.values():
        at_s = hangs_at_s(state, power)
        if at_s is None or power.held(now) or state.nodes[power.node].drain is not None:
            continue
        if at_s > now:
            wakes.append(at_s)
            continue
        silent = format_duration(now - state.nodes[power.node].connection_since_s)
        why = f"it hangs: it is on but has not answered for {silent}"
        again = power.hung_at_s is not None and now - power.hung_at_s < AGAIN_S
        aside_s = ASIDE_S if again else 0.0
        why += ", the second time within a day" if again else ""
        decided.append(SwitchOffDecided(power.node, why, hangs=True, aside_s=aside_s))
    return decided
