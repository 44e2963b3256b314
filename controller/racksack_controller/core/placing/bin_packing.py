"""Packing a batch at once: which items go on which nodes, so that few nodes are used or no item is left out.

The start is the dot-product rule (Panigrahy, Talwar, Uyeda, Wieder, "Heuristics for vector bin packing", 2011): fill
one node at a time with the item whose demand points most in the direction of what is still free; or first fit
decreasing, where that is better. It is then improved by guided ejection (Nagata and Bräysy, "A powerful route
minimization heuristic for the vehicle routing problem with time windows", 2009): an item without a place pushes out
others that have been easier to place, until nobody is left out. Items and nodes are rows of integer matrices. The work
is bounded by a number of steps, so that equal input gives equal output.
"""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
UNPLACED = -1
PAIR_NODES = 6
SHAKES = 20
NOISE = 4096


def weights_of(items: Ints, free: Ints) -> Floats:
    """How much each dimension matters: what is asked of it by what is there, in units of the largest node."""
    largest = np.maximum(free.max(axis=0), 1).astype(np.float64)
    asked = items.sum(axis=0) / np.maximum(free.sum(axis=0), 1)
    weights: Floats = asked / np.maximum(asked.max(), 1e-12) / largest**2
    return weights


def dot_product(items: Ints, free: Ints) -> Ints:
    """A node for each item, or UNPLACED. Nodes are filled one after the other, in the order given."""
    placed = np.full(len(items), UNPLACED, dtype=np.int64)
    weights = weights_of(items, free)
    waiting = np.arange(len(items))
    for node in range(len(free)):
        left = free[node].copy()
        while len(waiting):
            fitting = waiting[np.all(items[waiting] <= left, axis=1)]
            if not len(fitting):
                break
            best = fitting[np.argmax(items[fitting] @ (weights * left))]
            placed[best] = node
            left -= items[best]
            waiting = waiting[waiting != best]
    return placed


def first_fit_decreasing(items: Ints, free: Ints, size: Floats) -> Ints:
    """A node for each item, or UNPLACED: the largest item first, on the first node with room."""
    placed = np.full(len(items), UNPLACED, dtype=np.int64)
    left = free.copy()
    for item in np.argsort(-size, kind="stable"):
        node = int(np.all(left >= items[item], axis=1).argmax())
        if np.all(left[node] >= items[item]):
            placed[item] = node
            left[node] -= items[item]
    return placed


def best_fit_decreasing(items: Ints, free: Ints, size: Floats) -> Ints:
    """A node for each item, or UNPLACED: the largest item first, on the used node with room on which least is left.

    An unused node is begun, in the order given, when no used one has room.
    """
    placed = np.full(len(items), UNPLACED, dtype=np.int64)
    left, used = free.copy(), np.zeros(len(free), dtype=np.bool_)
    inverse = 1.0 / np.maximum(free.max(axis=0), 1)
    for item in np.argsort(-size, kind="stable"):
        fits = np.all(left >= items[item], axis=1)
        begun = np.flatnonzero(fits & used)
        if len(begun):
            node = int(begun[np.argmin(((left[begun] - items[item]) * inverse).sum(axis=1))])
        elif fits.any():
            node = int(fits.argmax())
        else:
            continue
        placed[item], used[node] = node, True
        left[node] -= items[item]
    return placed


def greedy(items: Ints, free: Ints) -> Ints:
    """The best of several packings: the one that leaves out fewest items, then the one that uses fewest nodes.

    Dot product is among the starts because it is the best of them on average, and best fit and first fit decreasing by
    three sizes, so that the result is never worse than either.
    """
    parts = items / np.maximum(free.max(axis=0), 1)
    sizes = (parts.sum(axis=1), parts.max(axis=1), (parts**2).sum(axis=1))
    decreasing = [rule(items, free, size) for rule in (first_fit_decreasing, best_fit_decreasing) for size in sizes]
    return min((dot_product(items, free), *decreasing), key=_cost)


def _cost(placed: Ints) -> tuple[int, int]:
    return int(np.count_nonzero(placed == UNPLACED)), len(np.unique(placed))


