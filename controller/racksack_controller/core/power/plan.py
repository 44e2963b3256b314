"""Which nodes are to be switched on or off: a function of (state, time). Decisions are events, applied like placements.

A node with anything of a job on it is never switched off, and no job is placed on one that is not on.
"""

from __future__ import annotations

import msgspec

from racksack_controller.core.events import Event
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power.apply import has_work
from racksack_controller.core.power.begin_times import Early, whom_to_wake_early
from racksack_controller.core.power.events import SwitchOffDecided, SwitchOnDecided, SwitchWithdrawn
from racksack_controller.core.power.hung import switch_off_hung
from racksack_controller.core.power.jump_hosts import is_awaited, is_under_way, to_reach, way_first
from racksack_controller.core.power.off import burns_for_nothing, off_at_s, spare_to_keep
from racksack_controller.core.power.on import Look, stagger, turn_s, whom_to_wake
from racksack_controller.core.power.view import Candidate, View
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy, is_quiet, next_quiet_s
from racksack_controller.core.power_records import OperatorRequest, Phase, PowerRecord
from racksack_controller.core.reachability import could_wake, is_off, on_behind
from racksack_controller.core.state import State
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_duration

Decision = SwitchOnDecided | SwitchOffDecided | SwitchWithdrawn
JOBS_NAMED = 8  # of those that a node is switched on for


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
    view_as: type[View] = View,
    look_at: type[Look] = Look,
) -> PowerPlan:
    """The decisions about power at `now` (Unix seconds). `view_as`, `look_at`: how jobs lie on the nodes."""
    if not state.power:
        return PowerPlan((), None)
    view = view_as(state, now, policy, scheduling)
    wakes: list[float] = []
    decided: dict[str, Decision] = {}
    early = whom_to_wake_early(view)
    groups = (
        _wishes(state, now),
        _for_people(state, now),
        _results(state, now),
        to_reach(state, view.wanted_rows, now),
        _on(view, look_at, wakes),
        _before_their_time(view, early, wakes),
        _keep_on(view),
    )
    for one in way_first(state, (decision for group in groups for decision in group), now):
        decided.setdefault(one.node, one)
    for one in [
        *_off(view, early, wakes),
        *_left_on(state, now, wakes),
        *switch_off_hung(state, now, wakes),
    ]:
        decided.setdefault(one.node, one)
    return PowerPlan(tuple(decided.values()), min((time_s for time_s in wakes if time_s > now), default=None))


def _wishes(state: State, now: float) -> list[Decision]:
    """What operators asked for; a node is switched off for them when its work is done."""
    events: list[Decision] = []
    for name, power in state.power.items():
        if power.request is OperatorRequest.NONE or name not in state.power_traits or power.retry_at_s > now:
            continue
        if power.request is OperatorRequest.ON and is_off(state, power):
            events.append(SwitchOnDecided(name, f"{power.request_by} wants it on"))
        elif power.request is not OperatorRequest.ON and _is_seen_on(state, power) and not _is_needed(state, power):
            again = " and on again" if power.request is OperatorRequest.CYCLE else ""
            events.append(SwitchOffDecided(name, f"{power.request_by} wants it off{again}"))
    return events


def _is_seen_on(state: State, power: PowerRecord) -> bool:
    """Whether there is something to switch off; what does not answer is on where a device says so."""
    unreached = power.phase is Phase.UNKNOWN and power.seen_on is True and is_off(state, power)
    return power.phase in (Phase.ON, Phase.SET_ASIDE) or unreached


def _is_needed(state: State, power: PowerRecord) -> bool:
    """Whether a node has work, or is on as the way to one that is on."""
    return has_work(state, power.node) or (power.phase is Phase.ON and bool(on_behind(state, power.node)))


def _for_people(state: State, now: float) -> list[Decision]:
    """Shutdowns that nobody was asked for yet, of nodes that somebody wants on, has logged in to or holds meanwhile."""
    events: list[Decision] = []
    for power in state.power.values():
        if power.phase is not Phase.STOPPING or power.asked_at_s is not None:
            continue
        if power.request is OperatorRequest.ON and state.nodes[power.node].connected:
            events.append(SwitchWithdrawn(power.node, f"{power.request_by} wants it on"))
        elif not power.request and (power.logins or power.held(now)):
            why = "its power is held" if power.held(now) else "somebody has logged in"
            events.append(SwitchWithdrawn(power.node, why))
    return events


def _results(state: State, now: float) -> list[Decision]:
    """Nodes that went off with results on them that were not brought back yet."""
    events: list[Decision] = []
    for name, power in state.power.items():
        if could_wake(state, power, now) and name in state.power_traits:
            jobs = [one.job for one in state.on_node(name) if one.state is JobState.COLLECTING]
            if jobs:
                events.append(
                    SwitchOnDecided(name, f"the results of job {jobs[0]} are on it", tuple(jobs[:JOBS_NAMED]))
                )
    return events


