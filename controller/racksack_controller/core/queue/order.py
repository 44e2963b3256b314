"""The order of the queue: priority, then fair share (where it is on), then age. A job's number settles ties."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobQueue
from racksack_controller.core.rack.rack import Floats, Ints
from racksack_controller.core.state import State

# (-priority, use of the owner, age or length, job, class): the smallest is next.
Entry = tuple[float, float, float, int, int]


def entries(queue: JobQueue, classes: Iterable[int], use: Floats) -> list[Entry]:
    """What the first job of each class is ordered by."""
    chosen = np.fromiter(classes, dtype=np.int64)
    priority, age, job_id = queue.keys[:, chosen]
    columns = (priority, use[queue.owner[chosen]], age, job_id.astype(np.int64), chosen)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def sorted_classes(queue: JobQueue, classes: Ints, use: Floats) -> Ints:
    """The classes in the order of their first jobs."""
    priority, age, job_id = queue.keys[:, classes]
    return classes[np.lexsort((job_id, age, use[queue.owner[classes]], priority))]


def use_by_owner(state: State, classes: Ints, now: float, policy: Policy) -> Floats:
    """What each owner has used of late in relation to his share; all zero where fair share is off."""
    use = np.zeros(max(1, len(state.queue.owners)))
    if policy.fair_share:
        queue = set(state.queue.owner[classes].tolist())
        for owner, index in state.queue.owners.items():
            if index in queue:
                use[index] = state.usage.relative(owner, now, state.rack.total, policy.shares)
    return use
