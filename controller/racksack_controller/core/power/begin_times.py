"""Jobs that are to begin at a certain time: a node is switched on early enough to be up by then.

Each such job, the earliest first, takes room on a node that is on or boots and has it by that time. If none, it
takes room on the cheapest node that can be switched on, whose boot begins its expected length before that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from racksack_controller.core.placing.expect import could_hold
from racksack_controller.core.placing.reserve_large import may_wake
from racksack_controller.core.power.view import Candidate, View
from racksack_controller.core.power_records import Phase, boot_s, off_s
from racksack_controller.core.queue.job_queue import JobClass, class_of
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.rack.rack import Bools, Ints


class Soon(NamedTuple):
    """One job whose time comes soon. `able`: the nodes that could hold it (one rank of it) if they were empty."""

    job_id: int
    begin_s: float
    job_class: JobClass
    able: Bools


class Early(NamedTuple):
    """The nodes to switch on now, each with its job, the rows that are soon needed, and when to look again."""

    chosen: tuple[tuple[Candidate, Soon], ...]
    rows: frozenset[int]
    again_s: float | None


def whom_to_wake_early(view: View) -> Early:
    """What is to be done now for the jobs that begin within the time that a shutdown and a boot take."""
    state = view.state
    known = [(power, state.power_traits[name]) for name, power in state.power.items() if name in state.power_traits]
    horizon_s = max((boot_s(*one) + off_s(*one) for one in known), default=0.0)
    jobs, next_s = state.queue.begin_by(view.now + horizon_s)
    limits = Limits(state.running, view.scheduling)
    soon = []
    for job in jobs:
        job_class = class_of(job)
        if not limits.reached(job_class) and may_wake(state, job.id, view.now, view.policy):
            limits.count(job_class)
            soon.append(Soon(job.id, job.spec.begin_at_s or view.now, job_class, could_hold(view.rack, job_class)))
    rows = frozenset(row for one in soon for row in one.able.nonzero()[0].tolist())
    times = [] if next_s is None else [next_s - horizon_s]
    chosen = []
    for candidate, one in _assigned(view, soon):
        boots_at_s = one.begin_s - candidate.boot_s
        if boots_at_s <= view.now:
            chosen.append((candidate, one))
        else:
            times.append(boots_at_s)
    return Early(tuple(chosen), rows, min(times, default=None))


def _assigned(view: View, soon: list[Soon]) -> Iterator[tuple[Candidate, Soon]]:
    """The nodes that are missing for these jobs, each with the first job that needs it."""
    if not soon:
        return
    taken: Ints = np.zeros_like(view.rack.held)
    there = view.rack.usable.copy()
    there[[view.rack.row[name] for name, power in view.state.power.items() if power.phase is Phase.BOOTING]] = True
    off = sorted(view.candidates(), key=lambda one: (one.watts * (one.boot_s + one.off_s), one.row))
    for job in soon:
        need = np.array(job.job_class.need, dtype=np.int64)
        fits = job.able & np.all(_free(view, job.begin_s) - taken >= need[:, None], axis=0)
        rows = np.flatnonzero(fits & there)[: job.job_class.gang].tolist()
        missing = [one for one in off if fits[one.row] and not there[one.row]][: job.job_class.gang - len(rows)]
        if len(rows) + len(missing) < job.job_class.gang:
            continue
        for one in missing:
            yield one, job
        rows += [one.row for one in missing]
        there[rows] = True
        taken[:, rows] += need[:, None]


def _free(view: View, at_s: float) -> Ints:
    """What each node is expected to have free at a time, (needs, nodes)."""
    free: Ints = view.rack.total.copy()
    row, need, ends = view.releases()
    lasting = ends > at_s
    np.subtract.at(free.T, row[lasting], need[:, lasting].T)
    return free
