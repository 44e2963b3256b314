"""The lines of the queue in order, kept from pass to pass: only lines whose first job has changed find a new place.

Lines that are at their limits together (one owner, one array) stand in a queue of their own, so that all of them are
passed over at once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from racksack_controller.core.queue.limits import Limits, Subject
from racksack_controller.core.queue.order import Entry, entries, sorted_lines
from racksack_controller.core.queue.waiting import Line, Waiting
from racksack_controller.core.rack.rack import Bools, Floats, Ints

MOVED_MAX = 300  # so many lines are moved one by one; for more of them everything is sorted anew
STALE_MIN = 32


class Lineup:
    """Entries that no longer hold are left where they are, and passed over."""

    def __init__(self, use: Floats) -> None:
        self.use = use
        self.subject: Ints = np.zeros(0, dtype=np.int64)  # of each line: which queue it stands in
        self._queues: list[list[Entry]] = []
        self._sample: list[Line] = []  # of each queue: one of its lines
        self._place: dict[Subject, int] = {}
        self._stale = 0

    def fill(self, waiting: Waiting, lines: Ints, limits: Limits) -> None:
        """Sort all of `lines` in."""
        self._queues, self._sample, self._place, self._stale = [], [], {}, 0
        self.subject = np.zeros(len(waiting.size), dtype=np.int64)
        for entry in entries(waiting, sorted_lines(waiting, lines, self.use), self.use):
            self._queues[self._queue_of(waiting, entry[-1], limits)].append(entry)

    def move(self, waiting: Waiting, lines: Ints, limits: Limits) -> bool:
        """Sort these in; False when it is better to sort all of them anew."""
        self._stale += len(lines)
        if len(lines) > MOVED_MAX or self._stale > STALE_MIN + sum(map(len, self._queues)) // 2:
            return False
        if len(self.subject) < len(waiting.size):
            self.subject = np.append(self.subject, np.zeros(len(waiting.size) - len(self.subject), dtype=np.int64))
        for entry in entries(waiting, lines, self.use):
            queue = self._queues[self._queue_of(waiting, entry[-1], limits)]
            place = bisect_left(queue, entry)
            if place == len(queue) or queue[place] != entry:
                queue.insert(place, entry)
        for queue in self._queues:
            gone = 0
            while gone < len(queue) and not _holds(waiting, queue[gone]):
                gone += 1
            del queue[:gone]
        return True

    def at_limit(self, limits: Limits) -> Bools:
        """Of each queue whether no job in it may start."""
        return np.array([limits.reached(line) for line in self._sample], dtype=np.bool_)

    def in_order(self, waiting: Waiting, left_out: Bools) -> Iterator[Entry]:
        """The first jobs of all lines of the queues that are not left out, in order."""
        queues = [queue for queue, leave in zip(self._queues, left_out, strict=True) if not leave]
        merged = iter(queues[0]) if len(queues) == 1 else heapq.merge(*queues)
        for entry in merged:
            if _holds(waiting, entry):
                yield entry

    def _queue_of(self, waiting: Waiting, index: int, limits: Limits) -> int:
        line = waiting.lines[index]
        subject = limits.subject(line)
        place = self._place.get(subject)
        if place is None:
            place = self._place[subject] = len(self._queues)
            self._queues.append([])
            self._sample.append(line)
        self.subject[index] = place
        return place


def _holds(waiting: Waiting, entry: Entry) -> bool:
    """Whether it is still about the first job of its line."""
    jobs = waiting.jobs[entry[-1]]
    return bool(jobs) and jobs[0] == entry[2:4]