def _on(view: View, look_at: type[Look], wakes: list[float]) -> list[Decision]:
    """Nodes for what is waiting, and shutdowns that nobody was asked for yet."""
    state, now = view.state, view.now
    if not len(state.queue.open_classes()):
        return []
    turn, jobs = _turn(view, look_at, wakes)
    wakes += [power.retry_at_s for power in state.power.values() if is_off(state, power)]
    wakes += [power.hold.until_s for power in state.power.values() if power.hold and power.hold.until_s is not None]
    if view.policy.quiet and not is_quiet(view.policy, now):
        wakes += [time_s for time_s in (next_quiet_s(view.policy, now),) if time_s is not None]
    events: list[Decision] = [SwitchOnDecided(one.power.node, _waiting(jobs), jobs[:JOBS_NAMED]) for one in turn]
    stopping = [p for p in state.power.values() if p.phase is Phase.STOPPING and p.asked_at_s is None and not p.request]
    wanted = view.wanted_rows() if stopping else set()
    # One that does not answer is no use to the job: it is being switched off because it hangs.
    useful = [p for p in stopping if state.nodes[p.node].connected]
    events += [SwitchWithdrawn(p.node, "a job came") for p in useful if state.rack.row[p.node] in wanted]
    return events


def _turn(view: View, look_at: type[Look], wakes: list[float]) -> tuple[list[Candidate], tuple[int, ...]]:
    """Whom to switch on now, and for which jobs. Nobody is chosen before the next boot may begin."""
    if (begins_s := turn_s(view)) > view.now:
        wakes.append(begins_s)
        return [], ()
    wake = whom_to_wake(view, look_at)
    # Those whose jump hosts boot already have had their turn; they come on when these answer.
    wake = wake._replace(chosen=tuple(one for one in wake.chosen if not is_under_way(view.state, one.power.node)))
    turn, next_s = stagger(view, wake)
    wakes += [time_s for time_s in (next_s, wake.again_s) if time_s is not None]
    return turn, wake.jobs


def _before_their_time(view: View, early: Early, wakes: list[float]) -> list[Decision]:
    """Nodes for jobs that are to begin at a certain time, a boot before that; staggered as all boots are."""
    wakes += [] if early.again_s is None else [early.again_s]
    if not early.chosen:
        return []
    if (begins_s := turn_s(view)) > view.now:
        wakes.append(begins_s)
        return []
    staggered = view.policy.boot_stagger_s > 0
    wakes += [view.now + view.policy.boot_stagger_s] if staggered and len(early.chosen) > 1 else []
    return [
        SwitchOnDecided(
            one.power.node,
            f"job {job.job_id} is to begin in {format_duration(max(0.0, job.begin_s - view.now))}",
            (job.job_id,),
        )
        for one, job in early.chosen[: 1 if staggered else None]
    ]


def _waiting(jobs: tuple[int, ...]) -> str:
    if not jobs:
        return "jobs are waiting"
    return f"job {jobs[0]} is waiting" + (f", and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def _keep_on(view: View) -> list[Decision]:
    """The nodes that are missing from those that always stay on."""
    on = sum(power.phase in (Phase.ON, Phase.BOOTING) for power in view.state.power.values())
    if on >= view.policy.keep_on:
        return []
    cheapest = sorted(view.candidates(), key=lambda one: (one.traits.watts_idle or one.watts, one.power.node))
    why = f"{view.policy.keep_on} nodes are kept on"
    return [SwitchOnDecided(one.power.node, why) for one in cheapest[: view.policy.keep_on - on]]


def _off(view: View, early: Early, wakes: list[float]) -> list[Decision]:
    """Nodes that have been idle for long enough, and that nothing in the queue may use."""
    state, now = view.state, view.now
    due: list[PowerRecord] = []
    for power in state.power.values():
        at_s = off_at_s(state, power, now)
        if power.hold is not None and power.hold.until_s is not None:
            wakes.append(power.hold.until_s)
        if at_s is None:
            continue
        if at_s <= now:
            due.append(power)
        else:
            wakes.append(at_s)
    if not due:
        return []
    wanted = view.wanted_rows() | early.rows
    spare = spare_to_keep(state, view.policy)
    return [
        SwitchOffDecided(power.node, _idle(state, power, now))
        for power in due
        if state.nodes[power.node].drain is not None
        or (
            state.rack.row[power.node] not in wanted
            and power.node not in spare
            and not is_awaited(state, power, wanted, now)
        )
    ]


def _idle(state: State, power: PowerRecord, now: float) -> str:
    drain = state.nodes[power.node].drain
    if drain is not None:
        return f"it is drained, to be switched off afterwards: {drain.reason}"
    return f"it was idle for {format_duration(now - (power.idle_since_s or now))}"


def _left_on(state: State, now: float, wakes: list[float]) -> list[Decision]:
    """Nodes that draw power after a boot or a shutdown that failed."""
    events: list[Decision] = []
    for power in state.power.values():
        if burns_for_nothing(state, power, now):
            events.append(SwitchOffDecided(power.node, f"it is on but unusable: {power.problem}"))
        elif power.phase is Phase.SET_ASIDE and power.seen_on is True:
            wakes.append(power.retry_at_s)
    return events
