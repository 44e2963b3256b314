"""Amounts as vectors: what a node can give, what a job asks for, what an attempt holds.

All are integers (thousandths of a CPU and of a device, bytes), so that sums never drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from racksack_controller.core.records import Allocation, Job, Node
from racksack_jobspecs.resources import Gpu, GpuRequest, ResourceRequest

MILLI = 1000
CPUS, RAM, GPUS, DISK, SLOTS = range(5)
DIMENSIONS = 5
COMPARED = 3  # CPUs, memory and GPUs make a node large; disk and slots only have to suffice
NAMES = ("CPU", "memory", "GPUs", "disk", "job slots")
UNLIMITED_SLOTS = 2**31

Vector = tuple[int, int, int, int, int]


def capacity(node: Node) -> Vector:
    """What a node can give to jobs: its inventory less its reserve. All zero while the inventory is unknown."""
    if node.inventory is None:
        return (0, 0, 0, 0, 0)
    cpus = max(0, node.inventory.cpus * MILLI - round(node.reserve.cpus * MILLI))
    ram = max(0, node.inventory.ram_bytes - node.reserve.ram_bytes)
    disk = max(0, node.inventory.disk_bytes - node.reserve.disk_bytes)
    return (cpus, ram, len(node.gpus) * MILLI, disk, node.max_jobs or UNLIMITED_SLOTS)


def largest_job(node: Node) -> Vector:
    """What one job can have of a node: all that it can give, or of a cluster what the largest of its machines has."""
    cpus, ram, gpus, disk, slots = capacity(node)
    if node.inventory is None:
        return (cpus, ram, gpus, disk, slots)
    most = node.inventory
    return (
        min(cpus, most.job_cpus * MILLI) if most.job_cpus else cpus,
        min(ram, most.job_ram_bytes) if most.job_ram_bytes else ram,
        min(gpus, most.job_gpus * MILLI) if most.job_cpus else gpus,
        disk,
        slots,
    )


def demand(request: ResourceRequest) -> Vector:
    """What a request takes of a node, in the units of `capacity`."""
    gpus = device_count(request) * gpu_milli(request)
    return (round(request.cpus * MILLI), request.ram_bytes, gpus, request.disk_bytes, 1)


def demand_of(allocation: Allocation) -> Vector:
    """What an allocation holds, in the units of `capacity`."""
    gpus = len(allocation.gpus) * allocation.gpu_milli
    return (round(allocation.cpus * MILLI), allocation.ram_bytes, gpus, allocation.disk_bytes, 1)


def device_count(request: ResourceRequest) -> int:
    """On how many devices a request lies."""
    return math.ceil(request.gpus.count) if request.gpus else 0


def gpu_milli(request: ResourceRequest) -> int:
    """Which part of each of its devices a request takes: 1000 unless it shares one."""
    if request.gpus is None or request.gpus.count >= 1:
        return MILLI
    return max(1, round(request.gpus.count * MILLI))


def matching_gpus(request: GpuRequest, devices: Sequence[Gpu]) -> list[Gpu]:
    """The devices that satisfy a request's model and memory, smallest memory first."""
    found = [
        gpu for gpu in devices if gpu.vram_bytes >= (request.vram_bytes or 0) and names(request.model or "", gpu.model)
    ]
    return sorted(found, key=lambda gpu: (gpu.vram_bytes, gpu.index))


def names(asked: str, model: str) -> bool:
    """Whether all words that were asked for are in the name of a device's model."""
    return all(word in model.lower() for word in asked.lower().split())


def allowed(job: Job, node: Node) -> bool:
    """Whether the job's partition, labels, node list and exclusions admit this node, whatever is free on it."""
    spec = job.spec
    if node.is_removed or (spec.nodes and node.name not in spec.nodes):
        return False
    if spec.partition and spec.partition not in node.partitions:
        return False
    return node.name not in spec.exclude and set(spec.labels) <= set(node.labels)


def could_ever_hold(job: Job, node: Node) -> bool:
    """Whether the node could run the job (of a gang: one rank of it) if it were empty and all its devices were well."""
    if node.inventory is None or not allowed(job, node):
        return False
    wants = job.spec.resources
    has = list(largest_job(node))
    has[GPUS] = has[GPUS] if node.inventory.job_gpus else len(node.all_gpus) * MILLI
    if any(need > have for need, have in zip(demand(wants), has, strict=True)):
        return False
    return wants.gpus is None or len(matching_gpus(wants.gpus, node.all_gpus)) >= device_count(wants)
