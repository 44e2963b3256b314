"""When waiting jobs would start if certain nodes were on: a list schedule over what is expected to be given back.

Each job takes the earliest moment, in the order of the queue, on the node where least is left. What a job takes later
counts as taken from now on, so that nobody is promised a gap that a job ahead of it will need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from racksack_controller.core.amounts import CPUS, DIMENSIONS
from racksack_controller.core.backfill import Releases, first_moments
from racksack_controller.core.fit import COSTS
from racksack_controller.core.opening import COMPARED
from racksack_controller.core.power_view import View, Wanted
from racksack_controller.core.rack import Floats, Ints

NEVER_S = float("inf")


class Start(NamedTuple):
    """When and where a job starts; NEVER_S and no rows if it cannot."""

    at_s: float
    rows: tuple[int, ...]


class Forecast(Protocol):
    """A way to say when jobs start. `opens_s`: when each node takes jobs."""

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Start]:
        """The starts of `jobs`; one that is `kept_off` does not use `rows`."""


class ByNode:
    """Every job, or every rank of a gang, lies on one node."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.free: Ints = view.rack.total - view.rack.held
        self.row, self.need, self.ends = view.releases()

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Start]:
        """As the protocol says."""
        free, count = self.free.copy(), len(self.row)
        ranks = count + sum(job.line.gang for job in jobs)
        row, ends = np.zeros(ranks, dtype=np.int64), np.zeros(ranks)
        need = np.zeros((DIMENSIONS, ranks), dtype=np.int64)
        row[:count], ends[:count], need[:, :count] = self.row, self.ends, self.need
        found = []
        for job, off in zip(jobs, kept_off, strict=True):
            able = job.able & np.isfinite(opens_s)
            if off:
                able[list(rows)] = False
            wants = np.array(job.line.need, dtype=np.int64)
            releases = Releases(free, opens_s, row[:count], need[:, :count], ends[:count])
            start = self._earliest(job, releases, able, wants)
            found.append(start)
            for chosen in start.rows:
                free[:, chosen] -= wants
                row[count], ends[count], need[:, count] = chosen, start.at_s + job.length_s, wants
                count += 1
        return found

    def _earliest(self, job: Wanted, releases: Releases, able: np.ndarray, wants: Ints) -> Start:
        if np.count_nonzero(able) < job.line.gang:
            return Start(NEVER_S, ())
        moments = first_moments(releases, able, wants, self.view.now)
        at_s = float(np.partition(moments, job.line.gang - 1)[job.line.gang - 1])
        if not np.isfinite(at_s):
            return Start(NEVER_S, ())
        rows = np.flatnonzero(moments <= at_s)
        if len(rows) > job.line.gang:
            inverse = self.view.rack.inverse[:COMPARED, rows]
            left = COSTS[self.view.scheduling.rule](
                releases.free[:COMPARED, rows] * inverse, wants[:COMPARED, None] * inverse
            )
            rows = rows[np.argsort(left, kind="stable")]
        return Start(at_s, tuple(int(one) for one in rows[: job.line.gang]))


class Pooled:
    """Processors of any nodes do; nothing else counts. For replays: jobs that are kept off are not forecast at all."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.free = (view.rack.total - view.rack.held)[CPUS]
        row, need, ends = view.releases()
        self.row, self.need, self.ends = row, need[CPUS], ends

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Start]:
        """As the protocol says; every row that was opened for the job to start counts as its own."""
        there = np.isfinite(opens_s)
        times = np.concatenate([opens_s[there], np.maximum(self.ends, opens_s[self.row])])
        amounts = np.concatenate([self.free[there], np.where(there[self.row], self.need, 0)])
        order = np.argsort(times, kind="stable")
        times, amounts = times[order], amounts[order]
        found = []
        for job, off in zip(jobs, kept_off, strict=True):
            wants = job.line.need[CPUS]
            enough = np.flatnonzero(np.cumsum(amounts) >= wants)
            if off or not len(enough):
                found.append(Start(NEVER_S, ()))
                continue
            at_s = max(self.view.now, float(times[enough[0]]))
            found.append(Start(at_s, tuple(int(one) for one in rows if opens_s[one] <= at_s)))
            place = int(np.searchsorted(times, at_s + job.length_s))
            times = np.concatenate([[self.view.now], times[:place], [at_s + job.length_s], times[place:]])
            amounts = np.concatenate([[-wants], amounts[:place], [wants], amounts[place:]])
        return found
