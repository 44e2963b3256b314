"""Which queued job goes where: best fit on the fullest running node that holds it.

Free amounts are integers (thousandths of a CPU, bytes), so that sums never drift. Jobs of one shape share a row, so a
pass costs one vector operation over the nodes per distinct shape and placement, not a loop over jobs x nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.events import Placed
from racksack_controller.core.lifecycle import holds_resources
from racksack_controller.core.order import queue_order
from racksack_controller.core.state import Allocation, Job, Node, State
from racksack_jobspecs.resources import Gpu, GpuRequest, ResourceRequest

MILLI = 1000
CPUS, RAM, GPUS, DISK, SLOTS = range(5)
DIMENSIONS = 5
UNLIMITED_SLOTS = 2**31


class Rack:
    """Free and total amounts of the nodes as int64 matrices of shape (nodes, DIMENSIONS), and the free devices."""

    def __init__(self, state: State, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.row = {node.name: row for row, node in enumerate(nodes)}
        self.total = np.array([capacity(node) for node in nodes], dtype=np.int64).reshape(len(nodes), DIMENSIONS)
        self.free = self.total.copy()
        self.devices = [list(node.gpus) for node in nodes]
        for attempt in state.attempts.values():
            if attempt.node in self.row and holds_resources(attempt.state):
                self.take(self.row[attempt.node], attempt.allocation)

    def take(self, row: int, allocation: Allocation) -> None:
        """Hold an allocation on a node."""
        self.free[row] -= demand_of(allocation)
        held = set(allocation.gpus)
        self.devices[row] = [gpu for gpu in self.devices[row] if gpu.uuid not in held]


def capacity(node: Node) -> tuple[int, int, int, int, int]:
    """What a node can give to jobs: its inventory less its reserve. All zero while the inventory is unknown."""
    if node.inventory is None:
        return (0, 0, 0, 0, 0)
    cpus = max(0, node.inventory.cpus * MILLI - round(node.reserve.cpus * MILLI))
    ram = max(0, node.inventory.ram_bytes - node.reserve.ram_bytes)
    disk = max(0, node.inventory.disk_bytes - node.reserve.disk_bytes)
    return (cpus, ram, len(node.gpus), disk, node.max_jobs or UNLIMITED_SLOTS)


def demand(request: ResourceRequest) -> tuple[int, int, int, int, int]:
    """What a request takes of a node, in the units of `capacity`."""
    gpus = math.ceil(request.gpus.count) if request.gpus else 0
    return (round(request.cpus * MILLI), request.ram_bytes, gpus, request.disk_bytes, 1)


def demand_of(allocation: Allocation) -> tuple[int, int, int, int, int]:
    """What an allocation holds, in the units of `capacity`."""
    return (round(allocation.cpus * MILLI), allocation.ram_bytes, len(allocation.gpus), allocation.disk_bytes, 1)


def matching_gpus(request: GpuRequest, devices: Sequence[Gpu]) -> list[Gpu]:
    """The devices that satisfy a request's model and memory, smallest memory first."""
    words = request.model.lower().split() if request.model else []
    found = [
        gpu
        for gpu in devices
        if gpu.vram_bytes >= (request.vram_bytes or 0) and all(word in gpu.model.lower() for word in words)
    ]
    return sorted(found, key=lambda gpu: (gpu.vram_bytes, gpu.index))


def allowed(job: Job, node: Node) -> bool:
    """Whether the job's labels, node list and exclusions admit this node, whatever is free on it."""
    spec = job.spec
    if spec.nodes and node.name not in spec.nodes:
        return False
    return node.name not in spec.exclude and set(spec.labels) <= set(node.labels)


def could_ever_hold(job: Job, node: Node) -> bool:
    """Whether the node could run the job if it were empty."""
    if node.inventory is None or not allowed(job, node):
        return False
    wants = job.spec.resources
    if any(need > have for need, have in zip(demand(wants), capacity(node), strict=True)):
        return False
    return wants.gpus is None or len(matching_gpus(wants.gpus, node.gpus)) >= math.ceil(wants.gpus.count)


def schedule(state: State, now: float) -> list[Placed]:
    """Placements for the queue at `now`: in queue order, every job that fits; the fullest fitting node first."""
    nodes = [node for node in state.nodes.values() if node.usable and node.cool_until_s <= now]
    if not nodes or not state.waiting:
        return []
    rack = Rack(state, nodes)
    full: set[bytes] = set()  # shapes that no node holds any more in this pass
    placed: list[Placed] = []
    for job in queue_order(state, now):
        shape = shape_key(job)
        if shape in full:
            continue
        placement = _place(rack, job)
        if placement is None:
            full.add(shape)
        else:
            rack.take(rack.row[placement.node], placement.allocation)
            placed.append(placement)
    return placed


def shape_key(job: Job) -> bytes:
    """Equal for jobs that ask for the same things."""
    spec = job.spec
    return msgspec.msgpack.encode((spec.resources, spec.labels, spec.nodes, spec.exclude, job.avoid))


def _place(rack: Rack, job: Job) -> Placed | None:
    need = np.array(demand(job.spec.resources), dtype=np.int64)
    fits = np.all(rack.free >= need, axis=1)
    fits &= np.fromiter((allowed(job, node) for node in rack.nodes), dtype=bool, count=len(rack.nodes))
    for rows in _preferred(rack, job, fits):
        for row in _fullest_first(rack, rows, need):
            allocation = _allocate(rack, int(row), job.spec.resources)
            if allocation is not None:
                node = rack.nodes[row]
                return Placed(job.id, node.name, allocation, _why(rack, int(row), int(np.count_nonzero(fits))))
    return None


def _preferred(rack: Rack, job: Job, fits: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """The fitting rows; those where this job has failed before only after all others."""
    avoided = np.array([node.name in job.avoid for node in rack.nodes], dtype=bool)
    return [np.flatnonzero(fits & ~avoided), np.flatnonzero(fits & avoided)]


def _fullest_first(rack: Rack, rows: NDArray[np.intp], need: NDArray[np.int64]) -> NDArray[np.intp]:
    """Best fit in the scarce dimension: the node whose largest left-over share is the smallest comes first."""
    total = np.maximum(rack.total[rows, :SLOTS], 1)
    left = (rack.free[rows, :SLOTS] - need[:SLOTS]) / total
    left[:, DISK] = 0
    left[rack.total[rows, GPUS] == 0, GPUS] = 0
    return rows[np.argsort(left.max(axis=1) + 1e-9 * left.sum(axis=1), kind="stable")]


def _allocate(rack: Rack, row: int, wants: ResourceRequest) -> Allocation | None:
    if wants.gpus is None:
        return Allocation(wants.cpus, wants.ram_bytes, (), wants.disk_bytes)
    count = math.ceil(wants.gpus.count)
    devices = matching_gpus(wants.gpus, rack.devices[row])[:count]
    if len(devices) < count:
        return None
    return Allocation(wants.cpus, wants.ram_bytes, tuple(gpu.uuid for gpu in devices), wants.disk_bytes)


def _why(rack: Rack, row: int, fitting: int) -> str:
    node = rack.nodes[row]
    return f"{node.name} is the only node with room" if fitting == 1 else f"fullest of {fitting} nodes with room"
