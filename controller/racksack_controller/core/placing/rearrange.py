"""Making room for the first job that does not fit, by moving jobs of the same pass, which have not begun."""

from __future__ import annotations

import random

import numpy as np

from racksack_controller.core.placing.bin_packing import UNPLACED, place_most
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.placement import Placement
from racksack_controller.core.queue.job_queue import JobClass

MOVED_MIN = 4  # with fewer there is next to nothing to gain
MOVED_MAX = 500  # placements that are considered at once
STEPS = 300


def rearrange(capacity: FreeCapacity, placements: list[Placement], job_class: JobClass) -> int | None:
    """Put `placements` elsewhere so that a job of `job_class` fits; the row where it does, or None if none was found.

    The caller has made sure that all of `placements` are movable.
    """
    classes = [*(one.job_class for one in placements), job_class]
    if not MOVED_MIN <= len(placements) <= MOVED_MAX:
        return None
    items = np.array([one.need for one in classes], dtype=np.int64)
    placed = np.array([*(one.rows[0] for one in placements), UNPLACED], dtype=np.int64)
    free = capacity.free.copy()
    np.add.at(free.T, placed[:-1], items[:-1])
    if not np.any(np.all(free >= items[-1][:, None], axis=0) & capacity.rack.admitted(job_class.admission)):
        return None
    admitted = np.stack([capacity.rack.admitted(one.admission) for one in classes])
    better = place_most(items, free.T, placed, random.Random(0), STEPS, admitted)  # noqa: S311 - not a secret
    if better[-1] == UNPLACED:
        return None
    for one, row, item in zip(placements, better[:-1].tolist(), items[:-1], strict=True):
        if row != one.rows[0]:
            capacity.free[:, one.rows[0]] += item
            capacity.free[:, row] -= item
            one.rows[0] = row
    return int(better[-1])
