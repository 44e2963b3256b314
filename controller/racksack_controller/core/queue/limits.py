"""How many of an array's or an owner's jobs run at once, and whether one more may."""

from __future__ import annotations

from collections import Counter

from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.waiting import Line
from racksack_controller.core.state import State

Subject = tuple[str | None, int | None, str | None]


class Limits:
    """The counts as they grow in a pass."""

    def __init__(self, state: State, policy: Policy) -> None:
        self._state = state
        self._per_owner = policy.max_running_per_owner
        self._per_partition = policy.partition_limits
        self._arrays: Counter[int] = Counter()
        self._owners: Counter[str] = Counter()
        self._members: Counter[tuple[str, str]] = Counter()

    def reached(self, line: Line) -> bool:
        """Whether no further job of this line may start, whatever room there is."""
        if line.array is not None:
            running = self._state.running_of_array.get(line.array, 0) + self._arrays[line.array]
            if running >= line.array_limit:
                return True
        partition = line.admission.partition
        if partition in self._per_partition:
            running = self._state.running_in_partition.get((partition, line.owner), 0)
            if running + self._members[partition, line.owner] >= self._per_partition[partition]:
                return True
        if self._per_owner is None:
            return False
        return self._state.running_of_owner.get(line.owner, 0) + self._owners[line.owner] >= self._per_owner

    def subject(self, line: Line) -> Subject:
        """All that `reached` looks at: lines of one subject are at their limit together."""
        partition = line.admission.partition if line.admission.partition in self._per_partition else None
        owner = None if self._per_owner is None and partition is None else line.owner
        return owner, line.array, partition

    def count(self, line: Line) -> None:
        """A job of this line was placed."""
        self._owners[line.owner] += 1
        self._members[line.admission.partition, line.owner] += 1
        if line.array is not None:
            self._arrays[line.array] += 1
