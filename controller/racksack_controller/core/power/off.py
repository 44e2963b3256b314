"""Which nodes to switch off: those idle for longer than it pays to wait for work.

A node that idles costs its idle power; switching it off and on again costs two stretches of time at full power.
Whoever waits as long as the idle power takes to cost as much (the break-even) never pays more than twice what he would
pay if he knew the future (ski rental: Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica
1988). With jobs on the nodes that have been on longest it holds for each node of a rack by itself (Lu, Chen, Andrew,
"Simple and effective dynamic provisioning for power-proportional data centers", IEEE TPDS 24(6), 2013).

The length of the next time without work is predicted by the exponential average of the earlier ones (Hwang and Wu, "A
predictive system shutdown method for energy saving of event-driven computation", ACM TODAES 5(2), 2000). Where it is
above the break-even, half of the break-even is waited. A wrong prediction then costs at most three times what knowing
the future would, a right one at most one and a half (Purohit, Svitkina, Kumar, "Improving online algorithms via ML
predictions", NeurIPS 2018, with a trust of one half).
"""

from __future__ import annotations

from racksack_controller.core.power.apply import has_work
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import Phase, PowerRecord, PowerTraits, boot_s, off_s
from racksack_controller.core.reachability import always_on_behind, on_behind
from racksack_controller.core.state import State
from racksack_jobspecs.states import FINAL

IDLE_OFF_LEAST_S = 30.0
TRUST = 0.5  # in a predicted long gap
GIVEN_UP_S = 1800.0  # a server so long silent may be cut although work was given up on it


def break_even_s(power: PowerRecord, traits: PowerTraits) -> float:
    """How long a node may idle until switching it off and on again would have been cheaper. Seconds."""
    idle = traits.watts_idle or 1.0
    full = traits.watts_max or idle
    saved = max(1e-6, idle - traits.watts_off)
    boot_j = boot_s(power, traits) * full if traits.boot_j is None else traits.boot_j
    off_j = off_s(power, traits) * idle if traits.off_j is None else traits.off_j
    return max(IDLE_OFF_LEAST_S, (boot_j + off_j) / saved)


def idle_off_s(power: PowerRecord, traits: PowerTraits) -> float:
    """After how long an idle time a node is switched off. Seconds."""
    if traits.idle_off_s is not None:
        return traits.idle_off_s
    limit = break_even_s(power, traits)
    long_gap = power.gap_s is not None and power.gap_s > limit
    return max(IDLE_OFF_LEAST_S, TRUST * limit) if long_gap else limit


def keeps_on(state: State, power: PowerRecord, now: float) -> str | None:
    """Why a node that is on is not to be switched off by itself, however long it idles, or None."""
    node = state.nodes[power.node]
    traits = state.power_traits.get(power.node)
    if traits is None or not traits.can_switch_off:
        return "no configured driver may switch it off"
    if has_work(state, power.node):
        return "it has work"
    if others := [*on_behind(state, power.node), *always_on_behind(state, power.node)]:
        return f"{others[0]} is on and is reached through it"
    if power.logins:
        return f"{power.logins} people are logged in" if power.logins > 1 else "somebody is logged in"
    if power.held(now):
        return f"its power is held by {power.hold.by}" if power.hold else "its power is held"
    if node.drain is not None and not node.drain.then_off:
        return f"it is drained: {node.drain.reason}"
    return None


def off_at_s(state: State, power: PowerRecord, now: float) -> float | None:
    """The Unix time at which an idle node is to be switched off, or None."""
    if power.phase is not Phase.ON or power.idle_since_s is None or not state.nodes[power.node].connected:
        return None
    if keeps_on(state, power, now) is not None:
        return None
    traits = state.power_traits[power.node]
    if state.nodes[power.node].drain is not None:
        return max(power.idle_since_s, power.retry_at_s)  # drained, and then to be off
    on_since = power.on_since_s if power.on_since_s is not None else power.since_s
    return max(power.idle_since_s + idle_off_s(power, traits), on_since + traits.min_on_s, power.retry_at_s)


def burns_for_nothing(state: State, power: PowerRecord, now: float) -> bool:
    """Whether a node was left on by a boot or a shutdown that failed, and may be switched off."""
    traits = state.power_traits.get(power.node)
    if power.phase is not Phase.SET_ASIDE or power.seen_on is not True or traits is None or not traits.can_switch_off:
        return False
    if power.held(now) or (power.stops_failed and power.retry_at_s > now):
        return False
    left = state.attempts_on(power.node)
    since_s = state.nodes[power.node].connection_since_s
    silent_s = now - since_s if since_s else 0.0  # 0: not yet called since the controller started
    given_up = traits.hard_off and silent_s >= GIVEN_UP_S and all(attempt.state in FINAL for attempt in left)
    return not left or given_up


def spare_to_keep(state: State, policy: PowerPolicy) -> set[str]:
    """The nodes that stay on because so many always do: those that draw least."""
    on = [power for power in state.power.values() if power.phase in (Phase.ON, Phase.BOOTING)]
    on.sort(key=lambda power: (_idle_watts(state, power), power.node))
    return {power.node for power in on[: policy.keep_on]}


def _idle_watts(state: State, power: PowerRecord) -> float:
    traits = state.power_traits.get(power.node)
    return (traits.watts_idle if traits is not None else None) or 0.0
