"""Which queued job starts where: one pass over the queue.

In the order of the queue every job that fits is placed on the best of the nodes with room. The first that does not fit
gets a reservation, and from there on a job is placed only if it does not delay that one (see `backfill`). The pass
works on copies of the rack's matrices, so that it changes nothing; its placements are events.
"""

from __future__ import annotations

import heapq

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.backfill import Guard
from racksack_controller.core.placing.conservative import schedule_conservatively
from racksack_controller.core.placing.pass_memory import HELD, NO_HOPE, NO_ROOM, OPEN, Known, held_or_open
from racksack_controller.core.placing.placement import Start, length_s, lengths_s, start
from racksack_controller.core.placing.rearrange import rearrange
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.room import Room
from racksack_controller.core.policy import DEFAULT, Backfill, BackfillOrder, Policy
from racksack_controller.core.power.reserve_large import left_to_others
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import Entry, use_by_owner
from racksack_controller.core.queue.waiting import Line
from racksack_controller.core.rack.amounts import DIMENSIONS as DIMENSIONS
from racksack_controller.core.rack.amounts import allowed as allowed
from racksack_controller.core.rack.amounts import capacity as capacity
from racksack_controller.core.rack.amounts import could_ever_hold as could_ever_hold
from racksack_controller.core.rack.amounts import demand as demand
from racksack_controller.core.rack.amounts import demand_of as demand_of
from racksack_controller.core.rack.amounts import matching_gpus as matching_gpus
from racksack_controller.core.rack.rack import Bools, Floats, Ints
from racksack_controller.core.state import State

AGED = 0.75  # part of the first job's wait
AGED_KEY = -1e12  # before all others
FEW = 12
SHORT_S = 10.0  # all shorter jobs are alike
REARRANGEMENTS = 3
REFILTER_AFTER = 48  # jobs that turned out not to fit, until the rest of the queue is compared with the rack again


def schedule(state: State, now: float, policy: Policy = DEFAULT) -> list[Placed]:
    """The placements to make at `now` (Unix seconds), in the order in which they were decided."""
    state.lines.advance(now)
    lines = state.lines.open_lines()
    if not len(lines) or not state.nodes:
        return []
    if policy.backfill is Backfill.CONSERVATIVE:
        return schedule_conservatively(state, now, policy, lines)
    return Pass(state, now, policy, lines).run()


