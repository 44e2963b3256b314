"""What a job asks for and what a node has, as vectors over CPUs, memory, GPUs and disk."""

from __future__ import annotations

import msgspec


class GpuRequest(msgspec.Struct, frozen=True):
    """GPUs that a job asks for. `count` is whole, or below 1 for a share of one device."""

    count: float
    model: str | None = None  # matched as words of the device's name, case ignored: "rtx 3090"
    vram_bytes: int | None = None  # the least memory that each device must have


class ResourceRequest(msgspec.Struct, frozen=True):
    """What one attempt holds while it is with a node."""

    cpus: float = 1.0  # thousandths are the smallest step
    ram_bytes: int = 1024**3
    gpus: GpuRequest | None = None
    disk_bytes: int = 0


class Gpu(msgspec.Struct, frozen=True):
    """One device of a node."""

    index: int  # the vendor tool's index on that node
    uuid: str  # what the mask variable names: `GPU-...` (NVIDIA), the index as text where there is no UUID
    vendor: str  # "nvidia" | "amd"
    model: str
    vram_bytes: int


class Inventory(msgspec.Struct, frozen=True):
    """What a node has in all, before its reserve is taken off."""

    cpus: int
    ram_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...] = ()
