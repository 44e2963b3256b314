"""Which nodes to switch off: those idle for longer than it pays to wait for work.

A node that idles costs its idle power; switching it off and on again costs two stretches of time at full power.
Whoever waits as long as the idle power takes to cost as much (the break-even) never pays more than twice what he would
pay if he knew the future (ski rental: Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica
1988). With jobs on the nodes that have been on longest it holds for each node of a rack by itself (Lu, Chen, Andrew,
"Simple and effective dynamic provisioning for power-proportional data centers", IEEE TPDS 24(6), 2013).
"""

from __future__ import annotations

from racksack_controller.core.power_apply import has_work
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import NodePower, Phase, PowerTraits, boot_s, off_s
from racksack_controller.core.power_view import View, Wanted
from racksack_controller.core.state import State

IDLE_OFF_LEAST_S = 30.0


def break_even_s(power: NodePower, traits: PowerTraits) -> float:
    """How long a node may idle until switching it off and on again would have been cheaper. Seconds."""
    idle = traits.watts_idle or 1.0
    full = traits.watts_max or idle
    saved = max(1e-6, idle - traits.watts_off)
    boot_j = boot_s(power, traits) * full if traits.boot_j is None else traits.boot_j
    off_j = off_s(power, traits) * idle if traits.off_j is None else traits.off_j
    return max(IDLE_OFF_LEAST_S, (boot_j + off_j) / saved)


def idle_off_s(power: NodePower, traits: PowerTraits) -> float:
    """After how long an idle time a node is switched off."""
    return break_even_s(power, traits) if traits.idle_off_s is None else traits.idle_off_s


def keeps_on(state: State, power: NodePower, now: float) -> str | None:
    """Why a node that is on is not to be switched off by itself, whatever the time, or None."""
    node = state.nodes[power.node]
    traits = state.power_traits.get(power.node)
    if traits is None or not traits.can_switch_off:
        return "nothing here can switch it off"
    if has_work(state, power.node):
        return "it has work"
    if power.logins:
        return f"{power.logins} people are logged in" if power.logins > 1 else "somebody is logged in"
    if power.held(now):
        return "its power is held"
    if node.drain is not None and node.drain.reason:
        return f"it is drained: {node.drain.reason}"
    return None


def off_at_s(state: State, power: NodePower, now: float) -> float | None:
    """The Unix time at which an idle node is to be switched off, or None."""
    if power.phase is not Phase.ON or power.idle_since_s is None or not state.nodes[power.node].connected:
        return None
    if keeps_on(state, power, now) is not None:
        return None
    traits = state.power_traits[power.node]
    on_since = power.on_since_s if power.on_since_s is not None else power.since_s
    return max(power.idle_since_s + idle_off_s(power, traits), on_since + traits.min_on_s, power.retry_at_s)


def wanted_rows(view: View, jobs: list[Wanted], *, pooled: bool) -> set[int]:
    """The nodes that something in the queue may use as soon as it may start."""
    rows: set[int] = set()
    for job in jobs:
        rows |= set(range(len(view.rack.nodes))) if pooled else set(job.able.nonzero()[0].tolist())
    return rows


def spare_to_keep(state: State, policy: PowerPolicy) -> set[str]:
    """The nodes that stay on because so many always do: those that draw least."""
    on = [power for power in state.power.values() if power.phase in (Phase.ON, Phase.BOOTING)]
    on.sort(key=lambda power: (_idle_watts(state, power), power.node))
    return {power.node for power in on[: policy.keep_on]}


def _idle_watts(state: State, power: NodePower) -> float:
    traits = state.power_traits.get(power.node)
    return (traits.watts_idle if traits is not None else None) or 0.0
