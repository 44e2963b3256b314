"""Power of a pool of processors: a job's processors lie on any nodes, so nothing but their number counts.

It takes the place of the views that the production planner has, which know on which node a job lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.power.forecast import NEVER_S, Expected, Forecast
from racksack_controller.core.power.on import SOONER_S, Look
from racksack_controller.core.power.plan import PowerPlan, plan_power
from racksack_controller.core.power.view import Candidate, View, Wanted
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.rack.amounts import CPUS
from racksack_controller.core.rack.rack import Bools, Floats
from racksack_controller.core.state import State


def plan_pool(state: State, now: float, policy: PowerPolicy, scheduling: Policy) -> PowerPlan:
    """The decisions about the power of a pool's nodes."""
    return plan_power(state, now, policy, scheduling, view_as=PoolView, look_at=PoolLook)


class PoolView(View):
    """Every node may hold a part of every job."""

    def could_hold(self, job_class: JobClass) -> Bools:
        """All of them."""
        return np.ones(len(self.rack.nodes), dtype=np.bool_)

    def fill(self, filled: Floats, able: Bools, job_class: JobClass) -> None:
        """Add a job to all nodes."""
        filled += job_class.need[CPUS] / max(int(self.rack.total[CPUS].sum()), 1)

    def wanted_rows(self) -> set[int]:
        """All nodes, as long as anything is in the queue."""
        return set(range(len(self.rack.nodes))) if next(self.jobs(), None) is not None else set()


class PoolLook(Look):
    """One look at the queue and the candidates."""

    def forecast(self) -> Forecast:
        """What says when jobs start."""
        return Pooled(self.view)

    def on_s(self, starts: Sequence[Expected]) -> float:
        """Nothing: the work takes as long on any nodes."""
        return 0.0

    def smallest_set(self, best: Sequence[Expected], sooner: Sequence[int]) -> list[Candidate]:
        """The fewest candidates, the cheapest first, with which every job starts as if all were on."""
        ordered = sorted(self.candidates, key=lambda one: (one.watts * one.boot_s * (1 + one.power.failures), one.row))
        low, high = 0, len(ordered)
        while low < high:
            middle = (low + high) // 2
            starts = self.starts(ordered[:middle])
            good = all(one.at_s <= other.at_s + SOONER_S for one, other in zip(starts, best, strict=True))
            low, high = (low, middle) if good else (middle + 1, high)
        return ordered[:low]


class Pooled:
    """Processors of any nodes do; nothing else counts. For replays: jobs that are kept off are not forecast at all."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.free = (view.rack.total - view.rack.held)[CPUS]
        row, need, ends = view.releases()
        self.row, self.need, self.ends = row, need[CPUS], ends

    def starts(
        self, jobs: Sequence[Wanted], opens_s: Floats, kept_off: Sequence[bool], rows: Sequence[int]
    ) -> list[Expected]:
        """As the protocol says; every row that was opened for the job to start counts as its own."""
        there = np.isfinite(opens_s)
        times = np.concatenate([opens_s[there], np.maximum(self.ends, opens_s[self.row])])
        amounts = np.concatenate([self.free[there], np.where(there[self.row], self.need, 0)])
        order = np.argsort(times, kind="stable")
        times, amounts = times[order], amounts[order]
        found = []
        for job, off in zip(jobs, kept_off, strict=True):
            wants = job.job_class.need[CPUS]
            enough = np.flatnonzero(np.cumsum(amounts) >= wants)
            if off or not len(enough):
                found.append(Expected(NEVER_S, ()))
                continue
            at_s = max(self.view.now, float(times[enough[0]]))
            found.append(Expected(at_s, tuple(int(one) for one in rows if opens_s[one] <= at_s)))
            place = int(np.searchsorted(times, at_s + job.length_s))
            times = np.concatenate([[self.view.now], times[:place], [at_s + job.length_s], times[place:]])
            amounts = np.concatenate([[-wants], amounts[:place], [wants], amounts[place:]])
        return found