class Ejection:
    """The improving step. `free`: what the nodes have without the items; `allowed`: (items, nodes), who may where."""

    def __init__(self, items: Ints, free: Ints, placed: Ints, rng: random.Random, allowed: Bools | None = None) -> None:
        self.items = items
        self.allowed = np.ones((len(items), len(free)), dtype=np.bool_) if allowed is None else allowed
        self.placed = placed.copy()
        self.left = free.copy()
        on = placed != UNPLACED
        np.subtract.at(self.left, placed[on], items[on])
        largest = np.maximum(free.max(axis=0), 1)
        self._size = (items / largest).sum(axis=1)
        self._failures = np.ones(len(items), dtype=np.int64)
        self._rng = rng
        self._noise = np.array([rng.random() for _ in range(NOISE + len(items))]) * 0.5

    def place_all(self, pool: list[int], steps: int) -> bool:
        """Find a place for every item of `pool` within so many steps; False leaves some in `pool`."""
        for _ in range(steps):
            if not pool:
                return True
            item = pool.pop(self._rng.randrange(len(pool)))
            if self._insert(item):
                continue
            out = self._push_out(item)
            if out is None:
                self._failures[item] += 1
                pool.append(item)
                self._shake()
            else:
                pool.extend(out)
        return not pool

    def _insert(self, item: int) -> bool:
        """Put an item where it fits and least is left."""
        nodes = np.flatnonzero(np.all(self.left >= self.items[item], axis=1) & self.allowed[item])
        if not len(nodes):
            return False
        left = (self.left[nodes] - self.items[item]).max(axis=1)
        self._move(item, int(nodes[np.argmin(left)]))
        return True

    def _push_out(self, item: int) -> list[int] | None:
        """Put an item in the place of one or two that have been easier to place; those, or None."""
        self._failures[item] += 1
        out = self._single(item) or self._pair(item)
        if out is None:
            return None
        node = int(self.placed[out[0]])
        for one in out:
            self._move(one, UNPLACED)
        self._move(item, node)
        return out

    def _single(self, item: int) -> list[int] | None:
        """The item whose place would do and that has been the easiest to place; of equals, a small one."""
        on = np.flatnonzero((self.placed != UNPLACED) & (self._failures < self._failures[item]))
        room = self.left[self.placed[on]] + self.items[on] - self.items[item]
        able = on[np.all(room >= 0, axis=1) & self.allowed[item, self.placed[on]]]
        if not len(able):
            return None
        noise = self._noise[self._rng.randrange(NOISE) :][: len(able)]
        return [int(able[np.argmin(self._failures[able] + self._size[able] + noise)])]

    def _pair(self, item: int) -> list[int] | None:
        """Two items of one node whose places together would do; a few nodes are tried."""
        best, best_cost = None, float(self._failures[item])
        for _ in range(PAIR_NODES):
            node = self._rng.randrange(len(self.left))
            if not self.allowed[item, node]:
                continue
            on = np.flatnonzero(self.placed == node)
            first, second = _pairs(len(on))
            first, second = on[first], on[second]
            room = self.left[node] + self.items[first] + self.items[second] - self.items[item]
            cost = np.where(np.all(room >= 0, axis=1), self._failures[first] + self._failures[second], np.inf)
            if len(cost) and cost.min() < best_cost:
                best, best_cost = [int(first[cost.argmin()]), int(second[cost.argmin()])], float(cost.min())
        return best

    def _shake(self) -> None:
        """Let a few items change places, so that the search does not stand still."""
        for _ in range(SHAKES):
            one, other = self._rng.randrange(len(self.items)), self._rng.randrange(len(self.items))
            here, there = int(self.placed[one]), int(self.placed[other])
            if here == there or UNPLACED in (here, there):
                continue
            if not (self.allowed[one, there] and self.allowed[other, here]):
                continue
            change = self.items[one] - self.items[other]
            if np.all(self.left[here] + change >= 0) and np.all(self.left[there] - change >= 0):
                self._move(one, UNPLACED)
                self._move(other, here)
                self._move(one, there)

    def _move(self, item: int, node: int) -> None:
        old = self.placed[item]
        if old != UNPLACED:
            self.left[old] += self.items[item]
        if node != UNPLACED:
            self.left[node] -= self.items[item]
        self.placed[item] = node


@lru_cache(maxsize=64)
def _pairs(count: int) -> tuple[Ints, Ints]:
    """The two items of each pair among so many, each pair once. Shared between calls: nobody writes into them."""
    first, second = np.triu_indices(count, 1)
    return first, second


def place_most(
    items: Ints, free: Ints, placed: Ints, rng: random.Random, steps: int, allowed: Bools | None = None
) -> Ints:
    """Try to place what `placed` leaves out as well, moving what it places; `placed` itself when that fails."""
    if np.any(items.sum(axis=0) > np.maximum(free, 0).sum(axis=0)):
        return placed  # there is less than they need together, wherever they go
    search = Ejection(items, free, placed, rng, allowed)
    pool = [int(item) for item in np.flatnonzero(placed == UNPLACED)]
    return search.placed if search.place_all(pool, steps) else placed


def fewest_nodes(items: Ints, free: Ints, placed: Ints, rng: random.Random, steps: int) -> Ints:
    """Empty one node after the other, the one with the least on it first, until one cannot be emptied in time."""
    nodes = np.arange(len(free))
    least = least_nodes(items, free)
    while True:
        used = np.unique(placed[placed != UNPLACED])
        if len(used) <= max(1, least):
            return placed
        load = np.array([(items[placed == node] / np.maximum(free[node], 1)).sum() for node in used])
        victim = used[load.argmin()]
        keep = np.isin(nodes, used) & (nodes != victim)
        fewer = np.where(keep[:, None], free, -1)
        start = np.where(placed == victim, UNPLACED, placed)
        better = place_most(items, fewer, start, rng, steps)
        if np.any((better == UNPLACED) & (placed != UNPLACED)):
            return placed
        placed = better


def least_nodes(items: Ints, free: Ints) -> int:
    """A lower bound on the number of nodes: in each dimension the largest nodes first."""
    sizes = -np.sort(-free, axis=0)
    enough = np.cumsum(sizes, axis=0) >= items.sum(axis=0)
    return int(np.max(np.where(enough.any(axis=0), enough.argmax(axis=0) + 1, len(free))))
