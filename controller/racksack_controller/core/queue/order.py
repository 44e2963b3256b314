"""The order of the queue: priority, then fair share (where it is on), then age. A job's number settles ties."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.fair_share import Usage, level
from racksack_controller.core.queue.job_queue import JobQueue
from racksack_controller.core.queue.turns import Turns
from racksack_controller.core.rack.rack import Floats, Ints

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


def use_by_owner(queue: JobQueue, usage: Usage, turns: Turns, total: Ints, now: float, policy: Policy) -> Floats:
    """By what the owners in the queue are ordered: how much they have used of late in relation to their shares.

    All zero where fair share is off or has had its part of the rack. `total`: what the rack has, (DIMENSIONS, nodes).
    """
    use = np.zeros(max(1, len(queue.owners)))
    if policy.fair_share and turns.by_use:
        waiting = set(queue.owner[queue.open_classes()].tolist())
        for owner, index in queue.owners.items():
            if index in waiting:
                use[index] = level(usage.relative(owner, now, total, policy.shares))
    return use
