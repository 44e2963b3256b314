"""A job that a pass has placed: on which nodes and devices, and when it is expected to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobClass, JobQueue
from racksack_controller.core.rack.allocations import NodeAllocation
from racksack_controller.core.rack.amounts import MILLI
from racksack_controller.core.rack.rack import Floats, Ints, Rack
from racksack_controller.core.records import Allocation, Part
from racksack_jobspecs.resources import ResourceRequest


@dataclass
class Placement:
    """One placement of the pass; a gang has several rows. Times are Unix seconds."""

    job_id: int
    job_class: JobClass
    rows: list[int]
    uuids: list[tuple[str, ...]]
    soft_end_s: float  # by prediction
    late_end_s: float  # by time limit
    why: str
    passes: bool = False  # whether fair share lets it pass an older job

    @property
    def movable(self) -> bool:
        """Whether the pass may still put it elsewhere: its node is all that it holds."""
        return len(self.rows) == 1 and self.job_class.kind is None

    def allocations(self) -> list[NodeAllocation]:
        """What it takes of each node."""
        milli = self.job_class.kind.milli if self.job_class.kind else MILLI
        pairs = zip(self.rows, self.uuids, strict=True)
        return [NodeAllocation(row, self.job_class.need, uuids, milli) for row, uuids in pairs]

    def placed(self, rack: Rack, wants: ResourceRequest) -> Placed:
        """The event."""
        parts = [
            Part(
                rack.nodes[allocation.row].name,
                Allocation(wants.cpus, wants.ram_bytes, allocation.uuids, wants.disk_bytes, allocation.milli),
            )
            for allocation in self.allocations()
        ]
        return Placed(self.job_id, parts[0].node, parts[0].allocation, self.why, tuple(parts[1:]), self.passes)


def place_job(
    capacity: FreeCapacity,
    policy: Policy,
    job_id: int,
    job_class: JobClass,
    rows: list[int],
    ends_s: tuple[float, float],
    why: str,
) -> Placement:
    """Take what a job needs on these nodes. `ends_s`: its end by prediction and by time limit."""
    uuids = [capacity.take(row, job_class, policy.rule) for row in rows]
    return Placement(job_id, job_class, rows, uuids, ends_s[0], ends_s[1], why)


def length_s(queue: JobQueue, policy: Policy, index: int, *, hard: bool) -> float:
    """How long the jobs of a class are expected to run, or (hard) may run at most. Seconds."""
    limit, predicted = float(queue.limit_s[index]), float(queue.predicted_s(index))
    longest = policy.default_time_limit_s if limit < 0 else limit
    return longest if hard or predicted < 0 or not policy.predict else min(longest, predicted)


def lengths_s(queue: JobQueue, policy: Policy, classes: Ints, *, hard: bool) -> Floats:
    """`length_s` of many classes."""
    limit, predicted = queue.limit_s[classes], queue.predicted_s(classes)
    longest = np.where(limit < 0, policy.default_time_limit_s, limit)
    if hard or not policy.predict:
        return longest
    return np.where(predicted < 0, longest, np.minimum(longest, predicted))
