"""Which of the nodes with room is the best, by the rules that docs/scheduling.md compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.policy import Rule

Floats = NDArray[np.float64]

# Each gets, for the nodes with room, the share of CPUs, memory and GPUs that is free (3, nodes) and that the job takes
# of it, and returns a cost per node: the lowest wins, the first of equals.
Cost = Callable[[Floats, Floats], Floats]


def best_fit(free: Floats, need: Floats) -> Floats:
    """What is left of the resource of which most is left; ties by the sum of what is left."""
    cpus, ram, gpus = free - need
    cost: Floats = np.maximum(np.maximum(cpus, ram), gpus) + 1e-6 * (cpus + ram + gpus)
    return cost


def squares(vectors: Floats) -> Floats:
    """The squared length of each column."""
    cpus, ram, gpus = vectors
    lengths: Floats = cpus * cpus + ram * ram + gpus * gpus
    return lengths


def l2(free: Floats, need: Floats) -> Floats:
    """The squared length of what is left (Panigrahy et al., "Heuristics for vector bin packing", 2011)."""
    left = free - need
    return squares(left)


def dot_product(free: Floats, need: Floats) -> Floats:
    """The negative cosine between what is free and what is asked, ties by best fit (same source)."""
    length = np.sqrt(squares(free) * squares(need))
    cosine = (free * need).sum(axis=0) / np.maximum(length, 1e-12)
    cost: Floats = 1e-3 * best_fit(free, need) - cosine
    return cost


def first_fit(free: Floats, need: Floats) -> Floats:
    """All nodes alike: the first wins."""
    return np.zeros(free.shape[1])


COSTS: Mapping[Rule, Cost] = {
    Rule.FRAGMENTATION: best_fit,  # among nodes without devices, and where it leaves the choice open
    Rule.BEST_FIT: best_fit,
    Rule.L2: l2,
    Rule.DOT_PRODUCT: dot_product,
    Rule.FIRST_FIT: first_fit,
}
