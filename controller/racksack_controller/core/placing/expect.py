"""Who is ahead of a waiting job, and when it can start at the earliest."""

from __future__ import annotations

from bisect import bisect_left

import msgspec
import numpy as np

from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.queue.job_queue import JobClass, JobQueue, age_since_s
from racksack_controller.core.rack.rack import Bools, Floats, Rack
from racksack_controller.core.records import Job


class Expectation(msgspec.Struct, frozen=True):
    """`start_s` (Unix seconds) is when the job starts if nobody is ahead, else a bound from below; None: unknown."""

    ahead: int
    first: int  # the job at the head of the queue; meaningless when nobody is ahead
    start_s: float | None


def expect(reading: Reading, job: Job, job_class: JobClass) -> Expectation:
    """What can be told about a job's start. It need not have been submitted yet."""
    ahead, first = _ahead(reading, job)
    capacity = FreeCapacity(reading.state.rack, reading.now, [])
    outlook = Outlook(capacity, reading.now, reading.policy, profiles=reading.profiles)
    reservation = outlook.reserve(job.id, job_class, hard=not reading.policy.predict)
    return Expectation(ahead, first, reservation.at_s if reservation is not None else None)


def could_hold(rack: Rack, job_class: JobClass) -> Bools:
    """The nodes that could run one rank of the job if they were empty."""
    need = np.array(job_class.need, dtype=np.int64)
    able: Bools = rack.admitted(job_class.admission) & np.all(rack.total >= need[:, None], axis=0)
    if job_class.kind is not None:
        matching = rack.devices.matching(job_class.kind)
        able &= np.bincount(rack.devices.row[matching], minlength=len(rack.nodes)) >= job_class.kind.devices
    return able


def _ahead(reading: Reading, job: Job) -> tuple[int, int]:
    """How many jobs are ahead in the queue, and the id of the first of them."""
    queue, use = reading.state.queue, reading.use
    own = (-job.spec.priority, _use_of(job.owner, queue, use))
    entry = (age_since_s(job), job.id)
    count, first = 0, None
    for (priority, owner), members in queue.by_rank.items():
        rank = (-priority, _use_of(owner, queue, use))
        before = len(members) if rank < own else bisect_left(members, entry) if rank == own else 0
        if before:
            count += before
            first = min(first or (*rank, *members[0]), (*rank, *members[0]))
    return count, first[-1] if first else 0


def _use_of(owner: str, queue: JobQueue, use: Floats) -> float:
    """An owner who has nothing in the queue yet stands as one who has used nothing."""
    return float(use[queue.owners[owner]]) if owner in queue.owners else 0.0
