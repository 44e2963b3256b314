"""Reservations: where and when a job that has to wait will start, and what may start before it without delaying it.

EASY backfill (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995): the first job in the queue that does not fit
reserves particular nodes at the earliest moment at which enough will be free there; another job may start now unless it
would still hold, at that moment, something on these nodes that the reserving job needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.rack.devices import GpuKind

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass
class Reservation:
    """A reservation that the rest of the pass respects."""

    job: int
    at_s: float
    rows: list[int]
    spare: Ints  # (DIMENSIONS, rows): what the reserving job leaves free at `at_s`; no devices if it needs any
    hard: bool  # it has waited long: what runs beside it must end by its time limit, not by a prediction

    def keep_off(self, fits: Bools, job_class: JobClass) -> bool:
        """Strike out of `fits` the nodes where a job that runs past `at_s` would be in the way; whether any is."""
        kept_off = False
        for place, row in enumerate(self.rows):
            if fits[row] and np.any(self.spare[:, place] < job_class.need):
                fits[row] = False
                kept_off = True
        return kept_off

    def is_as(self, other: Reservation) -> bool:
        """Whether both keep the same nodes free for the same job from the same moment on, and no more of them."""
        same = (self.job, self.at_s, self.rows, self.hard) == (other.job, other.at_s, other.rows, other.hard)
        return same and np.array_equal(self.spare, other.spare)

    def use(self, rows: list[int], job_class: JobClass) -> None:
        """A job that runs past `at_s` was placed on `rows`."""
        for place, row in enumerate(self.rows):
            if row in rows:
                self.spare[:, place] -= job_class.need

    def limit(self, free: Ints) -> Ints:
        """What of `free` may be given to jobs that run past `at_s`."""
        limited = free.copy()
        limited[:, self.rows] = np.minimum(free[:, self.rows], self.spare)
        return limited


@dataclass
class Releases:
    """What is free, and what will be given back when, on each node."""

    free: Ints  # (DIMENSIONS, nodes), also of nodes that take no jobs just now
    opens_s: Floats  # when a node takes jobs: now or later, infinity when that is not known
    row: Ints
    need: Ints  # (DIMENSIONS, releases)
    ends_s: Floats


def first_moments(releases: Releases, rows: Bools, need: Ints, now: float) -> Floats:
    """For each node the earliest Unix time at which `need` is free there; infinity outside `rows`."""
    moments = np.where(np.all(releases.free >= need[:, None], axis=0), now, np.inf)
    wanted = rows[releases.row] & (moments[releases.row] == np.inf)
    row, ends = releases.row[wanted], releases.ends_s[wanted]
    order = np.lexsort((ends, row))
    row, ends = row[order], ends[order]
    given = releases.need[:, wanted][:, order]
    total = np.cumsum(given, axis=1)
    first = np.searchsorted(row, row)  # where this node's releases begin
    freed = total - total[:, first] + given[:, first]
    enough = np.flatnonzero(np.all(releases.free[:, row] + freed >= need[:, None], axis=0))
    np.minimum.at(moments, row[enough], ends[enough])
    moments = np.maximum(moments, releases.opens_s)
    moments[~rows] = np.inf
    return moments


def device_moments(ready_s: Floats, row: Ints, kind: GpuKind, matching: Bools, nodes: int) -> Floats:
    """For each node the earliest time at which as many devices as `kind` asks for are ready."""
    moments = np.full(nodes, np.inf)
    row, ready = row[matching], ready_s[matching]
    order = np.lexsort((ready, row))
    row, ready = row[order], ready[order]
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    exactly = nth == kind.devices - 1
    moments[row[exactly]] = ready[exactly]
    return moments


def ready_moments(free: Ints, milli: int, device: Ints, given: Ints, ends_s: Floats) -> Floats:
    """For each device when it has `milli` left, as parts of it are given back; infinity where it never has.

    `free`: what all devices have left. `device`, `given`, `ends_s`: of each part.
    """
    moments = np.full(len(free), np.inf)
    order = np.lexsort((ends_s, device))
    device, given, ends_s = device[order], given[order], ends_s[order]
    total = np.cumsum(given)
    first = np.searchsorted(device, device)
    freed = total - total[first] + given[first]
    enough = np.flatnonzero(free[device] + freed >= milli)
    soonest = enough[np.flatnonzero(np.diff(device[enough], prepend=-1))]
    moments[device[soonest]] = ends_s[soonest]
    return moments


def spare_at(releases: Releases, row: int, at_s: float) -> Ints:
    """What is free on a node at `at_s`."""
    gone = (releases.ends_s <= at_s) & (releases.row == row)
    free: Ints = releases.free[:, row] + releases.need[:, gone].sum(axis=1)
    return free
