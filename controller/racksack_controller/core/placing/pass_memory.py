"""What a pass has found out about each class of the queue, and what of it still holds at the next one.

A class without room can only have got room on a node that has more free than it had; a class that was held back by a
reservation can only start on the nodes of that reservation, or on such a one. So an event costs what it touches,
however long the queue is, and a pass decides exactly what it would have decided with nothing known. It looks at levels:
the rack and the queue are compared with what they were, so that no change can be missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.placing.backfill import Reservation
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobQueue
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.sorted_queue import SortedQueue
from racksack_controller.core.rack.profile import Profiles
from racksack_controller.core.rack.rack import Bools, Floats, Ints

UNTRIED = 0  # nothing is known: it may have room
NO_ROOM = 1  # no node has room
RESERVED_AWAY = 2  # there is room at most on the nodes of the reservation and on those freed since
IMPOSSIBLE = 3  # there would be no room if nothing ran

Found = NDArray[np.int8]


def reserved_away_or_untried(queue: JobQueue, classes: Ints) -> Found:
    """For classes that have room on a few nodes alone; a gang needs others beside them, so nothing is known of it."""
    return np.where(queue.gang[classes] > 1, UNTRIED, RESERVED_AWAY).astype(np.int8)


class PassMemory:
    """What one pass leaves to the next. A cache: without it a pass takes longer and decides the same."""

    def __init__(self) -> None:
        self.profiles = Profiles()
        self.marks: ClassMarks | None = None  # with a few classes it is not worth keeping
        self.reservation: Reservation | None = None  # that the pass made; for what is said and for preemption


class ClassMarks:
    """What keeps each class from starting. Good for one policy and one set of nodes."""

    def __init__(self, policy: Policy, epoch: int, use: Floats) -> None:
        self.policy = policy
        self.epoch = epoch
        self.sorted_queue = SortedQueue(use)
        self.found: Found = np.zeros(0, dtype=np.int8)
        self.reservation: Reservation | None = None  # of the last pass, less what was placed beside it
        self._serial: Ints = np.zeros(0, dtype=np.int64)
        self._keys: Floats = np.zeros((3, 0))
        self._free: Ints | None = None  # as the last pass left it
        self._device_free: Ints = np.zeros(0, dtype=np.int64)
        self._attainable: Ints | None = None
        self._left_out = False  # impossible classes are still in the sorted queue

    def holds_for(self, policy: Policy, epoch: int, use: Floats) -> bool:
        """Whether anything of it is good for a pass by this policy on these nodes."""
        return self.policy is policy and self.epoch == epoch and np.array_equal(self.sorted_queue.use, use)

    def start(self, queue: JobQueue, classes: Ints, limits: Limits) -> None:
        """Begin with nothing known."""
        self.found = np.zeros(len(queue.jobs), dtype=np.int8)
        self.sorted_queue.fill(queue, classes, limits)

    def compare(self, capacity: FreeCapacity, outlook: Outlook, queue: JobQueue, classes: Ints, limits: Limits) -> Ints:
        """Strike out what does not hold any more; the nodes that have got more free. `classes`: those with jobs."""
        moved = self._moved(queue, classes)
        freed = self._freed(capacity)
        hope_changed = self._compare_attainable(capacity, outlook, queue, classes)
        sort_all = hope_changed or self._left_out
        if sort_all or not self.sorted_queue.move(queue, moved[self.found[moved] != IMPOSSIBLE], limits):
            self.sorted_queue.fill(queue, classes[self.found[classes] != IMPOSSIBLE], limits)
            self._left_out = False
        if len(freed):
            without = classes[self.found[classes] == NO_ROOM]
            able = without[capacity.classes_with_room(queue, without, capacity.free, freed, ranks=False)]
            self.found[able] = reserved_away_or_untried(queue, able)
        return freed

    def note_impossible(self, capacity: FreeCapacity, queue: JobQueue, classes: Ints, index: int) -> None:
        """A class was found to be impossible: leave it and others like it out until nodes change."""
        if self._attainable is not None:
            hope = capacity.classes_attainable(queue, classes, self._attainable)
            if not hope[np.searchsorted(classes, index)]:
                self.found[classes[~hope]] = IMPOSSIBLE
                self._left_out = True

    def remember(self, capacity: FreeCapacity, reservation: Reservation | None) -> None:
        """How the pass leaves things; None when not all that a reservation holds back was looked at."""
        if reservation is None:
            self.found[self.found == RESERVED_AWAY] = UNTRIED
        self.reservation = reservation
        self._free, self._device_free = capacity.free, capacity.device_free

    def _moved(self, queue: JobQueue, classes: Ints) -> Ints:
        """The classes whose first job is another one than at the last pass."""
        count = len(queue.jobs)
        memory = len(self._serial)
        if memory < count:
            more = count - memory
            self.found = np.append(self.found, np.zeros(more, dtype=np.int8))
            self._serial = np.append(self._serial, np.zeros(more, dtype=np.int64))
            self._keys = np.append(self._keys, np.zeros((3, more)), axis=1)
        keys, serial = queue.keys[:, :count], queue.serial[:count]
        opened = serial != self._serial
        self.found[opened] = UNTRIED
        changed = np.flatnonzero(opened | np.any(keys != self._keys, axis=0))
        self._serial[changed], self._keys[:, changed] = serial[changed], keys[:, changed]
        moved: Ints = changed[queue.size[changed] > 0]
        return moved

    def _freed(self, capacity: FreeCapacity) -> Ints:
        if self._free is None:
            return np.zeros(0, dtype=np.int64)
        more: Bools = np.any(capacity.free > self._free, axis=0)
        more[capacity.devices.row[capacity.device_free > self._device_free]] = True
        return np.flatnonzero(more)

    def _compare_attainable(self, capacity: FreeCapacity, outlook: Outlook, queue: JobQueue, classes: Ints) -> bool:
        """Whether classes that were impossible may now find room."""
        attainable = outlook.attainable()
        same = self._attainable is not None and np.array_equal(attainable, self._attainable)
        self._attainable = attainable
        without = classes[self.found[classes] == IMPOSSIBLE]
        if same or not len(without):
            return False
        back = without[capacity.classes_attainable(queue, without, attainable)]
        self.found[back] = UNTRIED
        return bool(len(back))
