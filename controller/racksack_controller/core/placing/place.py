"""Which queued job starts where: one pass over the queue.

In the order of the queue every job that fits is placed on the best of the nodes with room. The first that does not fit
gets a reservation, and from there on a job is placed only if it does not delay that one (see `backfill`). The pass
works on copies of the rack's matrices, so that it changes nothing; its placements are events.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.backfill import Reservation
from racksack_controller.core.placing.conservative import schedule_conservatively
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.overtaking import note_passing
from racksack_controller.core.placing.pass_memory import (
    IMPOSSIBLE,
    NO_ROOM,
    RESERVED_AWAY,
    UNTRIED,
    ClassMarks,
    PassMemory,
    reserved_away_or_untried,
)
from racksack_controller.core.placing.placement import Placement, length_s, lengths_s, place_job
from racksack_controller.core.placing.rearrange import rearrange
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.reserve_large import left_to_others
from racksack_controller.core.placing.transfers import nearest, transfer_told
from racksack_controller.core.policy import DEFAULT, Backfill, BackfillOrder, Policy
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import Entry, use_by_owner
from racksack_controller.core.rack.rack import Bools, Floats, Ints
from racksack_controller.core.records import Job
from racksack_controller.core.state import State

AGED = 0.75  # part of the first job's wait
AGED_KEY = -1e12  # before all others
FEW = 12
SHORT_S = 10.0  # all shorter jobs are alike
REARRANGEMENTS = 3
REFILTER_AFTER = 48  # jobs that turned out not to fit, until the rest of the queue is compared with the rack again


class Scheduled(NamedTuple):
    """The placements in the order in which they were decided, and what the next pass need not find out again."""

    placed: list[Placed]
    memory: PassMemory


def schedule(
    state: State,
    now: float,
    policy: Policy = DEFAULT,
    memory: PassMemory | None = None,
    power: PowerPolicy = DEFAULT_POWER,
) -> Scheduled:
    """The placements to make at `now` (Unix seconds). `memory`, what the last pass left, is used up.

    `power` tells which jobs may have nodes switched on, since others need not wait for those.
    """
    memory = PassMemory() if memory is None else memory
    memory.reservation = None
    classes = state.queue.open_classes()
    if not len(classes) or not state.nodes:
        return Scheduled([], memory)
    if policy.backfill is Backfill.CONSERVATIVE:
        return Scheduled(schedule_conservatively(state, now, policy, classes), memory)
    return Scheduled(Pass(state, now, policy, power, classes, memory).run(), memory)


class Pass:
    """One walk over the queue: in turn until somebody has to wait, then whoever delays nobody."""

    def __init__(
        self, state: State, now: float, policy: Policy, power: PowerPolicy, classes: Ints, memory: PassMemory
    ) -> None:
        self.state = state
        self.queue = state.queue
        self.now = now
        self.policy = policy
        self.power = power
        self.capacity = FreeCapacity(state.rack, now, state.queue.usual(), policy)
        self.limits = Limits(state.running, policy)
        self.memory = memory
        self.placements: list[Placement] = []
        self.reservation: Reservation | None = None
        self._classes = classes
        self._awaits_boot = False  # the last job that was not started waits for a node to come up
        self._place_in_class: dict[int, int] = {}
        self._heap: list[Entry] = []  # who is next after the first of all classes: a heap
        self._rearrangements = 0
        self._use = use_by_owner(state.queue, state.usage, state.turns, state.rack.total, now, policy)
        self._freed = np.zeros(0, dtype=np.int64)
        self.marks = self._recall()

    def _recall(self) -> ClassMarks:
        """What the last pass has found out, as far as it still holds. With a few classes it is not worth keeping."""
        epoch, marks = self.state.rack.epoch, self.memory.marks
        if len(self._classes) <= FEW:
            self.memory.marks, marks = None, ClassMarks(self.policy, epoch, self._use)
            marks.start(self.queue, self._classes, self.limits)
            return marks
        if marks is None or not marks.holds_for(self.policy, epoch, self._use):
            marks = self.memory.marks = ClassMarks(self.policy, epoch, self._use)
        self._freed = marks.compare(self.capacity, self._outlook(), self.queue, self._classes, self.limits)
        return marks

    def run(self) -> list[Placed]:
        """Walk; the placements."""
        left_out = self.marks.sorted_queue.at_limit(self.limits)
        goes_on = self.policy.backfill is Backfill.GREEDY or self._take_turns(left_out)
        if goes_on:
            self._go_ahead(left_out)
        self.marks.remember(self.capacity, self.reservation if goes_on else None)
        jobs = self.state.jobs
        if self.placements and self.policy.fair_share and self.state.turns.by_use:
            attainable = self._outlook().attainable()
            note_passing(self.placements, jobs, self.queue, self.limits, self.capacity, attainable)
        self.memory.reservation = self.reservation
        return [one.placed(self.capacity.rack, jobs[one.job_id].spec.resources) for one in self.placements]

    def _take_turns(self, left_out: Bools) -> bool:
        """Start jobs in the order of the queue, until one does not fit and gets a reservation; False: there is none."""
        found = self.marks.found
        first_jobs = self.marks.sorted_queue.in_order(self.queue, left_out)
        following = next(first_jobs, None)
        while len(self.placements) < self.policy.placements_max:
            if self._heap and (following is None or self._heap[0] < following):
                entry = heapq.heappop(self._heap)
            elif following is not None:
                entry, following = following, next(first_jobs, None)
            else:
                return False
            index = entry[-1]
            job_class = self.queue.classes[index]
            if found[index] == IMPOSSIBLE or self.limits.reached(job_class):
                continue
            self._awaits_boot = False
            if found[index] != NO_ROOM and self._start_first_of(entry, job_class):
                continue
            if self._awaits_boot:
                continue  # where it is going, nobody is in its way, and it in nobody's
            found[index] = NO_ROOM
            if self._reserve_for(entry, job_class):
                return self.policy.backfill is not Backfill.NONE
        return False

    def _go_ahead(self, left_out: Bools) -> None:
        """Start whoever delays nobody: jobs that have room beside the reservation, or end before it."""
        found, sorted_queue = self.marks.found, self.marks.sorted_queue
        asked = self._classes[(found[self._classes] == UNTRIED) | (found[self._classes] == RESERVED_AWAY)]
        at_limit = left_out[sorted_queue.subject[asked]]
        skipped = asked[at_limit]
        found[skipped[found[skipped] == RESERVED_AWAY]] = UNTRIED
        self._heap = self._with_room(asked[~at_limit])
        failures = 0
        while self._heap and len(self.placements) < self.policy.placements_max:
            entry = heapq.heappop(self._heap)
            job_class = self.queue.classes[entry[-1]]
            if self.limits.reached(job_class):
                found[entry[-1]] = UNTRIED
                continue
            if self._start_first_of(entry, job_class):
                continue
            failures += 1
            if failures > min(REFILTER_AFTER, len(self._heap) // 32 + 3):
                self._heap = self._with_room(np.array([entry[-1] for entry in self._heap], dtype=np.int64))
                failures = 0
        found[[entry[-1] for entry in self._heap]] = UNTRIED

    def _with_room(self, classes: Ints) -> list[Entry]:
        """The classes that may start a job now, as a heap in the order of backfill; notes what keeps the others."""
        found, reservation = self.marks.found, self.reservation
        reserved_away = classes[found[classes] == RESERVED_AWAY]
        untried = classes[found[classes] == UNTRIED]
        has_room = self.capacity.classes_with_room(self.queue, untried, self.capacity.free)
        found[untried[~has_room]] = NO_ROOM
        untried = untried[has_room]
        if reservation is not None:
            late = self._late(untried, reservation)
            beside = np.ones(len(untried), dtype=np.bool_)
            beside[late] = self.capacity.classes_with_room(
                self.queue, untried[late], reservation.limit(self.capacity.free)
            )
            found[untried[~beside]] = reserved_away_or_untried(self.queue, untried[~beside])
            untried = untried[beside]
        able = np.concatenate([untried, self._reserved_away_with_room(reserved_away)])
        heap = self._entries(able)
        heapq.heapify(heap)
        return heap

    def _reserved_away_with_room(self, classes: Ints) -> Ints:
        """Those that were reserved away and may start now; only some nodes come into question for them."""
        free, reservation, before = self.capacity.free, self.reservation, self.marks.reservation
        kept = np.array([] if before is None else before.rows, dtype=np.int64)
        both = np.union1d(kept, self._freed)
        late = np.zeros(len(classes), dtype=np.bool_) if reservation is None else self._late(classes, reservation)
        able = np.zeros(len(classes), dtype=np.bool_)
        able[~late] = self.capacity.classes_with_room(self.queue, classes[~late], free, both)
        if reservation is not None:
            rows = self._freed if before is not None and reservation.is_as(before) else both
            able[late] = self.capacity.classes_with_room(self.queue, classes[late], reservation.limit(free), rows)
        return classes[able]

    def _late(self, classes: Ints, reservation: Reservation) -> Bools:
        """Which classes' jobs would run past the reservation's beginning."""
        late: Bools = self.now + lengths_s(self.queue, self.policy, classes, hard=reservation.hard) > reservation.at_s
        return late

    def _entries(self, classes: Ints) -> list[Entry]:
        """The next jobs of classes as backfill orders them; classes whose jobs have all been started are left out."""
        begun = [index for index in classes.tolist() if index in self._place_in_class]
        others = classes[~np.isin(classes, begun)] if begun else classes
        priority, age, job_id = self.queue.keys[:, others]
        use = self._use[self.queue.owner[others]]
        key = age if self.reservation is None else self._backfill_keys(age, others)
        columns = (priority, use, key, job_id.astype(np.int64), others)
        found: list[Entry] = list(zip(*(column.tolist() for column in columns), strict=True))
        return found + [entry for index in begun if (entry := self._entry(index)) is not None]

    def _entry(self, index: int) -> Entry | None:
        """The next job of a class as backfill orders it."""
        jobs = self.queue.jobs[index]
        place = self._place_in_class.get(index, 0)
        if place == len(jobs):
            return None
        age, job_id = jobs[place]
        priority, use = float(self.queue.keys[0, index]), float(self._use[self.queue.owner[index]])
        if self.reservation is None:
            return (priority, use, age, job_id, index)
        [key] = self._backfill_keys(np.array([age]), np.array([index])).tolist()
        return (priority, use, key, job_id, index)

    def _start_first_of(self, entry: Entry, job_class: JobClass) -> bool:
        """Place the job and let the next of its class take its place; False when it must wait: why is noted."""
        fits = self.capacity.fits(job_class)
        kept_off = self._awaits_boot = False
        if self.reservation is not None and not self._short_enough(self.reservation, entry[-1]):
            kept_off = self.reservation.keep_off(fits, job_class)
        if self.state.power and (left := self._left_to_others(entry, job_class)) is not None and np.any(fits & left):
            fits &= ~left
            if not fits.any():
                self.marks.found[entry[-1]] = UNTRIED
                self._awaits_boot = True
                return False
        rows = fits.nonzero()[0]
        if len(rows) < job_class.gang:
            reserved_away = UNTRIED if job_class.gang > 1 else RESERVED_AWAY
            self.marks.found[entry[-1]] = reserved_away if kept_off else NO_ROOM
            return False
        ends_s = self.now + length_s(self.queue, self.policy, entry[-1], hard=False)
        job = self.state.jobs[entry[-2]]
        near = nearest(self.state, job, rows, job_class.gang)
        chosen = self.capacity.best(job_class, near, job_class.gang, self.policy.rule, ends_s)
        why = self._why(chosen[0], len(rows)) + self._content_told(job, chosen, near, rows)
        self._start(entry, job_class, chosen, why)
        return True

    def _left_to_others(self, entry: Entry, job_class: JobClass) -> Bools | None:
        longest_s = length_s(self.queue, self.policy, entry[-1], hard=True)
        return left_to_others(self.state, entry[-2], job_class, longest_s, self.now, self.power)

    def _start(self, entry: Entry, job_class: JobClass, rows: list[int], why: str) -> None:
        ends = [self.now + length_s(self.queue, self.policy, entry[-1], hard=hard) for hard in (False, True)]
        self.capacity.fill_order.note(rows, ends[0])
        index = entry[-1]
        place = self._place_in_class.get(index, 0)
        one = place_job(self.capacity, self.policy, entry[-2], job_class, rows, (ends[0], ends[1]), why)
        self.placements.append(one)
        if self.reservation is not None and not self._short_enough(self.reservation, entry[-1]):
            self.reservation.use(rows, job_class)
        self.limits.count(job_class)
        self._place_in_class[index] = place + 1
        following = self._entry(index)
        if following is not None:
            heapq.heappush(self._heap, following)

    def _short_enough(self, reservation: Reservation, index: int) -> bool:
        return self.now + length_s(self.queue, self.policy, index, hard=reservation.hard) <= reservation.at_s

    def _why(self, row: int, fitting: int) -> str:
        name = self.capacity.rack.nodes[row].name
        where = f"{name} is the only node with room" if fitting == 1 else f"best of {fitting} nodes with room"
        return (
            where
            if self.reservation is None
            else f"{where}; backfilled: it does not delay job {self.reservation.job}, which is ahead"
        )

    def _content_told(self, job: Job, chosen: list[int], near: Ints, rows: Ints) -> str:
        """What is to be sent first, or that content decided."""
        sent = transfer_told(self.state, job, self.capacity.rack.nodes[chosen[0]].name)
        if sent:
            return f"; {sent}"
        return "; it has the content" if len(near) < len(rows) else ""

    def _reserve_for(self, entry: Entry, job_class: JobClass) -> bool:
        """Reserve for the first job that does not fit; False when there is no need to, or no hope."""
        if self._make_room(entry, job_class):
            return False
        job_id = entry[-2]
        hard = self.now - self.state.jobs[job_id].submitted_at_s >= self.policy.patience_s
        self.reservation = self._outlook().reserve(job_id, job_class, hard=hard)
        if self.reservation is None:
            self.marks.note_impossible(self.capacity, self.queue, self._classes, entry[-1])
        return self.reservation is not None

    def _outlook(self) -> Outlook:
        return Outlook(self.capacity, self.now, self.policy, self.placements, self.memory.profiles)

    def _make_room(self, entry: Entry, job_class: JobClass) -> bool:
        """Start the job after all by putting others of this pass elsewhere."""
        movable = [one for one in self.placements if one.movable]
        if not movable or job_class.gang > 1 or job_class.kind is not None or self._rearrangements >= REARRANGEMENTS:
            return False
        self._rearrangements += 1
        row = rearrange(self.capacity, movable, job_class)
        if row is not None:
            self.marks.found[entry[-1]] = UNTRIED
            self._start(
                entry,
                job_class,
                [row],
                f"other jobs were placed elsewhere to make room on {self.capacity.rack.nodes[row].name}",
            )
        return row is not None

    def _backfill_keys(self, age_s: Floats, classes: Ints) -> Floats:
        """By what backfilled jobs of one priority are ordered: the smallest is tried first."""
        if self.policy.backfill_order is BackfillOrder.QUEUE:
            return age_s
        expected_s = np.maximum(SHORT_S, lengths_s(self.queue, self.policy, classes, hard=False))
        if self.policy.backfill_order is BackfillOrder.SHORTEST:
            return expected_s
        keys: Floats = -(self.now - age_s + expected_s) / expected_s
        first_s = self._first_waited_s()
        if first_s < self.policy.aging_s:
            return keys
        return np.where(self.now - age_s >= AGED * first_s, AGED_KEY + age_s, keys)

    def _first_waited_s(self) -> float:
        """For how long the job with the reservation has waited."""
        return 0.0 if self.reservation is None else self.now - self.state.jobs[self.reservation.job].submitted_at_s
