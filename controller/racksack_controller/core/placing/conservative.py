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
from racksack_controller.core.placing.placement import Start, length_s, start
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.room import Room
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import Entry, entries, use_by_owner
from racksack_controller.core.queue.waiting import Line
from racksack_controller.core.rack.rack import Ints
from racksack_controller.core.state import State


def schedule_conservatively(state: State, now: float, policy: Policy, lines: Ints) -> list[Placed]:
    """The placements of a pass in which every one of the first `reservations_max` jobs has a reservation."""
    room = Room(state.rack, now, state.lines.usual(), policy)
    everywhere = np.ones(len(state.rack.nodes), dtype=np.bool_)
    outlook = Outlook(room, now, policy, [])
    releases = outlook.releases(everywhere, predict=policy.predict)
    parts = outlook.device_parts(predict=policy.predict)
    plan = Plan(releases, room.devices, room.device_free.copy(), parts, now)
    limits = Limits(state, policy)
    starts: list[Start] = []
    for planned, entry in enumerate(jobs_in_order(state, lines, now, policy)):
        if planned >= policy.reservations_max or len(starts) >= policy.starts_max:
            break
        line = state.lines.lines[entry[-1]]
        if not limits.reached(line):
            one = _plan_one(state, plan, room, policy, entry, line)
            if one is not None:
                starts.append(one)
                limits.count(line)
    return [one.placed(room.rack, state.jobs[one.number].spec.resources) for one in starts]


def jobs_in_order(state: State, lines: Ints, now: float, policy: Policy, done: Container[int] = ()) -> Iterator[Entry]:
    """All jobs of these lines, the first in the queue first; of a line that comes to be in `done`, no more."""
    queue = entries(state.lines, lines, use_by_owner(state, lines, now, policy))
    place: dict[int, int] = {}
    while queue:
        entry = heapq.heappop(queue)
        yield entry
        index = entry[-1]
        place[index] = place.get(index, 0) + 1
        if index not in done and place[index] < len(state.lines.jobs[index]):
            age, number = state.lines.jobs[index][place[index]]
            heapq.heappush(queue, (entry[0], entry[1], age, number, index))


def _plan_one(state: State, plan: Plan, room: Room, policy: Policy, entry: Entry, line: Line) -> Start | None:
    """Start a job now or reserve for it."""
    need = np.array(line.need, dtype=np.int64)
    expected = length_s(state.lines, policy, entry[-1], hard=False)
    found = plan.first_start(need, room.rack.admitted(line.admission), line.gang, expected, line.kind)
    if found is None:
        return None
    index, nodes = found
    if index == 0:
        nodes = nodes[room.fits(line)[nodes]]
    if index > 0 or len(nodes) < line.gang:
        plan.reserve(index, nodes[: line.gang].tolist(), need, expected, line.kind)
        return None
    now = float(plan.times[0])
    rows = room.best(line, nodes, line.gang, policy.rule, now + expected)
    room.opening.note(rows, now + expected)
    plan.reserve(0, rows, need, expected, line.kind)
    ends = (now + expected, now + length_s(state.lines, policy, entry[-1], hard=True))
    name = room.rack.nodes[rows[0]].name
    return start(room, policy, entry[-2], line, rows, ends, f"{name} has room and it delays nobody who is ahead")
