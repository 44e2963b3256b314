"""The sentence behind a node's power, and what power has to do with a job's wait."""

from __future__ import annotations

from datetime import datetime

from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.power.hung import hangs_at_s
from racksack_controller.core.power.off import keeps_on, off_at_s
from racksack_controller.core.power_policy import PowerPolicy, is_quiet, next_quiet_s
from racksack_controller.core.power_records import REQUESTS, Phase, PowerRecord, boot_s
from racksack_controller.core.rack.rack import Bools
from racksack_controller.core.reachability import backing_off, blocked_by, closed_jumps, is_off, on_behind
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.units import format_duration

NAMED_MAX = 3  # nodes in one sentence


def why_power(state: State, node: Node, now: float) -> str | None:
    """Why a node is off, booting, going down or set aside; None when its power is not what is to be told."""
    power = state.power.get(node.name)
    if power is None:
        return None
    if power.phase is Phase.BOOTING:
        return f"{_booting(state, power, now)}: {power.why}"
    if power.phase is Phase.STOPPING:
        by = f" by {power.way}" if power.way else ""
        return f"is being switched off{by}: {power.why}"
    if power.phase is Phase.SET_ASIDE:
        left = power.retry_at_s - now
        again = f"in {format_duration(left)} at the earliest" if left > 0 else "when a job needs it"
        return f"set aside, retried {again}: {power.why}{_held(power, now)}"
    if power.phase is Phase.OFF:
        return f"off for {format_duration(now - power.since_s)}: {power.why or 'nothing needs it'}{_held(power, now)}"
    if power.phase is Phase.UNKNOWN and not node.connected:
        off = [way.node for way in closed_jumps(state, node.name) if is_off(state, way)]
        reason = f"{off[0]}, through which it is reached, is off" if off else node.connection_reason
        return f"it is not known whether it is on: {reason}{_held(power, now)}"
    at_s = hangs_at_s(state, power)
    if at_s is not None:
        when = f"in {format_duration(at_s - now)} unless it answers" if at_s > now else "now"
        return f"does not answer ({node.connection_reason}) although it is on; it is switched off as hung {when}"
    return None


def why_idle(state: State, node: Node, now: float) -> str:
    """What becomes of a node that is on and idle, as the end of a sentence; empty when there is nothing to tell."""
    power = state.power.get(node.name)
    if power is None or power.phase is not Phase.ON:
        return ""
    others = on_behind(state, node.name)
    if power.request.goes_off:
        first = f"{others[0]} is off, which is reached through it" if others else "its work is done"
        return f"; to be switched off when {first}, {power.request_by} wants it {REQUESTS[power.request]}"
    if power.idle_since_s is None:
        return f"; it stays on: {others[0]} is on and is reached through it" if others else ""
    idle = f"; idle for {format_duration(now - power.idle_since_s)}"
    at_s = off_at_s(state, power, now)
    if at_s is not None:
        left_s = at_s - now
        when = f"in {format_duration(left_s)}" if left_s > 0 else "as soon as no queued job may need it"
        return f"{idle}, to be switched off {when}"
    kept = keeps_on(state, power, now)
    return f"{idle}, not to be switched off: {kept}" if kept else idle


def why_waits(reading: Reading, job: Job, able: Bools) -> str:
    """What power has to do with a job's wait, or empty. `able`: the nodes that could hold it."""
    state, now = reading.state, reading.now
    records = [state.power[node.name] for node in state.rack.nodes if node.name in state.power]
    records = [power for power in records if able[state.rack.row[power.node]]]
    booting = [power for power in records if power.phase is Phase.BOOTING]
    if booting:
        return "; ".join(f"{power.node} {_booting(state, power, now)}" for power in booting[:NAMED_MAX])
    off = [power for power in records if is_off(state, power)]
    if not off:
        going = [power.node for power in records if power.phase is Phase.STOPPING]
        return f"{', '.join(going[:NAMED_MAX])} is being switched off" if going else ""
    if job.spec.no_wake:
        return "no_wake: waits until a node is on for another reason"
    free = [power for power in off if why_not_woken(state, power, now) is None]
    if not free:
        return "; ".join(f"{power.node} {why_not_woken(state, power, now)}" for power in off[:NAMED_MAX])
    way_boots = [
        (power, way) for power in free for way in closed_jumps(state, power.node) if way.phase is Phase.BOOTING
    ]
    if way_boots:
        power, way = way_boots[0]
        return f"{power.node} is switched on when {way.node} is, through which it is reached; {way.node} " + _booting(
            state, way, now
        )
    names = ", ".join(power.node for power in free[:NAMED_MAX])
    quiet = _quiet(reading.power_policy, job, now)
    if quiet:
        return f"{names} {'is' if len(free) == 1 else 'are'} off and may be switched on for it {quiet}"
    boots_s = min(boot_s(power, state.power_traits[power.node]) for power in free)
    if state.rack.usable[able].any():
        return f"{names} stays off for now: a boot takes about {format_duration(boots_s)}, so it would gain too little"
    return f"{names} is about to be switched on"


def _booting(state: State, power: PowerRecord, now: float) -> str:
    traits = state.power_traits.get(power.node)
    since_s = now - (power.boot_began_s if power.boot_began_s is not None else power.since_s)
    about = f" of about {_clock(boot_s(power, traits))}" if traits is not None else ""
    by = f" by {power.way}" if power.way else ""
    return f"is booting{by}, {_clock(since_s)}{about}"


def _clock(seconds: float) -> str:
    """`2:10`, minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def _held(power: PowerRecord, now: float) -> str:
    if not power.held(now) or power.hold is None:
        return ""
    left = "" if power.hold.until_s is None else f" for {format_duration(power.hold.until_s - now)}"
    return f"; held{left} by {power.hold.by}" + (f": {power.hold.reason}" if power.hold.reason else "")


def why_not_woken(state: State, power: PowerRecord, now: float) -> str | None:
    """Why a node that is off may not be switched on by the queue, as what follows its name; None when it may."""
    traits = state.power_traits.get(power.node)
    node = state.nodes[power.node]
    if traits is None or not traits.can_switch_on:
        return "is off, and no configured driver can switch it on"
    if power.held(now):
        return f"is off and{_held(power, now)[1:]}"
    if node.drain is not None:
        return f"is off and drained: {node.drain.reason}"
    if backing_off(power, now):
        return f"is set aside for {format_duration(power.retry_at_s - now)}: {power.problem or power.why}"
    way = blocked_by(state, power.node, now)
    if way is not None:
        return f"is off and is reached through {way}, which may not be switched on now"
    return None


def _quiet(policy: PowerPolicy, job: Job, now: float) -> str:
    """`at 22:00: quiet hours`, or empty when the job may wake nodes now."""
    if job.spec.priority > policy.quiet_priority or not policy.quiet or is_quiet(policy, now):
        return ""
    begin_s = next_quiet_s(policy, now)
    if begin_s is None:
        return ""
    return f"at {datetime.fromtimestamp(begin_s, policy.zone):%H:%M}: quiet hours"
