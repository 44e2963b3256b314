"""Reservations: where and when a job that has to wait will start, and what may start before it without delaying it.

EASY backfill (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995): the first job in the queue that does not fit
reserves particular nodes at the earliest moment at which enough will be free there; another job may start now unless it
would still hold, at that moment, something on these nodes that the reserving job needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.devices import GpuKind
from racksack_controller.core.waiting import Line

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass
class Guard:
    """A reservation that the rest of the pass respects."""

    job: int
    at_s: float
    rows: list[int]
    spare: Ints  # (DIMENSIONS, rows): what the reserving job leaves free at `at_s`; no devices if it needs any
    hard: bool  # it has waited long: what runs beside it must end by its time limit, not by a prediction

    def keep_off(self, fits: Bools, line: Line) -> bool:
        """Strike out of `fits` the nodes where a job that runs past `at_s` would be in the way; whether any is."""
        kept_off = False
        for place, row in enumerate(self.rows):
            if fits[row] and np.any(self.spare[:, place] < line.need):
                fits[row] = False
                kept_off = True
        return kept_off

    def use(self, rows: list[int], line: Line) -> None:
        """A job that runs past `at_s` was placed on `rows`."""
        for place, row in enumerate(self.rows):
            if row in rows:
                self.spare[:, place] -= line.need

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


def spare_at(releases: Releases, rows: list[int], need: Ints, at_s: float) -> Ints:
    """What is free on each of `rows` at `at_s` beside a job that takes `need` of each."""
    gone = releases.ends_s <= at_s
    columns = [releases.free[:, row] + releases.need[:, gone & (releases.row == row)].sum(axis=1) for row in rows]
    return np.stack(columns, axis=1) - need[:, None]
