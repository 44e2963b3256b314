"""GPUs of a node, from what the vendors' tools print.

A tool that is absent means no GPUs of that vendor. One that hangs or fails, and a device that it cannot describe, is
told as a problem: a sentence beside the devices that are fine. A device with a `fault` is there but not given to jobs.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple

from racksack_agent.serve import amd, nvidia
from racksack_agent.serve.gpu_tools import Found, Gpu
from racksack_agent.serve.nvidia_health import Health


class Look(NamedTuple):
    """What one look at all tools found."""

    devices: List[Gpu]
    problems: List[str]
    health: Dict[str, Health]  # by the uuid of the device; only of those whose tool tells


def look() -> Look:
    """All devices, each with its fault, and sentences about what could not be found out."""
    devices, problems, health = nvidia.look()
    others, other_problems = amd.look()
    return Look(devices + others, problems + other_problems, health)


def find() -> Found:
    """The devices that jobs may have, and sentences about all else."""
    found = look()
    return [gpu for gpu in found.devices if not gpu["fault"]], found.problems + faults(found.devices)


def faults(devices: List[Gpu]) -> List[str]:
    """A sentence about each device that is set aside."""
    return [f"GPU {gpu['index']} ({gpu['model']}) {gpu['fault']}" for gpu in devices if gpu["fault"]]
