"""The order of the queue: priority, then fair share (where it is on), then age. A job's number settles ties."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.waiting import Waiting
from racksack_controller.core.rack.rack import Floats, Ints
from racksack_controller.core.state import State

# (-priority, use of the owner, age or length, job, line): the smallest is next.
Entry = tuple[float, float, float, int, int]


def entries(waiting: Waiting, lines: Iterable[int], use: Floats) -> list[Entry]:
    """What the first job of each line is ordered by."""
    chosen = np.fromiter(lines, dtype=np.int64)
    priority, age, number = waiting.keys[:, chosen]
    columns = (priority, use[waiting.owner[chosen]], age, number.astype(np.int64), chosen)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def sorted_lines(waiting: Waiting, lines: Ints, use: Floats) -> Ints:
    """The lines in the order of their first jobs."""
    priority, age, number = waiting.keys[:, lines]
    return lines[np.lexsort((number, age, use[waiting.owner[lines]], priority))]


def use_by_owner(state: State, lines: Ints, now: float, policy: Policy) -> Floats:
    """What each owner has used of late in relation to his share; all zero where fair share is off."""
    use = np.zeros(max(1, len(state.lines.owners)))
    if policy.fair_share:
        waiting = set(state.lines.owner[lines].tolist())
        for owner, index in state.lines.owners.items():
            if index in waiting:
                use[index] = state.usage.relative(owner, now, state.rack.total, policy.shares)
    return use
