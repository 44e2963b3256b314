"""When waiting jobs would start if certain nodes were on: a list schedule over what is expected to be given back.

Each job takes the earliest moment, in the order of the queue, on the node where least is left. What a job takes later
counts as taken from now on, so that nobody is promised a gap that a job ahead of it will need.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from racksack_controller.core.placing.backfill import Releases, first_moments
from racksack_controller.core.power.view import View, Wanted
from racksack_controller.core.rack.amounts import COMPARED, Vector
from racksack_controller.core.rack.node_rules import COSTS
from racksack_controller.core.rack.rack import Floats, Ints

NEVER_S = float("inf")
Given = tuple[float, Vector]  # when it is given back (Unix seconds), and what


class Expected(NamedTuple):
    """When and where a job starts; NEVER_S and no rows if it cannot."""

    at_s: float
    rows: tuple[int, ...]


class Forecast(Protocol):
    """A way to say when jobs start. `opens_s`: when each node takes jobs."""

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Expected]:
        """The starts of `jobs`; one that is `kept_off` does not use `rows`."""


class ByNode:
    """Every job, or every rank of a gang, lies on one node."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.free: Ints = view.rack.total - view.rack.held
        self.row, self.need, self.ends = view.releases()
        self.given: dict[int, list[Given]] = {}  # of each node, the first to end first
        for at in np.lexsort((self.ends, self.row)).tolist():
            given = (float(self.ends[at]), _vector(self.need[:, at]))
            self.given.setdefault(int(self.row[at]), []).append(given)
        self._moments: dict[Vector, Floats] = {}

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Expected]:
        """As the protocol says."""
        course = Course(self, opens_s)
        found = []
        for job, off in zip(jobs, kept_off, strict=True):
            moments = np.where(job.able, course.moments(job.job_class.need), np.inf)
            if off:
                moments[list(rows)] = np.inf
            start = self._earliest(job, moments, course.free)
            for chosen in start.rows:
                course.place(chosen, job.job_class.need, start.at_s + job.length_s)
            found.append(start)
        return found

    def moments(self, need: Vector) -> Floats:
        """When each node could hold a job if it took jobs and nobody else came. Unix seconds, infinity: never."""
        known = self._moments.get(need)
        if known is None:
            nodes = self.free.shape[1]
            releases = Releases(self.free, np.zeros(nodes), self.row, self.need, self.ends)
            known = first_moments(releases, np.ones(nodes, dtype=np.bool_), np.array(need), self.view.now)
            self._moments[need] = known
        return known

    def _earliest(self, job: Wanted, moments: Floats, free: Ints) -> Expected:
        gang = job.job_class.gang
        if np.count_nonzero(np.isfinite(moments)) < gang:
            return Expected(NEVER_S, ())
        at_s = float(np.partition(moments, gang - 1)[gang - 1])
        rows = np.flatnonzero(moments <= at_s)
        if len(rows) > gang:
            inverse = self.view.rack.inverse[:COMPARED, rows]
            wants = np.array(job.job_class.need[:COMPARED])[:, None]
            left = COSTS[self.view.scheduling.rule](free[:COMPARED, rows] * inverse, wants * inverse)
            rows = rows[np.argsort(left, kind="stable")]
        return Expected(at_s, tuple(int(one) for one in rows[:gang]))


class Course:
    """How things go on while jobs are placed one after another; only nodes that have changed are looked at again."""

    def __init__(self, forecast: ByNode, opens_s: Floats) -> None:
        self.free: Ints = forecast.free.copy()
        self._forecast = forecast
        self._opens_s = opens_s
        self._given: dict[int, list[Given]] = {}  # of nodes on which something was placed
        self._moments: dict[Vector, Floats] = {}
        self._changed: dict[Vector, set[int]] = {}  # nodes of which the moments are out of date

    def moments(self, need: Vector) -> Floats:
        """When each node could hold one more job of this size."""
        moments = self._moments.get(need)
        if moments is None:
            moments = self._moments[need] = np.maximum(self._forecast.moments(need), self._opens_s)
            self._changed[need] = set(self._given)
        for row in self._changed[need]:
            first_s = _first_s(self.free[:, row].tolist(), self._given[row], need, self._forecast.view.now)
            moments[row] = max(first_s, self._opens_s[row])
        self._changed[need].clear()
        return moments

    def place(self, row: int, need: Vector, ends_s: float) -> None:
        """A job lies on a node until then."""
        self.free[:, row] -= np.array(need)
        if row not in self._given:
            self._given[row] = list(self._forecast.given.get(row, ()))
        insort(self._given[row], (ends_s, need))
        for changed in self._changed.values():
            changed.add(row)


def _vector(need: Ints) -> Vector:
    cpus, ram, gpus, disk, slots = need.tolist()
    return cpus, ram, gpus, disk, slots


def _first_s(free: list[int], given: Sequence[Given], need: Vector, now: float) -> float:
    """When a node has enough: now, or when the first of what is `given` back make it enough."""
    lacks = [(at, wants - has) for at, (has, wants) in enumerate(zip(free, need, strict=True)) if wants > has]
    if not lacks:
        return now
    for ends_s, back in given:
        lacks = [(at, lack - back[at]) for at, lack in lacks]
        if all(lack <= 0 for _, lack in lacks):
            return ends_s
    return NEVER_S
