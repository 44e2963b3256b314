"""Knowing without a pass that nothing can start, so that most events cost next to nothing however long the queue is.

When a pass has found that no job fits anywhere, a later one can only find otherwise if a node has got more room since,
or if somebody came who asks for less. So only those nodes and those lines are looked at. Where a job fits but is held
back (by a reservation or by a limit), time and others may set it free, and there is no short cut.
"""

from __future__ import annotations

import msgspec
import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.rack import Rack
from racksack_controller.core.room import Room
from racksack_controller.core.waiting import Waiting


class Quiet(msgspec.Struct, frozen=True):
    """A pass by this policy has found room for nobody; good until a node has cooled (Unix seconds)."""

    policy: Policy
    until_s: float


def note(rack: Rack, waiting: Waiting, policy: Policy, now: float) -> Quiet:
    """What a pass that found room for nobody leaves behind."""
    rack.freed.clear()
    waiting.fresh.clear()
    later = rack.cool_until[rack.cool_until > now]
    return Quiet(policy, float(later.min()) if len(later) else float("inf"))


def still_quiet(quiet: Quiet, rack: Rack, waiting: Waiting, policy: Policy, now: float) -> bool:
    """Whether there is still room for nobody."""
    if quiet.policy is not policy or now >= quiet.until_s:
        return False
    fresh = [index for index in waiting.fresh if waiting.size[index]]
    if not fresh and not rack.freed:
        return True
    room = Room(rack, now, [])
    if fresh and room.lines_with_room(waiting, np.array(fresh, dtype=np.int64), room.free).any():
        return False
    if rack.freed:
        freed = np.full_like(room.free, -1)
        rows = list(rack.freed)
        freed[:, rows] = room.free[:, rows]
        if room.lines_with_room(waiting, waiting.open_lines(), freed).any():
            return False
    rack.freed.clear()
    waiting.fresh.clear()
    return True
