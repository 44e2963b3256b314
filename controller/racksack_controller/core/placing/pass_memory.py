"""What a pass has found out about each line of the queue, and what of it still holds at the next one.

A line without room can only have got room on a node that has more free than it had; a line that was held back by a
reservation can only start on the nodes of that reservation, or on such a one. So an event costs what it touches,
however long the queue is, and a pass decides exactly what it would have decided with nothing known. It looks at levels:
the rack and the queue are compared with what they were, so that no change can be missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.placing.backfill import Guard
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.room import Room
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.sorted_queue import Lineup
from racksack_controller.core.queue.waiting import Waiting
from racksack_controller.core.rack.rack import Bools, Floats, Ints

OPEN = 0  # nothing is known: it may have room
NO_ROOM = 1  # no node has room
HELD = 2  # there is room at most on the nodes of the reservation and on those freed since
NO_HOPE = 3  # there would be no room if nothing ran

Found = NDArray[np.int8]


def held_or_open(waiting: Waiting, lines: Ints) -> Found:
    """For lines that have room on a few nodes alone; a gang needs others beside them, so nothing is known of it."""
    return np.where(waiting.gang[lines] > 1, OPEN, HELD).astype(np.int8)


class Known:
    """Good for one policy and one set of nodes."""

    def __init__(self, policy: Policy, epoch: int, use: Floats) -> None:
        self.policy = policy
        self.epoch = epoch
        self.lineup = Lineup(use)
        self.found: Found = np.zeros(0, dtype=np.int8)
        self.guard: Guard | None = None  # of the last pass, less what was placed beside it
        self._serial: Ints = np.zeros(0, dtype=np.int64)
        self._keys: Floats = np.zeros((3, 0))
        self._free: Ints | None = None  # as the last pass left it
        self._device_free: Ints = np.zeros(0, dtype=np.int64)
        self._hopeful: Ints | None = None
        self._left_out = False  # lines without hope still stand in the lineup

    def holds_for(self, policy: Policy, epoch: int, use: Floats) -> bool:
        """Whether anything of it is good for a pass by this policy on these nodes."""
        return self.policy is policy and self.epoch == epoch and np.array_equal(self.lineup.use, use)

    def start(self, waiting: Waiting, lines: Ints, limits: Limits) -> None:
        """Begin with nothing known."""
        self.found = np.zeros(len(waiting.jobs), dtype=np.int8)
        self.lineup.fill(waiting, lines, limits)

    def compare(self, room: Room, outlook: Outlook, waiting: Waiting, lines: Ints, limits: Limits) -> Ints:
        """Strike out what does not hold any more; the nodes that have got more free. `lines`: those with jobs."""
        moved = self._moved(waiting, lines)
        freed = self._freed(room)
        hope_changed = self._compare_hope(room, outlook, waiting, lines)
        sort_all = hope_changed or self._left_out
        if sort_all or not self.lineup.move(waiting, moved[self.found[moved] != NO_HOPE], limits):
            self.lineup.fill(waiting, lines[self.found[lines] != NO_HOPE], limits)
            self._left_out = False
        if len(freed):
            without = lines[self.found[lines] == NO_ROOM]
            able = without[room.lines_with_room(waiting, without, room.free, freed, ranks=False)]
            self.found[able] = held_or_open(waiting, able)
        return freed

    def note_hopeless(self, room: Room, waiting: Waiting, lines: Ints, index: int) -> None:
        """A line was found to have no hope: leave it and its like out until nodes change."""
        if self._hopeful is not None:
            hope = room.lines_with_hope(waiting, lines, self._hopeful)
            if not hope[np.searchsorted(lines, index)]:
                self.found[lines[~hope]] = NO_HOPE
                self._left_out = True

    def remember(self, room: Room, guard: Guard | None) -> None:
        """How the pass leaves things; None when not all that a reservation holds back was looked at."""
        if guard is None:
            self.found[self.found == HELD] = OPEN
        self.guard = guard
        self._free, self._device_free = room.free, room.device_free

    def _moved(self, waiting: Waiting, lines: Ints) -> Ints:
        """The lines whose first job is another one than at the last pass."""
        count = len(waiting.jobs)
        known = len(self._serial)
        if known < count:
            more = count - known
            self.found = np.append(self.found, np.zeros(more, dtype=np.int8))
            self._serial = np.append(self._serial, np.zeros(more, dtype=np.int64))
            self._keys = np.append(self._keys, np.zeros((3, more)), axis=1)
        keys, serial = waiting.keys[:, :count], waiting.serial[:count]
        opened = serial != self._serial
        self.found[opened] = OPEN
        changed = np.flatnonzero(opened | np.any(keys != self._keys, axis=0))
        self._serial[changed], self._keys[:, changed] = serial[changed], keys[:, changed]
        moved: Ints = changed[waiting.size[changed] > 0]
        return moved

    def _freed(self, room: Room) -> Ints:
        if self._free is None:
            return np.zeros(0, dtype=np.int64)
        more: Bools = np.any(room.free > self._free, axis=0)
        more[room.devices.row[room.device_free > self._device_free]] = True
        return np.flatnonzero(more)

    def _compare_hope(self, room: Room, outlook: Outlook, waiting: Waiting, lines: Ints) -> bool:
        """Whether lines have come back that had no hope."""
        hopeful = outlook.hopeful()
        same = self._hopeful is not None and np.array_equal(hopeful, self._hopeful)
        self._hopeful = hopeful
        without = lines[self.found[lines] == NO_HOPE]
        if same or not len(without):
            return False
        back = without[room.lines_with_hope(waiting, without, hopeful)]
        self.found[back] = OPEN
        return bool(len(back))
