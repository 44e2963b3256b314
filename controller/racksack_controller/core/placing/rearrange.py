"""Making room for the first job that does not fit, by moving jobs of the same pass, which have not begun."""

from __future__ import annotations

import random

import numpy as np

from racksack_controller.core.placing.bin_packing import UNPLACED, place_most
from racksack_controller.core.placing.placement import Start
from racksack_controller.core.placing.room import Room
from racksack_controller.core.queue.waiting import Line

MOVED_MIN = 4  # with fewer there is next to nothing to gain
MOVED_MAX = 500  # placements that are considered at once
STEPS = 300


def rearrange(room: Room, starts: list[Start], line: Line) -> int | None:
    """Put `starts` elsewhere so that a job of `line` fits; the row where it does, or None when nothing was found.

    The caller has made sure that all of `starts` are movable.
    """
    lines = [*(one.line for one in starts), line]
    if not MOVED_MIN <= len(starts) <= MOVED_MAX:
        return None
    items = np.array([one.need for one in lines], dtype=np.int64)
    placed = np.array([*(one.rows[0] for one in starts), UNPLACED], dtype=np.int64)
    free = room.free.copy()
    np.add.at(free.T, placed[:-1], items[:-1])
    if not np.any(np.all(free >= items[-1][:, None], axis=0) & room.rack.admitted(line.admission)):
        return None
    admitted = np.stack([room.rack.admitted(one.admission) for one in lines])
    better = place_most(items, free.T, placed, random.Random(0), STEPS, admitted)  # noqa: S311 - not a secret
    if better[-1] == UNPLACED:
        return None
    for one, row, item in zip(starts, better[:-1].tolist(), items[:-1], strict=True):
        if row != one.rows[0]:
            room.free[:, one.rows[0]] += item
            room.free[:, row] -= item
            one.rows[0] = row
    return int(better[-1])
