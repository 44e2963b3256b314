"""Which queued job starts where: one pass over the queue.

In the order of the queue every job that fits is placed on the best of the nodes with room. The first that does not fit
gets a reservation, and from there on a job is placed only if it does not delay that one (see `backfill`). The pass
works on copies of the rack's matrices, so that it changes nothing; its placements are events.
"""

from __future__ import annotations

import heapq

import numpy as np

from racksack_controller.core.amounts import DIMENSIONS as DIMENSIONS
from racksack_controller.core.amounts import MILLI
from racksack_controller.core.amounts import allowed as allowed
from racksack_controller.core.amounts import capacity as capacity
from racksack_controller.core.amounts import could_ever_hold as could_ever_hold
from racksack_controller.core.amounts import demand as demand
from racksack_controller.core.amounts import demand_of as demand_of
from racksack_controller.core.amounts import matching_gpus as matching_gpus
from racksack_controller.core.backfill import Guard
from racksack_controller.core.events import Placed
from racksack_controller.core.holds import Hold
from racksack_controller.core.limits import Limits
from racksack_controller.core.order import Entry, entries, sorted_lines, use_by_owner
from racksack_controller.core.policy import DEFAULT, Backfill, BackfillOrder, Policy
from racksack_controller.core.rack import Bools, Floats, Ints
from racksack_controller.core.records import Allocation, Part
from racksack_controller.core.reserve import Outlook
from racksack_controller.core.room import Room
from racksack_controller.core.state import State
from racksack_controller.core.waiting import Line

SHORT_S = 10.0  # all shorter jobs are alike
FEW = 12  # so few lines are tried one by one at once
REFILTER_AFTER = 48  # jobs that turned out not to fit, until the rest of the queue is compared with the rack again


def schedule(state: State, now: float, policy: Policy = DEFAULT) -> list[Placed]:
    """The placements to make at `now` (Unix seconds), in the order in which they were decided."""
    state.lines.advance(now)
    lines = state.lines.open_lines()
    if not len(lines) or not state.nodes:
        return []
    return Pass(state, now, policy).run(lines)


