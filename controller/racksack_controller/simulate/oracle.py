"""What knowing everything would need: at each instant, the fewest nodes that hold what runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from racksack_controller.core.power.cheapest_set import Bin, cheapest
from racksack_controller.simulate.engine import Outcome


def oracle_node_hours(outcomes: Sequence[Outcome], cpus: float) -> float:
    """Node-hours if at each instant only so many equal nodes of `cpus` were on as the running processors fill.

    A bound from below where jobs lie on one node: it cuts them up and moves them for nothing.
    """
    total = sum(lasts_s * math.ceil(round(sum(running) / cpus, 9)) for lasts_s, running in _stretches(outcomes))
    return total / 3600.0


def whole_jobs_cpu_hours(outcomes: Sequence[Outcome], nodes: Sequence[float]) -> float:
    """CPU-hours of nodes (each of so many CPUs) if at each instant the smallest set that holds what runs was on.

    Jobs are not cut up, but still moved for nothing. Raises ValueError when what ran at some instant fits on no set.
    """
    total = 0.0
    known: dict[tuple[float, ...], float] = {}
    for lasts_s, running in _stretches(outcomes):
        if running not in known:
            known[running] = _smallest_set(running, nodes)
        total += lasts_s * known[running]
    return total / 3600.0


def _smallest_set(running: Sequence[float], nodes: Sequence[float]) -> float:
    everywhere = tuple(True for _ in running)
    items = np.array([[round(1000 * one)] for one in running], dtype=np.int64)
    chosen = cheapest(items, [Bin((round(1000 * cpus),), cpus, everywhere) for cpus in nodes])
    if chosen is None:
        raise ValueError(f"{len(running)} jobs of {sum(running):g} CPUs fit on no set of these nodes")
    return sum(nodes[index] for index in chosen)


def _stretches(outcomes: Sequence[Outcome]) -> Iterator[tuple[float, tuple[float, ...]]]:
    """The times between changes, in seconds, and the processors of each job that runs then, the largest first."""
    changes: list[tuple[float, float]] = []
    for one in outcomes:
        if one.started_s is not None and one.ended_s is not None:
            changes += [(one.started_s, one.task.processors), (one.ended_s, -one.task.processors)]
    running: Counter[float] = Counter()
    since = 0.0
    for at_s, change in sorted(changes):
        if at_s > since and running:
            yield at_s - since, tuple(sorted(running.elements(), reverse=True))
        running[abs(change)] += 1 if change > 0 else -1
        running += Counter()  # without those that have become none
        since = at_s
