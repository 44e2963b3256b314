"""How many of an array's or an owner's jobs run at once, and whether one more may."""

from __future__ import annotations

from collections import Counter

from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.counts import Counts
from racksack_controller.core.queue.job_queue import JobClass

Subject = tuple[str | None, int | None, str | None]


class Limits:
    """The counts as they grow in a pass."""

    def __init__(self, running: Counts, policy: Policy) -> None:
        self._running = running
        self._per_owner = policy.max_running_per_owner
        self._per_partition = policy.partition_limits
        self._arrays: Counter[int] = Counter()
        self._owners: Counter[str] = Counter()
        self._members: Counter[tuple[str, str]] = Counter()

    def reached(self, job_class: JobClass) -> bool:
        """Whether no further job of this class may start, whatever room there is."""
        if job_class.array is not None:
            running = self._running.of_array.get(job_class.array, 0) + self._arrays[job_class.array]
            if running >= job_class.array_limit:
                return True
        partition = job_class.admission.partition
        if partition in self._per_partition:
            running = self._running.in_partition.get((partition, job_class.owner), 0)
            if running + self._members[partition, job_class.owner] >= self._per_partition[partition]:
                return True
        if self._per_owner is None:
            return False
        return self._running.of_owner.get(job_class.owner, 0) + self._owners[job_class.owner] >= self._per_owner

    def subject(self, job_class: JobClass) -> Subject:
        """All that `reached` looks at: classes of one subject are at their limit together."""
        partition = job_class.admission.partition if job_class.admission.partition in self._per_partition else None
        owner = None if self._per_owner is None and partition is None else job_class.owner
        return owner, job_class.array, partition

    def count(self, job_class: JobClass) -> None:
        """A job of this class was placed."""
        self._owners[job_class.owner] += 1
        self._members[job_class.admission.partition, job_class.owner] += 1
        if job_class.array is not None:
            self._arrays[job_class.array] += 1
