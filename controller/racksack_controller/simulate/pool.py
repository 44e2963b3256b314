"""A pool of processors over several nodes that are switched one by one: a job's processors lie on any of them.

The production pass sees the pool as one node with what all nodes that are on have together; what it places is then
spread over the nodes, the fullest first, so that others go idle.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from racksack_controller.core import events as ev
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import Scheduled, schedule
from racksack_controller.core.policy import Policy
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.rack.allocations import Allocations, NodeAllocation, Times
from racksack_controller.core.rack.amounts import CPUS, DIMENSIONS, MILLI, SLOTS, UNLIMITED_SLOTS
from racksack_controller.core.rack.rack import Floats, Ints, Rack
from racksack_controller.core.records import Allocation, Node, Part
from racksack_controller.core.state import State
from racksack_jobspecs.resources import Inventory

PLENTY = 2**60


def schedule_pool(state: State, now: float, policy: Policy, memory: PassMemory, power: PowerPolicy) -> Scheduled:
    """The placements of one pass over a pool, each spread over nodes. Nothing is remembered."""
    done = schedule(_as_one_node(state, now), now, policy, PassMemory(), power)
    free = np.where(state.rack.usable, (state.rack.total - state.rack.held)[CPUS], 0) // MILLI
    opened = state.rack.opened_s
    memory.reservation = done.memory.reservation
    return Scheduled([_spread(one, state.rack, free, opened) for one in done.placed], memory)


def _as_one_node(state: State, now: float) -> State:
    """A state whose rack is one node; everything else is shared with the real one."""
    pool = copy.copy(state)
    pool.rack = _pooled(state.rack, now)
    pool.nodes = {node.name: node for node in pool.rack.nodes}
    return pool


def _pooled(real: Rack, now: float) -> Rack:
    """All nodes as one. What is off is held for good, what boots until it is expected to have booted."""
    rack = Rack()
    cpus = int(real.total[CPUS].sum()) // MILLI
    rack.put_node(Node(name="pool", inventory=Inventory(cpus, PLENTY, PLENTY), connected=True))
    rack.total[SLOTS, 0] = UNLIMITED_SLOTS
    free = (real.total - real.held)[CPUS]
    rack.held[CPUS, 0] = real.held[CPUS].sum() + free[~real.usable].sum()
    rack.held[SLOTS, 0] = real.held[SLOTS].sum()
    rack.allocations = _allocations(real, free, now)
    return rack


def _allocations(real: Rack, free: Ints, now: float) -> Allocations:
    pooled = Allocations()
    pooled.add_row()
    for key, places in real.allocations.of.items():
        need = real.allocations.need[:, list(places)].sum(axis=1).tolist()
        pooled.add(key, [_whole(need)], Times(*real.allocations.times[:, places[0]].tolist()))
    for row in np.flatnonzero(~real.usable & ~real.powered & np.isfinite(real.opens_s)):
        need = [0] * DIMENSIONS
        need[CPUS] = int(free[row])
        lasts_s = max(float(real.opens_s[row]) - now, 1.0)
        pooled.add(f"boot of {real.nodes[row].name}", [_whole(need)], Times(now, lasts_s, lasts_s))
    return pooled


def _whole(need: list[int]) -> NodeAllocation:
    cpus, ram, gpus, disk, slots = need
    return NodeAllocation(0, (cpus, ram, gpus, disk, slots), (), MILLI)


def _spread(placed: ev.Placed, rack: Rack, free: Ints, opened: Floats) -> ev.Placed:
    """Take a job's processors of the nodes, and say so."""
    parts = list(_parts(round(placed.allocation.cpus), rack, free, opened))
    return ev.Placed(placed.job, parts[0].node, parts[0].allocation, placed.why, tuple(parts[1:]))


def _parts(wanted: int, rack: Rack, free: Ints, opened: Floats) -> Iterator[Part]:
    for row in np.lexsort((np.arange(len(free)), opened)).tolist():
        taken = min(wanted, int(free[row]))
        if taken > 0:
            free[row] -= taken
            wanted -= taken
            yield Part(rack.nodes[row].name, Allocation(float(taken), 0))
    if wanted:
        raise AssertionError(f"the pool has {wanted} processors fewer than it was thought to have")
