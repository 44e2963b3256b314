"""Conservative backfill: every job near the head of the queue has a reservation, and none may be delayed by another.

Mu'alem and Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2
with backfilling", IEEE TPDS 12(6), 2001. The plan is made anew in every pass, in the order of the queue.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.conservative_plan import Plan
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.overtaking import note_passing
from racksack_controller.core.placing.placement import Placement, length_s, place_job
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.transfers import nearest
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import Entry, entries, use_by_owner
from racksack_controller.core.rack.rack import Ints
from racksack_controller.core.state import State


def schedule_conservatively(state: State, now: float, policy: Policy, classes: Ints) -> list[Placed]:
    """The placements of a pass in which every one of the first `reservations_max` jobs that may run has a reservation.

    Jobs that are at a limit, or whose nodes are not expected to be there, take no part: they could hide all others.
    """
    capacity = FreeCapacity(state.rack, now, state.queue.usual(), policy)
    everywhere = np.ones(len(state.rack.nodes), dtype=np.bool_)
    outlook = Outlook(capacity, now, policy)
    attainable = outlook.attainable()
    classes = classes[capacity.classes_attainable(state.queue, classes, attainable)]
    releases = outlook.releases(everywhere, predict=policy.predict)
    parts = outlook.device_parts(predict=policy.predict)
    plan = Plan(releases, capacity.devices, capacity.device_free.copy(), parts, now)
    limits = Limits(state.running, policy)
    placements: list[Placement] = []
    planned = 0
    done: set[int] = set()  # classes that take no part, or no longer
    for entry in jobs_in_order(state, classes, now, policy, done):
        if planned >= policy.reservations_max or len(placements) >= policy.placements_max:
            break
        job_class = state.queue.classes[entry[-1]]
        if limits.reached(job_class):
            done.add(entry[-1])
            continue
        planned += 1
        one = _plan_one(state, plan, capacity, policy, entry, job_class)
        if one is not None:
            placements.append(one)
            limits.count(job_class)
    if placements and policy.fair_share and state.turns.by_use:
        note_passing(placements, state.jobs, state.queue, limits, capacity, attainable)
    return [one.placed(capacity.rack, state.jobs[one.job_id].spec.resources) for one in placements]


def jobs_in_order(
    state: State, classes: Ints, now: float, policy: Policy, done: Container[int] = ()
) -> Iterator[Entry]:
    """All jobs of these classes, the first in the queue first; of a class that comes to be in `done`, no more."""
    heap = entries(
        state.queue, classes, use_by_owner(state.queue, state.usage, state.turns, state.rack.total, now, policy)
    )
    place: dict[int, int] = {}
    while heap:
        entry = heapq.heappop(heap)
        yield entry
        index = entry[-1]
        place[index] = place.get(index, 0) + 1
        if index not in done and place[index] < len(state.queue.jobs[index]):
            age, job_id = state.queue.jobs[index][place[index]]
            heapq.heappush(heap, (entry[0], entry[1], age, job_id, index))


def _plan_one(
    state: State, plan: Plan, capacity: FreeCapacity, policy: Policy, entry: Entry, job_class: JobClass
) -> Placement | None:
    """Start a job now or reserve for it."""
    need = np.array(job_class.need, dtype=np.int64)
    expected = length_s(state.queue, policy, entry[-1], hard=False)
    found = plan.first_start(
        need, capacity.rack.admitted(job_class.admission), job_class.gang, expected, job_class.kind
    )
    if found is None:
        return None
    index, nodes = found
    if index == 0:
        nodes = nodes[capacity.fits(job_class)[nodes]]
    if index > 0 or len(nodes) < job_class.gang:
        plan.reserve(index, nodes[: job_class.gang].tolist(), need, expected, job_class.kind)
        return None
    now = float(plan.times[0])
    nodes = nearest(state, state.jobs[entry[-2]], nodes, job_class.gang)
    rows = capacity.best(job_class, nodes, job_class.gang, policy.rule, now + expected)
    capacity.fill_order.note(rows, now + expected)
    plan.reserve(0, rows, need, expected, job_class.kind)
    ends = (now + expected, now + length_s(state.queue, policy, entry[-1], hard=True))
    name = capacity.rack.nodes[rows[0]].name
    return place_job(
        capacity, policy, entry[-2], job_class, rows, ends, f"{name} has room, and it delays no job ahead of it"
    )
