"""The rack and the head of the queue as power looks at them: who is or could be on, who waits, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from racksack_controller.core.placing.conservative import jobs_in_order
from racksack_controller.core.placing.expect import could_hold
from racksack_controller.core.placing.placement import length_s
from racksack_controller.core.placing.reserve_large import left_to_others, may_wake
from racksack_controller.core.policy import Policy
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import PowerRecord, PowerTraits, boot_s, off_s
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import Entry
from racksack_controller.core.rack.amounts import SLOTS, Vector
from racksack_controller.core.rack.devices import GpuKind
from racksack_controller.core.rack.rack import Admission, Bools, Floats, Ints
from racksack_controller.core.reachability import could_wake, way_boot_s
from racksack_controller.core.state import State

JOBS_MAX = 500  # of the head of the queue that are looked at; the others have their turn when these have started
LOOKED_MAX = 5000  # jobs that are looked through for them
FILLED_MAX = 1.5  # a node that those before would fill so many times over is not wanted for more
WATTS_GUESS = 150.0

Kind = tuple[Admission, GpuKind | None, Vector]  # which nodes could hold a job


class Wanted(NamedTuple):
    """One waiting job. `able`: the nodes that could hold it (one rank of it) if they were empty."""

    job_id: int
    job_class: JobClass
    length_s: float
    able: Bools


class Candidate(NamedTuple):
    """A node that could be switched on."""

    row: int
    power: PowerRecord
    traits: PowerTraits
    boot_s: float
    off_s: float
    watts: float


class View:
    """What a decision about power is made from. Nodes are rows of the rack, times Unix seconds."""

    def __init__(self, state: State, now: float, policy: PowerPolicy, scheduling: Policy) -> None:
        self.state = state
        self.rack = state.rack
        self.now = now
        self.policy = policy
        self.scheduling = scheduling
        self._able: dict[Kind, Bools] = {}

    def jobs(self) -> Iterator[Wanted]:
        """The first jobs of the queue that no limit keeps from starting.

        Those whose nodes the jobs ahead of them fill many times over are passed by, not the end of it: what waits for
        large nodes hides nobody who could have a small one. Jobs that may not wake a node fill none for those that may.
        """
        limits = Limits(self.state.running, self.scheduling)
        queue = self.state.queue
        filled = np.zeros((2, len(self.rack.nodes)))  # by jobs that may not wake a node, and by those that may
        full: set[tuple[Kind, bool]] = set()  # what is asked for by jobs that are passed by
        done: set[int] = set()  # their classes
        unseen = np.array([node.inventory is None for node in self.rack.nodes], dtype=np.bool_)
        taken = 0
        ordered = jobs_in_order(self.state, queue.open_classes(), self.now, self.scheduling, done)
        for entry in islice(ordered, LOOKED_MAX):
            index, job_class = entry[-1], queue.classes[entry[-1]]
            wakes = may_wake(self.state, entry[-2], self.now, self.policy)
            kind = ((job_class.admission, job_class.kind, job_class.need), wakes)
            if limits.reached(job_class) or (wakes and kind in full):
                done.add(index)
                continue
            if kind in full:
                continue  # others in its class may wake one
            able = self.could_hold(job_class)
            if able.sum() < job_class.gang and not np.any(unseen & self.rack.admitted(job_class.admission)):
                done.add(index)
                continue
            self.fill(filled[int(wakes)], able, job_class)
            if able.any() and filled[int(wakes), able].min() >= FILLED_MAX:
                full.add(kind)
            limits.count(job_class)
            yield self._wanted(entry, job_class, able)
            taken += 1
            if taken == JOBS_MAX:
                return

    def _wanted(self, entry: Entry, job_class: JobClass, able: Bools) -> Wanted:
        expected_s = length_s(self.state.queue, self.scheduling, entry[-1], hard=False)
        longest_s = length_s(self.state.queue, self.scheduling, entry[-1], hard=True)
        left = left_to_others(self.state, entry[-2], job_class, longest_s, self.now, self.policy)
        return Wanted(entry[-2], job_class, expected_s, able if left is None else able & ~left)

    def fill(self, filled: Floats, able: Bools, job_class: JobClass) -> None:
        """Add a job to those of its nodes that are filled least."""
        rows = np.flatnonzero(able)
        chosen = rows[np.argsort(filled[rows], kind="stable")[: job_class.gang]]
        need = np.array(job_class.need[:SLOTS])[:, None]
        filled[chosen] += (need / np.maximum(self.rack.total[:SLOTS, chosen], 1)).max(axis=0)

    def wanted_rows(self) -> set[int]:
        """The nodes that something in the queue may use as soon as it may start."""
        rows: set[int] = set()
        for job in self.jobs():
            rows |= set(job.able.nonzero()[0].tolist())
        return rows

    def could_hold(self, job_class: JobClass) -> Bools:
        """The nodes that could hold a job; kept for all jobs of its kind."""
        kind = (job_class.admission, job_class.kind, job_class.need)
        able = self._able.get(kind)
        if able is None:
            able = self._able[kind] = could_hold(self.rack, job_class)
        return able

    def opens_s(self) -> Floats:
        """When each node takes jobs: now, when it has cooled or booted; infinity when nobody has decided on it."""
        ready = np.maximum(self.rack.cool_until, self.now)
        booting = np.where(self.rack.powered, np.inf, np.maximum(self.rack.opens_s, self.now))
        return np.where(self.rack.usable, ready, booting)

    def releases(self) -> tuple[Ints, Ints, Floats]:
        """What is held: (row, need, expected end) of each hold."""
        holds = self.rack.allocations
        places = np.flatnonzero(holds.row >= 0)
        ends = holds.ends(
            places,
            self.now,
            default_limit_s=self.scheduling.default_time_limit_s,
            predict=self.scheduling.predict,
        )
        return holds.row[places], holds.need[:, places], ends

    def candidates(self) -> list[Candidate]:
        """The nodes that could be switched on now, each with what it costs."""
        found = []
        for name, power in self.state.power.items():
            traits = self.state.power_traits.get(name)
            if traits is not None and traits.can_switch_on and could_wake(self.state, power, self.now):
                boots_s = boot_s(power, traits) + way_boot_s(self.state, name)
                found.append(Candidate(self.rack.row[name], power, traits, boots_s, off_s(power, traits), 0.0))
        known = [watts for one in found if (watts := _busy_watts(one.traits)) is not None]
        usual = sum(known) / len(known) if known else WATTS_GUESS
        return [one._replace(watts=_busy_watts(one.traits) or usual) for one in found]


def _busy_watts(traits: PowerTraits) -> float | None:
    return traits.watts_max if traits.watts_max is not None else traits.watts_idle