class Pass:
    """One walk over the queue: in turn until somebody has to wait, then whoever delays nobody."""

    def __init__(self, state: State, now: float, policy: Policy, lines: Ints) -> None:
        self.state = state
        self.waiting = state.lines
        self.now = now
        self.policy = policy
        self.room = Room(state.rack, now, state.lines.usual(), policy)
        self.limits = Limits(state, policy)
        self.starts: list[Start] = []
        self.guard: Guard | None = None
        self._lines = lines
        self._awaits_boot = False  # the last job that was not started waits for a node to come up
        self._place_in_line: dict[int, int] = {}
        self._queue: list[Entry] = []  # who is next after the first of all lines: a heap
        self._rearrangements = 0
        self._use = use_by_owner(state, lines, now, policy)
        self._freed = np.zeros(0, dtype=np.int64)
        self.known = self._recall()

    def _recall(self) -> Known:
        """What the last pass has found out, as far as it still holds. With a few lines it is not worth keeping."""
        state, epoch = self.state, self.state.rack.epoch
        known = state.known
        if len(self._lines) <= FEW:
            state.known, known = None, Known(self.policy, epoch, self._use)
            known.start(self.waiting, self._lines, self.limits)
            return known
        if known is None or not known.holds_for(self.policy, epoch, self._use):
            known = state.known = Known(self.policy, epoch, self._use)
        self._freed = known.compare(self.room, self._outlook(), self.waiting, self._lines, self.limits)
        return known

    def run(self) -> list[Placed]:
        """Walk; the placements."""
        left_out = self.known.lineup.at_limit(self.limits)
        goes_on = self.policy.backfill is Backfill.GREEDY or self._take_turns(left_out)
        if goes_on:
            self._go_ahead(left_out)
        self.known.remember(self.room, self.guard if goes_on else None)
        jobs = self.state.jobs
        self.state.reservation = self.guard
        return [one.placed(self.room.rack, jobs[one.number].spec.resources) for one in self.starts]

    def _take_turns(self, left_out: Bools) -> bool:
        """Start jobs in the order of the queue, until one does not fit and gets a reservation; False: there is none."""
        found = self.known.found
        first_jobs = self.known.lineup.in_order(self.waiting, left_out)
        following = next(first_jobs, None)
        while len(self.starts) < self.policy.starts_max:
            if self._queue and (following is None or self._queue[0] < following):
                entry = heapq.heappop(self._queue)
            elif following is not None:
                entry, following = following, next(first_jobs, None)
            else:
                return False
            index = entry[-1]
            line = self.waiting.lines[index]
            if found[index] == NO_HOPE or self.limits.reached(line):
                continue
            self._awaits_boot = False
            if found[index] != NO_ROOM and self._start_first_of(entry, line):
                continue
            if self._awaits_boot:
                continue  # where it is going, nobody is in its way, and it in nobody's
            found[index] = NO_ROOM
            if self.policy.backfill is Backfill.NONE:
                return False
            if self._guard_for(entry, line):
                return True
        return False

    def _go_ahead(self, left_out: Bools) -> None:
        """Start whoever delays nobody: jobs that have room beside the reservation, or end before it."""
        found, lineup = self.known.found, self.known.lineup
        asked = self._lines[(found[self._lines] == OPEN) | (found[self._lines] == HELD)]
        at_limit = left_out[lineup.subject[asked]]
        skipped = asked[at_limit]
        found[skipped[found[skipped] == HELD]] = OPEN
        self._queue = self._with_room(asked[~at_limit])
        failures = 0
        while self._queue and len(self.starts) < self.policy.starts_max:
            entry = heapq.heappop(self._queue)
            line = self.waiting.lines[entry[-1]]
            if self.limits.reached(line):
                found[entry[-1]] = OPEN
                continue
            if self._start_first_of(entry, line):
                continue
            failures += 1
            if failures > min(REFILTER_AFTER, len(self._queue) // 32 + 3):
                self._queue = self._with_room(np.array([entry[-1] for entry in self._queue], dtype=np.int64))
                failures = 0
        found[[entry[-1] for entry in self._queue]] = OPEN

    def _with_room(self, lines: Ints) -> list[Entry]:
        """Those lines that may start something now, as a heap in the order of backfill; notes what keeps the others."""
        found, guard = self.known.found, self.guard
        held = lines[found[lines] == HELD]
        unknown = lines[found[lines] == OPEN]
        room = self.room.lines_with_room(self.waiting, unknown, self.room.free)
        found[unknown[~room]] = NO_ROOM
        unknown = unknown[room]
        if guard is not None:
            late = self._late(unknown, guard)
            beside = np.ones(len(unknown), dtype=np.bool_)
            beside[late] = self.room.lines_with_room(self.waiting, unknown[late], guard.limit(self.room.free))
            found[unknown[~beside]] = held_or_open(self.waiting, unknown[~beside])
            unknown = unknown[beside]
        able = np.concatenate([unknown, self._held_with_room(held)])
        queue = self._entries(able)
        heapq.heapify(queue)
        return queue

    def _held_with_room(self, lines: Ints) -> Ints:
        """Those of the lines that were held back that may start now. Only some nodes come into question for them."""
        free, guard, before = self.room.free, self.guard, self.known.guard
        kept = np.array([] if before is None else before.rows, dtype=np.int64)
        both = np.union1d(kept, self._freed)
        late = np.zeros(len(lines), dtype=np.bool_) if guard is None else self._late(lines, guard)
        able = np.zeros(len(lines), dtype=np.bool_)
        able[~late] = self.room.lines_with_room(self.waiting, lines[~late], free, both)
        if guard is not None:
            rows = self._freed if before is not None and guard.is_as(before) else both
            able[late] = self.room.lines_with_room(self.waiting, lines[late], guard.limit(free), rows)
        return lines[able]

    def _late(self, lines: Ints, guard: Guard) -> Bools:
        """Which lines' jobs would run past the reservation's beginning."""
        late: Bools = self.now + lengths_s(self.waiting, self.policy, lines, hard=guard.hard) > guard.at_s
        return late

    def _entries(self, lines: Ints) -> list[Entry]:
        """The next jobs of lines as backfill orders them; lines whose jobs have all been started are left out."""
        begun = [index for index in lines.tolist() if index in self._place_in_line]
        others = lines[~np.isin(lines, begun)] if begun else lines
        priority, age, number = self.waiting.keys[:, others]
        use = self._use[self.waiting.owner[others]]
        key = age if self.guard is None else self._backfill_keys(age, others)
        columns = (priority, use, key, number.astype(np.int64), others)
        found: list[Entry] = list(zip(*(column.tolist() for column in columns), strict=True))
        return found + [entry for index in begun if (entry := self._entry(index)) is not None]

    def _entry(self, index: int) -> Entry | None:
        """The next job of a line as backfill orders it."""
        jobs = self.waiting.jobs[index]
        place = self._place_in_line.get(index, 0)
        if place == len(jobs):
            return None
        age, number = jobs[place]
        priority, use = float(self.waiting.keys[0, index]), float(self._use[self.waiting.owner[index]])
        if self.guard is None:
            return (priority, use, age, number, index)
        [key] = self._backfill_keys(np.array([age]), np.array([index])).tolist()
        return (priority, use, key, number, index)

    def _start_first_of(self, entry: Entry, line: Line) -> bool:
        """Place the job and let the next of its line take its place; False when it must wait: why is noted."""
        fits = self.room.fits(line)
        kept_off = self._awaits_boot = False
        if self.guard is not None and not self._short_enough(self.guard, entry[-1]):
            kept_off = self.guard.keep_off(fits, line)
        if self.state.power and (left := self._left_to_others(entry, line)) is not None and np.any(fits & left):
            fits &= ~left
            if not fits.any():
                self.known.found[entry[-1]] = OPEN
                self._awaits_boot = True
                return False
        rows = fits.nonzero()[0]
        if len(rows) < line.gang:
            held = OPEN if line.gang > 1 else HELD
            self.known.found[entry[-1]] = held if kept_off else NO_ROOM
            return False
        ends_s = self.now + length_s(self.waiting, self.policy, entry[-1], hard=False)
        chosen = self.room.best(line, rows, line.gang, self.policy.rule, ends_s)
        self._start(entry, line, chosen, self._why(chosen[0], len(rows)))
        return True

    def _left_to_others(self, entry: Entry, line: Line) -> Bools | None:
        longest_s = length_s(self.waiting, self.policy, entry[-1], hard=True)
        return left_to_others(self.state, entry[-2], line, longest_s, self.now)

    def _start(self, entry: Entry, line: Line, rows: list[int], why: str) -> None:
        ends = [self.now + length_s(self.waiting, self.policy, entry[-1], hard=hard) for hard in (False, True)]
        self.room.opening.note(rows, ends[0])
        self.starts.append(start(self.room, self.policy, entry[-2], line, rows, (ends[0], ends[1]), why))
        if self.guard is not None and not self._short_enough(self.guard, entry[-1]):
            self.guard.use(rows, line)
        self.limits.count(line)
        index = entry[-1]
        self._place_in_line[index] = self._place_in_line.get(index, 0) + 1
        following = self._entry(index)
        if following is not None:
            heapq.heappush(self._queue, following)

    def _short_enough(self, guard: Guard, index: int) -> bool:
        return self.now + length_s(self.waiting, self.policy, index, hard=guard.hard) <= guard.at_s

    def _why(self, row: int, fitting: int) -> str:
        name = self.room.rack.nodes[row].name
        where = f"{name} is the only node with room" if fitting == 1 else f"best of {fitting} nodes with room"
        return where if self.guard is None else f"{where}; it does not delay job {self.guard.job}, which is ahead"

    def _guard_for(self, entry: Entry, line: Line) -> bool:
        """Reserve for the first job that does not fit; False when there is no need to, or no hope."""
        if self._make_room(entry, line):
            return False
        number = entry[-2]
        hard = self.now - self.state.jobs[number].submitted_at_s >= self.policy.patience_s
        self.guard = self._outlook().reserve(number, line, hard=hard)
        if self.guard is None:
            self.known.note_hopeless(self.room, self.waiting, self._lines, entry[-1])
        return self.guard is not None

    def _outlook(self) -> Outlook:
        return Outlook(self.room, self.now, self.policy, self.starts)

    def _make_room(self, entry: Entry, line: Line) -> bool:
        """Start the job after all by putting others of this pass elsewhere."""
        movable = [one for one in self.starts if one.movable]
        if not movable or line.gang > 1 or line.kind is not None or self._rearrangements >= REARRANGEMENTS:
            return False
        self._rearrangements += 1
        row = rearrange(self.room, movable, line)
        if row is not None:
            self.known.found[entry[-1]] = OPEN
            self._start(
                entry, line, [row], f"others were put elsewhere to make room on {self.room.rack.nodes[row].name}"
            )
        return row is not None

    def _backfill_keys(self, age_s: Floats, lines: Ints) -> Floats:
        """By what backfilled jobs of one priority are ordered: the smallest is tried first."""
        if self.policy.backfill_order is BackfillOrder.QUEUE:
            return age_s
        expected_s = np.maximum(SHORT_S, lengths_s(self.waiting, self.policy, lines, hard=False))
        if self.policy.backfill_order is BackfillOrder.SHORTEST:
            return expected_s
        keys: Floats = -(self.now - age_s + expected_s) / expected_s
        first_s = self._first_waited_s()
        if first_s < self.policy.aging_s:
            return keys
        return np.where(self.now - age_s >= AGED * first_s, AGED_KEY + age_s, keys)

    def _first_waited_s(self) -> float:
        """For how long the job with the reservation has waited."""
        return 0.0 if self.guard is None else self.now - self.state.jobs[self.guard.job].submitted_at_s
