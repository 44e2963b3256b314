"""The job classes in the order of the queue, kept from pass to pass: only those whose first job has changed are moved.

Classes that are at their limits together (one owner, one array) are in a section of their own, so that all of them
are passed over at once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from racksack_controller.core.queue.job_queue import JobClass, JobQueue
from racksack_controller.core.queue.limits import Limits, Subject
from racksack_controller.core.queue.order import Entry, entries, sorted_classes
from racksack_controller.core.rack.rack import Bools, Floats, Ints

MOVED_MAX = 300  # so many classes are moved one by one; for more of them everything is sorted anew
STALE_MIN = 32


class SortedQueue:
    """Entries that no longer hold are left where they are, and passed over."""

    def __init__(self, use: Floats) -> None:
        self.use = use
        self.subject: Ints = np.zeros(0, dtype=np.int64)  # of each class: which section it is in
        self._sections: list[list[Entry]] = []
        self._sample: list[JobClass] = []  # of each section: one of its classes
        self._place: dict[Subject, int] = {}
        self._stale = 0

    def fill(self, queue: JobQueue, classes: Ints, limits: Limits) -> None:
        """Sort all of `classes` in."""
        self._sections, self._sample, self._place, self._stale = [], [], {}, 0
        self.subject = np.zeros(len(queue.size), dtype=np.int64)
        for entry in entries(queue, sorted_classes(queue, classes, self.use), self.use):
            self._sections[self._section_of(queue, entry[-1], limits)].append(entry)

    def move(self, queue: JobQueue, classes: Ints, limits: Limits) -> bool:
        """Sort these in; False when it is better to sort all of them anew."""
        self._stale += len(classes)
        if len(classes) > MOVED_MAX or self._stale > STALE_MIN + sum(map(len, self._sections)) // 2:
            return False
        if len(self.subject) < len(queue.size):
            self.subject = np.append(self.subject, np.zeros(len(queue.size) - len(self.subject), dtype=np.int64))
        for entry in entries(queue, classes, self.use):
            section = self._sections[self._section_of(queue, entry[-1], limits)]
            place = bisect_left(section, entry)
            if place == len(section) or section[place] != entry:
                section.insert(place, entry)
        for section in self._sections:
            gone = 0
            while gone < len(section) and not _holds(queue, section[gone]):
                gone += 1
            del section[:gone]
        return True

    def at_limit(self, limits: Limits) -> Bools:
        """Of each section whether no job in it may start."""
        return np.array([limits.reached(job_class) for job_class in self._sample], dtype=np.bool_)

    def in_order(self, queue: JobQueue, left_out: Bools) -> Iterator[Entry]:
        """The first jobs of all classes of the sections that are not left out, in order."""
        sections = [section for section, leave in zip(self._sections, left_out, strict=True) if not leave]
        merged = iter(sections[0]) if len(sections) == 1 else heapq.merge(*sections)
        for entry in merged:
            if _holds(queue, entry):
                yield entry

    def _section_of(self, queue: JobQueue, index: int, limits: Limits) -> int:
        job_class = queue.classes[index]
        subject = limits.subject(job_class)
        place = self._place.get(subject)
        if place is None:
            place = self._place[subject] = len(self._sections)
            self._sections.append([])
            self._sample.append(job_class)
        self.subject[index] = place
        return place


def _holds(queue: JobQueue, entry: Entry) -> bool:
    """Whether it is still about the first job of its class."""
    jobs = queue.jobs[entry[-1]]
    return bool(jobs) and jobs[0] == entry[2:4]
