"""Conservative backfill: every job near the head of the queue has a reservation, and none may be delayed by another.

Mu'alem and Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2
with backfilling", IEEE TPDS 12(6), 2001. The plan is made anew in every pass, in the order of the queue. Devices are
planned by their number alone; a job that starts now is checked device by device.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from racksack_controller.core.backfill import Releases
from racksack_controller.core.events import Placed
from racksack_controller.core.limits import Limits
from racksack_controller.core.order import Entry, entries, use_by_owner
from racksack_controller.core.policy import Policy
from racksack_controller.core.rack import Bools, Floats, Ints
from racksack_controller.core.reserve import Outlook
from racksack_controller.core.room import Room
from racksack_controller.core.starts import Start, length_s, start
from racksack_controller.core.state import State
from racksack_controller.core.waiting import Line

MOMENTS_MAX = 256  # of releases, at the beginning; later ones are taken together, which only plans them later


class Plan:
    """What is free on each node from each moment on. Times are Unix seconds."""

    def __init__(self, releases: Releases, now: float) -> None:
        moments = np.unique(np.append(releases.ends_s, releases.opens_s[np.isfinite(releases.opens_s)]))
        if len(moments) > MOMENTS_MAX:
            moments = moments[np.linspace(0, len(moments) - 1, MOMENTS_MAX).astype(np.int64)]
        self.times: Floats = np.unique(np.append(now, moments))
        given = np.zeros((len(self.times), *releases.free.shape), dtype=np.int64)
        at = np.searchsorted(self.times, releases.ends_s)
        np.add.at(given.transpose(0, 2, 1), (at, releases.row), releases.need.T)
        self.free: Ints = releases.free + np.cumsum(given, axis=0)
        self.open: Bools = releases.opens_s <= self.times[:, None]

    def first_start(self, need: Ints, rows: Bools, count: int, length: float) -> tuple[int, Ints] | None:
        """The first moment (its index) from which `need` is free for `length` seconds on `count` nodes, and these."""
        free = np.all(self.free >= need[None, :, None], axis=1) & self.open & rows
        for index in range(len(self.times)):
            until = int(np.searchsorted(self.times, self.times[index] + length))
            nodes = np.flatnonzero(free[index : max(until, index + 1)].all(axis=0))
            if len(nodes) >= count:
                return index, nodes
        return None

    def reserve(self, index: int, rows: list[int], need: Ints, length: float) -> None:
        """Take `need` of `rows` from moment `index` on for `length` seconds."""
        end = self.times[index] + length
        until = int(np.searchsorted(self.times, end))
        if until == len(self.times) or self.times[until] != end:
            self.times = np.insert(self.times, until, end)
            self.free = np.insert(self.free, until, self.free[until - 1], axis=0)
            self.open = np.insert(self.open, until, self.open[until - 1], axis=0)
        for row in rows:
            self.free[index:until, :, row] -= need


def schedule_conservatively(state: State, now: float, policy: Policy, lines: Ints) -> list[Placed]:
    """The placements of a pass in which every one of the first `reservations_max` jobs has a reservation."""
    room = Room(state.rack, now, state.lines.usual())
    everywhere = np.ones(len(state.rack.nodes), dtype=np.bool_)
    plan = Plan(Outlook(room, now, policy, []).releases(everywhere, predict=policy.predict), now)
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


def jobs_in_order(state: State, lines: Ints, now: float, policy: Policy) -> Iterator[Entry]:
    """All jobs of these lines, the first in the queue first."""
    queue = entries(state.lines, lines, use_by_owner(state, lines, now, policy))
    place: dict[int, int] = {}
    while queue:
        entry = heapq.heappop(queue)
        yield entry
        index = entry[-1]
        place[index] = place.get(index, 0) + 1
        if place[index] < len(state.lines.jobs[index]):
            age, number = state.lines.jobs[index][place[index]]
            heapq.heappush(queue, (entry[0], entry[1], age, number, index))


def _plan_one(state: State, plan: Plan, room: Room, policy: Policy, entry: Entry, line: Line) -> Start | None:
    """Start a job now or reserve for it."""
    need = np.array(line.need, dtype=np.int64)
    expected = length_s(state.lines, policy, entry[-1], hard=False)
    found = plan.first_start(need, room.rack.admitted(line.admission), line.gang, expected)
    if found is None:
        return None
    index, nodes = found
    if index == 0:
        nodes = nodes[room.fits(line)[nodes]]
    if index > 0 or len(nodes) < line.gang:
        plan.reserve(index, nodes[: line.gang].tolist(), need, expected)
        return None
    rows = room.best(line, nodes, line.gang, policy.rule)
    plan.reserve(0, rows, need, expected)
    now = float(plan.times[0])
    ends = (now + expected, now + length_s(state.lines, policy, entry[-1], hard=True))
    name = room.rack.nodes[rows[0]].name
    return start(room, policy, entry[-2], line, rows, ends, f"{name} has room and it delays nobody who is ahead")
