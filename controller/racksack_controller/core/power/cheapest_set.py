"""The cheapest set of nodes that holds a set of jobs.

Nodes that are alike (same room, same jobs allowed, same cost) form a class; a set is a count for each class. Sets are
tried in the order of their cost, each first against the sums of what is asked, then by vector packing: a packing that
is found by heuristics is as good as any, and when none is found a branch and bound decides, within a number of steps.
So for up to a dozen nodes, or for any number of a few kinds, the first set that holds the jobs is the cheapest there
is. When more than SETS_MAX sets would have to be tried, nodes are chosen greedily by what they take of the demand for
their cost, and those that turn out to be superfluous are left out: within a factor of 1 + ln(jobs) of the cheapest for
demands that can be split (Wolsey, "An analysis of the greedy algorithm for the submodular set covering problem",
Combinatorica 1982).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from racksack_controller.core.placing.bin_packing import UNPLACED, Bools, Ints, first_fit_decreasing, place_most

SETS_MAX = 5000
STEPS_MAX = 20_000  # of the branch and bound, for one set
EJECTIONS = 300
SEARCH_MAX = 64  # items above which the branch and bound is not tried: it would not end


class Bin(NamedTuple):
    """One node: what it has free, what it costs, and which items it may hold."""

    free: tuple[int, ...]
    cost: float
    allowed: tuple[bool, ...]


def cheapest(items: Ints, bins: Sequence[Bin]) -> list[int] | None:
    """The indices of the cheapest bins that hold all `items` (items, dimensions) together, or None. [] for no items."""
    if not len(items):
        return []
    if not holds(items, bins):
        return None
    classes = _classes(bins)
    kinds = [bins[members[0]].free for members in classes]
    asked = items.sum(axis=0).tolist()
    for tried, counts in enumerate(_by_cost(classes, bins)):
        if tried >= SETS_MAX:
            return _greedy(items, bins, classes)
        if _too_small(kinds, counts, asked):
            continue
        chosen = [index for members, count in zip(classes, counts, strict=True) for index in members[:count]]
        if holds(items, [bins[index] for index in chosen]):
            return chosen
    return None


def _too_small(kinds: Sequence[Sequence[int]], counts: Sequence[int], asked: Sequence[int]) -> bool:
    """Whether the sums alone show that so many of each kind do not hold what is asked."""
    columns = zip(*kinds, strict=True)
    return any(
        sum(count * has for count, has in zip(counts, column, strict=True)) < wants
        for column, wants in zip(columns, asked, strict=True)
    )


def _classes(bins: Sequence[Bin]) -> list[list[int]]:
    """Bins that are alike, those of one class in the order given."""
    classes: dict[Bin, list[int]] = {}
    for index, one in enumerate(bins):
        classes.setdefault(one, []).append(index)
    return list(classes.values())


def _by_cost(classes: Sequence[Sequence[int]], bins: Sequence[Bin]) -> Iterator[tuple[int, ...]]:
    """All counts, the cheapest first; of equal cost, the one with fewer nodes first."""
    costs = [bins[members[0]].cost for members in classes]
    start = (0,) * len(classes)
    heap: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, start)]
    seen = {start}
    while heap:
        cost, nodes, counts = heapq.heappop(heap)
        yield counts
        for at, members in enumerate(classes):
            if counts[at] < len(members):
                more = (*counts[:at], counts[at] + 1, *counts[at + 1 :])
                if more not in seen:
                    seen.add(more)
                    heapq.heappush(heap, (cost + costs[at], nodes + 1, more))


def _greedy(items: Ints, bins: Sequence[Bin], classes: Sequence[Sequence[int]]) -> list[int]:
    """The bin that takes the most of what is left for its cost, until nothing is left; then without the superfluous."""
    largest = np.maximum(np.array([one.free for one in bins]).max(axis=0), 1)
    size = (items / largest).max(axis=1)
    chosen: list[int] = []
    waiting = np.arange(len(items))
    unused = [list(members) for members in classes]
    while len(waiting) and any(unused):
        members, taken = max(
            ((members, _fill(items, size, waiting, bins[members[0]])) for members in unused if members),
            key=lambda pair: (size[pair[1]].sum() / max(bins[pair[0][0]].cost, 1e-9), -pair[0][0]),
        )
        chosen.append(members.pop(0))
        waiting = np.setdiff1d(waiting, taken)
    for index in sorted(chosen, key=lambda one: -bins[one].cost):
        rest = [one for one in chosen if one != index]
        if holds(items, [bins[one] for one in rest]):
            chosen = rest
    return sorted(chosen)


def _fill(items: Ints, size: np.ndarray, waiting: Ints, one: Bin) -> Ints:
    """The items of `waiting` that one bin takes, the largest first."""
    left = np.array(one.free, dtype=np.int64)
    taken = []
    for item in waiting[np.argsort(-size[waiting], kind="stable")]:
        if one.allowed[item] and np.all(left >= items[item]):
            left -= items[item]
            taken.append(item)
    return np.array(taken, dtype=np.int64)


def holds(items: Ints, bins: Sequence[Bin]) -> bool:
    """Whether the bins hold all items."""
    if not len(items):
        return True
    if not bins:
        return False
    free = np.array([one.free for one in bins], dtype=np.int64)
    allowed = np.array([one.allowed for one in bins], dtype=np.bool_).T & np.all(items[:, None] <= free[None], axis=2)
    if np.any(items.sum(axis=0) > free.sum(axis=0)) or not allowed.any(axis=1).all():
        return False
    size = (items / np.maximum(free.max(axis=0), 1)).max(axis=1)
    if allowed.all() and np.all(first_fit_decreasing(items, free, size) != UNPLACED):
        return True
    start = np.full(len(items), UNPLACED, dtype=np.int64)
    placed = place_most(items, free, start, random.Random(0), EJECTIONS + len(items), allowed)  # noqa: S311
    if np.all(placed != UNPLACED):
        return True
    return len(items) <= SEARCH_MAX and _Search(items, free, allowed, size).found()


class _Search:
    """Branch and bound: the largest item first, on each bin that may hold it; bins that are alike are tried once."""

    def __init__(self, items: Ints, free: Ints, allowed: Bools, size: np.ndarray) -> None:
        order = np.argsort(-size, kind="stable")
        self.items = [tuple(row) for row in items[order].tolist()]
        self.allowed = allowed[order].tolist()
        self.left = [list(row) for row in free.tolist()]
        self.rest = np.cumsum(items[order][::-1], axis=0)[::-1].tolist()
        self.steps = STEPS_MAX
        self.alike = [tuple(column) for column in allowed.T.tolist()]

    def found(self) -> bool:
        """Whether all items have a place; False also when the steps were used up."""
        return self._place(0, -1)

    def _place(self, at: int, last: int) -> bool:
        if at == len(self.items):
            return True
        self.steps -= 1
        if self.steps <= 0 or self._too_much(at):
            return False
        item = self.items[at]
        same = at > 0 and item == self.items[at - 1] and self.allowed[at] == self.allowed[at - 1]
        tried = set()
        for index in range(last if same else 0, len(self.left)):
            left = self.left[index]
            state = (tuple(left), self.alike[index])
            if not self.allowed[at][index] or state in tried or any(a > b for a, b in zip(item, left, strict=True)):
                continue
            tried.add(state)
            self.left[index] = [b - a for a, b in zip(item, left, strict=True)]
            if self._place(at + 1, index):
                return True
            self.left[index] = left
        return False

    def _too_much(self, at: int) -> bool:
        """Whether what is still to be placed is more than all that is left."""
        return any(want > sum(column) for want, column in zip(self.rest[at], zip(*self.left, strict=True), strict=True))
