"""Which queued job starts where: one pass over the queue.

In the order of the queue every job that fits is placed on the best of the nodes with room. The first that does not fit
gets a reservation, and from there on a job is placed only if it does not delay that one (see `backfill`). The pass
works on copies of the rack's matrices, so that it changes nothing; its placements are events.
"""

from __future__ import annotations

import heapq

import numpy as np

from racksack_controller.core.amounts import DIMENSIONS as DIMENSIONS
from racksack_controller.core.amounts import allowed as allowed
from racksack_controller.core.amounts import capacity as capacity
from racksack_controller.core.amounts import could_ever_hold as could_ever_hold
from racksack_controller.core.amounts import demand as demand
from racksack_controller.core.amounts import demand_of as demand_of
from racksack_controller.core.amounts import matching_gpus as matching_gpus
from racksack_controller.core.backfill import Guard
from racksack_controller.core.conservative import schedule_conservatively
from racksack_controller.core.events import Placed
from racksack_controller.core.limits import Limits
from racksack_controller.core.order import Entry, entries, sorted_lines, use_by_owner
from racksack_controller.core.policy import DEFAULT, Backfill, BackfillOrder, Policy
from racksack_controller.core.quiet import note, still_quiet
from racksack_controller.core.rack import Ints
from racksack_controller.core.rearrange import rearrange
from racksack_controller.core.reserve import Outlook
from racksack_controller.core.room import Room
from racksack_controller.core.starts import Start, length_s, lengths_s, start
from racksack_controller.core.state import State
from racksack_controller.core.waiting import Line

SHORT_S = 10.0  # all shorter jobs are alike
FEW = 12  # so few lines are tried one by one at once
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
    if state.quiet is not None and still_quiet(state.quiet, state.rack, state.lines, policy, now):
        return []
    walk = Pass(state, now, policy)
    placed = walk.run(lines)
    nobody = not placed and not walk.held_back
    state.quiet = note(state.rack, state.lines, policy, now) if nobody else None
    return placed


