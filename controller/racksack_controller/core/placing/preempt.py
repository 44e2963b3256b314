"""Preemption, off by default: jobs that allow it make room for the first waiting job, if that has a higher priority.

A job is ended only if it said that it may be (`preemptible`), its priority is lower, and ending it and others on the
same nodes makes room there at once. Of the nodes on which that would do, those are chosen on which least work is lost:
CPU time since the last checkpoint of each, or since its start.

It cannot go round in circles: a job only ever makes room for higher priority, for one waiting job at a time, not for
one that starts within a minute anyway, and at most `PREEMPTIONS_MAX` times; after that it runs to its end. The place is
kept for the waiting job by its reservation, which counts what is being ended as free after its grace.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from racksack_controller.core.events import Preempted
from racksack_controller.core.jobs.checkpoints import saved_at_s
from racksack_controller.core.lifecycle import holds_resources
from racksack_controller.core.placing.backfill import Reservation
from racksack_controller.core.placing.expect import could_hold
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobClass, class_of
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import entries, use_by_owner
from racksack_controller.core.rack.amounts import demand_of
from racksack_controller.core.rack.devices import GpuKind
from racksack_controller.core.rack.rack import Ints
from racksack_controller.core.records import Allocation, Attempt, Job
from racksack_controller.core.state import State

PREEMPTIONS_MAX = 3
SOON_S = 60.0


def preemptions(state: State, now: float, policy: Policy, reservation: Reservation | None) -> list[Preempted]:
    """The jobs to end for the first job that waits, if preemption is on. `reservation`: of the last pass."""
    if not policy.preempt or any(making_room(state)):
        return []
    job = _first_waiting(state, now, policy, reservation)
    if job is None:
        return []
    job_class = class_of(job)
    rows = np.flatnonzero(could_hold(state.rack, job_class) & state.rack.usable & (state.rack.cool_until <= now))
    choices = [
        (row, found) for row in rows.tolist() if (found := _victims(state, row, job, job_class, now)) is not None
    ]
    choices.sort(key=lambda choice: sum(_lost_cpu_s(state, one, now) for one in choice[1]))
    if len(choices) < job_class.gang:
        return []
    victims = dict.fromkeys(victim.job for _, found in choices[: job_class.gang] for victim in found)
    sentence = f"ended to make room for job {job.id}, which has a higher priority; it is queued again"
    return [Preempted(victim, sentence, job.id) for victim in victims]


def making_room(state: State, job: int | None = None) -> Iterator[Attempt]:
    """The attempts that are being ended for a waiting job, or for this one."""
    for attempt in state.attempts.values():
        stop = attempt.stop
        if stop is not None and stop.for_job and job in (None, stop.for_job) and holds_resources(attempt.state):
            yield attempt


def _first_waiting(state: State, now: float, policy: Policy, reservation: Reservation | None) -> Job | None:
    """The job at the head of the queue for which there is no room, unless it starts soon anyway."""
    if reservation is not None:
        soon = reservation.at_s <= now + SOON_S or reservation.job not in state.queued_ids
        return None if soon else state.jobs[reservation.job]
    classes, limits = state.queue.open_classes(), Limits(state.running, policy)
    use = use_by_owner(state.queue, state.usage, state.turns, state.rack.total, now, policy)
    for entry in entries(state.queue, classes, use) if len(classes) else ():
        job_class = state.queue.classes[entry[-1]]
        if not limits.reached(job_class) and could_hold(state.rack, job_class).sum() >= job_class.gang:
            return state.jobs[entry[-2]]
    return None


def _victims(state: State, row: int, job: Job, job_class: JobClass, now: float) -> list[Attempt] | None:
    """Whose end makes room for one rank on a node: the lowest priority first, of one priority who loses the least work;
    None: nobody's does.
    """
    place = _Place(state, row)
    if place.holds(job_class):
        return []
    victims: list[Attempt] = []
    order = sorted(
        _endable(state, row, job),
        key=lambda one: (state.jobs[one.job].spec.priority, _lost_cpu_s(state, one, now), -one.placed_at_s),
    )
    for attempt in order:
        place.give_back(attempt.allocation)
        victims.append(attempt)
        if place.holds(job_class):
            break
    else:
        return None
    for victim in victims[:-1]:  # the last ones may have been enough
        place.take(victim.allocation)
        if place.holds(job_class):
            victims.remove(victim)
        else:
            place.give_back(victim.allocation)
    return victims


class _Place:
    """What one node would have free."""

    def __init__(self, state: State, row: int) -> None:
        self._devices = state.rack.devices
        self._row = row
        self._free: Ints = state.rack.total[:, row] - state.rack.held[:, row]
        self._device_free = self._devices.free.copy()

    def give_back(self, held: Allocation) -> None:
        self._change(held, 1)

    def take(self, held: Allocation) -> None:
        self._change(held, -1)

    def _change(self, held: Allocation, sign: int) -> None:
        self._free = self._free + sign * np.array(demand_of(held))
        self._device_free[self._devices.find(self._row, held.gpus)] += sign * held.gpu_milli

    def holds(self, job_class: JobClass) -> bool:
        return bool(np.all(self._free >= job_class.need)) and (
            job_class.kind is None or self._has_devices(job_class.kind)
        )

    def _has_devices(self, kind: GpuKind) -> bool:
        good = self._devices.matching(kind) & (self._devices.row == self._row) & (self._device_free >= kind.milli)
        return int(good.sum()) >= kind.devices


def _endable(state: State, row: int, job: Job) -> Iterator[Attempt]:
    for attempt in state.on_node(state.rack.nodes[row].name):
        victim = state.jobs[attempt.job]
        may_end = victim.spec.preemptible and victim.spec.priority < job.spec.priority
        if may_end and victim.preemptions < PREEMPTIONS_MAX and attempt.ending is None and attempt.stop is None:
            yield attempt


def _lost_cpu_s(state: State, attempt: Attempt, now: float) -> float:
    """The work since its last checkpoint, or its start, that is lost with an attempt, of a gang with all its ranks."""
    since_s = saved_at_s(state, attempt)
    return 0.0 if since_s is None else attempt.allocation.cpus * attempt.ranks * max(0.0, now - since_s)
