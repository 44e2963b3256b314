"""What every running attempt holds on which node, and when it is expected to give it back.

The arrays are what a reservation is computed from; a place in them is used again when its attempt has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.amounts import DIMENSIONS, Vector

# An attempt that outlives its prediction is predicted anew: this much longer, then this much, ... (Tsafrir, Etsion and
# Feitelson, "Backfilling using system-generated predictions rather than user runtime estimates", TPDS 18(6), 2007).
CORRECTIONS_S = np.array([60, 300, 900, 1800, 3600, 7200, 18000, 36000, 72000, 180000, 360000], dtype=np.float64)
LAST_S = float(CORRECTIONS_S[-1])
OVERDUE_S = 1.0  # an attempt past its time limit is being ended,
ENDING_S = 600.0  # and if it is still there after this time, nobody knows when it will be over

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class NodeAllocation(NamedTuple):
    """One attempt's share of one node."""

    row: int
    need: Vector
    uuids: tuple[str, ...]
    milli: int


class Times(NamedTuple):
    """When an attempt began, how long it may run (-1: no limit given) and how long it is expected to (-1: unknown)."""

    begin_s: float
    limit_s: float
    predicted_s: float


class Allocations:
    """All allocations of the rack."""

    def __init__(self) -> None:
        self.row: Ints = np.full(64, -1, dtype=np.int64)  # -1: an unused place
        self.need: Ints = np.zeros((DIMENSIONS, 64), dtype=np.int64)
        self.times: Floats = np.zeros((3, 64), dtype=np.float64)
        self.of: dict[str, tuple[int, ...]] = {}
        self.parts: dict[int, NodeAllocation] = {}
        self._on_row: dict[int, dict[int, None]] = {}
        self.version: Ints = np.zeros(0, dtype=np.int64)  # of each row: grows with every change of what is held there
        self._unused = list(range(63, -1, -1))

    def add(self, key: str, parts: Sequence[NodeAllocation], times: Times) -> tuple[int, ...]:
        """An attempt begins to hold something; the places of its allocations."""
        self.of[key] = tuple(self._place(part, times) for part in parts)
        return self.of[key]

    def times_of(self, key: str) -> Times:
        """When an attempt began, and how long it may and is expected to run."""
        begin_s, limit_s, predicted_s = self.times[:, self.of[key][0]].tolist()
        return Times(begin_s, limit_s, predicted_s)

    def retime(self, key: str, times: Times) -> None:
        """An attempt's beginning is known better."""
        for place in self.of[key]:
            self.times[:, place] = times
            self.version[self.row[place]] += 1

    def remove(self, key: str) -> list[tuple[int, NodeAllocation]]:
        """An attempt holds nothing any more; what it held, with the places."""
        places = self.of.pop(key)
        for place in places:
            row = int(self.row[place])
            self.version[row] += 1
            del self._on_row[row][place]
            self.row[place] = -1
            self._unused.append(place)
        return [(place, self.parts.pop(place)) for place in places]

    def places_on(self, row: int) -> Ints:
        """The places of what is held on a row."""
        return np.array(list(self._on_row.get(row, ())), dtype=np.int64)

    def add_row(self) -> None:
        """The rack has one more row."""
        self.version = np.append(self.version, 0)

    def ends(self, places: Ints, now: float, *, default_limit_s: float, predict: bool) -> Floats:
        """When these are expected to end (Unix seconds, after `now`): by prediction, or by time limit alone."""
        ends, _ = self.raw_ends(places, now, default_limit_s=default_limit_s, predict=predict)
        soonest: Floats = np.maximum(ends, now + OVERDUE_S)
        return soonest

    def raw_ends(self, places: Ints, now: float, *, default_limit_s: float, predict: bool) -> tuple[Floats, Floats]:
        """The same, where what should have ended keeps its moment in the past; and until when each of them is good."""
        begin, limit, predicted = self.times[:, places]
        is_limited = limit >= 0
        latest = begin + np.where(is_limited, limit, default_limit_s)
        ends = np.where(predicted >= 0, np.minimum(latest, begin + predicted), latest) if predict else latest
        # A time limit ends a job, so for a while it is believed; whoever outlives anything else is expected anew.
        is_over = is_limited & (now >= latest)
        ends = np.where(is_over, latest, ends)
        ends = np.where(is_over & (now < latest + ENDING_S), latest, _corrected(ends, now))
        ends = np.where(is_limited & ~is_over, np.minimum(ends, latest), ends)
        return ends, np.where(is_limited & (ends == latest), latest + ENDING_S, ends)

    def _place(self, part: NodeAllocation, times: Times) -> int:
        if not self._unused:
            self._grow()
        place = self._unused.pop()
        self.row[place] = part.row
        self.version[part.row] += 1
        self._on_row.setdefault(part.row, {})[place] = None
        self.need[:, place] = part.need
        self.times[:, place] = times
        self.parts[place] = part
        return place

    def _grow(self) -> None:
        old = len(self.row)
        self.row = np.concatenate([self.row, np.full(old, -1, dtype=np.int64)])
        self.need = np.concatenate([self.need, np.zeros_like(self.need)], axis=1)
        self.times = np.concatenate([self.times, np.zeros_like(self.times)], axis=1)
        self._unused = list(range(2 * old - 1, old - 1, -1))


def _corrected(ends: Floats, now: float) -> Floats:
    """Ends that have passed, moved on by the first correction that is still to come: in the end as long again."""
    over = np.maximum(now - ends, 0.0)
    listed = CORRECTIONS_S[np.minimum(np.searchsorted(CORRECTIONS_S, over, side="right"), len(CORRECTIONS_S) - 1)]
    doubled = LAST_S * 2.0 ** (np.floor(np.log2(np.maximum(over, LAST_S) / LAST_S)) + 1.0)
    return np.where(ends > now, ends, ends + np.where(over < LAST_S, listed, doubled))
