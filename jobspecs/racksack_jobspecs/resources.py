"""What a job asks for and what a node has, as vectors over CPUs, memory, GPUs and disk."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from racksack_jobspecs.bounds import Bytes, Name, cut

CPUS_MAX = 2**16
GPUS_MAX = 256
PROBLEMS_MAX = 50
SENTENCE_CHARS_MAX = 300
DISK_BYTES_MAX = 2**62


class GpuRequest(msgspec.Struct, frozen=True, gc=False):
    """GPUs that a job asks for. `count` is whole, or below 1 for a share of one device."""

    count: float
    model: str | None = None  # matched as words of the device's name, case ignored: "rtx 3090"
    vram_bytes: int | None = None  # the least memory that each device must have


class ResourceRequest(msgspec.Struct, frozen=True, gc=False):
    """What one attempt holds while it is with a node."""

    cpus: float = 1.0  # thousandths are the smallest step
    ram_bytes: int = 1024**3
    gpus: GpuRequest | None = None
    disk_bytes: int = 0


class Gpu(msgspec.Struct, frozen=True):
    """One device of a node."""

    index: Annotated[int, Meta(ge=0, le=2**16)]  # the vendor tool's index on that node
    uuid: Name  # what the mask variable names: `GPU-...` (NVIDIA), the index as text where there is no UUID
    vendor: Annotated[str, Meta(max_length=40)]  # "nvidia" | "amd"
    model: Name
    vram_bytes: Bytes
    unified: bool = False  # its memory is the machine's


class SetAsideGpu(Gpu, frozen=True):
    """A device that a node has and no job gets."""

    fault: str = "is set aside"  # the end of a sentence that begins with the device's name

    def __post_init__(self) -> None:
        """Cut what is shown."""
        force_setattr(self, "fault", cut(self.fault, SENTENCE_CHARS_MAX))

    @property
    def sentence(self) -> str:
        """Which device it is, and why no job gets it."""
        return f"GPU {self.index} ({self.model}) {self.fault}"


class Inventory(msgspec.Struct, frozen=True):
    """What a node has in all, before its reserve is taken off."""

    cpus: Annotated[int, Meta(ge=0, le=CPUS_MAX)]
    ram_bytes: Bytes
    disk_bytes: Annotated[int, Meta(ge=0)]  # at most DISK_BYTES_MAX
    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=GPUS_MAX)] = ()  # those that jobs may have
    set_aside: Annotated[tuple[SetAsideGpu, ...], Meta(max_length=GPUS_MAX)] = ()
    problems: tuple[str, ...] = ()  # sentences of the tools that tell of GPUs
    job_cpus: Annotated[int, Meta(ge=0, le=CPUS_MAX)] = 0  # of a cluster: the most that one job can have; 0: all
    job_ram_bytes: Bytes = 0
    job_gpus: Annotated[int, Meta(ge=0, le=GPUS_MAX)] = 0

    def __post_init__(self) -> None:
        """Some network file systems claim more than fits into 64 bits, so the disk is cut to what we can add up.

        Raises ValueError when two devices have one name: what one attempt holds could not be told from another's.
        """
        force_setattr(self, "problems", tuple(cut(one, SENTENCE_CHARS_MAX) for one in self.problems[:PROBLEMS_MAX]))
        if self.disk_bytes > DISK_BYTES_MAX:
            force_setattr(self, "disk_bytes", DISK_BYTES_MAX)
        if len({gpu.uuid for gpu in (*self.gpus, *self.set_aside)}) != len(self.gpus) + len(self.set_aside):
            raise ValueError("two GPUs have the same uuid")
