"""How many jobs run: of each array, of each owner, and of each owner in each partition. A gang counts as one job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from racksack_controller.core.records import Job

Key = TypeVar("Key")


class Counts:
    """Kept by `State`, read by `Limits`."""

    def __init__(self) -> None:
        self.of_array: dict[int, int] = {}
        self.of_owner: dict[str, int] = {}
        self.in_partition: dict[tuple[str, str], int] = {}  # by (partition, owner)
        self._attempts: dict[int, int] = {}  # of each job: how many attempts (of a gang: ranks) hold something

    def undo_of(self, job: Job) -> Callable[[], None]:
        """What takes the next change of a job back."""
        member = (job.spec.partition, job.owner)
        counts = (
            (self._attempts, job.id, self._attempts.get(job.id)),
            (self.of_owner, job.owner, self.of_owner.get(job.owner)),
            (self.in_partition, member, self.in_partition.get(member)),
            (self.of_array, job.array_id, self.of_array.get(job.array_id or 0)),
        )

        def undo() -> None:
            for table, key, count in counts:
                _put(table, key, count)

        return undo

    def begin(self, job: Job) -> None:
        """An attempt at a job, of a gang: one rank, begins to hold something."""
        self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        if self._attempts[job.id] == 1:
            self._count(job, 1)

    def end(self, job: Job) -> None:
        """An attempt, or a rank, holds nothing any more."""
        left = self._attempts.pop(job.id) - 1
        if left:
            self._attempts[job.id] = left
        else:
            self._count(job, -1)

    def _count(self, job: Job, sign: int) -> None:
        _add(self.of_owner, job.owner, sign)
        _add(self.in_partition, (job.spec.partition, job.owner), sign)
        if job.array_id is not None:
            _add(self.of_array, job.array_id, sign)


def _put(counts: dict[Any, int], key: object, count: int | None) -> None:
    if count is None:
        counts.pop(key, None)
    else:
        counts[key] = count


def _add(counts: dict[Key, int], key: Key, sign: int) -> None:
    count = counts.pop(key, 0) + sign
    if count:
        counts[key] = count
