"""What will be free when on each node, kept ready, so that a reservation is a few vector operations.

The ends of what runs stand sorted, node by node, in flat arrays with some room to spare, beside what is free from each
end on. Only nodes on which something has changed since, or where a prediction has passed, are worked out anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.allocations import OVERDUE_S
from racksack_controller.core.rack.amounts import DIMENSIONS, SLOTS
from racksack_controller.core.rack.rack import Rack

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
PROFILES_MAX = 4  # a policy uses two: by prediction, and by time limit
STALE_MAX = 100  # so many nodes are worked out one by one; more of them all at once


class Profile:
    """By predictions, or by time limits alone. Times are Unix seconds."""

    def __init__(self, *, default_limit_s: float, predict: bool) -> None:
        self.default_limit_s = default_limit_s
        self.predict = predict
        self.ends: Floats = np.zeros(0)  # ascending within a node; what has passed counts as about to end
        self.free: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)  # from that end on; -1 in places not in use
        self._start: Ints = np.zeros(0, dtype=np.int64)  # of each node: where its places begin
        self._count: Ints = np.zeros(0, dtype=np.int64)
        self._until: Floats = np.zeros(0)  # of each node: when a prediction passes
        self._version: Ints = np.zeros(0, dtype=np.int64)
        self._total: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)
        self._now = 0.0
        self._asked: tuple[int, ...] = ()  # the last question, its answer, and the nodes for which it has changed since
        self._answer: Floats = np.zeros(0)
        self._refilled: set[int] = set()

    def refresh(self, rack: Rack, now: float) -> None:
        """Bring everything up to `now`."""
        nodes = len(rack.nodes)
        version = rack.allocations.version
        if len(self._version) != nodes or now < self._now:
            self._rebuild(rack, now)
        else:
            changed = (version != self._version) | np.any(rack.total != self._total, axis=0) | (self._until <= now)
            stale = np.flatnonzero(changed).tolist()
            if len(stale) > STALE_MAX or not all(self._refill(rack, row, now) for row in stale):
                self._rebuild(rack, now)
        self._version, self._total, self._now = version.copy(), rack.total.copy(), now

    def first_moments(self, rack: Rack, need: Ints, now: float) -> Floats:
        """For each node the earliest time at which `need` is free there; infinity where it never is."""
        asked = tuple(need.tolist())
        if self._asked != asked:
            self._asked, self._answer = asked, self._all_first_ends(need)
        else:
            for row in self._refilled:
                self._answer[row] = self._first_end(row, need)
        self._refilled.clear()
        moments = np.maximum(self._answer, now + OVERDUE_S)
        moments[np.all(rack.total - rack.held >= need[:, None], axis=0)] = now
        return moments

    def _all_first_ends(self, need: Ints) -> Floats:
        """For each node the first end from which on `need` is free."""
        moments = np.full(len(self._start), np.inf)
        enough = self.free[SLOTS] >= need[SLOTS]
        for dimension in np.flatnonzero(need[:SLOTS]):
            enough &= self.free[dimension] >= need[dimension]
        if len(moments):  # what is free only grows towards the end, so it is enough from some place on
            long_enough = np.add.reduceat(enough, self._start, dtype=np.int64)
            rows = np.flatnonzero(long_enough)
            moments[rows] = self.ends[self._start[rows] + self._count[rows] - long_enough[rows]]
        return moments

    def _first_end(self, row: int, need: Ints) -> float:
        places = slice(int(self._start[row]), int(self._start[row] + self._count[row]))
        enough = np.flatnonzero(np.all(self.free[:, places] >= need[:, None], axis=0))
        return float(self.ends[places][enough[0]]) if len(enough) else np.inf

    def free_at(self, rack: Rack, row: int, at_s: float, now: float) -> Ints:
        """What is free on a node at `at_s`."""
        start = int(self._start[row])
        ends = np.maximum(self.ends[start : start + int(self._count[row])], now + OVERDUE_S)
        ended = int(np.searchsorted(ends, at_s, side="right"))
        free: Ints = self.free[:, start + ended - 1] if ended else rack.total[:, row] - rack.held[:, row]
        return free

    def _rebuild(self, rack: Rack, now: float) -> None:
        self._asked = ()
        allocations, nodes = rack.allocations, len(rack.nodes)
        places = np.flatnonzero(allocations.row >= 0)
        ends, until = allocations.raw_ends(places, now, default_limit_s=self.default_limit_s, predict=self.predict)
        order = np.lexsort((ends, allocations.row[places]))
        places, ends, until = places[order], ends[order], until[order]
        row = allocations.row[places]
        self._count = np.bincount(row, minlength=nodes)
        capacity = self._count + self._count // 8 + 4
        self._start = np.cumsum(capacity) - capacity
        first = np.cumsum(self._count) - self._count  # where each node's allocations begin in `places`
        total = np.cumsum(allocations.need[:, places], axis=1)
        before = np.concatenate([np.zeros((DIMENSIONS, 1), dtype=np.int64), total], axis=1)[:, first]
        target = self._start[row] + np.arange(len(places)) - first[row]
        size = int(capacity.sum())
        self.ends, self.free = np.full(size, np.inf), np.full((DIMENSIONS, size), -1, dtype=np.int64)
        self.ends[target] = ends
        self.free[:, target] = (rack.total - rack.held - before)[:, row] + total
        self._until = np.full(nodes, np.inf)
        np.minimum.at(self._until, row, until)

    def _refill(self, rack: Rack, row: int, now: float) -> bool:
        """Work out one node; False when it has outgrown its places."""
        allocations = rack.allocations
        places = allocations.places_on(row)
        start = int(self._start[row])
        end = int(self._start[row + 1]) if row + 1 < len(self._start) else len(self.ends)
        if len(places) > end - start:
            return False
        ends, until = allocations.raw_ends(places, now, default_limit_s=self.default_limit_s, predict=self.predict)
        order = np.argsort(ends, kind="stable")
        used = start + len(places)
        self.ends[start:used] = ends[order]
        self.ends[used:end] = np.inf
        free = rack.total[:, row] - rack.held[:, row]
        self.free[:, start:used] = free[:, None] + np.cumsum(allocations.need[:, places[order]], axis=1)
        self.free[:, used:end] = -1
        self._refilled.add(row)
        self._count[row] = len(places)
        self._until[row] = until.min(initial=np.inf)
        return True


class Profiles:
    """The profiles that somebody who looks ahead has asked for; they are kept up to date from one look to the next."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[float, bool], Profile] = {}

    def at(self, rack: Rack, now: float, *, default_limit_s: float, predict: bool) -> Profile:
        """What will be free when, as seen at `now` (Unix seconds)."""
        key = (default_limit_s, predict)
        if key not in self._profiles:
            if len(self._profiles) >= PROFILES_MAX:
                self._profiles.clear()
            self._profiles[key] = Profile(default_limit_s=default_limit_s, predict=predict)
        profile = self._profiles[key]
        profile.refresh(rack, now)
        return profile
