"""Leaving large nodes to those who need them, on a rack of unequal nodes that are switched.

If what happens to be on is filled first, small jobs lie on the large nodes while the small nodes sleep, and the next
large job waits until they have ended. So a job that may run for long is not placed on a node that jobs seen of late
need (and smaller nodes would not do for them) as long as a smaller node that would hold it can be switched on, or
boots. When nothing smaller can be had, it is placed wherever there is room.
"""

from __future__ import annotations

import numpy as np

from racksack_controller.core.placing.expect import could_hold
from racksack_controller.core.power_policy import PowerPolicy, is_quiet
from racksack_controller.core.power_records import Phase, boot_s
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.rack.amounts import SLOTS
from racksack_controller.core.rack.rack import Bools
from racksack_controller.core.reachability import could_wake
from racksack_controller.core.state import State

BOOTS_LONG = 1.0  # a job that lasts as long as a boot is worth waiting for one


def left_to_others(
    state: State, job_id: int, job_class: JobClass, longest_s: float, now: float, power_policy: PowerPolicy
) -> Bools | None:
    """The nodes that the job leaves to larger ones, or None when it need not. A few vector operations.

    `longest_s` is its time limit: a job that is only predicted to be short may block a large node for hours.
    """
    rack = state.rack
    if not rack.switched or rack.is_uniform or job_class.gang > 1 or not may_wake(state, job_id, now, power_policy):
        return None
    able = could_hold(rack, job_class)
    coming = [
        rack.row[name]
        for name, power in state.power.items()
        if able[rack.row[name]]
        and (power.phase is Phase.BOOTING or could_wake(state, power, now))
        and name in state.power_traits
        and longest_s >= BOOTS_LONG * boot_s(power, state.power_traits[name])
    ]
    if not coming:
        return None
    total, needs = rack.total[:SLOTS], state.queue.seen_needs()
    held = np.all(needs[:, :, None] <= total[None], axis=1)  # (needs, nodes)
    left = np.zeros(len(rack.nodes), dtype=np.bool_)
    for kind in {tuple(total[:, row].tolist()) for row in coming}:
        too_much = np.any(needs > np.array(kind, dtype=np.int64), axis=1)
        left |= held[too_much].any(axis=0)
    left &= ~np.isin(np.arange(len(left)), coming)
    return left if left.any() else None


def may_wake(state: State, job_id: int, now: float, policy: PowerPolicy) -> bool:
    """Whether a job is a reason to switch a node on now."""
    spec = state.jobs[job_id].spec
    low = spec.priority <= policy.quiet_priority
    return not spec.no_wake and (not low or not policy.quiet or is_quiet(policy, now))