class Pass:
    """One walk over the lines of the queue, first job first."""

    def __init__(self, state: State, now: float, policy: Policy) -> None:
        self.state = state
        self.waiting = state.lines
        self.now = now
        self.policy = policy
        self.room = Room(state.rack, now, state.lines.usual())
        self.limits = Limits(state, policy)
        self.placed: list[Placed] = []
        self.taken: list[tuple[Hold, float, float]] = []
        self.guards: list[Guard] = []
        self._use = np.zeros(1)
        self._place_in_line: dict[int, int] = {}
        self._blocked: list[int] = []  # lines without room, the first in the queue last
        self._queue: list[Entry] = []
        self._backfilling = False

    def run(self, lines: Ints) -> list[Placed]:
        """Walk over `lines`; the placements."""
        self._use = use_by_owner(self.state, lines, self.now, self.policy)
        in_order = sorted_lines(self.waiting, lines, self._use)
        if len(lines) > FEW:
            room = self.room.lines_with_room(self.waiting, in_order, self.room.free)
        else:
            room = np.ones(len(lines), dtype=np.bool_)
        self._blocked = in_order[~room][::-1].tolist()
        self._queue = entries(self.waiting, in_order[room], self._use)
        self._queue_next_blocked()
        failures = 0
        while self._queue:
            entry = heapq.heappop(self._queue)
            if self.limits.reached(self._line(entry)):
                self._queue_next_blocked()
            elif not self._start_first_of(entry):
                if self.policy.backfill is Backfill.NONE:
                    break
                failures += 1
                if self._guard_for(entry) or failures >= REFILTER_AFTER:
                    self._refilter()
                    failures = 0
        return self.placed

    def _line(self, entry: Entry) -> Line:
        return self.waiting.lines[entry[-1]]

    def _start_first_of(self, entry: Entry) -> bool:
        """Place the job and let the next of its line take its place in the queue; False when there is no room."""
        line, need = self._line(entry), self.waiting.need[:, entry[-1]]
        fits = self.room.fits(line)
        for guard in self.guards:
            self._keep_off(guard, fits, entry[-1], need)
        rows = fits.nonzero()[0]
        if len(rows) < line.gang:
            return False
        chosen = self.room.best(line, need, rows, line.gang, self.policy.rule)
        self._place(entry, line, need, chosen, len(rows))
        self._queue_next_of(entry)
        return True

    def _keep_off(self, guard: Guard, fits: Bools, index: int, need: Ints) -> None:
        if self.now + self._length_s(index, hard=guard.hard) <= guard.at_s:
            return
        for place, row in enumerate(guard.rows):
            if fits[row] and not guard.admits(place, need):
                fits[row] = False

    def _place(self, entry: Entry, line: Line, need: Ints, rows: list[int], fitting: int) -> None:
        number, index = entry[-2], entry[-1]
        spec = self.state.jobs[number].spec
        parts = []
        soft, late = self.now + self._length_s(index, hard=False), self.now + self._length_s(index, hard=True)
        for row in rows:
            uuids = self.room.take(row, line, need, self.policy.rule)
            milli = line.kind.milli if line.kind else MILLI
            held = Allocation(spec.resources.cpus, spec.resources.ram_bytes, uuids, spec.resources.disk_bytes, milli)
            parts.append(Part(self.room.rack.nodes[row].name, held))
            self.taken.append((Hold(row, line.need, uuids, milli), soft, late))
        for guard in self.guards:
            if (late if guard.hard else soft) > guard.at_s:
                guard.use(rows, need)
        self.limits.count(line)
        why = self._why(parts[0].node, fitting)
        self.placed.append(Placed(number, parts[0].node, parts[0].allocation, why, tuple(parts[1:])))

    def _why(self, node: str, fitting: int) -> str:
        where = f"{node} is the only node with room" if fitting == 1 else f"fullest of {fitting} nodes with room"
        if not self.guards:
            return where
        return f"{where}; it does not delay job {self.guards[0].job}, which is ahead"

    def _queue_next_of(self, entry: Entry) -> None:
        index = entry[-1]
        place = self._place_in_line[index] = self._place_in_line.get(index, 0) + 1
        jobs = self.waiting.jobs[index]
        if place < len(jobs):
            age, number = jobs[place]
            key = self._backfill_key(age, index) if self._backfilling else age
            heapq.heappush(self._queue, (entry[0], entry[1], key, number, index))

    def _queue_next_blocked(self) -> None:
        """Let the next job that has no room have its turn, as long as no reservation was made."""
        reserves = self.policy.backfill in (Backfill.EASY, Backfill.NONE)
        if reserves and not self.guards and self._blocked:
            [entry] = entries(self.waiting, [self._blocked.pop()], self._use)
            heapq.heappush(self._queue, entry)

    def _guard_for(self, entry: Entry) -> bool:
        """Reserve for the first job that does not fit; False when there is no need to, or no hope."""
        if self.guards or self.policy.backfill is not Backfill.EASY:
            return False
        number = entry[-2]
        hard = self.now - self.state.jobs[number].submitted_at_s >= self.policy.patience_s
        outlook = Outlook(self.room, self.now, self.policy, self.taken)
        guard = outlook.reserve(number, self._line(entry), hard=hard)
        if guard is None:
            self._queue_next_blocked()
            return False
        self.guards.append(guard)
        return True

    def _refilter(self) -> None:
        """Keep only the lines that have room beside the reservation, and put them in the order of backfill."""
        if not self._queue:
            return
        lines = np.array([entry[-1] for entry in self._queue], dtype=np.int64)
        free = self.room.free
        room = self.room.lines_with_room(self.waiting, lines, free)
        for guard in self.guards:
            late = self.now + self._lengths_s(lines, hard=guard.hard) > guard.at_s
            room[late] &= self.room.lines_with_room(self.waiting, lines[late], guard.limit(free))
        self._queue = [entry for entry, has_room in zip(self._queue, room, strict=True) if has_room]
        if self.guards and not self._backfilling:
            self._backfilling = True
            self._queue = [(e[0], e[1], self._backfill_key(e[2], e[4]), e[3], e[4]) for e in self._queue]
        heapq.heapify(self._queue)

    def _backfill_key(self, age_s: float, index: int) -> float:
        """By what backfilled jobs of one priority are ordered: the smallest is tried first."""
        if self.policy.backfill_order is BackfillOrder.QUEUE:
            return age_s
        length_s = max(SHORT_S, self._length_s(index, hard=False))
        if self.policy.backfill_order is BackfillOrder.SHORTEST:
            return length_s
        return -(self.now - age_s + length_s) / length_s

    def _length_s(self, index: int, *, hard: bool) -> float:
        """How long the jobs of this line are expected to run, or (hard) may run at most."""
        limit, predicted = float(self.waiting.limit_s[index]), float(self.waiting.predicted_s(index))
        longest = self.policy.default_time_limit_s if limit < 0 else limit
        return longest if hard or predicted < 0 or not self.policy.predict else min(longest, predicted)

    def _lengths_s(self, lines: Ints, *, hard: bool) -> Floats:
        """`_length_s` of many lines."""
        limit, predicted = self.waiting.limit_s[lines], self.waiting.predicted_s(lines)
        longest = np.where(limit < 0, self.policy.default_time_limit_s, limit)
        if hard or not self.policy.predict:
            return longest
        return np.where(predicted < 0, longest, np.minimum(longest, predicted))
