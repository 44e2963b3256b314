"""Which nodes are to be switched on or off: a function of (state, time). Decisions are events, applied like placements.

A node with anything of a job on it is never switched off, and no job is placed on one that is not on.
"""

from __future__ import annotations

import msgspec

from racksack_controller.core.events import Event
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power_apply import has_work
from racksack_controller.core.power_events import SwitchOffDecided, SwitchOnDecided
from racksack_controller.core.power_off import off_at_s, spare_to_keep, wanted_rows
from racksack_controller.core.power_on import stagger, whom_to_wake
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy, is_quiet, next_quiet_s
from racksack_controller.core.power_records import NodePower, Phase, Wish
from racksack_controller.core.power_view import View, is_dark
from racksack_controller.core.state import State
from racksack_jobspecs.units import format_duration


class PowerPlan(msgspec.Struct, frozen=True):
    """What to decide now, and the Unix time at which time alone may change that (None: never)."""

    events: tuple[Event, ...]
    wake_s: float | None


def plan_power(
    state: State,
    now: float,
    policy: PowerPolicy = DEFAULT_POWER,
    scheduling: Policy = DEFAULT,
    *,
    pooled: bool = False,
) -> PowerPlan:
    """The decisions about power at `now` (Unix seconds). `pooled`: jobs lie on processors of any nodes (simulator)."""
    view = View(state, now, policy, scheduling)
    events = _wishes(state, now)
    wakes: list[float] = []
    wished = {event.node for event in events}
    state.lines.advance(now)
    if len(state.lines.open_lines()):
        events += _on(view, wakes, pooled=pooled)
    events += [one for one in _keep_on(view) if one.node not in {event.node for event in events}]
    events += [one for one in _off(view, wakes, pooled=pooled) if one.node not in wished]
    return PowerPlan(tuple(events), min((time_s for time_s in wakes if time_s > now), default=None))


def _wishes(state: State, now: float) -> list[SwitchOnDecided | SwitchOffDecided]:
    """What operators asked for; a node is switched off for them when its work is done."""
    events: list[SwitchOnDecided | SwitchOffDecided] = []
    for name, power in state.power.items():
        if power.wish is Wish.NONE or name not in state.power_traits:
            continue
        if power.wish is Wish.ON and is_dark(state, power) and power.retry_at_s <= now:
            events.append(SwitchOnDecided(name, f"{power.wish_by} wants it on"))
        elif power.wish in (Wish.OFF, Wish.CYCLE) and power.phase is Phase.ON and not has_work(state, name):
            events += [SwitchOffDecided(name, f"{power.wish_by} wants it {power.wish}")] * (power.retry_at_s <= now)
    return events


def _on(view: View, wakes: list[float], *, pooled: bool) -> list[SwitchOnDecided | SwitchOffDecided]:
    """Nodes for what is waiting."""
    wake = whom_to_wake(view, pooled=pooled)
    turn, next_s = stagger(view, wake)
    wakes += [time_s for time_s in (next_s, wake.again_s) if time_s is not None]
    wakes += [power.retry_at_s for power in view.state.power.values() if is_dark(view.state, power)]
    if view.policy.quiet and not is_quiet(view.policy, view.now):
        wakes += [time_s for time_s in (next_quiet_s(view.policy, view.now),) if time_s is not None]
    return [SwitchOnDecided(one.power.node, _for(wake.jobs), wake.jobs[:8]) for one in turn]


def _for(jobs: tuple[int, ...]) -> str:
    if not jobs:
        return "jobs are waiting"
    return f"job {jobs[0]} is waiting" + (f", and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def _keep_on(view: View) -> list[SwitchOnDecided]:
    """The nodes that are missing from those that always stay on."""
    on = sum(power.phase in (Phase.ON, Phase.BOOTING) for power in view.state.power.values())
    if on >= view.policy.keep_on:
        return []
    cheapest = sorted(view.candidates(), key=lambda one: (one.traits.watts_idle or one.watts, one.power.node))
    why = f"{view.policy.keep_on} nodes are to stay on"
    return [SwitchOnDecided(one.power.node, why) for one in cheapest[: view.policy.keep_on - on]]


def _off(view: View, wakes: list[float], *, pooled: bool) -> list[SwitchOnDecided | SwitchOffDecided]:
    """Nodes that have been idle for long enough, and that nothing in the queue may use."""
    state, now = view.state, view.now
    due: list[NodePower] = []
    for power in state.power.values():
        at_s = off_at_s(state, power, now)
        if at_s is None:
            continue
        if at_s <= now:
            due.append(power)
        else:
            wakes.append(at_s)
    if not due:
        return []
    wanted = wanted_rows(view, list(view.jobs()), pooled=pooled)
    spare = spare_to_keep(state, view.policy)
    return [
        SwitchOffDecided(power.node, f"idle for {format_duration(now - (power.idle_since_s or now))}")
        for power in due
        if state.rack.row[power.node] not in wanted and power.node not in spare
    ]
