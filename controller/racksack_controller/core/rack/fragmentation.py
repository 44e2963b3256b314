"""Fragmentation of GPUs: how much free device time the usual jobs could not use; where a job adds least to it.

Weng et al., "Beware of fragmentation: scheduling GPU-sharing workloads with fragmentation gradient descent", USENIX ATC
2023 (FGD). A node's fragmentation is the free part of its devices that a job of the usual kind cannot use, averaged
over the usual kinds; a job goes where it makes this grow least. All parts are in thousandths of a device. It decides
about jobs that share a device; for others best fit did as well or better (docs/scheduling.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.amounts import CPUS, MILLI, RAM
from racksack_controller.core.rack.devices import GpuKind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Usual(NamedTuple):
    """One kind of job that is often asked for, and which part of all jobs it is."""

    cpus: int  # on average
    ram: int
    kind: GpuKind
    part: float


def fragmentation(free: Ints, parts: Ints, usual: list[Usual]) -> Floats:
    """Of each node. `free` is (DIMENSIONS, nodes); `parts` (nodes, devices) what devices have left, 0 where none is."""
    total = np.zeros(parts.shape[0])
    everything = parts.sum(axis=1)
    for cpus, ram, kind, part in usual:
        good = parts >= kind.milli
        useless = np.where(good, 0, parts).sum(axis=1)
        can = (free[CPUS] >= cpus) & (free[RAM] >= ram) & (good.sum(axis=1) >= kind.devices)
        total += part * np.where(can, useless, everything)
    return total


def growth(free: Ints, parts: Ints, need: Ints, kind: GpuKind | None, usual: list[Usual]) -> tuple[Floats, Ints]:
    """How much a job adds to each node's fragmentation at best, and (for a shared device) in which column that is.

    Whole devices of a node are alike, so the first free ones stand for all; -1 means that there is nothing to choose.
    """
    before = fragmentation(free, parts, usual)
    after_free = free - need[:, None]
    choice = np.full(parts.shape[0], -1, dtype=np.int64)
    if kind is None:
        return fragmentation(after_free, parts, usual) - before, choice
    if kind.milli == MILLI:
        whole = parts >= MILLI
        taken = whole & (np.cumsum(whole, axis=1) <= kind.devices)
        return fragmentation(after_free, np.where(taken, 0, parts), usual) - before, choice
    nodes, devices = parts.shape
    trials = np.repeat(parts, devices, axis=0)  # row node * devices + device: the job on that device
    trials[np.arange(nodes * devices), np.tile(np.arange(devices), nodes)] -= kind.milli
    after = fragmentation(np.repeat(after_free, devices, axis=1), trials, usual).reshape(nodes, devices)
    added = np.where(parts >= kind.milli, after - before[:, None], np.inf)
    return added.min(axis=1), added.argmin(axis=1)