class Pass:
    """One walk over the lines of the queue, first job first."""

    def __init__(self, state: State, now: float, policy: Policy) -> None:
        self.state = state
        self.waiting = state.lines
        self.now = now
        self.policy = policy
        self.room = Room(state.rack, now, state.lines.usual())
        self.limits = Limits(state, policy)
        self.starts: list[Start] = []
        self.guard: Guard | None = None
        self._use = np.zeros(1)
        self._place_in_line: dict[int, int] = {}
        self._blocked: list[int] = []  # lines without room, the first in the queue last
        self._queue: list[Entry] = []
        self._rearrangements = 0
        self.held_back = False  # somebody has room, but must not start yet

    def run(self, lines: Ints) -> list[Placed]:
        """Walk over `lines`; the placements."""
        self._line_up(lines)
        failures = 0
        while self._queue and len(self.starts) < self.policy.starts_max:
            entry = heapq.heappop(self._queue)
            line = self.waiting.lines[entry[-1]]
            if self.limits.reached(line):
                self.held_back = True
                self._queue_next_blocked()
            elif not self._start_first_of(entry, line):
                if self.policy.backfill is Backfill.NONE:
                    self.held_back = bool(self._queue)
                    break
                failures += 1
                if self._guard_for(entry, line) or failures >= REFILTER_AFTER:
                    self._refilter()
                    failures = 0
        jobs = self.state.jobs
        self.state.reservation = self.guard
        return [one.placed(self.room.rack, jobs[one.number].spec.resources) for one in self.starts]

    def _line_up(self, lines: Ints) -> None:
        """Put the lines with room into the queue, and the first of those without."""
        self._use = use_by_owner(self.state, lines, self.now, self.policy)
        in_order = sorted_lines(self.waiting, lines, self._use)
        if len(lines) > FEW:
            room = self.room.lines_with_room(self.waiting, in_order, self.room.free)
        else:
            room = np.ones(len(lines), dtype=np.bool_)
        self._blocked = in_order[~room][::-1].tolist()
        self._queue = entries(self.waiting, in_order[room], self._use)
        self._queue_next_blocked()

    def _start_first_of(self, entry: Entry, line: Line) -> bool:
        """Place the job and let the next of its line take its place in the queue; False when there is no room."""
        fits = self.room.fits(line)
        if self.guard is not None and not self._short_enough(self.guard, entry[-1]):
            self.held_back |= self.guard.keep_off(fits, line)
        rows = fits.nonzero()[0]
        if len(rows) < line.gang:
            return False
        chosen = self.room.best(line, rows, line.gang, self.policy.rule)
        self._start(entry, line, chosen, self._why(chosen[0], len(rows)))
        return True

    def _start(self, entry: Entry, line: Line, rows: list[int], why: str) -> None:
        ends = [self.now + length_s(self.waiting, self.policy, entry[-1], hard=hard) for hard in (False, True)]
        self.starts.append(start(self.room, self.policy, entry[-2], line, rows, (ends[0], ends[1]), why))
        if self.guard is not None and not self._short_enough(self.guard, entry[-1]):
            self.guard.use(rows, line)
        self.limits.count(line)
        self._queue_next_of(entry)

    def _short_enough(self, guard: Guard, index: int) -> bool:
        return self.now + length_s(self.waiting, self.policy, index, hard=guard.hard) <= guard.at_s

    def _why(self, row: int, fitting: int) -> str:
        name = self.room.rack.nodes[row].name
        where = f"{name} is the only node with room" if fitting == 1 else f"best of {fitting} nodes with room"
        return where if self.guard is None else f"{where}; it does not delay job {self.guard.job}, which is ahead"

    def _queue_next_of(self, entry: Entry) -> None:
        index = entry[-1]
        place = self._place_in_line[index] = self._place_in_line.get(index, 0) + 1
        jobs = self.waiting.jobs[index]
        if place < len(jobs):
            age, number = jobs[place]
            key = age if self.guard is None else self._backfill_key(age, index)
            heapq.heappush(self._queue, (entry[0], entry[1], key, number, index))

    def _queue_next_blocked(self) -> None:
        """Let the next job that has no room have its turn, as long as no reservation was made."""
        if self.policy.backfill is not Backfill.GREEDY and self.guard is None and self._blocked:
            [entry] = entries(self.waiting, [self._blocked.pop()], self._use)
            heapq.heappush(self._queue, entry)

    def _guard_for(self, entry: Entry, line: Line) -> bool:
        """Reserve for the first job that does not fit; False when there is no need to, or no hope."""
        if self.guard is not None or self.policy.backfill is Backfill.GREEDY:
            return False
        if self._make_room(entry, line):
            return False
        number = entry[-2]
        hard = self.now - self.state.jobs[number].submitted_at_s >= self.policy.patience_s
        self.guard = Outlook(self.room, self.now, self.policy, self.starts).reserve(number, line, hard=hard)
        if self.guard is None:
            self._queue_next_blocked()
        return self.guard is not None

    def _make_room(self, entry: Entry, line: Line) -> bool:
        """Start the job after all by putting others of this pass elsewhere."""
        movable = [one for one in self.starts if one.movable]
        if not movable or line.gang > 1 or line.kind is not None or self._rearrangements >= REARRANGEMENTS:
            return False
        self._rearrangements += 1
        row = rearrange(self.room, movable, line)
        if row is not None:
            self._start(
                entry, line, [row], f"others were put elsewhere to make room on {self.room.rack.nodes[row].name}"
            )
        return row is not None

    def _refilter(self) -> None:
        """Keep only the lines that have room beside the reservation, and put them in the order of backfill."""
        if not self._queue:
            return
        lines = np.array([entry[-1] for entry in self._queue], dtype=np.int64)
        room = self.room.lines_with_room(self.waiting, lines, self.room.free)
        if self.guard is not None:
            late = self.now + lengths_s(self.waiting, self.policy, lines, hard=self.guard.hard) > self.guard.at_s
            beside = self.room.lines_with_room(self.waiting, lines[late], self.guard.limit(self.room.free))
            self.held_back |= bool(np.any(room[late] & ~beside))
            room[late] &= beside
        kept = [entry for entry, has_room in zip(self._queue, room, strict=True) if has_room]
        if self.guard is not None:
            kept = [(e[0], e[1], self._backfill_key(self._age(e), e[4]), e[3], e[4]) for e in kept]
        self._queue = kept
        heapq.heapify(self._queue)

    def _age(self, entry: Entry) -> float:
        return self.waiting.jobs[entry[-1]][self._place_in_line.get(entry[-1], 0)][0]

    def _backfill_key(self, age_s: float, index: int) -> float:
        """By what backfilled jobs of one priority are ordered: the smallest is tried first."""
        if self.policy.backfill_order is BackfillOrder.QUEUE:
            return age_s
        expected_s = max(SHORT_S, length_s(self.waiting, self.policy, index, hard=False))
        if self.policy.backfill_order is BackfillOrder.SHORTEST:
            return expected_s
        return -(self.now - age_s + expected_s) / expected_s
